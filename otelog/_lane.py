"""The way from the worker to one exporter, and the tally of the batch that is on it."""

from __future__ import annotations

import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource

from otelog._attributes import AttributeBuilder
from otelog._delivery import StopSignal
from otelog._diagnostics import warn
from otelog._ledger import Ledger
from otelog._record import COLUMNS
from otelog._severity import severity_range
from otelog._threads import sleep
from otelog._values import safe_str

CONVERT_AT_ONCE = 100
"""Records that are made readable before the interpreter lock is offered to the application's threads."""


LEAST_STEPS_NS = 1_000
"""Processor time of other threads below which none of them has run; the clocks are not read at the same instant."""


class BatchTally:
    """Writes the fate of each record of one batch into the ledger, once.

    A shutdown that has run out of time closes it; what an exporter says afterwards changes nothing.

    Args:
        ledger: Where `size` records are in flight for this exporter.
        name: The exporter's name in the ledger.
        size: Records of the batch.
        severity_ranges: Returns the severity ranges of a part of the batch; asked only for what is lost.
        waiting: The records are not in flight yet, but wait for that; see `begin`.

    Thread safety: all methods may be called by any thread.
    """

    def __init__(
        self,
        ledger: Ledger,
        name: str,
        size: int,
        severity_ranges: Callable[[int, int], Sequence[str]],
        *,
        waiting: bool = False,
    ) -> None:
        self._ledger = ledger
        self._name = name
        self._severity_ranges = severity_ranges
        self._open = bytearray(b"\x01" * size)
        self._waiting = waiting
        self.all_exported = True

    def begin(self) -> bool:
        """Count what waits as in flight; returns whether there is anything that is not settled yet."""
        with self._ledger.moving:
            if self._waiting:
                self._waiting = False
                self._ledger.begin_move()
                try:
                    self._ledger.begin(self._name, self._open.count(1))
                finally:
                    self._ledger.end_move()
            return not self.is_closed()

    def is_closed(self) -> bool:
        """Returns whether every record is settled."""
        return not any(self._open)

    def void(self) -> None:
        """Count nothing: another tally of the same records has settled them."""
        self._open = bytearray(len(self._open))
        self.all_exported = False

    def settle(self, start: int, stop: int, reason: str | None) -> None:
        """Count these records as exported (None) or as dropped for a reason, unless they are settled already."""
        with self._ledger.moving:
            count = self._open.count(1, start, stop)
            if not count:
                return
            dropped: list[tuple[str, str]] = []
            if reason is not None:
                self.all_exported = False
                ranges = self._severity_ranges(start, stop)
                dropped = [(reason, ranges[at - start]) for at in range(start, stop) if self._open[at]]
            self._open[start:stop] = bytes(stop - start)
            self._ledger.settle(self._name, 0 if dropped else count, dropped, waiting=self._waiting)

    def settle_partly(self, start: int, stop: int, rejected: int) -> None:
        """Count these records as exported but for `rejected` of them, of which nobody knows which they are."""
        with self._ledger.moving:
            count = self._open.count(1, start, stop)
            rejected = min(rejected, count)
            if rejected:
                self.all_exported = False
            self._open[start:stop] = bytes(stop - start)
            self._ledger.settle(self._name, count - rejected, [("rejected", "unspecified")] * rejected)

    def turn_to(
        self,
        size: int,
        severity_ranges: Callable[[int, int], Sequence[str]],
        lost: Sequence[tuple[str, str]],
        *,
        filtered: int = 0,
    ) -> None:
        """Go on with a batch whose order is another.

        Args:
            size: Its records.
            severity_ranges: As at the making.
            lost: Reason and severity range of each that is lost and no longer in it.
            filtered: How many are not in it because the exporter does not want them.
        """
        with self._ledger.moving:
            if self.is_closed():
                return
            if lost or filtered:
                self.all_exported = self.all_exported and not lost
                self._ledger.settle(self._name, 0, lost, filtered=filtered, waiting=self._waiting)
            self._open = bytearray(b"\x01" * size)
            self._severity_ranges = severity_ranges

    def resend(self, count: int) -> None:
        """Count records that are sent again although an earlier request may have delivered them."""
        self._beside("resent", count)

    def leave_unknown(self, count: int) -> None:
        """Count records of a request that was sent and never answered."""
        self._beside("outcome_unknown", count)

    def truncate(self, count: int) -> None:
        """Count records that were cut to fit, and are delivered so; before they are settled."""
        self._beside("truncated", count)

    def _beside(self, what: str, count: int) -> None:
        ledger = self._ledger
        counts = ledger.exporters[self._name]
        ledger.begin_move()
        try:
            if not self.is_closed():
                setattr(counts, what, getattr(counts, what) + count)
        finally:
            ledger.end_move()

    def close(self, reason: str) -> None:
        """Count whatever is still open as dropped for this reason."""
        self.settle(0, len(self._open), reason)


