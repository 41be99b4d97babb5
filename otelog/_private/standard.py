"""Private names of the standard library that are read, and what is done where a Python has none of that name."""

from __future__ import annotations

import atexit
import contextvars
import gc
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from operator import methodcaller
from types import FrameType
from typing import Any

__all__ = [
    "IS_INTERNAL_FRAME",
    "LEVEL_NAMES",
    "NAMES",
    "SOURCE_FILE",
    "START_PATIENCE",
    "THREADS",
    "bound_start",
    "call_before_atexit",
    "context_of",
    "has_short_way",
    "is_owned",
    "logging_lock",
    "show_whole_warning",
    "thread_of",
]

_OF_THE_SHORT_WAY = ("_levelToName", "_logRecordFactory", "_srcfile")

NAMES: tuple[tuple[str, str], ...] = (
    *(("logging", name) for name in _OF_THE_SHORT_WAY),
    *([("logging", "_is_internal_frame")] if sys.version_info >= (3, 11) else []),
    ("logging", "_lock"),
    ("logging", "_showwarning"),
    ("logging", "_warnings_showwarning"),
    ("threading", "_active"),
    ("threading", "_register_atexit"),
    ("warnings", "_showwarning_orig"),
    ("warnings", "_showwarnmsg"),
    ("warnings", "_showwarnmsg_impl"),
)
"""Modules, and the names in them that are read here or in `otelog._patches`."""


class _LevelNames(dict[int, str]):
    """Asks the public function for each name."""

    def __missing__(self, level: int) -> str:
        return logging.getLevelName(level)


LEVEL_NAMES: Mapping[int, str] = getattr(logging, "_levelToName", _LevelNames())
"""The names of levels that have one; `logging`'s own dict, which a new name changes."""


SOURCE_FILE: str | None = getattr(logging, "_srcfile", None)
"""Whose frames `logging` passes over when it looks for a caller."""

IS_INTERNAL_FRAME: Any = getattr(logging, "_is_internal_frame", None)
"""How it asks whether to pass over one; before 3.11 it had no function for that."""

THREADS: Mapping[int, threading.Thread] = getattr(threading, "_active", {})
"""The threads that are alive; `threading`'s own dict, which changes."""


call_before_atexit: Callable[[Callable[[], None]], object] = getattr(threading, "_register_atexit", atexit.register)
"""Have something called at the process's end, before what `atexit` calls; `concurrent.futures` ends in this way."""

is_owned: Callable[[Any], bool] = methodcaller("_is_owned")
"""Returns whether the calling thread has an RLock; `threading.Condition` asks in this way."""


START_PATIENCE = 5.0
"""Seconds that a thread may take to begin."""


class _Begun(threading.Event):
    """What `Thread.start` waits for, without a bound: a thread that dies of a lack of memory before never says so."""

    def wait(self, timeout: float | None = None) -> bool:
        return super().wait(START_PATIENCE if timeout is None else timeout)


def bound_start(thread: threading.Thread) -> None:
    """Have `start` return in any case; where the thread has not begun then, its `ident` is None."""
    if type(getattr(thread, "_started", None)) is threading.Event:
        thread._started = _Begun()  # type: ignore[attr-defined]


def has_short_way() -> bool:
    """Returns whether `logging` has all that `otelog._patches.log_calls` looks at; if not, there is no short way."""
    return all(hasattr(logging, name) for name in _OF_THE_SHORT_WAY)


def logging_lock() -> AbstractContextManager[Any]:
    """Returns the lock that `logging` changes its loggers under; asked for anew each time, for gevent replaces it."""
    lock: AbstractContextManager[Any] | None = getattr(logging, "_lock", None)
    return nullcontext() if lock is None else lock


def thread_of(thread_id: int) -> threading.Thread | None:
    """Returns a thread that is alive. Takes no lock; safe in any thread."""
    # Reading a dict that other threads change is one step; threading.enumerate() would take a lock.
    known: Mapping[int, threading.Thread] = getattr(threading, "_active", {})
    return known.get(thread_id)


def context_of(source: Any) -> contextvars.Context | None:
    """Returns the context that a task or a handle of asyncio runs in; None where it does not tell."""
    get = getattr(source, "get_context", None)
    if get is not None:
        # Since Python 3.12.
        found = get()
    elif isinstance(source, sys.modules["asyncio"].Task):
        # The one that is written in C tells it to the cyclic collector only.
        held = [getattr(source, "_context", None), *gc.get_referents(source)]
        found = next((one for one in held if isinstance(one, contextvars.Context)), None)
    else:
        found = getattr(source, "_context", None)
    return found if isinstance(found, contextvars.Context) else None


def show_whole_warning(show: Any, frame: FrameType | None) -> bool:
    """Show a warning as if `warnings.showwarning` had not been replaced; returns whether that could be done.

    Its arguments leave out what a ResourceWarning is about, which the standard way names in a further line.

    Args:
        show: What is to show it.
        frame: Whoever shows it; only `warnings` itself has the warning as a whole.
    """
    standard, caller = getattr(warnings, "_showwarning_orig", None), getattr(warnings, "_showwarnmsg", None)
    if frame is None or show is not standard or frame.f_code is not getattr(caller, "__code__", None):
        return False
    shown, write = frame.f_locals.get("msg"), getattr(warnings, "_showwarnmsg_impl", None)
    if shown is None or write is None:
        return False
    write(shown)
    return True
