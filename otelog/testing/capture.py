"""`capture_logs`: what is logged, wherever it would have gone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import _logs
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.resources import Resource

from otelog._capture.active_pipeline import ACTIVE_PIPELINE
from otelog._capture.handler import LoggingHandler
from otelog._config.resolve import resolve_processor
from otelog._pipeline.assembly import Destination, make_worker
from otelog._private.opentelemetry import processors_of, remove_processor, swap_logger_provider
from otelog._record.attributes import AttributeBuilder
from otelog._record.sdk import RowMaker
from otelog._record.severity import level_number
from otelog._setup.configure import ensure_handler
from otelog._setup.state import is_configured

if TYPE_CHECKING:
    pass

__all__ = ["CapturedLogs", "capture_logs"]

CAPTURE_SECONDS = 30.0
"""How long a capture may take to hand over what was logged."""

MOST_SHOWN = 20
"""Records in the text of a capture, which a failed assertion shows."""


class CapturedLogs:
    """What `capture_logs` has collected: a collection of records, which is false while there are none.

    Thread safety: may be read by any thread.
    """

    def __init__(self, exporter: InMemoryLogRecordExporter, flush: Callable[[], bool]) -> None:
        self._exporter = exporter
        self._flush = flush

    @property
    def records(self) -> list[ReadableLogRecord]:
        """Return the records so far, in the order of their logging; inside the block, too."""
        if not self._flush():
            raise TimeoutError(f"the captured records were not delivered within {CAPTURE_SECONDS:g} s")
        return list(self._exporter.get_finished_logs())

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[ReadableLogRecord]:
        return iter(self.records)

    def __getitem__(self, index: int) -> ReadableLogRecord:
        return self.records[index]

    def __repr__(self) -> str:
        records = self.records
        shown = [f"{one.log_record.severity_text or '-'} {one.log_record.body!r}" for one in records[:MOST_SHOWN]]
        more = [f"and {len(records) - MOST_SHOWN} more"] if len(records) > MOST_SHOWN else []
        return f"<CapturedLogs of {len(records)}: {', '.join(shown + more) or 'nothing was logged'}>"


@contextmanager
def capture_logs(level: int | str | None = None) -> Iterator[CapturedLogs]:
    """Collect what is logged inside the block, by all threads, instead of exporting it.

    That is what comes through otelog's loggers, through `logging` (as far as it reaches the root logger) and through
    any OpenTelemetry logger. `otelog.configure` may have been called before, may be called in the block, or never. Of
    nested captures the innermost collects. Afterwards everything is as it was::

        with capture_logs() as logs:
            charge(order)
        assert [record.log_record.body for record in logs] == ["charged 12.50"]

    Args:
        level: The least level that is collected of otelog's loggers and of `logging`; by default that of
            `otelog.configure`, or else INFO.

    Raises:
        ConfigurationError: The level does not exist.

    Thread safety: it covers the whole process; blocks of several threads must be nested in time.
    """
    least = (
        level_number(level)
        if level is not None
        else ACTIVE_PIPELINE.configured.level
        if is_configured()
        else logging.INFO
    )
    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    worker = make_worker(
        [Destination(exporter)],
        # The environment is about the application's pipeline, not about this one.
        resolve_processor({"max_queue_size": 10_000, "when_full": "block", "block_timeout": CAPTURE_SECONDS}, {}),
        AttributeBuilder(),
        Resource.get_empty,
        meter_provider=None,
        shutdown_timeout=CAPTURE_SECONDS,
        level=least,
    )
    logs = CapturedLogs(exporter, lambda: worker.queue.closed or worker.flush(CAPTURE_SECONDS))
    ACTIVE_PIPELINE.cover(worker.port)
    try:
        with _standard_library_reaches_gate(least), _opentelemetry_reaches_pipeline():
            yield logs
    finally:
        ACTIVE_PIPELINE.uncover(worker.port)
        # A call that holds on to this port finds it closed, and takes the one that is there now.
        worker.port.successor = ACTIVE_PIPELINE.port
        worker.shutdown(CAPTURE_SECONDS)


@contextmanager
def _standard_library_reaches_gate(level: int) -> Iterator[None]:
    root = logging.getLogger()
    was_configured, level_before = is_configured(), root.level
    handler = LoggingHandler()
    if root.level > level:
        root.setLevel(level)
    level_inside = root.level
    if not any(isinstance(known, LoggingHandler) and known.pipeline is ACTIVE_PIPELINE for known in root.handlers):
        root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        if is_configured() == was_configured and root.level == level_inside:
            root.setLevel(level_before)
        if is_configured() and not was_configured:
            # It found ours in its place.
            ensure_handler()


@contextmanager
def _opentelemetry_reaches_pipeline() -> Iterator[None]:
    """Without `configure`, lead the SDK's loggers to the pipeline; where there is no provider, put a stand-in."""
    provider = _logs.get_logger_provider()
    if is_configured() or isinstance(provider, _StandInProvider):
        yield
    elif isinstance(provider, LoggerProvider):
        if any(isinstance(known, _ToGate) for known in processors_of(provider)):
            yield
            return
        to_gate = _ToGate()
        provider.add_log_record_processor(to_gate)
        try:
            yield
        finally:
            remove_processor(provider, to_gate)
    else:
        # The API's own way to set a provider can be gone once only, and belongs to the application.
        stand_in = _StandInProvider()
        swapped, before = swap_logger_provider(stand_in)
        try:
            yield
        finally:
            if swapped and _logs.get_logger_provider() is stand_in:
                swap_logger_provider(before)


class _ToGate(LogRecordProcessor):
    """Takes records of the SDK's loggers to the pipeline, unless a processor of `configure` does."""

    def __init__(self) -> None:
        self._rows = RowMaker()

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        if is_configured():
            return
        ACTIVE_PIPELINE.port.put_sized(*self._rows.make_safely(log_record))

    def shutdown(self) -> None:
        """There is nothing to shut down."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


class _StandInProvider(_logs.LoggerProvider):
    """The global provider while logs are captured; the loggers that it gave keep asking which one is global."""

    def __init__(self) -> None:
        self.real = LoggerProvider(shutdown_on_exit=False)
        self.real.add_log_record_processor(_ToGate())

    def get_logger(self, *args: Any, **keywords: Any) -> _logs.Logger:
        return _StandInLogger(*args, **keywords)


class _StandInLogger(_logs.Logger):
    def _find(self) -> Any:
        provider = _logs.get_logger_provider()
        if isinstance(provider, _StandInProvider):
            provider = provider.real
        return provider.get_logger(self._name, self._version, self._schema_url, self._attributes)

    def emit(self, *args: Any, **keywords: Any) -> None:
        self._find().emit(*args, **keywords)

    def enabled(self, **keywords: Any) -> bool:
        return bool(self._find().enabled(**keywords))