OnExchange = Callable[[float, int | str | None, str | None], None]
"""Told of each export operation: its seconds with all attempts, the last status, why records were lost.

A number is HTTP's status, a word gRPC's."""


class Lane(Protocol):
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

        If it raises, nothing is under way any more.

        Args:
            rows: `COLUMNS` values a record; the lane may empty the list.
            ledger: Where they are in flight under `name`.
            stop: The shutdown.
            hold: Told of the batch's tally before anything is settled.
        """

    def finish(self) -> None:
        """Settle what is still under way. If it raises, nothing is under way any more."""

    def restart_after_fork(self) -> None:
        """Forget what belongs to the parent process."""

    def shutdown(self, timeout: float) -> None:
        """Release the exporter's resources, within `timeout` seconds if it can."""


class LaneContext:
    """What a lane needs to know of its pipeline.

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


class LaneMaker(ABC):
    """An exporter of otelog's own: it takes the queue's rows as they are, without the SDK's records in between."""

    lane_name = ""
    """Its name in the ledger, unless it is given another."""

    @abstractmethod
    def make_lane(self, context: LaneContext) -> Lane:
        """Return the way to this exporter for one pipeline."""


def row_severity_ranges(sources: Sequence[Any], start: int, stop: int) -> list[str]:
    """Returns the severity ranges of rows, given their sources."""
    return [severity_range(source.severity_number) for source in sources[start:stop]]


def open_tally(rows: list[Any], ledger: Ledger, name: str) -> BatchTally:
    """Returns the tally of rows that are in flight for this exporter."""
    sources = rows[1::COLUMNS]
    return BatchTally(ledger, name, len(sources), lambda start, stop: row_severity_ranges(sources, start, stop))


def make_pause(stop: StopSignal) -> Callable[[], None]:
    """Returns what a lane calls now and then while it works on a batch, so that other threads get the interpreter."""
    breather = Breather()

    def pause() -> None:
        # At the end nobody's latency counts any more, but the time that is left does.
        if not stop.is_set():
            breather.breathe()

    return pause


class ForeignLane:
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
        reason = self._export(records)
        if reason is not None and self._bisect and len(records) == size > 1:
            self._search(records, tally, stop)
        else:
            tally.settle(0, size, reason)

    def finish(self) -> None:
        """Nothing is ever left under way."""

    def _search(self, records: list[Any], tally: BatchTally, stop: StopSignal) -> None:
        """Find the records for which a batch failed; when the calls for it are used up, the rest is lost.

        As with a 400 (see `otelog._delivery`): where the first part of a bad range is taken, the other part is bad; and
        the first part is the smaller one because its refusal costs one call more.
        """
        # With each whether it was refused itself: else it may be the batch's failure that has passed meanwhile.
        bad = [(0, len(records), True)]
        # floor(2·log₂n) + 1, exactly: the calls that a search may add to the one that every batch has.
        calls = (len(records) * len(records)).bit_length()

        def take(start: int, stop_at: int) -> bool:
            nonlocal calls
            calls -= 1
            tally.resend(stop_at - start)
            if self._export(records[start:stop_at]) is not None:
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

    def _export(self, records: list[Any]) -> str | None:
        reason: str | None = "export_failed"
        began = time.monotonic()
        try:
            # Compared by name: the SDK has had two enumerations of the same members.
            if self.exporter.export(records).name == LogRecordExportResult.SUCCESS.name:
                reason = None
        except Exception as error:
            warn("export", f"{type(self.exporter).__name__}.export failed: {type(error).__name__}: {safe_str(error)}")
        if self.on_exchange is not None:
            self.on_exchange(time.monotonic() - began, None, reason)
        return reason

    def _convert(self, rows: list[Any], tally: BatchTally) -> list[Any]:
        records: list[Any] = []
        breather = Breather()
        step = CONVERT_AT_ONCE * COLUMNS
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            try:
                records += self._make_readable(part)
            except Exception:
                records += self._convert_singly(part, start // COLUMNS, tally)
            breather.breathe()
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


class Breather:
    """Gives the interpreter lock to a thread that may be waiting for it; made and called by one thread.

    The lock's own way, to be asked for 5 ms, is too slow for an application's thread, and to sleep for a moment costs
    the time of ten records. A thread that waits for the lock has come to that point since the last pause, on processor
    time of its own: if no other thread of the process has had any, nobody waits.
    """

    __slots__ = ("_others_ns",)

    def __init__(self) -> None:
        self._others_ns = 0

    def breathe(self) -> None:
        """Make a pause, if it can be of use to anybody."""
        others_ns = time.process_time_ns() - time.thread_time_ns()
        if others_ns - self._others_ns > LEAST_STEPS_NS:
            sleep(0)
            self._others_ns = others_ns
