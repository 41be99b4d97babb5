"""One record through every sink at once, each compared with what OTLP delivers, field by field."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import otelog
from otelog._record.severity import severity_range
from otelog.testing import OTLPServer
from tests.arrivals import attributes_of, configured, to_python
from tests.capture.test_hostile import AS_TEXT, ENDLESS_FOR_SDK, ENDLESS_TEXT, WAYS, NotTakenError
from tests.corpus import HOSTILE

log = otelog.get_logger("every.sink")
OWN = ("code.file.path", "code.function.name", "code.line.number")
KEYS = (
    *("timestamp", "level", "logger", "message", "module", "function", "line", "thread", "process"),
    *("trace_id", "span_id"),
)
SPAN = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0x00F067AA0BA902B7, False, TraceFlags(1))


class Sinks:
    """A pipeline with all of them, and what each has got."""

    def __init__(self, server: OTLPServer, folder: Path, console: Path, memory: InMemoryLogRecordExporter) -> None:
        self.server = server
        self.folder = folder
        self.console = console
        self.memory = memory

    def close(self) -> tuple[list[tuple[str, LogRecord]], list[dict[str, Any]], list[dict[str, Any]], list[Any]]:
        """Deliver everything; returns OTLP's records with their scopes, both sinks' lines, and the SDK's records."""
        assert otelog.flush(60.0), otelog.stats()
        stats = otelog.stats()
        assert stats.lost == 0
        for name, one in stats.exporters.items():
            assert one.accepted == one.exported == stats.accepted, name
        sent = [
            (scope.scope.name, record)
            for request in self.server.requests
            for resource in request.decode().resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]
        # A request groups records by their scopes.
        sent.sort(key=lambda pair: pair[1].time_unix_nano)
        lines, shown = (read_lines(path) for path in (self.folder / "app.log", self.console))
        return sent, lines, shown, list(self.memory.get_finished_logs())


def read_lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_bytes().decode()
    lines = text.split("\n")
    assert lines.pop() == ""
    # Whatever is in a record, it is one line to everybody.
    assert lines == text.splitlines()
    return [json.loads(line) for line in lines]


@contextlib.contextmanager
def every_sink(tmp_path: Path) -> Iterator[Sinks]:
    memory = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    console = tmp_path / "console"
    options: dict[str, Any] = {
        "level": "DEBUG",
        "exporters": ["otlp", "file", "console", memory],
        "file_folder": tmp_path / "logs",
        "console_stream": "stdout",
        "console_format": "json",
        "schedule_delay_millis": 60_000,
        "max_queue_size": 50_000,
        "max_queue_bytes": 1024 * 1024 * 1024,
        "max_request_bytes": 64 * 1024 * 1024,
        "install_handler": False,
    }
    with (
        console.open("w", encoding="utf-8") as stream,
        contextlib.redirect_stdout(stream),
        configured(**options) as server,
    ):
        yield Sinks(server, tmp_path / "logs", console, memory)


def expect_value(value: Any) -> Any:
    """What JSON can say of a value that OTLP has."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, (list, tuple)):
        return [expect_value(item) for item in value]
    if isinstance(value, Mapping):
        return {key: expect_value(item) for key, item in value.items()}
    return value


def expect_line(scope: str, record: LogRecord) -> dict[str, Any]:
    """The line by its contract, out of OTLP's record; thread and process aside."""
    attributes = attributes_of(record)
    moment = datetime.fromtimestamp(record.time_unix_nano // 1_000_000_000, timezone.utc)
    moment = moment.replace(microsecond=record.time_unix_nano % 1_000_000_000 // 1000)
    path, function, line = (attributes.pop(key, None) for key in OWN)
    trace_id = record.trace_id.hex() or None
    if trace_id is None and "request.trace_id" in attributes:
        trace_id = attributes.pop("request.trace_id")
    expected = {
        "timestamp": moment.astimezone().isoformat(timespec="microseconds"),
        "level": record.severity_text or severity_range(record.severity_number).upper(),
        "logger": scope or None,
        "message": expect_value(to_python(record.body)),
        "module": None if path is None else Path(path).stem,
        "function": function,
        "line": line,
        "trace_id": trace_id,
        "span_id": record.span_id.hex() or None,
    }
    if record.event_name:
        expected["event_name"] = record.event_name
    for key, value in attributes.items():
        while key in KEYS or key in expected:
            key = f"attributes.{key}"
        expected[key] = expect_value(value)
    if record.dropped_attributes_count:
        expected["dropped_attributes_count"] = record.dropped_attributes_count
    return expected


def assert_line(line: dict[str, Any], scope: str, record: LogRecord) -> None:
    assert tuple(line)[: len(KEYS)] == KEYS
    assert line.pop("process") == os.getpid()
    assert line.pop("thread") == "MainThread"
    expected = expect_line(scope, record)
    assert repr(line) == repr({key: expected[key] for key in line if key in expected}), "values differ"
    assert list(line) == list(expected)


def test_the_hostile_corpus_is_the_same_in_every_sink(tmp_path: Path) -> None:
    taken = 0
    with every_sink(tmp_path) as sinks:
        for name, factory in HOSTILE:
            for way, send in WAYS.items():
                if (name == ENDLESS_TEXT and way in AS_TEXT) or (name in ENDLESS_FOR_SDK and way.startswith("SDK")):
                    continue
                with contextlib.suppress(NotTakenError):
                    send(factory())
                    taken += 1
        sent, lines, shown, memory = sinks.close()
    assert taken > 1_000
    assert len(sent) == len(lines) == len(shown) == len(memory) >= taken
    for (scope, record), line, other in zip(sent, lines, shown, strict=True):
        assert line == other
        assert_line(line, scope, record)
    assert [one.log_record.timestamp for one in memory] == [record.time_unix_nano for _, record in sent]
    for one, (_, record) in zip(memory, sent, strict=True):
        # The SDK keeps lists as tuples.
        kept, wanted = expect_value(one.log_record.attributes), expect_value(attributes_of(record))
        assert repr(sorted(kept.items())) == repr(sorted(wanted.items()))


def test_a_record_with_everything_is_the_same_in_every_sink(tmp_path: Path) -> None:
    context = trace.set_span_in_context(NonRecordingSpan(SPAN))
    with every_sink(tmp_path) as sinks:
        token = attach(context)
        try:
            log.info("order %s paid by %s", 7, "爱丽丝", amount=12.5, message="taken", level=3, nested={"a": [1, b"x"]})
            log.event("order.paid", order_id=7)
            try:
                raise ValueError("broken\nin two lines \u202e")
            except ValueError:
                log.exception("failed", **{"request.trace_id": "abc-123"})
        finally:
            detach(token)
        log.warning("no span", **{"request.trace_id": "abc-123-xyz"})
        sent, lines, shown, _ = sinks.close()
    assert lines == shown
    assert lines[0]["attributes.message"] == "taken"
    assert lines[0]["message"] == "order 7 paid by 爱丽丝"
    assert lines[0]["trace_id"] == format(SPAN.trace_id, "032x")
    assert lines[1]["event_name"] == "order.paid"
    assert lines[2]["exception.message"] == "broken\nin two lines \u202e"
    assert lines[2]["request.trace_id"] == "abc-123"
    assert (lines[3]["trace_id"], lines[3]["span_id"]) == ("abc-123-xyz", None)
    for (scope, record), line in zip(sent, lines, strict=True):
        assert_line(line, scope, record)
