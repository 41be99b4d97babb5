"""The far end: records in one place, the ledgers of those who sent them in another.

The records go to the real Collector, or to `otelog.testing.OTLPServer`; the ledgers, which are metrics, always to
a receiver of this process. So neither figure can come from the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelog.cli.dev.journal import Journal
from otelog.cli.dev.otlp_json import decode_logs
from otelog.cli.dev.receiver import Receiver
from otelog.testing import OTLPServer
from tools.collector import Collector, find_collector


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
    """The Collector with collector/otelcol.yaml."""

    name = "Collector"

    def __init__(self, running: Collector) -> None:
        self._running = running
        self.logs_endpoint = f"{running.endpoint}/v1/logs"

    def count(self) -> int:
        """What its receiver has accepted, by its own metric."""
        return self._running.accepted()

    def records(self) -> list[Record]:
        """What is in its file."""
        if not self._running.file.exists():
            return []
        with self._running.file.open("rb") as lines:
            return list(read_records(decode_logs(line) for line in lines))

    def finish(self) -> None:
        """End it, so that all that it has taken is in its file; idempotent."""
        self._running.stop()


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
    folder.mkdir(parents=True, exist_ok=True)
    running = Collector(binary, folder)
    try:
        yield RealCollector(running)
    finally:
        running.stop()


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
