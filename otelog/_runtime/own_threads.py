"""Whether the current thread is one of otelog's own, and whether it is converting values."""

from __future__ import annotations

import sys
from threading import get_ident
from types import FrameType

from otelog._runtime.nesting import Nesting
from otelog._runtime.replacing import keep

own_threads: set[int] = keep(globals(), "own_threads", set)
"""The ids of otelog's own threads."""

converting: Nesting = keep(globals(), "converting", Nesting)
"""The threads that convert values: what a value's own code logs meanwhile is taken only if it needs no conversion."""


def forget_threads() -> None:
    """Forget the parent's threads in a forked child, where their ids may come back."""
    own_threads.clear()
    converting.clear()


def caused_by_ourselves() -> bool:
    """Returns whether the log call, made in one of otelog's own threads, is ours: urllib3's debug lines and the like.

    The cyclic collector runs in any thread, ours too; a record of a ``__del__`` that it calls is the application's.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or code.co_filename == _WEAKREF_FILE:
            return False
        frame = frame.f_back
    return True


_WEAKREF_FILE = __import__("weakref").finalize.__call__.__code__.co_filename


def may_block() -> bool:
    """Returns whether a call may wait here: not in otelog's own threads, and not at the interpreter's end."""
    return get_ident() not in own_threads and not sys.is_finalizing()
