"""Pauses in long work, so that the application's threads get the interpreter."""

from __future__ import annotations

import time
from collections.abc import Callable

from otelog._runtime.threads import sleep
from otelog._runtime.waiting import StopSignal

LEAST_STEPS_NS = 1_000
"""Processor time of other threads below which none of them has run; the clocks are not read at the same instant."""


def make_pause(stop: StopSignal) -> Callable[[], None]:
    """Returns what an exporter calls now and then while it works on a batch, so that other threads get a turn."""
    lock_yield = LockYield()

    def pause() -> None:
        # At the end nobody's latency counts any more, but the time that is left does.
        if not stop.is_set():
            lock_yield.offer()

    return pause


class LockYield:
    """Gives the interpreter lock to a thread that may be waiting for it; made and called by one thread.

    The lock's own way, to be asked for 5 ms, is too slow for an application's thread, and to sleep for a moment costs
    the time of ten records. A thread that waits for the lock has come to that point since the last pause, on processor
    time of its own: if no other thread of the process has had any, nobody waits.
    """

    __slots__ = ("_others_ns",)

    def __init__(self) -> None:
        self._others_ns = 0

    def offer(self) -> None:
        """Make a pause, if it can be of use to anybody."""
        others_ns = time.process_time_ns() - time.thread_time_ns()
        if others_ns - self._others_ns > LEAST_STEPS_NS:
            sleep(0)
            self._others_ns = others_ns
