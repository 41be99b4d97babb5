"""Native processes for the tests of `otelog audit`: a Collector, Loki, Prometheus."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
from pathlib import Path
from types import TracebackType

import pytest

from tests.stack.conftest import ROOT, open_url
from tests.support import find_free_ports, wait_until

CONFIGURATION = ROOT / "collector"
BINARIES = Path(os.environ.get("OTELOG_TEST_BINARIES", "/tmp/gob/bin"))
START_SECONDS = 30.0
STOP_SECONDS = 20.0
TARGETS = 3


def find_binary(name: str) -> Path:
    """Returns a native program, or skips the test that needs it."""
    path = BINARIES / name
    if not path.exists():
        pytest.skip(f"{name} is not at {BINARIES}")
    return path


class Server:
    """A process that is ready when its URL answers 200; the last lines of its output are in the failure otherwise."""

    def __init__(self, command: list[str], *, environ: dict[str, str], folder: Path, ready: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._start = lambda: self._run(command, environ, folder)
        self._output = folder / "output.log"
        self._ready = ready
        self.start()

    def _run(self, command: list[str], environ: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
        with self._output.open("ab") as output:
            return subprocess.Popen(
                command,
                env={**os.environ, **environ},
                cwd=folder,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )

    def start(self) -> None:
        """Start it, also again, and wait until it is ready."""
        self._process = self._start()
        try:
            wait_until(self._is_ready, START_SECONDS, what=self._ready)
        except BaseException:
            self.kill()
            raise

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(self._output.read_text(errors="replace")[-3000:])
        try:
            with open_url(self._ready, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """End it in an orderly way if it can. Idempotent."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it with SIGKILL. Idempotent."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait(STOP_SECONDS)


class Servers:
    """Collector, Loki and Prometheus on free ports of loopback, each started by the method of its name.

    `environ` is laid over the variables that the configurations read.
    """

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        http, grpc, health, own, applications, loki, loki_grpc, prometheus = find_free_ports(8)
        self.endpoint = f"http://127.0.0.1:{http}"
        self.collector_url = f"http://127.0.0.1:{own}"
        self.applications_url = f"http://127.0.0.1:{applications}"
        self.loki_url = f"http://127.0.0.1:{loki}"
        self.prometheus_url = f"http://127.0.0.1:{prometheus}"
        self.logs = folder / "collector" / "logs"
        self._health = f"http://127.0.0.1:{health}/"
        self._environ = {
            "OTELOG_COLLECTOR_HTTP": f"127.0.0.1:{http}",
            "OTELOG_COLLECTOR_GRPC": f"127.0.0.1:{grpc}",
            "OTELOG_COLLECTOR_HEALTH": f"127.0.0.1:{health}",
            "OTELOG_COLLECTOR_METRICS_HOST": "127.0.0.1",
            "OTELOG_COLLECTOR_METRICS_PORT": str(own),
            "OTELOG_COLLECTOR_APPLICATIONS": f"127.0.0.1:{applications}",
            "OTELOG_COLLECTOR_FOLDER": str(folder / "collector"),
            "OTELOG_LOKI_OTLP": f"http://127.0.0.1:{loki}/otlp",
            "OTELOG_LOKI_PORT": str(loki),
            "OTELOG_LOKI_GRPC_PORT": str(loki_grpc),
            "OTELOG_LOKI_FOLDER": str(folder / "loki"),
            **environ,
        }
        self._running: list[Server] = []

    def __enter__(self) -> Servers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in reversed(self._running):
            server.stop()

    def _add(self, command: list[str], folder: str, ready: str) -> Server:
        server = Server(command, environ=self._environ, folder=self.folder / folder, ready=ready)
        self._running.append(server)
        return server

    def start_collector(self) -> Server:
        """Start the Collector."""
        binary = Path(os.environ.get("OTELOG_COLLECTOR", "/tmp/gob/col/dist/otelog-collector"))
        if not binary.exists():
            pytest.skip(f"there is no Collector at {binary}")
        return self._add([str(binary), "--config", str(CONFIGURATION / "otelcol.yaml")], "collector-run", self._health)

    def start_loki(self) -> Server:
        """Start Loki."""
        return self._add(
            [str(find_binary("loki")), f"-config.file={CONFIGURATION / 'loki.yaml'}", "-config.expand-env=true"],
            "loki-run",
            f"{self.loki_url}/ready",
        )

    def start_prometheus(self, *, interval: str = "1s") -> Server:
        """Start Prometheus, which scrapes the two endpoints of the Collector."""
        binary = find_binary("prometheus")
        folder = self.folder / "prometheus"
        folder.mkdir(parents=True, exist_ok=True)
        targets = [self.collector_url.removeprefix("http://"), self.applications_url.removeprefix("http://")]
        configuration = folder / "prometheus.yaml"
        configuration.write_text(
            f"""
global: {{scrape_interval: {interval}, scrape_timeout: {interval}}}
scrape_configs:
  - job_name: otelog-collector
    honor_labels: true
    static_configs: [{{targets: {targets}}}]
  - job_name: loki
    static_configs: [{{targets: ["{self.loki_url.removeprefix("http://")}"]}}]
""",
            encoding="utf-8",
        )
        server = self._add(
            [
                str(binary),
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self.prometheus_url.removeprefix('http://')}",
            ],
            "prometheus",
            f"{self.prometheus_url}/-/ready",
        )
        # It looks for its targets for the first time when it has been up for five seconds.
        wait_until(self._count_targets, START_SECONDS, what="Prometheus's first scrapes")
        return server

    def _count_targets(self) -> bool:
        answer = json.loads(read(f"{self.prometheus_url}/api/v1/query?query=up"))
        return sum(one["value"][1] == "1" for one in answer["data"]["result"]) == TARGETS


def read(url: str) -> str:
    """The text at a URL."""
    with open_url(url, timeout=10) as answer:
        return bytes(answer.read()).decode()
