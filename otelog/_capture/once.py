"""Which calls of `logging` have come to a pipeline already: whatever brings one a second time, it is taken once.

A record comes again where two handlers lead to one pipeline, or where something on its way hands it on: a queue and its
listener, a buffer, a handler of the application's. Only there anything is remembered, and of a record no more than who
made it, when and where: what comes again may be a copy, or have been pickled. Nothing is kept alive, no lock is taken.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any
from weakref import ref

MOST_REMEMBERED = 8192
"""Records that are remembered at least, twice as many at most. What is older is judged by what brings it."""

_NEVER = float("inf")
_STAGES = ("callHandlers", "handle")
_BRINGING = ("handle", "flush", "_monitor")


class Once:
    """What has come to one pipeline.

    Thread safety: all methods; any signal handler or ``__del__``.
    """

    __slots__ = ("_began", "_handlers", "_old", "_young", "complete_since", "is_watching", "others", "watches_others")

    def __init__(self) -> None:
        self._young: dict[int, Any] = {}
        self._old: dict[int, Any] = {}
        self._began = 0.0
        self._handlers: list[ref[Any]] = []
        self.is_watching = False
        self.complete_since = _NEVER
        """All records that were made since then, and have come, are known; seconds since 1970."""
        self.others: tuple[Callable[[FrameType | None, Any], bool | None], ...] = ()
        """Each says of a record, and whoever brings it, whether another library has brought the same before; None if
        that library has no part in it."""
        self.watches_others = False
        """Whether one of them may have something to say of any record, and is asked for each."""

    def join(self, handler: Any) -> None:
        """Note a handler that leads to the pipeline. Where there are several, all are set to `watches`."""
        alive = [one for one in self._handlers if one() not in (None, handler)]
        self._handlers = [*alive, ref(handler)]
        if alive:
            self.watch()
        else:
            self.is_watching = self.watches_others = False
            self.complete_since = _NEVER
            self._young, self._old = {}, {}

    def watch(self, *, others: bool = False) -> None:
        """Remember from now on what comes. Idempotent.

        Args:
            others: Whether `others` are asked for each record, too.
        """
        if not self.is_watching:
            self.complete_since = self._began = time.time()
            self.is_watching = True
        self.watches_others |= others
        for one in self._handlers:
            handler = one()
            if handler is not None:
                handler.watches = True
                if self.watches_others:
                    # The short way asks this one mark.
                    handler.looked_into = True

    def came_otherwise(self, frame: FrameType | None, record: Any) -> bool:
        """Returns whether another library has brought a record before; if so, it counts as come."""
        if any(asks(frame, record) for asks in self.others):
            self.remember(record)
            return True
        return False

    def is_brought(self, frame: FrameType | None) -> bool:
        """Returns whether another library is at work in a stack that may bring its records itself."""
        return any(asks(frame, None) is not None for asks in self.others)

    def comes_again(self, record: Any) -> bool:
        """Returns whether this very object has come, and no other that is equal; if not, it counts as come."""
        # As `knows` and `remember` below, in one: each call of the application goes this way.
        key = hash((record.created, record.thread, record.process, record.name, record.lineno))
        young = self._young
        found = young.get(key) or self._old.get(key)
        if found is not None and found() is record:
            return True
        if len(young) >= MOST_REMEMBERED:
            young = self._turn(young)
        young[key] = ref(record)
        return False

    def knows(self, record: Any) -> bool:
        """Returns whether a record has come, or one that it is a copy of."""
        key = _key_of(record)
        return key in self._young or key in self._old

    def remember(self, record: Any) -> None:
        """Note that a record has come."""
        young = self._young
        if len(young) >= MOST_REMEMBERED:
            young = self._turn(young)
        young[_key_of(record)] = ref(record)

    def _turn(self, young: dict[int, Any]) -> dict[int, Any]:
        """Forget the older half."""
        if young is self._young:
            # What other threads put into it meanwhile is found there.
            if self._old:
                self.complete_since = self._began
            self._began = time.time()
            self._old, self._young = young, {}
        return self._young


def _key_of(record: Any) -> int:
    # Its hash, which keeps none of these alive, is the same for no two of any few thousand.
    return hash((record.created, record.thread, record.process, record.name, record.lineno))


def find_handled(frame: FrameType | None, record: Any, stages: tuple[str, ...] = _STAGES) -> Any:
    """Returns the record that a logger is handling in this stack, if that is this one or what it is a copy of.

    Args:
        frame: The stack's innermost frame.
        record: The record.
        stages: The methods of a logger that count.
    """
    key = _key_of(record)
    while frame is not None:
        if frame.f_code.co_name in stages:
            values = frame.f_locals
            found = values.get("record")
            if (
                isinstance(values.get("self"), logging.Logger)
                and isinstance(found, logging.LogRecord)
                and (found is record or _key_of(found) == key)
            ):
                return found
        frame = frame.f_back
    return None


def is_being_handled_elsewhere(record: Any) -> bool:
    """Returns whether another thread is calling the handlers of this record's logger, of which this is a copy."""
    return any(find_handled(frame, record, _STAGES[:1]) is not None for frame in sys._current_frames().values())


def is_handed_on(frame: FrameType | None) -> bool:
    """Returns whether a queue's listener or a buffer of the standard library brings what a logger has given it."""
    module = sys.modules.get("logging.handlers")
    if module is None:
        return False
    while frame is not None:
        if frame.f_code.co_name in _BRINGING and isinstance(
            frame.f_locals.get("self"), (module.QueueListener, module.MemoryHandler)
        ):
            return True
        frame = frame.f_back
    return False


def may_hand_on(handler: logging.Handler) -> bool:
    """Returns whether a handler may give its records to another handler, now or later."""
    kind = type(handler)
    if isinstance(handler, logging.NullHandler):
        return kind.handle is not logging.NullHandler.handle
    if isinstance(handler, logging.StreamHandler):
        return kind.handle is not logging.Handler.handle
    module = kind.__module__
    if module in ("logging", "logging.handlers"):
        return kind.__name__ in ("QueueHandler", "MemoryHandler", "BufferingHandler")
    return module.partition(".")[0] != "otelog"
