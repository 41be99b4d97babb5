"""The real Collector, Loki, Prometheus and Alertmanager with the project's own files, on free ports of loopback."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.stack.binaries_dash import find_binary
from tools.loopback import find_free_ports
from tools.waiting import end_process, wait_until

ROOT = Path(__file__).resolve().parents[2]
SENDER = Path(__file__).with_name("sender_dash.py")
START_SECONDS = 40.0
STOP_SECONDS = 20.0
APPLICATION_SECONDS = 60.0
START_ATTEMPTS = 3

# A proxy of the environment must not stand between the test and loopback.
open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class ServerStartError(Exception):
    """A program ended before it was ready."""


def clean_environ() -> dict[str, str]:
    """The environment without the developer's own settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTELOG_"))}


def get_json(url: str, **parameters: str) -> Any:
    """What a server answers, decoded.

    Raises:
        AssertionError: it answered an error; with its words.
    """
    query = urllib.parse.urlencode(parameters)
    try:
        with open_url(f"{url}?{query}" if query else url, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{url} answered {error.code}: {error.read().decode(errors='replace')}") from None


class _Program:
    """A process, its output in a file, that is ready when a page answers 200."""

    def __init__(self, name: str, arguments: list[str], ready: str, folder: Path, environ: dict[str, str]) -> None:
        self._output = folder / f"{name}.log"
        command = [str(find_binary(name)), *arguments]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command, env={**clean_environ(), **environ}, cwd=folder, stdout=output, stderr=output
            )
        self._ready = ready
        self._name = name

    def wait(self) -> None:
        wait_until(self._is_ready, START_SECONDS, what=f"{self._name} to answer {self._ready}")

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise ServerStartError(f"{self._name}: {self._output.read_text(errors='replace')[-3000:]}")
        try:
            with open_url(self._ready, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        end_process(self._process, STOP_SECONDS)


@dataclass(frozen=True)
class Servers:
    """Base URLs of what runs; `applications` is the target file of applications with a /metrics of their own."""

    otlp: str
    loki: str
    prometheus: str
    alertmanager: str
    applications: Path

    def instant(self, query: str) -> list[dict[str, Any]]:
        """The series of a PromQL query, now."""
        result: list[dict[str, Any]] = get_json(f"{self.prometheus}/api/v1/query", query=query)["data"]["result"]
        return result

    def value(self, query: str) -> float | None:
        """The value of a PromQL query that has at most one series."""
        result = self.instant(query)
        assert len(result) <= 1, result
        return float(result[0]["value"][1]) if result else None


@contextmanager
def run_servers(tmp_path: Path, webhook: str = "http://127.0.0.1:9/") -> Iterator[Servers]:
    """Start all four, and end them afterwards.

    Args:
        tmp_path: Where their files are put.
        webhook: Where Alertmanager sends to.
    """
    for attempt in range(1, START_ATTEMPTS + 1):
        folder = tmp_path / f"servers-{attempt}"
        folder.mkdir()
        programs: list[_Program] = []
        try:
            try:
                servers = _start(folder, webhook, programs)
            except ServerStartError as error:
                # Somebody else may have taken one of the ports in between.
                if attempt == START_ATTEMPTS or "address already in use" not in str(error):
                    raise
                continue
            yield servers
            return
        finally:
            for program in programs:
                program.stop()
            shutil.rmtree(folder)


def _start(folder: Path, webhook: str, programs: list[_Program]) -> Servers:
    ports = find_free_ports(9)
    http, grpc, health, metrics, applications, loki, loki_grpc, prometheus, alertmanager = ports
    base = "http://127.0.0.1"

    def start(name: str, arguments: list[str], ready: str, **environ: str) -> None:
        programs.append(_Program(name, arguments, ready, folder, environ))

    start(
        "loki",
        [f"-config.file={ROOT / 'collector' / 'loki.yaml'}", "-config.expand-env=true"],
        f"{base}:{loki}/ready",
        OTELOG_LOKI_PORT=str(loki),
        OTELOG_LOKI_GRPC_PORT=str(loki_grpc),
        OTELOG_LOKI_FOLDER=str(folder / "loki"),
        OTELOG_LOKI_RULES=str(ROOT / "collector" / "loki-rules"),
        OTELOG_LOKI_RULES_INTERVAL="2s",
        OTELOG_LOKI_ALERTMANAGER=f"{base}:{alertmanager}",
    )
    start(
        "collector",
        [f"--config={ROOT / 'collector' / 'otelcol.yaml'}"],
        f"{base}:{health}/",
        OTELOG_COLLECTOR_HTTP=f"127.0.0.1:{http}",
        OTELOG_COLLECTOR_GRPC=f"127.0.0.1:{grpc}",
        OTELOG_COLLECTOR_HEALTH=f"127.0.0.1:{health}",
        OTELOG_COLLECTOR_METRICS_HOST="127.0.0.1",
        OTELOG_COLLECTOR_METRICS_PORT=str(metrics),
        OTELOG_COLLECTOR_APPLICATIONS=f"127.0.0.1:{applications}",
        OTELOG_COLLECTOR_FOLDER=str(folder / "collector"),
        OTELOG_LOKI_OTLP=f"{base}:{loki}/otlp",
    )
    configuration = _copy_configuration(folder, webhook)
    targets = configuration / "targets"
    for path in targets.glob("*.yaml"):
        # Who is not started here is no target that is down.
        path.write_text("[]", encoding="utf-8")
    write_targets(targets / "collector.yaml", metrics, applications)
    write_targets(targets / "loki.yaml", loki)
    write_targets(targets / "prometheus.yaml", prometheus)
    write_targets(targets / "alertmanager.yaml", alertmanager)
    start(
        "prometheus",
        [
            f"--config.file={configuration / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{prometheus}",
            "--log.level=warn",
        ],
        f"{base}:{prometheus}/-/ready",
    )
    start(
        "alertmanager",
        [
            f"--config.file={configuration / 'alertmanager.yaml'}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{alertmanager}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ],
        f"{base}:{alertmanager}/-/ready",
    )
    for program in programs:
        program.wait()
    return Servers(
        otlp=f"{base}:{http}",
        loki=f"{base}:{loki}",
        prometheus=f"{base}:{prometheus}",
        alertmanager=f"{base}:{alertmanager}",
        applications=targets / "applications.yaml",
    )


def _copy_configuration(folder: Path, webhook: str) -> Path:
    """The project's files, in which only the pace is another."""
    copy = folder / "configuration"
    shutil.copytree(ROOT / "collector", copy)
    (copy / "webhook-url").write_text(webhook, encoding="utf-8")
    prometheus = (copy / "prometheus.yaml").read_text(encoding="utf-8")
    prometheus, changes = re.subn(
        r"(?m)^(  (?:scrape_interval|scrape_timeout|evaluation_interval)): .*$", r"\1: 1s", prometheus
    )
    assert changes == 3, "collector/prometheus.yaml has another shape"
    (copy / "prometheus.yaml").write_text(prometheus, encoding="utf-8")
    alertmanager = (copy / "alertmanager.yaml").read_text(encoding="utf-8")
    alertmanager, waits = re.subn(r"(?m)^(  group_wait): .*$", r"\1: 1s", alertmanager)
    # Alertmanager looks for it in its working directory.
    alertmanager, files = re.subn(r"(?m)^( +- url_file): .*$", rf"\1: {copy / 'webhook-url'}", alertmanager)
    assert (waits, files) == (1, 1), "collector/alertmanager.yaml has another shape"
    (copy / "alertmanager.yaml").write_text(alertmanager, encoding="utf-8")
    return copy


def write_targets(path: Path, *ports: int, **labels: str) -> None:
    """Tell Prometheus of a target of this machine; it sees a changed file at once."""
    group = {"targets": [f"127.0.0.1:{port}" for port in ports], "labels": labels}
    # Whole or not at all: Prometheus reads it while it is written. JSON is YAML, too.
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps([group]), encoding="utf-8")
    unfinished.replace(path)


@contextmanager
def run_application(way: str, service: str, servers: Servers, **environ: str) -> Iterator[dict[str, Any]]:
    """Start an application that loses some records; gives its books, and ends it afterwards.

    Args:
        way: How its ledger is told, see sender_dash.py.
        service: Its name.
        servers: Where it sends to.
        **environ: Laid over its environment.
    """
    defaults = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": servers.otlp,
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "OTEL_METRICS_EXPORTER": "none" if way == "scrape" else "otlp",
        "PYTHONPATH": str(ROOT),
    }
    pipe = subprocess.PIPE
    sender = subprocess.Popen(
        [sys.executable, str(SENDER), way, service],
        cwd=servers.applications.parent,
        env={**clean_environ(), **defaults, **environ},
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )
    try:
        assert sender.stdout is not None
        assert sender.stderr is not None
        line = sender.stdout.readline()
        assert line, sender.stderr.read()
        books: dict[str, Any] = json.loads(line)
        yield books
    finally:
        # Its standard input ends, and so does it.
        sender.communicate(timeout=APPLICATION_SECONDS)
