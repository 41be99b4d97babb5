"""The last step to an exporter: each record that reaches it is settled, whatever happens on the way."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from otelog._ledger.counters import Ledger
from otelog._ledger.tally import BatchTally, open_tally
from otelog._pipeline.batch_export import Lane
from otelog._record.row import COLUMNS
from otelog._record.values import safe_str
from otelog._runtime.diagnostics import warn
from otelog._runtime.threads import start_thread
from otelog._runtime.waiting import Stop, Turn

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter

LONGEST_CLOSING = 30.0
"""Seconds that an exporter may take for its own shutdown."""


class Carrier:
    """Delivers to one lane in the caller's thread.

    Args:
        lane: The way to the exporter.
        ledger: The counters.

    Thread safety: as `otelog._pipeline.outlet.WayOut` says.
    """

    def __init__(self, lane: Lane, ledger: Ledger) -> None:
        self.lane = lane
        self._ledger = ledger
        self._kept = False
        self.open(Stop())

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """See `otelog._pipeline.outlet.WayOut`."""
        return (self.lane,)

    def open(self, stop: Stop) -> None:
        """See `otelog._pipeline.outlet.WayOut`."""
        self._stop = stop
        self._turn = Turn(stop)
        self.halted = False
        """Whether the lane has something under way that waits for the next turn; see `otelog._runtime.turns`."""
        # Of the batches that the lane has: one being made ready, and perhaps one whose answer is still to come.
        self._tallies: list[BatchTally] = []
        self.abandoned = False
        # Whoever pops the entry may do it.
        self._lane_open = [None]

    def forget(self) -> None:
        """See `otelog._pipeline.outlet.WayOut`."""
        self._tallies = []
        self.halted = False
        self.lane.restart_after_fork()

    def make_room(self, count: int, deadline: float) -> None:
        """A single exporter takes what it can: the queue itself is where records wait."""

    def accept(self, rows: list[Any]) -> None:
        """See `otelog._pipeline.outlet.WayOut`."""
        self._ledger.enter(self.lane.name, len(rows) // COLUMNS)
        self.take_in_hand(open_tally(rows, self._ledger, self.lane.name))

    def take_in_hand(self, tally: BatchTally) -> None:
        """Answer for a batch in flight from now on; inside a move."""
        if self.abandoned:
            tally.close("shutdown_timeout")
        else:
            self._tallies.append(tally)

    def carry(self, rows: list[Any], deadline: float) -> None:
        """See `otelog._pipeline.outlet.WayOut`."""
        self._turn.turn_deadline = deadline
        try:
            self.lane.deliver(rows, self._ledger, self._turn, self._hold)
        except BaseException:
            self.finish(deadline)
            raise
        with self._ledger.moving:
            self._tallies = [tally for tally in self._tallies if not tally.is_closed()]

    def tend(self) -> None:
        """There is no thread but the caller's."""

    def is_halted(self) -> bool:
        """See `otelog._pipeline.outlet.WayOut`."""
        return self.halted

    def finish(self, deadline: float) -> bool:
        """See `otelog._pipeline.outlet.WayOut`; so nothing is counted as lost that is delivered."""
        self._turn.turn_deadline = deadline
        self.halted = False
        try:
            self.halted = self.lane.finish() is False
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
        """See `otelog._pipeline.outlet.WayOut`; a late answer changes nothing any more."""
        self.abandoned = True
        self._turn.give_up()
        for tally in self._tallies:
            tally.close("shutdown_timeout")

    def leave(self) -> None:
        """See `otelog._pipeline.outlet.WayOut`."""
        try:
            self._lane_open.pop()
        except IndexError:
            return
        if self.halted:
            # It is counted, and only lets go of what it has.
            with suppress(Exception):
                self.lane.finish()
        if self._kept:
            return
        try:
            self.lane.shutdown(max(0.0, min(self._stop.stop_deadline - time.monotonic(), LONGEST_CLOSING)))
        except Exception as error:
            warn("shutdown", f"the exporter's shutdown raised {type(error).__name__}: {safe_str(error)}")

    def close(self, *, hanging: bool) -> None:
        """See `otelog._pipeline.outlet.WayOut`."""
        if not hanging:
            self.leave()
        elif self._lane_open:
            # An export hangs. Closing the exporter may help it, or hang as well: that is not waited for.
            start_thread(self.leave, f"otelog-{self.lane.name}-end")

    def keep(self, exporters: list[LogRecordExporter]) -> None:
        """See `otelog._pipeline.outlet.WayOut`."""
        self._kept = any(self.lane.exporter is one for one in exporters)

    def _hold(self, tally: BatchTally) -> None:
        with self._ledger.moving:
            if self._tallies and self._tallies.pop().is_closed():
                tally.void()
            self._tallies.append(tally)

    def _close_tallies(self) -> None:
        """Count what the lane has left open, as it has nothing under way: it has crashed over that."""
        with self._ledger.moving:
            tallies, self._tallies = self._tallies, []
            for tally in tallies:
                tally.close("worker_crash")
