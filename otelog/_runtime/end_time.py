"""How long the end of a process may wait for deliveries: one time for everything that ends it.

SIGTERM, a handler of the application's, `otelog.shutdown`, `multiprocessing` and `atexit` may end the same process one
after the other, and each of them ends pipelines of logs and of metrics. What one of them has waited, the next has less.
What the application itself does in between is not counted: its own last words are waited for, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from otelog._runtime.threads import RLock, get_ident

DEFAULT_TOTAL = 30.0
"""Seconds, in a process that has not called `configure`: the specification's export timeout."""

AFRESH = 30.0
"""Seconds after which a process that lives on was not about to end: a SIGTERM may mean something else to it."""


class EndTime:
    """What is left of the time that this process's end may wait.

    Thread safety: all methods, also in a signal handler on top of one of them.
    """

    total = DEFAULT_TOTAL
    """Seconds, for everything."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin anew, in a forked child: whoever held the lock is not in it."""
        self._lock = RLock()
        self._depth = 0
        self._began = self._until = 0.0
        self._thread = 0
        self._when_over: Callable[[], object] | None = None
        self.renew()

    def renew(self, total: float | None = None) -> None:
        """Have all of the time again, since the process goes on; of this many seconds from now on."""
        if total is not None:
            self.total = total
        self._spent = 0.0
        self._ending = False
        self._stopped = time.monotonic()

    def is_running(self) -> bool:
        """Returns whether somebody waits for deliveries now, because the process or the logging ends."""
        return self._depth > 0

    def left(self) -> float:
        """Returns the seconds that are left."""
        running = time.monotonic() - self._began if self._depth else 0.0
        return max(0.0, self.total - self._spent - running)

    @contextmanager
    def spend(self, most: float | None = None) -> Iterator[float]:
        """Wait for deliveries: what is done inside is taken off the time that is left.

        Args:
            most: Seconds that the application has asked for, for its own reasons: as long as no end has begun, it has
                all of them, and more than the whole time is not taken off. None for an end of the process.

        Yields:
            The monotonic moment until which it may wait.
        """
        with self._lock:
            now = time.monotonic()
            if self._depth and now - self._until > AFRESH:
                # An exception from a signal handler has left it at its first or last instruction.
                self._depth = 0
            if not self._depth and now - self._stopped > AFRESH:
                self.renew()
            if most is None:
                self._ending = True
            seconds = self.left() if most is None else min(most, self.left()) if self._ending else most
            counts = most is None or most <= self.total
            if counts:
                if not self._depth:
                    self._began, self._until, self._thread = now, now + seconds, get_ident()
                self._depth += 1
        try:
            yield now + seconds
        finally:
            if counts:
                self._end_spending()

    def _end_spending(self) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth > 0:
                return
            # A child that was forked in the middle of it has begun at zero.
            self._depth = 0
            self._stopped = time.monotonic()
            self._spent += self._stopped - self._began
            self._thread = 0
            action, self._when_over = self._when_over, None
        if action is not None:
            action()

    def call_when_over(self, action: Callable[[], object]) -> bool:
        """From a signal handler on top of a wait: have this called when the wait is over.

        Returns:
            Whether it will be: this thread is in the middle of a wait that does not take longer than an end may.
        """
        if self._thread != get_ident() or self._until - time.monotonic() > self.total:
            return False
        self._when_over = action
        return True


END: EndTime = globals().get("END") or EndTime()
"""Of this process; the same when this module is loaded again."""
