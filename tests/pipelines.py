"""Pipelines for tests of the core: exporters that can be held, and checks of the books."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult

from otelog import BatchLogRecordProcessor, Stats
from otelog._capture.facade import Logger
from tools.waiting import wait_until

OPEN_SECONDS = 20.0
"""How long a held exporter stays held at most, so that a failing test ends."""


class ExporterForTests(LogRecordExporter):
    """Keeps what it is given, and can be made slow, held or failing."""

    def __init__(self, *, pause: float = 0.0, keep: bool = True) -> None:
        self.records: list[Any] = []
        self.count = 0
        self.batches: list[int] = []
        self.pause = pause
        self.keep = keep
        self.gate = threading.Event()
        self.gate.set()
        self.exporting = threading.Event()
        self.answer: Any = LogRecordExportResult.SUCCESS
        self.error: BaseException | None = None
        self.shutdowns = 0

    def export(self, batch: Sequence[Any]) -> LogRecordExportResult:
        self.exporting.set()
        if self.pause:
            time.sleep(self.pause)
        self.gate.wait(OPEN_SECONDS)
        if self.error is not None:
            raise self.error
        if self.keep:
            self.records += batch
        self.batches.append(len(batch))
        self.count += len(batch)
        return self.answer  # type: ignore[no-any-return]

    def bodies(self) -> list[Any]:
        return [record.log_record.body for record in self.records]

    def shutdown(self) -> None:
        self.shutdowns += 1

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


@contextmanager
def running(processor: BatchLogRecordProcessor) -> Iterator[BatchLogRecordProcessor]:
    """Shut the processor down at the end, whatever happens."""
    try:
        yield processor
    finally:
        processor.shutdown(2_000)


def make_logger(processor: BatchLogRecordProcessor, name: str = "tests") -> Logger:
    return Logger(name, processor.pipeline)


def check_identity(stats: Stats) -> None:
    """Assert that every record of a snapshot is somewhere, once."""
    refused, removed = sum(stats.refused.values()), sum(stats.removed.values())
    assert stats.created == refused + stats.queued + removed + stats.accepted, stats
    for one in stats.exporters.values():
        assert one.accepted == one.exported + sum(one.dropped.values()) + one.waiting + one.in_flight, stats
        assert min(one.exported, one.waiting, one.in_flight) >= 0, stats
    assert stats.accepted == sum(one.accepted for one in stats.exporters.values()), stats
    assert 0 <= stats.queued <= stats.queue_capacity, stats


def hold_export(exporter: ExporterForTests, **options: Any) -> BatchLogRecordProcessor:
    """Returns a processor whose worker is inside an export that does not end before `exporter.gate` is set."""
    exporter.gate.clear()
    processor = BatchLogRecordProcessor(exporter, 10, **options)
    make_logger(processor).info("held")
    assert exporter.exporting.wait(5.0)
    wait_until(lambda: processor.stats().in_flight == 1)
    return processor
