"""How those who wait are woken: of a shutdown, and of what they have asked for."""

from __future__ import annotations

import math
import time
from queue import Empty
from typing import Protocol

from otelog._runtime.threads import Lock, SimpleQueue

LONGEST_WAIT = 10_000_000.0
"""Seconds that anything here waits at most: Python's own bound overflows when the clock is added to it."""


class Latch:
    """A flag that is raised once.

    A signal handler, or a finalizer that the cyclic collector runs, may raise it on top of a wait in the same thread:
    `threading.Event` would hang there on its own lock, while a `SimpleQueue` is re-entrant.

    Thread safety: all methods may be called by any thread, signal handler or finalizer.
    """

    def __init__(self) -> None:
        self._raised = False
        self._tokens: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Raise the flag. Idempotent."""
        if not self._raised:
            self._raised = True
            self._tokens.put(None)

    def is_set(self) -> bool:
        """Returns whether the flag is up."""
        return self._raised

    def wait(self, timeout: float) -> bool:
        """Wait for the flag, at most this many seconds; returns whether it is up."""
        if not self._raised:
            try:
                self._tokens.get(timeout=min(max(0.0, timeout), LONGEST_WAIT))
            except Empty:
                return self._raised
            # Handed on to whoever else waits.
            self._tokens.put(None)
        return self._raised


class StopSignal(Protocol):
    """How a delivery learns that it must end: `threading.Event` with two attributes more. `Stop` or `Turn`."""

    @property
    def stop_deadline(self) -> float:
        """The monotonic moment at which the shutdown's time ends; infinite before it begins."""

    @property
    def turn_deadline(self) -> float:
        """The monotonic moment at which whoever delivers leaves, and what is under way halts; infinite for a thread."""

    def is_set(self) -> bool:
        """Returns whether the shutdown has begun."""

    def wait(self, timeout: float) -> bool:
        """Wait until it begins, at most `timeout` seconds; returns whether it has."""


class Stop:
    """Tells a shutdown to whoever waits.

    Thread safety: all methods may be called by any thread, signal handler or finalizer.
    """

    turn_deadline = math.inf
    """See `Turn`: no time but the shutdown's is short here."""

    def __init__(self) -> None:
        self.stop_deadline = math.inf
        self._begun = Latch()

    def begin(self, timeout: float) -> None:
        """Begin the shutdown, which may take this many seconds; a later call can only shorten it."""
        self.stop_deadline = min(self.stop_deadline, time.monotonic() + timeout)
        self._begun.set()

    def is_set(self) -> bool:
        """Returns whether the shutdown has begun."""
        return self._begun.is_set()

    def wait(self, timeout: float) -> bool:
        """Wait until it begins, at most this many seconds; returns whether it has."""
        return self._begun.wait(timeout)


class Turn:
    """A shutdown as one exporter's way sees it, and how long whoever delivers may stay.

    A thread stays as long as a delivery takes. Who works in its place, because it could not be started, leaves when the
    time of its own call is over; what is under way then halts until the next one comes.

    Args:
        stop: The shutdown.

    Thread safety: as `Stop`; `turn_deadline` is set by whoever delivers.
    """

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._given_up = False
        self.turn_deadline = math.inf
        """The monotonic moment at which whoever delivers leaves."""

    @property
    def stop_deadline(self) -> float:
        """The monotonic moment at which the shutdown's time ends."""
        return -math.inf if self._given_up else self._stop.stop_deadline

    def give_up(self) -> None:
        """End what is under way as soon as it looks at the time: it is counted already."""
        self._given_up = True

    def is_set(self) -> bool:
        """Returns whether the shutdown has begun."""
        return self._given_up or self._stop.is_set()

    def wait(self, timeout: float) -> bool:
        """Wait until it begins, at most this many seconds; returns whether it has."""
        return self._stop.wait(timeout)


class Request:
    """Somebody who waits for a thread's work: a raw lock, because it is released by another thread.

    `drained` says whether all of it was done when `done` can be acquired.
    """

    __slots__ = ("done", "drained")

    def __init__(self) -> None:
        self.drained = False
        self.done = Lock()
        self.done.acquire()
