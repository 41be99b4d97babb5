"""The way from the worker to one exporter."""

from __future__ import annotations

import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource

from otelog._ledger.counters import Ledger
from otelog._ledger.otel_metrics import OnExchange
from otelog._ledger.tally import BatchTally, open_tally
from otelog._record.attributes import AttributeBuilder
from otelog._record.row import COLUMNS
from otelog._record.values import safe_str
from otelog._runtime.diagnostics import warn
from otelog._runtime.lock_yield import LockYield
from otelog._runtime.waiting import StopSignal

CONVERT_AT_ONCE = 100
"""Records that are made readable before the interpreter lock is offered to the application's threads."""


class BatchExport(Protocol):
    """One exporter as the worker sees it; used by one thread at a time."""

    name: str
    component_type: str
    """The exporter's type as the semantic conventions call it, or its class's qualified name."""
    endpoint: str | None
    """The URL that it sends to, if it has one."""
    on_exchange: OnExchange | None

    @property
    def exporter(self) -> LogRecordExporter:
        """The exporter itself."""

    def deliver(self, rows: list[Any], ledger: Ledger, stop: StopSignal, hold: Callable[[BatchTally], None]) -> None:
        """Export the rows and settle each of them, here or in the next `deliver` or `finish`.

        If it raises, nothing is under way any more, but what `finish` calls so.

        Args:
            rows: `COLUMNS` values a record; it may empty the list.
            ledger: Where they are in flight under `name`.
            stop: The shutdown, and the turn of whoever calls this.
            hold: Called with the batch's tally before anything is settled.
        """

    def finish(self) -> bool | None:
        """Settle what is still under way. If it raises, nothing is under way any more.

        Returns:
            False if something still is, because the turn of whoever calls this is over (`StopSignal.turn_deadline`): it
            is to be called again in the next turn. An exporter that cannot be left has none.
        """

    def restart_after_fork(self) -> None:
        """Forget what belongs to the parent process."""

    def shutdown(self, timeout: float) -> None:
        """Release the exporter's resources, within `timeout` seconds if it can."""


class ExportContext:
    """What a batch export needs to know of its pipeline.

    Args:
        name: The exporter's name in the ledger.
        resource: Returns the resource of the facade's and the handler's records; asked anew after a fork.
        attributes: What a record's attributes are.
        export_timeout: Seconds for a batch with all its attempts.
    """

    __slots__ = ("attributes", "export_timeout", "name", "resource")

    def __init__(
        self, name: str, resource: Callable[[], Resource], attributes: AttributeBuilder, export_timeout: float
    ) -> None:
        self.name = name
        self.resource = resource
        self.attributes = attributes
        self.export_timeout = export_timeout


class BatchExporter(ABC):
    """An exporter of otelog's own: it takes the queue's rows as they are, without the SDK's records in between."""

    default_name = ""
    """Its name in the ledger, unless it is given another."""

    @abstractmethod
    def make_batch_export(self, context: ExportContext) -> BatchExport:
        """Return the way to this exporter for one pipeline."""


