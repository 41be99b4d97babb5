"""Work that a fork must not cut in half."""

from __future__ import annotations

import os

from otelog._threads import Lock, get_ident


class ForkGate:
    """Lets either one piece of work or a fork happen: ``with gate.lock:`` is around the work.

    A child that is forked in the middle of it would inherit whatever locks the work has taken, held by a thread that
    the child does not have.

    Args:
        patience: Seconds that a fork waits at most; then it happens all the same.

    Attributes:
        lock: Held by the work; a child has another one.

    Thread safety: any thread; work inside of work of the same gate would wait for itself. A gate is for good.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._close, after_in_parent=self._open, after_in_child=self._renew)

    def _renew(self) -> None:
        self.lock = Lock()
        self._forking_thread = 0

    def _close(self) -> None:
        if self.lock.acquire(timeout=self.patience):
            self._forking_thread = get_ident()

    def _open(self) -> None:
        # Not ours if the patience came to its end: then whoever holds the lock releases it.
        if self._forking_thread == get_ident():
            self._forking_thread = 0
            self.lock.release()
