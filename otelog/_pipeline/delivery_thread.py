"""The thread of a worker or of an exporter queue: started, started later where none can be had, and started anew."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from opentelemetry.context import Context, attach, set_value

from otelog._ledger.counters import Ledger
from otelog._private.opentelemetry import SUPPRESS_INSTRUMENTATION_KEY
from otelog._runtime.own_threads import own_threads
from otelog._runtime.threads import LateStart, Thread, get_ident, join, sleep, start_thread

RESTART_PAUSE = 0.1
"""Seconds between a crash of the thread's work and its next round, so that a lasting fault does not spin."""


class DeliveryThread:
    """Keeps one thread at work, whatever its work raises.

    Where none can be started, flush and shutdown do the work in their caller, and `try_again` starts one later.

    Args:
        name: The thread's.
        ledger: What is told that there is none.
        work: All that the thread does; it returns when the thread is to end.
        recover: Called with what `work` has raised, before `work` is called again.
        is_over: Returns whether `work` is not to be called again.
        may_start: Returns whether a thread that is missing is still wanted.
        on_missing: Called when none could be started.
        on_refusal: Called at each record that is refused while there is none.

    Thread safety: all methods may be called by any thread; `try_again` by signal handlers and finalizers, too.
    """

    def __init__(
        self,
        name: str,
        ledger: Ledger,
        *,
        work: Callable[[], None],
        recover: Callable[[BaseException], None],
        is_over: Callable[[], bool],
        may_start: Callable[[], bool],
        on_missing: Callable[[], None] | None = None,
        on_refusal: Callable[[], None] | None = None,
    ) -> None:
        self._name = name
        self._ledger = ledger
        self._work = work
        self._recover = recover
        self._is_over = is_over
        self._may_start = may_start
        self._on_missing = on_missing
        self._on_refusal = on_refusal
        self.thread: Thread | None = None
        """The one at work; None: none could be started."""
        self._late_start = LateStart(self._start_late)

    def start(self, *, plainly: bool = False) -> bool:
        """Start it; returns whether there is one now. `plainly` is as in `otelog._runtime.threads.start_thread`."""
        if start_thread(self._run, self._name, plainly=plainly, keep=self._keep) is None:
            self.thread = None
            self._ledger.miss_thread(self._name, self._on_refusal)
            if self._on_missing is not None:
                self._on_missing()
            return False
        self._ledger.find_thread(self._name)
        return True

    def _keep(self, thread: Thread) -> None:
        self.thread = thread

    def is_missing(self) -> bool:
        """Returns whether there is none: none could be started, or it has died as it began."""
        return not self.is_alive()

    def is_alive(self) -> bool:
        """Returns whether it runs."""
        thread = self.thread
        return thread is not None and thread.is_alive()

    def try_again(self) -> bool:
        """Try to start the thread that is missing, if it is time; returns whether there is one now."""
        return self._late_start.try_again()

    def _start_late(self) -> bool:
        return self.is_alive() or (self._may_start() and self.start(plainly=True))

    def join(self, deadline: float) -> None:
        """Wait for its end, or that of the thread that has taken its place."""
        while (thread := self.thread) is not None and thread.is_alive() and (left := deadline - time.monotonic()) > 0:
            join(thread, left)

    def _run(self) -> None:
        me = get_ident()
        try:
            while True:
                try:
                    if self._is_done(me):
                        break
                except MemoryError:
                    # There was none even for the call.
                    continue
        finally:
            own_threads.discard(me)

    def _is_done(self, me: int) -> bool:
        """Work; returns whether this thread is to end."""
        try:
            own_threads.add(me)
            # HTTP and gRPC libraries that are instrumented must not trace the export of telemetry, and a request that
            # has started this thread is none of its business.
            attach(set_value(SUPPRESS_INSTRUMENTATION_KEY, True, Context()))
            self._work()
            return True
        except BaseException as error:
            # Memory may be short for this, too: then this thread goes on.
            try:
                self._recover(error)
                if self._is_over() or sys.is_finalizing():
                    return True
                return not isinstance(error, Exception) and self._replace()
            except MemoryError:
                sleep(RESTART_PAUSE)
                return False

    def _replace(self) -> bool:
        """Start another thread in the place of this one, which an exception that ends threads has hit."""
        mine = self.thread
        if self.start():
            return True
        self.thread = mine
        self._ledger.find_thread(self._name)
        return False
