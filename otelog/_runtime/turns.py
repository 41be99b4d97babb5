"""Deliveries that halt when the turn of whoever makes them is over, and go on in the next one.

Where no thread could be started, whoever calls `flush` or `shutdown` delivers in its place, and leaves when the time of
that call is over. What is under way then is neither lost nor sent twice for it: it waits for the next caller, or for a
thread that could be started after all. A delivery is a generator; what it gives is True where its turn is over.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator

from otelog._runtime.waiting import StopSignal


def halt(stop: StopSignal, clock: Callable[[], float] = time.monotonic) -> Generator[bool, None, float]:
    """Halt until somebody has time, or nobody has any more; returns for how many seconds."""
    began = clock()
    while stop.turn_deadline <= clock() < stop.stop_deadline:
        yield True
    return clock() - began


def pause(
    stop: StopSignal, seconds: float, clock: Callable[[], float] = time.monotonic
) -> Generator[bool, None, float]:
    """Wait so many seconds, less if a shutdown begins; returns for how many of them it has halted."""
    end = clock() + seconds
    halted = 0.0
    while seconds > 0.0 and not stop.is_set():
        turn_left = stop.turn_deadline - clock()
        if seconds <= turn_left:
            stop.wait(seconds)
            break
        if turn_left > 0.0:
            stop.wait(turn_left)
        halted += yield from halt(stop, clock)
        seconds = end - clock()
    return halted


class UnderWay:
    """The deliveries of one exporter that are not at their end, in order; used by one thread at a time."""

    def __init__(self) -> None:
        self._deliveries: deque[Generator[bool, None, object]] = deque()

    def add(self, delivery: Generator[bool, None, object]) -> None:
        """Have this one made after those that are under way."""
        self._deliveries.append(delivery)

    def advance(self) -> None:
        """Begin the only one, if it is the only one; it may have an answer to wait for then."""
        if len(self._deliveries) == 1:
            deliveries, self._deliveries = self._deliveries, deque()
            if next(deliveries[0], None) is not None:
                self._deliveries = deliveries

    def finish(self) -> bool:
        """Take them to their ends; returns whether they are there. If one raises, none is under way any more."""
        deliveries, self._deliveries = self._deliveries, deque()
        while deliveries:
            for is_halted in deliveries[0]:
                if is_halted:
                    self._deliveries = deliveries
                    return False
            deliveries.popleft()
        return True

    def forget(self) -> None:
        """In a forked child: they are the parent's."""
        self._deliveries = deque()
