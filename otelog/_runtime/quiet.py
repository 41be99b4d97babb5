"""What otelog does for itself is neither logged nor traced.

An exception of a signal handler may come at any instruction here, too. A thread that stayed marked as otelog's own
would be deaf for the application's records, and a lock that stayed taken would end all deliveries.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.context import Context, attach, get_current, set_value

from otelog._private.opentelemetry import SUPPRESS_INSTRUMENTATION_KEY
from otelog._private.standard import is_owned
from otelog._runtime.interruption import is_foreign
from otelog._runtime.own_threads import own_threads
from otelog._runtime.threads import get_ident
from otelog._runtime.waiting import LONGEST_WAIT


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what the current thread does from being logged by our handler, and from being traced."""
    me = get_ident()
    added = me not in own_threads
    before = get_current()
    context = set_value(SUPPRESS_INSTRUMENTATION_KEY, True, Context())
    try:
        own_threads.add(me)
        attach(context)
        yield
    finally:
        if added:
            own_threads.discard(me)
        if get_current() is context:
            attach(before)


@contextmanager
def quiet_turn(lock: Any, deadline: float) -> Iterator[bool]:
    """Do a thread's work in its place, quietly, when it is nobody else's turn.

    Args:
        lock: An RLock that the thread holds while it works.
        deadline: Monotonic moment until which to wait for it.

    Yields:
        Whether it is our turn; not if this thread has it already, further down its stack.
    """
    if is_owned(lock):
        yield False
        return
    try:
        if lock.acquire(timeout=min(max(0.0, deadline - time.monotonic()), LONGEST_WAIT)):
            with quiet():
                yield True
        else:
            yield False
    finally:
        # It is not asked first whether it was acquired, since an interruption may come after the answer.
        try:
            lock.release()
        except RuntimeError:
            if is_foreign():
                raise
