"""The far end: records in one place, the ledgers of those who sent them in another.

The records go to the real Collector, or to `otelog.testing.OTLPServer`; the ledgers, which are metrics, always to
a receiver of this process. So neither figure can come from the other.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from benchmarks.collector import find_collector
from otelog.cli.journal import Journal
from otelog.cli.otlp_json import decode_logs
from otelog.cli.receiver import Receiver
from otelog.testing import OTLPServer
from tools.loopback import find_free_ports
from tools.real_apps.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it arrived.

    Args:
        instance: The process that made it.
        time_ns: When.
        trace_id: In hex; empty if it belongs to none.
        logger: Its logger's name.
        severity: Its level's name.
        text: Its message and all its attributes.
    """

    instance: str
    time_ns: int
    trace_id: str
    logger: str
    severity: str
    text: str


class FarEnd(Protocol):
    """Where records arrive."""

    name: str
    logs_endpoint: str

    def count(self) -> int:
        """How many records it says it has taken."""

    def finish(self) -> None:
        """Let it write what it still holds; then `records` has all."""

    def records(self) -> list[Record]:
        """Every record that it has taken."""


class OwnServer:
    """`otelog.testing.OTLPServer`."""

    name = "OTLPServer"

    def __init__(self, server: OTLPServer) -> None:
        self._server = server
        self.logs_endpoint = server.logs_endpoint

    def count(self) -> int:
        """How many records it has kept."""
        return len(self._server.records)

    def finish(self) -> None:
        """Nothing to do: it answers when it has them."""

    def records(self) -> list[Record]:
        """Those that it has kept."""
        return list(read_records(request.decode() for request in self._server.requests))


class RealCollector:
    """The Collector with collector/otelcol.yaml, on free ports, with its files in a folder of their own."""

    name = "Collector"

    def __init__(self, binary: Path, folder: Path) -> None:
        http, grpc, health, self._metrics_port, applications, loki = find_free_ports(6)
        self.logs_endpoint = f"http://127.0.0.1:{http}/v1/logs"
        self._health = f"http://127.0.0.1:{health}/"
        self._file = folder / "logs" / "app.jsonl"
        environ = {
            **os.environ,
            "OTELOG_COLLECTOR_HTTP": f"127.0.0.1:{http}",
            "OTELOG_COLLECTOR_GRPC": f"127.0.0.1:{grpc}",
            "OTELOG_COLLECTOR_HEALTH": f"127.0.0.1:{health}",
            "OTELOG_COLLECTOR_METRICS_HOST": "127.0.0.1",
            "OTELOG_COLLECTOR_METRICS_PORT": str(self._metrics_port),
            "OTELOG_COLLECTOR_APPLICATIONS": f"127.0.0.1:{applications}",
            "OTELOG_COLLECTOR_FOLDER": str(folder),
            # Nobody is there: what is for Loki waits in the queue on disk.
            "OTELOG_LOKI_OTLP": f"http://127.0.0.1:{loki}/otlp",
        }
        folder.mkdir(parents=True, exist_ok=True)
        self._output = folder / "collector.log"
        command = [str(binary), "--config", str(ROOT / "collector" / "otelcol.yaml")]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(command, env=environ, cwd=folder, stdout=output, stderr=output)
        try:
            wait_until(self._is_ready, START_SECONDS, what="the Collector's health check")
        except BaseException:
            self.finish()
            raise

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"the Collector ended: {self._output.read_text(errors='replace')[-2000:]}")
        try:
            return bool(_open(self._health).status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def count(self) -> int:
        """What its receiver has accepted, by its own metric."""
        lines = _open(f"http://127.0.0.1:{self._metrics_port}/metrics").read().decode().splitlines()
        name = "otelcol_receiver_accepted_log_records_total"
        return int(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)))

    def records(self) -> list[Record]:
        """What is in its file."""
        if not self._file.exists():
            return []
        with self._file.open("rb") as lines:
            return list(read_records(decode_logs(line) for line in lines))

    def finish(self) -> None:
        """End it, so that all that it has taken is in its file; idempotent."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def open_far_end(folder: Path, *, collector: bool) -> Iterator[FarEnd]:
    """Start what takes the records, and end it.

    Args:
        folder: For its files.
        collector: The real one.

    Raises:
        FileNotFoundError: There is no Collector.
    """
    if not collector:
        with OTLPServer() as server:
            yield OwnServer(server)
        return
    binary = find_collector(None)
    if binary is None:
        raise FileNotFoundError("no Collector: otelog stack build otelog-collector")
    running = RealCollector(binary, folder)
    try:
        yield running
    finally:
        running.finish()


@contextmanager
def open_ledgers(folder: Path) -> Iterator[Receiver]:
    """Start what takes the ledgers, and end it."""
    journal = Journal(folder)
    try:
        with Receiver(journal) as receiver:
            yield receiver
    finally:
        journal.close()


def read_records(requests: Iterable[ExportLogsServiceRequest]) -> Iterator[Record]:
    """Every record of these requests."""
    for request in requests:
        for resource_logs in request.resource_logs:
            names = {pair.key: pair.value.string_value for pair in resource_logs.resource.attributes}
            for scope_logs in resource_logs.scope_logs:
                for record in scope_logs.log_records:
                    attributes = {pair.key: str(pair.value).strip() for pair in record.attributes}
                    yield Record(
                        instance=names.get("service.instance.id", ""),
                        time_ns=record.time_unix_nano,
                        trace_id=record.trace_id.hex(),
                        logger=scope_logs.scope.name,
                        severity=record.severity_text,
                        text=json.dumps([record.body.string_value or str(record.body), attributes]),
                    )


def _open(url: str) -> Any:
    # A proxy of the environment must not stand between us and loopback.
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5)
