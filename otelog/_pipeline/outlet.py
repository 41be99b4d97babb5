"""What the worker asks of the place where its records go; for type checkers, so that importing otelog stays cheap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from opentelemetry.sdk._logs.export import LogRecordExporter

from otelog._pipeline.batch_export import BatchExport
from otelog._runtime.waiting import Stop


class Outlet(Protocol):
    """Where the worker's records go: one exporter in its own thread, or several with a thread each.

    Called by the worker's thread, or by whoever does its work in its place, unless it says otherwise.
    """

    @property
    def batch_exports(self) -> tuple[BatchExport, ...]:
        """The ways to the exporters."""

    def open(self, stop: Stop) -> None:
        """Begin, with nothing in hand; also in a forked child. `stop` tells the shutdown."""

    def forget(self) -> None:
        """In a forked child: drop what the parent delivers."""

    def make_room(self, count: int, deadline: float) -> None:
        """Wait, where that is wanted, until this many records can be taken, or until this monotonic moment."""

    def prepare(self, rows: list[Any]) -> Callable[[], None]:
        """Make ready to take rows; inside a move.

        Returns:
            What counts them for the exporters, and has the outlet answer for them: it needs no memory. If it is not
            called, nothing has happened. What comes after `abandon` is lost at once.
        """

    def carry(self, rows: list[Any], deadline: float) -> None:
        """Deliver the rows that were just accepted, or see to it that they are delivered; may empty the list.

        At `deadline` the caller has to leave, whatever is under way; infinite for a thread.
        """

    def tend(self) -> None:
        """Start threads that could not be started before; called now and then."""

    def finish(self, deadline: float) -> bool:
        """Settle what is still under way in the caller's thread; returns whether it is by `deadline`."""

    def is_halted(self) -> bool:
        """Returns whether something is left under way, to be finished by whoever delivers next."""

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
