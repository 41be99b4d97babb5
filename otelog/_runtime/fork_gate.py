"""Work that a fork must not cut in half."""

from __future__ import annotations

import os
from collections.abc import Callable

from otelog._runtime.threads import RLock, get_ident


class ForkGate:
    """Lets either one piece of work or a fork happen: ``with gate.lock:`` is around the work.

    A child that is forked in the middle of it would inherit whatever locks the work has taken, held by a thread that
    the child does not have. Work that forks itself, or is interrupted by a signal handler that does, goes on in both
    processes: its own fork does not wait for it.

    Args:
        patience: Seconds that a fork waits at most; then it happens all the same.
        prepare: Called before each fork, with the lock held unless the patience has ended; must not raise.

    Attributes:
        lock: Held by the work; a child has another one. The thread that holds it may take it again.

    Thread safety: any thread. A gate is for good.
    """

    def __init__(self, patience: float, prepare: Callable[[], None] | None = None) -> None:
        self.patience = patience
        self._prepare = prepare
        self.lock = RLock()
        # Who holds the lock for a fork, once for each: a signal handler may fork while its thread is about to.
        self._forking: list[int] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._close, after_in_parent=self._open, after_in_child=self._renew)

    def _close(self) -> None:
        if self.lock.acquire(timeout=self.patience):
            self._forking.append(get_ident())
        if self._prepare is not None:
            self._prepare()

    def _open(self) -> None:
        # Not ours if the patience came to its end: then whoever holds the lock releases it.
        if get_ident() in self._forking:
            self._forking.remove(get_ident())
            self.lock.release()

    def _renew(self) -> None:
        lock, self.lock = self.lock, RLock()
        forking, self._forking = self._forking, []
        # A thread that another hook has started in the child may wait for the old one already.
        for _ in forking[: forking.count(get_ident())]:
            lock.release()
