"""The real Collector, built once a machine and started for each test that asks for it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import end_process, wait_until
from tools.loopback import find_free_ports

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
STOP_SECONDS = 20.0
START_ATTEMPTS = 3

# A proxy of the environment must not stand between the test and loopback.
open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class CollectorStartError(Exception):
    """The Collector ended before it was ready."""


class Collector:
    """A running Collector with collector/otelcol.yaml, all its ports on loopback and its file in `folder`.

    `overlays`, of collector/ too, are laid over that configuration; `environ` is for them.
    """

    def __init__(self, binary: Path, folder: Path, overlays: tuple[str, ...], environ: Mapping[str, str]) -> None:
        http, grpc, health, self._metrics_port, applications, loki = find_free_ports(6)
        self.endpoint = f"http://127.0.0.1:{http}"
        self.grpc_endpoint = f"http://127.0.0.1:{grpc}"
        self.file = folder / "logs" / "app.jsonl"
        self._health = f"http://127.0.0.1:{health}/"
        self._output = folder / "collector.log"
        environ = {
            **os.environ,
            **environ,
            "OTELOG_COLLECTOR_HTTP": f"127.0.0.1:{http}",
            "OTELOG_COLLECTOR_GRPC": f"127.0.0.1:{grpc}",
            "OTELOG_COLLECTOR_HEALTH": f"127.0.0.1:{health}",
            "OTELOG_COLLECTOR_METRICS_HOST": "127.0.0.1",
            "OTELOG_COLLECTOR_METRICS_PORT": str(self._metrics_port),
            "OTELOG_COLLECTOR_APPLICATIONS": f"127.0.0.1:{applications}",
            "OTELOG_COLLECTOR_FOLDER": str(folder),
            # Nobody is there: what is for Loki waits in the queue on disk.
            "OTELOG_LOKI_OTLP": f"http://127.0.0.1:{loki}/otlp",
            "OTELOG_COLLECTOR_FILE_MEGABYTES": "4096",
            "OTELOG_COLLECTOR_MEMORY_MIB": "1024",
        }
        command = [str(binary)]
        for name in ("otelcol.yaml", *overlays):
            command += ["--config", str(ROOT / "collector" / name)]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(command, env=environ, cwd=folder, stdout=output, stderr=output)
        try:
            wait_until(self._is_ready, START_SECONDS, what="the Collector's health check")
        except BaseException:
            self.stop()
            raise

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise CollectorStartError(self._output.read_text(errors="replace")[-3000:])
        try:
            with open_url(self._health, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def metric(self, name: str, **labels: str) -> int:
        """The sum of one of the Collector's own metrics over all samples with these labels."""
        with open_url(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        samples = re.findall(rf"^{re.escape(name)}(?:{{([^}}]*)}})? (\S+)$", text, re.MULTILINE)
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return int(sum(float(value) for found, value in samples if all(one in found for one in wanted)))

    def accepted(self) -> int:
        """Log records that the receiver took, as the Collector counts them."""
        return self.metric("otelcol_receiver_accepted_log_records_total")

    def records(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Every record in the file, with its resource; one line holds a whole batch."""
        with self.file.open(encoding="utf-8") as lines:
            for line in lines:
                for resource in json.loads(line)["resourceLogs"]:
                    for scope in resource["scopeLogs"]:
                        for record in scope["logRecords"]:
                            yield resource["resource"], record

    def stop(self) -> None:
        """End the process, in an orderly way if it can; then its file is complete. Idempotent."""
        end_process(self._process, STOP_SECONDS)


@pytest.fixture(scope="session")
def collector_binary() -> Path:
    """The Collector's executable, built into the user's cache if it is not there."""
    return build("otelog-collector")


def build(name: str) -> Path:
    """A program of the stack, of the pinned version, built into the user's cache if it is not there."""
    command = [sys.executable, "-m", "otelog.cli", "stack", "build", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{name} is needed here and could not be built:\n{done.stderr}", pytrace=False)
    return Path(done.stdout.strip())


def attribute(attributes: list[dict[str, Any]], key: str) -> Any:
    """The value of an OTLP/JSON attribute, whatever its type."""
    (value,) = [item["value"] for item in attributes if item["key"] == key]
    return next(iter(value.values()))


@pytest.fixture
def collector(collector_binary: Path, tmp_path: Path) -> Iterator[Collector]:
    """A fresh Collector, its file empty and its counters at zero."""
    with start_collector(collector_binary, tmp_path) as running:
        yield running


@contextmanager
def start_collector(
    binary: Path, tmp_path: Path, overlays: tuple[str, ...] = (), environ: Mapping[str, str] | None = None
) -> Iterator[Collector]:
    """Run a Collector, and end it afterwards."""
    for attempt in range(1, START_ATTEMPTS + 1):
        folder = tmp_path / f"collector-{attempt}"
        folder.mkdir()
        try:
            running = Collector(binary, folder, overlays, environ or {})
        except CollectorStartError as error:
            # Somebody else may have taken one of the ports in between.
            if attempt == START_ATTEMPTS or "address already in use" not in str(error):
                raise
        else:
            break
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder)
