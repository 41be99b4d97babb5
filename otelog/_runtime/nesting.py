"""Which threads are inside of a function: known again after an exception at any instruction of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import get_ident
from types import CodeType


class Nesting:
    """Which threads run one of several functions right now.

    A mark that an interruption has left behind does not count: where there is a mark, the stack has the last word.

    Thread safety: any thread, signal handler or ``__del__``.
    """

    __slots__ = ("_codes", "_threads", "enter", "leave")

    def __init__(self) -> None:
        self._threads: set[int] = set()
        # By identity: a code object that somebody has made may have constants that cannot be hashed.
        self._codes: dict[int, CodeType] = {}
        self.enter: Callable[[int], None] = self._threads.add
        """Marks a thread, by its id."""
        self.leave: Callable[[int], None] = self._threads.discard
        """Takes the mark away. One step of C, as is `enter`: no signal is noticed in the middle."""

    def add(self, code: CodeType) -> None:
        """Make a function one of them; inside of a ``try`` it calls `enter`, and whatever happens, `leave`."""
        self._codes = {**self._codes, id(code): code}

    def is_inside(self) -> bool:
        """Returns whether this thread runs one of them already; to be called by such a function itself."""
        if get_ident() not in self._threads:
            return False
        frame = sys._getframe(1).f_back
        while frame is not None:
            if id(frame.f_code) in self._codes:
                return True
            frame = frame.f_back
        return False

    def clear(self) -> None:
        """Forget all threads, in a forked child, where their ids may come back."""
        self._threads.clear()
