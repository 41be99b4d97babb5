"""The batch processor: ``opentelemetry.sdk._logs.export.BatchLogRecordProcessor`` with exact counters."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from threading import get_ident

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter
from opentelemetry.sdk.resources import Resource

from otelog._capture.active_pipeline import TAKEN_BY
from otelog._capture.port import ActivePipeline
from otelog._config.resolve import ProcessorSettings, resolve_processor
from otelog._ledger.counters import Ledger, Stats
from otelog._pipeline.assembly import Destination, make_worker
from otelog._pipeline.worker import Worker
from otelog._record.attributes import AttributeBuilder
from otelog._record.sdk import ReentrantError, RowMaker, make_broken_row, number_of
from otelog._record.severity import severity_range
from otelog._runtime.diagnostics import warn
from otelog._runtime.end_time import END
from otelog._runtime.interruption import is_interruption
from otelog._runtime.lifetime import unwatch
from otelog._runtime.own_threads import caused_by_ourselves, own_threads

DEFAULT_SHUTDOWN_TIMEOUT = 30.0
"""Seconds; the specification's export timeout, which is also what the SDK's processor waits."""


class BatchLogRecordProcessor(LogRecordProcessor):
    """Queues records without a lock, and exports them in batches from a thread of its own.

    It takes the place of the SDK's processor of the same name: the same positional arguments, environment variables and
    bounds. One default differs: where the SDK evicts the oldest record of a full queue, this one refuses the newest.

    Args:
        exporter: Any exporter of the SDK's interface; `otelog.OTLPLogExporter` is counted record by record.
        schedule_delay_millis: How long a record waits at most for its batch to fill; 1000 by default.
        max_export_batch_size: Records in a batch at most; 512 by default.
        export_timeout_millis: For a batch with all its attempts, with `otelog.OTLPLogExporter`; 30,000 by default.
        max_queue_size: Records in the queue at most; 2048 by default.
        meter_provider: Where the ledger is published as metrics; by default the global one.
        when_full: ``"drop_newest"``, ``"drop_oldest"`` (below ERROR first) or ``"block"``.
        block_timeout: Seconds that a call waits at most under ``"block"``.
        reserve_for_errors: The part of the queue, 0 to 0.9, that only records at ERROR and above may fill.
        max_queue_bytes: Bound of the queue by estimated bytes.
        bisect_failed_exports: Look for the records that a batch of an exporter that is not otelog's failed for.

    Such an exporter gets texts as they were logged, with U+0000 and the like: what its store cannot keep costs it the
    batch, unless it takes it out or `bisect_failed_exports` is set.

    What is not given comes from ``OTEL_BLRP_*``.

    Raises:
        ConfigurationError: An argument cannot be used (also a ValueError, as with the SDK).

    Thread safety: all methods. Source: logs SDK, "Batching processor".
    """

    def __init__(
        self,
        exporter: LogRecordExporter,
        schedule_delay_millis: float | None = None,
        max_export_batch_size: int | None = None,
        export_timeout_millis: float | None = None,
        max_queue_size: int | None = None,
        *,
        meter_provider: MeterProvider | None = None,
        when_full: str | None = None,
        block_timeout: float | None = None,
        reserve_for_errors: float | None = None,
        max_queue_bytes: int | None = None,
        bisect_failed_exports: bool | None = None,
    ) -> None:
        settings = resolve_processor(ProcessorSettings.pick(locals()))
        for warning in settings.warnings:
            warn(f"config:{warning}", warning)
        worker = make_worker(
            [Destination(exporter)],
            settings,
            AttributeBuilder(),
            Resource.get_empty,
            meter_provider=meter_provider,
            shutdown_timeout=DEFAULT_SHUTDOWN_TIMEOUT,
        )
        self._open(worker, ActivePipeline(worker.port))

    @classmethod
    def of_worker(cls, worker: Worker, pipeline: ActivePipeline) -> BatchLogRecordProcessor:
        """Returns a processor over a pipeline that was made with all of `otelog.configure`'s options."""
        processor = cls.__new__(cls)
        pipeline.port = worker.port
        processor._open(worker, pipeline)
        return processor

    passes_over = False
    """Whether another copy of otelog, imported since, has the records of the process's LoggerProvider."""

    def _open(self, worker: Worker, pipeline: ActivePipeline) -> None:
        self._worker = worker
        self._rows = RowMaker()
        self.pipeline = pipeline
        """What loggers and handlers of this pipeline hold on to."""
        # Held by nobody but its users: when they let go of it, the worker delivers what is left, and ends.
        self._finalizer = weakref.finalize(self, Worker.let_go, worker)
        self._finalizer.atexit = False

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Put a copy of the record into the queue. Never raises, waits or takes a lock; what is refused is counted."""
        try:
            self._take(log_record)
        except MemoryError as error:
            if is_interruption(error):
                raise
            # It is neither in nor counted.
            self.pipeline.port.ledger.refuse_full[0]()

    def _take(self, log_record: ReadWriteLogRecord) -> None:
        if self.passes_over or TAKEN_BY.get() is self or (get_ident() in own_threads and caused_by_ourselves()):
            return
        port = self.pipeline.port
        port.ledger.created_by_sdk.add()
        try:
            row, size_bytes = self._rows.make(log_record)
        except ReentrantError:
            port.ledger.refuse("reentrant", severity_range(number_of(log_record.log_record.severity_number)))
        except Exception as error:
            if is_interruption(error):
                raise
            port.put_sized(*make_broken_row(error))
        else:
            port.put_sized(row, size_bytes)

    @property
    def ledger(self) -> Ledger:
        """The counters themselves, which stay when `replace_worker` replaces the pipeline."""
        return self._worker.ledger

    @property
    def is_running(self) -> bool:
        """Whether records are taken, and there is a thread to deliver them."""
        return self._worker.is_running

    def add_observer(self, observer: Callable[[Ledger, bool], None]) -> None:
        """Have the counters published.

        Args:
            observer: Called with the ledger after each batch, at each delay, before a flush returns, and at the end
                with True; by one thread at a time, but for the moment in which a pipeline replaces another. What it
                raises is reported on standard error.
        """
        self._worker.observers += (observer,)

    def notify(self, observer: Callable[[Ledger, bool], None]) -> None:
        """Have an observer publish the counters as they are, in this thread."""
        self._worker.notify(observer)

    def stats(self) -> Stats:
        """Returns a consistent snapshot of the counters; see `otelog.Stats`. Never blocks a log call."""
        return self._worker.stats()

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Export all that is queued; returns whether everything was delivered within the time."""
        return self._worker.flush(timeout_millis / 1000)

    def shutdown(self, timeout_millis: float | None = None) -> bool:  # type: ignore[override]
        """Refuse records from now on, deliver what is there, shut the exporter down. Idempotent.

        Returns:
            Whether everything was delivered; what was not is counted as ``shutdown_timeout``.
        """
        if timeout_millis is not None:
            return self._worker.shutdown(timeout_millis / 1000)
        with END.spend(self._worker.shutdown_timeout) as deadline:
            return self._worker.shutdown(deadline - time.monotonic())

    def replace_worker(self, worker: Worker, timeout: float) -> bool:
        """Send records into another pipeline with the same ledger, and shut the present one down."""
        old = self._worker
        # The counters stay, and so do those who publish them: the old pipeline's end is not theirs.
        worker.observers, old.observers = old.observers, ()
        old.port.successor = worker.port
        self._worker = worker
        self.pipeline.port = worker.port
        self._finalizer.detach()
        self._finalizer = weakref.finalize(self, Worker.let_go, worker)
        self._finalizer.atexit = False
        old.outlet.keep([batch_export.exporter for batch_export in worker.outlet.batch_exports])
        delivered = old.shutdown(timeout)
        unwatch(old)
        old.ledger.close_queue(old.queue.count)
        return delivered
