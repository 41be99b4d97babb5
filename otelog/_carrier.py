"""The last step to an exporter: each record that is handed over is settled, whatever happens on the way."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any, Protocol

from opentelemetry.sdk._logs.export import LogRecordExporter

from otelog._diagnostics import warn
from otelog._lane import BatchTally, Lane, row_severity_ranges
from otelog._ledger import Ledger
from otelog._record import COLUMNS
from otelog._stop import Stop
from otelog._values import safe_str

LONGEST_CLOSING = 30.0
"""Seconds that an exporter may take for its own shutdown."""


class Exit(Protocol):
    """Where the worker's records go: one exporter in its own thread, or several with a thread each.

    Called by the worker's thread, or by whoever does its work in its place, unless it says otherwise.
    """

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The ways to the exporters."""

    def open(self, stop: Stop) -> None:
        """Begin, with nothing in hand; also in a forked child. `stop` tells the shutdown."""

    def forget(self) -> None:
        """In a forked child: drop what the parent delivers."""

    def make_room(self, count: int) -> None:
        """Wait, where that is wanted, until this many records can be taken."""

    def accept(self, rows: list[Any]) -> None:
        """Write rows into the exporters' books; inside a move. What is accepted after `abandon` is lost at once."""

    def carry(self, rows: list[Any]) -> None:
        """Deliver the rows that were just accepted, or see to it that they are delivered; may empty the list."""

    def finish(self) -> None:
        """Settle what is still under way in the caller's thread."""

    def is_settled(self) -> bool:
        """Returns whether nothing that was accepted waits or is in flight in another thread; any thread."""

    def flush(self, deadline: float) -> bool:
        """Wait until all that was accepted is settled; any thread. Returns whether it is in time."""

    def end(self, deadline: float) -> None:
        """Deliver what is in hand, and end the threads, when no more comes; any thread."""

    def abandon(self) -> None:
        """Count all that is not settled as lost; inside `Ledger.moving`, any thread."""

    def leave(self) -> None:
        """Close the exporters that the calling thread has used, as it ends."""

    def close(self, *, hanging: bool) -> None:
        """Close all exporters; does not wait for one that hangs. Idempotent, any thread."""

    def keep(self, exporters: list[LogRecordExporter]) -> None:
        """Leave these open at the end: the next pipeline has them too."""


class Carrier:
    """Delivers to one lane in the caller's thread.

    Args:
        lane: The way to the exporter.
        ledger: The books.

    Thread safety: as `Exit` says.
    """

    def __init__(self, lane: Lane, ledger: Ledger) -> None:
        self.lane = lane
        self._ledger = ledger
        self._kept = False
        self.open(Stop())

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """See `Exit`."""
        return (self.lane,)

    def open(self, stop: Stop) -> None:
        """See `Exit`."""
        self._stop = stop
        # Of the batches that the lane has: one being made ready, and perhaps one whose answer is still to come.
        self._tallies: list[BatchTally] = []
        self.abandoned = False
        # Whoever pops the entry may do it.
        self._lane_open = [None]

    def forget(self) -> None:
        """See `Exit`."""
        self._tallies = []
        self.lane.restart_after_fork()

    def make_room(self, count: int) -> None:
        """A single exporter takes what it can: the queue itself is where records wait."""

    def accept(self, rows: list[Any]) -> None:
        """See `Exit`."""
        sources = rows[1::COLUMNS]
        self._ledger.enter(self.lane.name, len(sources))
        tally = BatchTally(
            self._ledger, self.lane.name, len(sources), lambda start, stop: row_severity_ranges(sources, start, stop)
        )
        self.take_in_hand(tally)

    def take_in_hand(self, tally: BatchTally) -> None:
        """Answer for a batch in flight from now on; inside a move."""
        if self.abandoned:
            tally.close("shutdown_timeout")
        else:
            self._tallies.append(tally)

    def carry(self, rows: list[Any]) -> None:
        """See `Exit`."""
        try:
            self.lane.deliver(rows, self._ledger, self._stop, self._hold)
        except BaseException:
            self.finish()
            raise
        with self._ledger.moving:
            self._tallies = [tally for tally in self._tallies if not tally.is_closed()]

    def finish(self) -> None:
        """See `Exit`; so nothing is counted as lost that is delivered."""
        try:
            self.lane.finish()
        finally:
            self._close_tallies()

    def is_settled(self) -> bool:
        """The worker itself has settled everything."""
        return True

    def flush(self, deadline: float) -> bool:
        """The worker itself has settled everything."""
        return True

    def end(self, deadline: float) -> None:
        """Nothing is ever left in hand."""

    def abandon(self) -> None:
        """See `Exit`; a late answer changes nothing any more."""
        self.abandoned = True
        for tally in self._tallies:
            tally.close("shutdown_timeout")

    def leave(self) -> None:
        """See `Exit`."""
        try:
            self._lane_open.pop()
        except IndexError:
            return
        if self._kept:
            return
        try:
            self.lane.shutdown(max(0.0, min(self._stop.stop_deadline - time.monotonic(), LONGEST_CLOSING)))
        except Exception as error:
            warn("shutdown", f"the exporter's shutdown raised {type(error).__name__}: {safe_str(error)}")

    def close(self, *, hanging: bool) -> None:
        """See `Exit`."""
        if not hanging:
            self.leave()
        elif self._lane_open:
            # An export hangs. Closing the exporter may help it, or hang as well: that is not waited for.
            with suppress(RuntimeError):
                threading.Thread(target=self.leave, name=f"otelog-{self.lane.name}-end", daemon=True).start()

    def keep(self, exporters: list[LogRecordExporter]) -> None:
        """See `Exit`."""
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
