"""Several exporters beside each other: every record goes to the queue of each, so that none delays another."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from typing import Any

from opentelemetry.sdk._logs.export import LogRecordExporter

from otelog._pipeline.batch_export import BatchExport
from otelog._pipeline.exporter_queue import ExporterQueue
from otelog._record.row import COLUMNS
from otelog._runtime.threads import SimpleQueue
from otelog._runtime.waiting import Stop


class Dispatcher:
    """Several exporter queues as one `otelog._pipeline.outlet.Outlet`.

    Args:
        queues: One for each exporter.
        progress: Called when there is room in one of them.
        room_timeout: Seconds that the worker waits for room in a queue that makes progress; 0 to drop instead.

    Thread safety: as `otelog._pipeline.outlet.Outlet` says.
    """

    def __init__(self, queues: list[ExporterQueue], progress: Progress, *, room_timeout: float = 0.0) -> None:
        self._queues = queues
        self._progress = progress
        self._room_timeout = room_timeout
        self._stop = Stop()

    @property
    def batch_exports(self) -> tuple[BatchExport, ...]:
        """See `otelog._pipeline.outlet.Outlet`."""
        return tuple(one.batch_export for one in self._queues)

    def open(self, stop: Stop) -> None:
        """See `otelog._pipeline.outlet.Outlet`."""
        self._stop = stop
        self._progress.restart()
        for one in self._queues:
            one.open(stop)

    def forget(self) -> None:
        """See `otelog._pipeline.outlet.Outlet`."""
        for one in self._queues:
            one.forget()

    def make_room(self, count: int, deadline: float) -> None:
        """See `otelog._pipeline.outlet.Outlet`; who was waited for in vain is not again before it makes progress."""
        if not self._room_timeout:
            return
        deadline = min(deadline, time.monotonic() + self._room_timeout)
        for one in self._queues:
            while not one.has_room(count) and not one.stalled and not self._stop.is_set():
                left = deadline - time.monotonic()
                if left <= 0:
                    one.stalled = True
                else:
                    self._progress.wait(left)

    def prepare(self, rows: list[Any]) -> Callable[[], None]:
        """See `otelog._pipeline.outlet.Outlet`."""
        sources = rows[1::COLUMNS]
        commits = [one.prepare(rows, sources) for one in self._queues]

        def commit() -> None:
            # An iterator would need memory.
            at = 0
            while at < len(commits):
                commits[at]()
                at += 1

        return commit

    def carry(self, rows: list[Any], deadline: float) -> None:
        """The exporter queues have taken them: their threads are told."""
        self.tend()

    def tend(self) -> None:
        """See `otelog._pipeline.outlet.Outlet`."""
        for one in self._queues:
            one.tend()

    def finish(self, deadline: float) -> bool:
        """Nothing is under way in the worker's thread."""
        return True

    def is_halted(self) -> bool:
        """Each exporter queue sees to its own."""
        return False

    def is_settled(self) -> bool:
        """See `otelog._pipeline.outlet.Outlet`."""
        return all(one.is_settled() for one in self._queues)

    def flush(self, deadline: float) -> bool:
        """See `otelog._pipeline.outlet.Outlet`."""
        requests = [(one, one.ask()) for one in self._queues]
        # All of them are waited for, whatever the first one says; those last that have a thread, which is at work.
        requests.sort(key=lambda one: one[0].has_thread())
        turns = [one for one, _ in requests if not one.has_thread()]
        answers = [one.wait(request, _share(deadline, one, turns)) for one, request in requests]
        return all(answers)

    def end(self, deadline: float) -> None:
        """See `otelog._pipeline.outlet.Outlet`."""
        for one in self._queues:
            one.begin_end()
        turns = [one for one in self._queues if not one.has_thread()]
        for one in turns:
            one.join(_share(deadline, one, turns))
        # What the first ones have left of the time.
        for one in self._queues:
            one.join(deadline)

    def abandon(self) -> None:
        """See `otelog._pipeline.outlet.Outlet`."""
        for one in self._queues:
            one.abandon()

    def leave(self) -> None:
        """Each thread closes its own exporter."""

    def close(self, *, hanging: bool) -> None:
        """See `otelog._pipeline.outlet.Outlet`; which of them hang, they know themselves."""
        for one in self._queues:
            one.close()

    def keep(self, exporters: list[LogRecordExporter]) -> None:
        """See `otelog._pipeline.outlet.Outlet`."""
        for one in self._queues:
            one.keep(exporters)


def _share(deadline: float, one: ExporterQueue, turns: list[ExporterQueue]) -> float:
    """Returns when the turn of a queue ends that has no thread: one that hangs leaves the others their time."""
    if one not in turns:
        return deadline
    now = time.monotonic()
    return now + (deadline - now) / (len(turns) - turns.index(one))


class Progress:
    """Tells the worker that an exporter queue has room again; it may come once too often.

    Thread safety: `notify` by any thread, `wait` by one.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin anew, in a forked child."""
        self._words: SimpleQueue[None] = SimpleQueue()

    def notify(self) -> None:
        """Let the waiter look again."""
        if self._words.empty():
            self._words.put(None)

    def wait(self, timeout: float) -> None:
        """Wait for a word, at most this many seconds."""
        with suppress(Empty):
            self._words.get(timeout=timeout)