class SdkBatchExport:
    """Any exporter of the SDK's interface: what it answers is what is counted.

    It gets texts as the application has logged them. A character that its store refuses, such as U+0000 in PostgreSQL's
    texts, fails the whole batch unless the exporter takes it out, or `bisect` is set.

    Args:
        exporter: The exporter.
        make_readable: Turns rows into the SDK's ``ReadableLogRecord`` objects.
        name: Its name in the ledger.
        bisect: Look for the records that a batch failed for, with at most 2·log₂n + 2 calls of ``export`` a batch. What
            the exporter has written of a batch that it said had failed is written twice (and counted as `resent`).
    """

    def __init__(
        self,
        exporter: LogRecordExporter,
        make_readable: Callable[[list[Any]], list[Any]],
        name: str,
        *,
        bisect: bool = False,
    ) -> None:
        kind = type(exporter)
        self.name = name
        self.component_type = f"{kind.__module__}.{kind.__qualname__}"
        self.endpoint: str | None = None
        self.exporter = exporter
        self._make_readable = make_readable
        self._bisect = bisect
        self.on_exchange: OnExchange | None = None

    def deliver(self, rows: list[Any], ledger: Ledger, stop: StopSignal, hold: Callable[[BatchTally], None]) -> None:
        size = len(rows) // COLUMNS
        tally = open_tally(rows, ledger, self.name)
        hold(tally)
        records = self._convert(rows, tally)
        if not records:
            return
        reason = self._export(records, tally)
        if reason is not None and self._bisect and len(records) == size > 1:
            self._search(records, tally, stop)
        else:
            tally.settle(0, size, reason)

    def finish(self) -> None:
        """Nothing is ever left under way."""

    def _search(self, records: list[Any], tally: BatchTally, stop: StopSignal) -> None:
        """Find the records for which a batch failed; when the calls for it are used up, the rest is lost.

        As with a 400 (see `otelog._otlp.delivery`): where the first part of a bad range is taken, the other part is
        bad; and the first part is the smaller one because its refusal costs one call more.
        """
        # With each whether it was refused itself: else it may be the batch's failure that has passed meanwhile.
        bad = [(0, len(records), True)]
        # floor(2·log₂n) + 1, exactly: the calls that a search may add to the one that every batch has.
        calls = (len(records) * len(records)).bit_length()

        def take(start: int, stop_at: int) -> bool:
            nonlocal calls
            calls -= 1
            tally.resend(stop_at - start)
            if self._export(records[start:stop_at], tally) is not None:
                return False
            tally.settle(start, stop_at, None)
            return True

        while bad:
            start, end, was_refused = bad.pop(max(range(len(bad)), key=lambda at: bad[at][1] - bad[at][0]))
            if time.monotonic() >= stop.stop_deadline:
                tally.settle(start, end, "shutdown_timeout")
                continue
            if end - start == 1 or not calls:
                if was_refused or not calls or not take(start, end):
                    tally.settle(start, end, "export_failed")
                continue
            middle = start + max(1, (end - start) * 3 // 8)
            if take(start, middle):
                bad.append((middle, end, False))
                continue
            bad.append((start, middle, True))
            if not calls:
                bad.append((middle, end, False))
            elif not take(middle, end):
                bad.append((middle, end, True))

    def _export(self, records: list[Any], tally: BatchTally) -> str | None:
        reason: str | None = "export_failed"
        began = time.monotonic()
        try:
            # Compared by name: the SDK has had two enumerations of the same members.
            if self.exporter.export(records).name == LogRecordExportResult.SUCCESS.name:
                reason = None
        except Exception as error:
            said = f"{type(self.exporter).__name__}.export failed: {type(error).__name__}: {safe_str(error)}"
            tally.explain(said, "export_failed")
            warn("export", said)
        if self.on_exchange is not None:
            self.on_exchange(time.monotonic() - began, None, reason)
        return reason

    def _convert(self, rows: list[Any], tally: BatchTally) -> list[Any]:
        records: list[Any] = []
        lock_yield = LockYield()
        step = CONVERT_AT_ONCE * COLUMNS
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            try:
                records += self._make_readable(part)
            except Exception:
                records += self._convert_singly(part, start // COLUMNS, tally)
            lock_yield.offer()
        return records

    def _convert_singly(self, rows: list[Any], first: int, tally: BatchTally) -> list[Any]:
        # One of them cannot be made readable: it alone is lost.
        records: list[Any] = []
        for at in range(0, len(rows), COLUMNS):
            try:
                records += self._make_readable(rows[at : at + COLUMNS])
            except Exception:
                index = first + at // COLUMNS
                tally.settle(index, index + 1, "encode_error")
        return records

    def restart_after_fork(self) -> None:
        """Nothing of it is known; exporters that care use ``os.register_at_fork`` themselves."""

    def shutdown(self, timeout: float) -> None:
        shut_down: Callable[..., object] = self.exporter.shutdown
        try:
            takes_timeout = "timeout_millis" in inspect.signature(shut_down).parameters
        except (TypeError, ValueError):
            takes_timeout = False
        if takes_timeout:
            shut_down(timeout_millis=timeout * 1000)
        else:
            shut_down()
