"""The SDK's side of our own exporters: what they do under a processor that is not ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource

from otelog._ledger.counters import ExporterCounts, ExporterStats, Ledger
from otelog._ledger.tally import BatchTally
from otelog._pipeline.batch_export import BatchExport, BatchExporter, ExportContext
from otelog._record.attributes import DEFAULT_ATTRIBUTES
from otelog._record.sdk import RowMaker
from otelog._runtime.threads import Lock
from otelog._runtime.waiting import Stop


class OwnExporter(LogRecordExporter, BatchExporter):
    """Base of our exporters: `export` makes rows of the SDK's records, and delivers them as our own processor does.

    Who derives from it says `default_name`, `make_batch_export` and `shutdown`, and calls `watch` when it is complete.

    Args:
        export_timeout: Seconds for a batch with all its attempts, where the processor does not say.

    Thread safety: exports are serialised.
    """

    def __init__(self, export_timeout: float) -> None:
        self.export_timeout = export_timeout
        self._exporting = Lock()
        self._stop = Stop()
        self._rows = RowMaker()
        self._batch_export: BatchExport | None = None
        self._ledger = Ledger()
        self._ledger.exporters[self.default_name] = ExporterCounts()

    def stats(self) -> ExporterStats:
        """Returns what became of the records given to `export`; under otelog's processor see the processor's stats."""
        return self._ledger.read().exporters[self.default_name]

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Export a batch under a processor that is not ours. Never raises; FAILURE means that a record was lost."""
        rows: list[Any] = []
        for record in batch:
            rows += self._rows.make_safely(record)[0]
        with self._exporting:
            if self._stop.is_set():
                return LogRecordExportResult.FAILURE
            batch_export = self._batch_export
            if batch_export is None:
                # Late: under otelog's processor it is never needed.
                batch_export = self._batch_export = self.make_batch_export(
                    ExportContext(self.default_name, Resource.get_empty, DEFAULT_ATTRIBUTES, self.export_timeout)
                )
            ledger = self._ledger
            ledger.begin_move()
            try:
                ledger.accept(len(batch))
                ledger.enter(self.default_name, len(batch))
            finally:
                ledger.end_move()
            tallies: list[BatchTally] = []
            batch_export.deliver(rows, ledger, self._stop, tallies.append)
            batch_export.finish()
        return LogRecordExportResult.SUCCESS if tallies[0].all_exported else LogRecordExportResult.FAILURE

    def restart_after_fork(self) -> None:
        """Forget an export that another thread of the parent was in the middle of."""
        self._exporting = Lock()
        self._batch_export = None

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Returns True: nothing is held back between two exports."""
        return True
