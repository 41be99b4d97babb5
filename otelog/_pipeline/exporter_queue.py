"""The queue of one of several exporters: what waits for it, bounded, and the thread that delivers it."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from typing import Any, NamedTuple

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter

from otelog._capture.queue import UNIT_BYTES, is_urgent
from otelog._ledger.counters import Change, Ledger
from otelog._ledger.tally import BatchTally, row_severity_ranges
from otelog._pipeline.batch_export import BatchExport
from otelog._pipeline.delivery_thread import RESTART_PAUSE, DeliveryThread
from otelog._pipeline.export_step import ExportStep
from otelog._pipeline.route import Bounds, Route
from otelog._record.row import COLUMNS, SLOT_BYTES
from otelog._record.severity import severity_range
from otelog._record.values import safe_str
from otelog._runtime.diagnostics import warn
from otelog._runtime.interruption import is_interruption
from otelog._runtime.quiet import quiet_turn
from otelog._runtime.threads import RLock, SimpleQueue
from otelog._runtime.waiting import LONGEST_WAIT, Request, Stop

LOOK_AGAIN = 0.5
"""Seconds after which whoever waits for an exporter queue looks whether its thread is still there."""


class _Batch(NamedTuple):
    """Rows that wait, the tally that answers for them, and the units that their large records take."""

    rows: list[Any]
    tally: BatchTally
    units: int


class ExporterQueue:
    """The records that wait for one exporter, and the thread that delivers them.

    Args:
        batch_export: The way to the exporter.
        ledger: The counters.
        bounds: What may wait.
        route: Which records it gets.
        make_readable: Turns rows into the SDK's records, for the route's filter.
        on_progress: Called when there is room again; by the queue's thread.

    Thread safety: `prepare` and `has_room` by the worker, the rest by any thread.
    """

    def __init__(
        self,
        batch_export: BatchExport,
        ledger: Ledger,
        *,
        bounds: Bounds,
        route: Route,
        make_readable: Callable[[list[Any]], list[ReadableLogRecord]],
        on_progress: Callable[[], None],
    ) -> None:
        self.batch_export = batch_export
        self.bounds = bounds
        self.route = route
        self.stalled = False
        """Whether it was waited for in vain, and has made no progress since."""
        self._ledger = ledger
        self._export_step = ExportStep(batch_export, ledger)
        self._make_readable = make_readable
        self._on_progress = on_progress
        self._usable = bounds.max_records - min(int(bounds.max_records * bounds.reserve), bounds.max_records - 1)
        self._max_units = max(0, bounds.max_bytes - bounds.max_records * SLOT_BYTES) // UNIT_BYTES

    # The worker.

    def open(self, stop: Stop) -> None:
        """See `otelog._pipeline.outlet.Outlet.open`."""
        self._stop = stop
        self._export_step.open(stop)
        self._batches: deque[_Batch] = deque()
        self._units = 0
        self._inbox: SimpleQueue[Request | None] = SimpleQueue()
        self._delivering = RLock()
        self._ending = False
        self.stalled = False
        self._thread = DeliveryThread(
            f"otelog-{self.batch_export.name}",
            self._ledger,
            work=self._run,
            recover=self._recover,
            is_over=self._is_over,
            may_start=lambda: not self._ending,
        )
        self._thread.start()

    def tend(self) -> None:
        """See `otelog._pipeline.outlet.Outlet.tend`."""
        if self._thread.is_missing():
            self._thread.try_again()
        self._tell()

    def _tell(self) -> None:
        # What is in the inbox will be seen after this moment: one word is enough.
        if self._batches and self._inbox.empty():
            self._inbox.put(None)

    def forget(self) -> None:
        """See `otelog._pipeline.outlet.Outlet.forget`."""
        self._batches = deque()
        self._export_step.forget()

    def has_room(self, count: int) -> bool:
        """Returns whether this many records can wait here, or as many as ever can."""
        waiting = self._ledger.exporters[self.batch_export.name].waiting
        return waiting + count <= self._usable or not waiting

    def prepare(self, rows: list[Any], sources: list[Any]) -> Callable[[], None]:
        """Make ready to count rows for the exporter and let them wait; see `otelog._pipeline.outlet.Outlet.prepare`.

        What the route does not want is counted as filtered, what there is no room for as lost (``handoff_full``). Once
        the shutdown has begun there always is room, because no more than the queue's rest can come.
        """
        size = len(sources)
        counts = self._ledger.exporters[self.batch_export.name]
        kept, lost, units = self._select(sources, counts.waiting)
        filtered = size - len(kept) - len(lost)
        if len(kept) < size:
            sources = [sources[at] for at in kept]
            rows = [value for at in kept for value in rows[at * COLUMNS : (at + 1) * COLUMNS]]
        else:
            rows = rows[:]
        batch = _Batch(rows, self._make_tally(sources), units)
        change = Change(counts, accepted=size, filtered=filtered, waiting=len(sources), dropped=lost)
        units += self._units

        def commit() -> None:
            batch.tally.enter()
            change.commit()
            self._units = units
            if self._export_step.abandoned:
                batch.tally.close("shutdown_timeout")
                self._batches.pop()

        self._batches.append(batch)
        return commit

    def _select(self, sources: list[Any], waiting: int) -> tuple[range | list[int], list[tuple[str, str]], int]:
        """Returns which records may wait, the loss of each that may not, and the units of the former."""
        route = self.route
        wanted: range | list[int] = range(len(sources))
        if route.is_selective:
            wanted = [at for at, source in enumerate(sources) if route.wants(source)]
        units = sum(sources[at].extra_units for at in wanted if sources[at].special)
        if (waiting + len(wanted) <= self._usable and self._units + units <= self._max_units) or self._stop.is_set():
            return wanted, [], units
        kept: list[int] = []
        lost: list[tuple[str, str]] = []
        units = 0
        for at in wanted:
            source = sources[at]
            most = self.bounds.max_records if is_urgent(source) else self._usable
            extra = source.extra_units if source.special else 0
            if waiting + len(kept) < most and (self._units + units + extra <= self._max_units or not extra):
                kept.append(at)
                units += extra
            else:
                # What can never wait here is no sign of a slow exporter.
                reason = "too_large" if extra > self._max_units else "handoff_full"
                lost.append((reason, severity_range(source.severity_number)))
        return kept, lost, units

    def _make_tally(self, sources: list[Any]) -> BatchTally:
        return BatchTally(
            self._ledger, self.batch_export.name, len(sources), self._ranges_of(sources), waiting=True, counted=False
        )

    @staticmethod
    def _ranges_of(sources: list[Any]) -> Callable[[int, int], list[str]]:
        return lambda start, stop: row_severity_ranges(sources, start, stop)

    # Those who wait.

    def ask(self) -> Request:
        """Have all that waits now delivered; returns what `wait` wants."""
        request = Request()
        self._inbox.put(request)
        return request

    def wait(self, request: Request, deadline: float) -> bool:
        """Wait until it is, and return whether it is."""
        while not request.done.acquire(blocking=False):
            # It may have ended before it could hear of this, or never have begun.
            if not self.has_thread():
                return self._deliver_here(deadline) and not self._is_at_work()
            if request.done.acquire(timeout=min(_until(deadline), LOOK_AGAIN)):
                break
            if time.monotonic() >= deadline:
                return False
        return request.drained

    def begin_end(self) -> None:
        """Have the thread end when nothing waits any more."""
        self._ending = True
        self._inbox.put(None)

    def join(self, deadline: float) -> None:
        """Wait for the end of the thread; without one, deliver here."""
        self._thread.join(deadline)
        while not self.has_thread() and self._is_at_work() and self._deliver_here(deadline):
            pass

    def abandon(self) -> None:
        """See `otelog._pipeline.outlet.Outlet.abandon`."""
        self._export_step.abandon()
        for batch in self._batches:
            batch.tally.close("shutdown_timeout")
        self._batches.clear()

    def close(self) -> None:
        """See `otelog._pipeline.outlet.Outlet.close`."""
        self._export_step.close(hanging=self.has_thread())
        # Whoever asked too late to be heard.
        while True:
            try:
                request = self._inbox.get_nowait()
            except Empty:
                break
            if request is not None:
                request.done.release()
        self._inbox.put(None)

    def keep(self, exporters: list[LogRecordExporter]) -> None:
        """See `otelog._pipeline.outlet.Outlet.keep`."""
        self._export_step.keep(exporters)

    def is_settled(self) -> bool:
        """See `otelog._pipeline.outlet.Outlet.is_settled`."""
        counts = self._ledger.exporters[self.batch_export.name]
        return not counts.waiting and not counts.in_flight

    def has_thread(self) -> bool:
        """Returns whether its thread is alive."""
        return self._thread.is_alive()

    def _is_at_work(self) -> bool:
        return bool(self._batches) or self._export_step.halted

    def _deliver_here(self, deadline: float) -> bool:
        with quiet_turn(self._delivering, deadline) as ours:
            if not ours:
                return False
            try:
                return self._deliver(deadline)
            except Exception as error:
                # As in the thread: no caller gets an exception, but one of its own signal handlers'.
                self._recover(error, deadline)
                if is_interruption(error):
                    raise
                return False

    # The exporter queue's thread.

    def _run(self) -> None:
        while not self._is_over():
            try:
                self._work_once()
            except Exception as error:
                self._recover(error)
        self._export_step.leave()

    def _is_over(self) -> bool:
        return self._export_step.abandoned or (
            self._ending and (not self._is_at_work() or time.monotonic() >= self._stop.stop_deadline)
        )

    def _work_once(self) -> None:
        request = self._inbox.get()
        try:
            with self._delivering:
                drained = self._deliver(math.inf)
            if request is not None:
                request.drained = drained
        finally:
            if request is not None:
                request.done.release()

    def _deliver(self, deadline: float) -> bool:
        """Deliver what waits now, but not what comes meanwhile without end; returns whether there was time for it."""
        left = len(self._batches)
        try:
            if self._export_step.halted and not self._export_step.finish(deadline):
                return False
            while left and self._batches:
                if self._export_step.abandoned or time.monotonic() >= min(deadline, self._stop.stop_deadline):
                    return False
                left -= 1
                self._deliver_next(deadline)
        finally:
            finished = self._export_step.finish(deadline)
            self._on_progress()
        return finished and not self._export_step.abandoned

    def _deliver_next(self, deadline: float) -> None:
        with self._ledger.moving:
            if not self._batches:
                return
            # What fails here for want of memory is done again the next time.
            batch = self._batches[0]
            units = self._units - (batch.units if batch.tally.is_counted else 0)
            is_open = batch.tally.begin()
            if is_open:
                self._export_step.take_in_hand(batch.tally)
            self._batches.popleft()
            self._units = units
        if not is_open:
            return
        self.stalled = False
        self._on_progress()
        rows = batch.rows if self.route.filter is None else self._filter(batch)
        if rows:
            self._export_step.carry(rows, deadline)

    def _filter(self, batch: _Batch) -> list[Any]:
        """Returns the rows that the user's filter wants; where it raises, the record stays: it must not be lost."""
        rows, wants = batch.rows, self.route.filter
        kept: list[Any] = []
        for at in range(0, len(rows), COLUMNS):
            row = rows[at : at + COLUMNS]
            try:
                wanted = wants is None or wants(self._make_readable(row)[0])
            except Exception as error:
                wanted = True
                warn(
                    f"filter:{self.batch_export.name}",
                    f"the filter of exporter {self.batch_export.name!r} raised {type(error).__name__}: "
                    f"{safe_str(error)}; the record is exported",
                )
            if wanted:
                kept += row
        count = len(rows) // COLUMNS - len(kept) // COLUMNS
        if count:
            sources = kept[1::COLUMNS]
            batch.tally.turn_to(len(sources), self._ranges_of(sources), (), filtered=count)
        return kept

    def _recover(self, error: BaseException, deadline: float = math.inf) -> None:
        self._ledger.forget_move()
        with suppress(Exception):
            self._export_step.finish(deadline)
        # What was short for the work may be short for its words: the thread must not end for them.
        with suppress(MemoryError):
            with self._ledger.moving:
                self._ledger.worker_restarts += 1
            warn(
                f"crash:{self.batch_export.name}:{type(error).__name__}",
                f"the exporter {self.batch_export.name!r} was stopped by {type(error).__name__}: {safe_str(error)}; "
                "it continues",
            )
        self._inbox.put(None)
        self._stop.wait(min(RESTART_PAUSE, _until(deadline)))


def _until(deadline: float) -> float:
    return min(max(0.0, deadline - time.monotonic()), LONGEST_WAIT)
