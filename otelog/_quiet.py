"""What otelog does for itself is neither logged nor traced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.context import Context, attach, detach, set_value

from otelog._capture import own_threads
from otelog._private.opentelemetry import SUPPRESS_INSTRUMENTATION_KEY
from otelog._threads import get_ident


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what the current thread does from being logged by our handler, and from being traced."""
    me = get_ident()
    added = me not in own_threads
    own_threads.add(me)
    token = attach(set_value(SUPPRESS_INSTRUMENTATION_KEY, True, Context()))
    try:
        yield
    finally:
        detach(token)
        if added:
            own_threads.discard(me)
