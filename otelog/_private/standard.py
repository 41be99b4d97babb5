"""Private names of the standard library that are read, and what is done where a Python has none of that name."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

__all__ = ["LEVEL_NAMES", "logging_lock", "thread_of"]


class _LevelNames(dict[int, str]):
    """Asks the public function for each name."""

    def __missing__(self, level: int) -> str:
        return logging.getLevelName(level)


LEVEL_NAMES: Mapping[int, str] = getattr(logging, "_levelToName", _LevelNames())
"""The names of levels that have one; `logging`'s own dict, which a new name changes."""


def logging_lock() -> AbstractContextManager[Any]:
    """Returns the lock that `logging` changes its loggers under; asked for anew each time, for gevent replaces it."""
    lock: AbstractContextManager[Any] | None = getattr(logging, "_lock", None)
    return nullcontext() if lock is None else lock


def thread_of(thread_id: int) -> threading.Thread | None:
    """Returns a thread that is alive. Takes no lock; safe in any thread."""
    # Reading a dict that other threads change is one step; threading.enumerate() would take a lock.
    known: Mapping[int, threading.Thread] = getattr(threading, "_active", {})
    return known.get(thread_id)
