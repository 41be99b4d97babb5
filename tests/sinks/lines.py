"""Rows as real log calls make them, the lines that they become, and what a line must be whatever is in it."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource

from otelog import BatchLogRecordProcessor
from otelog._ledger.tally import BatchTally, row_severity_ranges
from otelog._otlp.encode import Encoder
from otelog._pipeline.batch_export import BatchExporter, ExportContext
from otelog._record.attributes import AttributeBuilder
from otelog._record.row import COLUMNS
from otelog.sinks._line import LINE_KEYS, LineRenderer
from tests.pipelines import running

# What ends a line, steers a terminal or turns the reading direction, by code point; the line's end itself is cut off.
UNSAFE = frozenset(
    [
        *range(0x20),
        *range(0x7F, 0xA0),
        0x61C,
        *range(0x200B, 0x2010),
        *range(0x2028, 0x202F),
        *range(0x2060, 0x206A),
        0xFEFF,
    ]
)


class RowKeeper(LogRecordExporter, BatchExporter):
    """Keeps the queue's rows themselves."""

    default_name = "keeper"

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.context: ExportContext

    def make_batch_export(self, context: ExportContext) -> KeepingBatchExport:
        self.context = context
        return KeepingBatchExport(self)

    def export(self, batch: Sequence[Any]) -> LogRecordExportResult:
        raise AssertionError("under otelog's processor the batch export is used")

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


class KeepingBatchExport:
    """The batch export of `RowKeeper`."""

    name = "keeper"
    component_type = "keeper"
    endpoint: str | None = None
    on_exchange: Any = None

    def __init__(self, exporter: RowKeeper) -> None:
        self.exporter = exporter

    def deliver(self, rows: list[Any], ledger: Any, stop: Any, hold: Callable[[BatchTally], None]) -> None:
        sources = rows[1::COLUMNS]
        tally = BatchTally(ledger, self.name, len(sources), lambda start, end: row_severity_ranges(sources, start, end))
        hold(tally)
        self.exporter.rows += split(rows)
        tally.settle(0, len(sources), None)

    def finish(self) -> None:
        pass

    def restart_after_fork(self) -> None:
        pass

    def shutdown(self, timeout: float) -> None:
        pass


def split(rows: list[Any]) -> list[tuple[Any, ...]]:
    """Cut the queue's flat list into records."""
    return [tuple(rows[at : at + COLUMNS]) for at in range(0, len(rows), COLUMNS)]


def keep_rows(write: Callable[[BatchLogRecordProcessor], None]) -> list[tuple[Any, ...]]:
    """Return the rows of the records that `write` makes."""
    keeper = RowKeeper()
    with running(BatchLogRecordProcessor(keeper)) as processor:
        write(processor)
        assert processor.force_flush(10_000)
    return keeper.rows


def context_of(**options: Any) -> ExportContext:
    """Return the context of a pipeline with these options of `AttributeBuilder`."""
    return ExportContext("test", Resource.get_empty, AttributeBuilder(**options), 30.0)


def render(rows: Sequence[tuple[Any, ...]], renderer: LineRenderer | None = None, **options: Any) -> list[bytes]:
    """Render rows; each must become a line."""
    renderer = renderer or LineRenderer(context_of(**options))
    lines = renderer.render([value for row in rows for value in row], lambda: None)
    assert len(lines) == len(rows)
    found = [line for line in lines if line is not None]
    assert len(found) == len(lines)
    return found


def parse(line: bytes) -> dict[str, Any]:
    """Return a line's values, after a check that it is one line of safe JSON with the keys in their order."""
    assert line.endswith(b"\n")
    text = line[:-1].decode()
    assert len(text.splitlines()) == 1
    assert UNSAFE.isdisjoint(map(ord, text))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    def take(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs), "a key came twice"
        return dict(pairs)

    values: dict[str, Any] = json.loads(text, parse_constant=refuse, object_pairs_hook=take)
    assert tuple(values)[: len(LINE_KEYS)] == LINE_KEYS
    return values


def fields_of(values: dict[str, Any]) -> dict[str, Any]:
    """Return a parsed line's fields."""
    return {key: value for key, value in values.items() if key not in LINE_KEYS}


def encode_otlp(row: tuple[Any, ...], **options: Any) -> LogRecord:
    """Return what the OTLP exporter sends for a row, decoded."""
    batch, failed = Encoder({}, "", AttributeBuilder(**options)).encode(list(row), lambda: None)
    assert not failed
    request = ExportLogsServiceRequest.FromString(batch.payload(0, 1))
    (record,) = request.resource_logs[0].scope_logs[0].log_records
    return record


def as_json(value: Any) -> Any:
    """Return a decoded OTLP value as it is read back from a line."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}[str(value)]
    if isinstance(value, list):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return value


def json_fields(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return decoded attributes as the fields of a line, whose own keys they must not take."""
    fields = {}
    for key, value in attributes.items():
        name = key
        while name in LINE_KEYS or (name != key and name in attributes):
            name = f"attributes.{name}"
        fields[name] = as_json(value)
    return fields
