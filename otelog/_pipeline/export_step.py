"""The last step to an exporter: each record that reaches it is settled, whatever happens on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from otelog._ledger.counters import Change, Ledger
from otelog._ledger.tally import BatchTally, open_tally
from otelog._pipeline.batch_export import BatchExport
from otelog._record.row import COLUMNS
from otelog._record.values import safe_str
from otelog._runtime.diagnostics import warn
from otelog._runtime.threads import start_thread
from otelog._runtime.waiting import Stop, Turn

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter

LONGEST_CLOSING = 30.0
"""Seconds that an exporter may take for its own shutdown."""


class ExportStep:
    """Delivers to one exporter in the caller's thread.

    Args:
        batch_export: The way to the exporter.
        ledger: The counters.

    Thread safety: as `otelog._pipeline.outlet.Outlet` says.
    """

    def __init__(self, batch_export: BatchExport, ledger: Ledger) -> None:
        self.batch_export = batch_export
        self._ledger = ledger
        self._kept = False
        self.open(Stop())

    @property
    def batch_exports(self) -> tuple[BatchExport, ...]:
        """See `otelog._pipeline.outlet.Outlet`."""
        return (self.batch_export,)

    def open(self, stop: Stop) -> None:
        """See `otelog._pipeline.outlet.Outlet`."""
        self._stop = stop
        self._turn = Turn(stop)
        self.halted = False
        """Whether the exporter has something under way that waits for the next turn; see `otelog._runtime.turns`."""
        # Of the batches that the exporter has: one being made ready, and perhaps one whose answer is still to come.
        self._tallies: list[BatchTally] = []
        self.abandoned = False
        # Whoever pops the entry may do it.
        self._export_open = [None]

    def forget(self) -> None:
        """See `otelog._pipeline.outlet.Outlet`."""
        self._tallies = []
        self.halted = False
        self.batch_export.restart_after_fork()

    def make_room(self, count: int, deadline: float) -> None:
        """A single exporter takes what it can: the queue itself is where records wait."""

    def prepare(self, rows: list[Any]) -> Callable[[], None]:
        """See `otelog._pipeline.outlet.Outlet`."""
        tally = open_tally(rows, self._ledger, self.batch_export.name, counted=False)
        size = len(rows) // COLUMNS
        change = Change(self._ledger.exporters[self.batch_export.name], accepted=size, in_flight=size)

        def commit() -> None:
            tally.enter()
            change.commit()
            if self.abandoned:
                tally.close("shutdown_timeout")

        self._tallies.append(tally)
        return commit

    def take_in_hand(self, tally: BatchTally) -> None:
        """Answer for a batch in flight from now on; inside a move."""
        self._tallies.append(tally)
        if self.abandoned:
            tally.close("shutdown_timeout")

    def carry(self, rows: list[Any], deadline: float) -> None:
        """See `otelog._pipeline.outlet.Outlet`."""
        self._turn.turn_deadline = deadline
        try:
            self.batch_export.deliver(rows, self._ledger, self._turn, self._hold)
        except BaseException:
            self.finish(deadline)
            raise
        with self._ledger.moving:
            self._tallies = [tally for tally in self._tallies if not tally.is_closed()]

    def tend(self) -> None:
        """There is no thread but the caller's."""

    def is_halted(self) -> bool:
        """See `otelog._pipeline.outlet.Outlet`."""
        return self.halted

    def finish(self, deadline: float) -> bool:
        """See `otelog._pipeline.outlet.Outlet`; so nothing is counted as lost that is delivered."""
        self._turn.turn_deadline = deadline
        self.halted = False
        try:
            self.halted = self.batch_export.finish() is False
        finally:
            if not self.halted:
                self._close_tallies()
        return not self.halted

    def is_settled(self) -> bool:
        """The worker itself has settled everything."""
        return True

    def flush(self, deadline: float) -> bool:
        """The worker itself has settled everything."""
        return True

    def end(self, deadline: float) -> None:
        """Nothing is ever left in hand."""

    def abandon(self) -> None:
        """See `otelog._pipeline.outlet.Outlet`; a late answer changes nothing any more."""
        self.abandoned = True
        self._turn.give_up()
        for tally in self._tallies:
            tally.close("shutdown_timeout")

    def leave(self) -> None:
        """See `otelog._pipeline.outlet.Outlet`."""
        try:
            self._export_open.pop()
        except IndexError:
            return
        if self.halted:
            # It is counted, and only lets go of what it has.
            with suppress(Exception):
                self.batch_export.finish()
        if self._kept:
            return
        try:
            self.batch_export.shutdown(max(0.0, min(self._stop.stop_deadline - time.monotonic(), LONGEST_CLOSING)))
        except Exception as error:
            warn("shutdown", f"the exporter's shutdown raised {type(error).__name__}: {safe_str(error)}")

    def close(self, *, hanging: bool) -> None:
        """See `otelog._pipeline.outlet.Outlet`."""
        if not hanging:
            self.leave()
        elif self._export_open:
            # An export hangs. Closing the exporter may help it, or hang as well: that is not waited for.
            start_thread(self.leave, f"otelog-{self.batch_export.name}-end")

    def keep(self, exporters: list[LogRecordExporter]) -> None:
        """See `otelog._pipeline.outlet.Outlet`."""
        self._kept = any(self.batch_export.exporter is one for one in exporters)

    def _hold(self, tally: BatchTally) -> None:
        with self._ledger.moving:
            # In its place: at no moment nobody answers for the batch.
            if not self._tallies:
                self._tallies.append(tally)
                return
            if self._tallies[-1].is_closed():
                tally.void()
            self._tallies[-1] = tally

    def _close_tallies(self) -> None:
        """Count what the exporter has left open, as it has nothing under way: it has crashed over that."""
        with self._ledger.moving:
            for tally in self._tallies:
                tally.close("worker_crash")
            # Not before: what could not be closed for want of memory is closed the next time.
            self._tallies.clear()
