"""Private names of loguru that are read, and what is done where a release has none of that name.

The library itself is not imported here: what it hands on is asked for where the process has loaded it.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

__all__ = ["LOGURU_LINE", "NAMES", "find_record", "handlers_of", "hands_on", "may_come_twice"]

LOGURU_LINE = "import otelog.loguru; otelog.loguru.install()"
"""What brings loguru's records to otelog, where the application sets its logger up."""

NAMES: tuple[tuple[str, str], ...] = (("loguru._handler", "Handler"),)
"""Modules, and the names in them that are read here."""

_ENDS = frozenset({"StreamSink", "FileSink"})
"""What writes a record, and hands it to nobody."""

_MOST_FRAMES = 24
"""How far above a handler the call of loguru's is looked for that has brought a record to it."""


def hands_on() -> bool | None:
    """Returns whether loguru hands its records to anybody who may bring them to a pipeline; None: that cannot be seen.

    There is no public way to ask what `logger.add` was given.
    """
    module = sys.modules.get("loguru")
    if module is None:
        return None
    try:
        sinks = [type(handler._sink).__name__ for handler in module.logger._core.handlers.values()]
    except Exception:
        return None
    return not _ENDS.issuperset(sinks)


def handlers_of(logger: Any) -> Any:
    """Returns what holds the handlers of a logger of loguru's, another object after each change; None: unknown."""
    return getattr(getattr(logger, "_core", None), "handlers", None)


def may_come_twice(handlers: Any) -> bool:
    """Returns whether a record may come to otelog by more than one of a logger's handlers; where unknown, it may."""
    try:
        sinks = [handler._sink for handler in handlers.values()]
        others = [sink for sink in sinks if type(sink).__name__ not in _ENDS]
        own = [sink for sink in others if _is_own(sink)]
    except Exception:
        return True
    return len(others) > len(own) or len(own) > 1


def _is_own(sink: Any) -> bool:
    return str(getattr(getattr(sink, "_function", None), "__module__", "")).startswith("otelog.")


def find_record(frame: FrameType | None) -> dict[str, Any] | None:
    """Returns the record that loguru is handing to one of its sinks in this stack, or None.

    Args:
        frame: The stack's innermost frame.
    """
    kind = getattr(sys.modules.get("loguru._handler"), "Handler", None)
    emit = getattr(getattr(kind, "emit", None), "__code__", None)
    if emit is None:
        return None
    for _ in range(_MOST_FRAMES):
        if frame is None:
            return None
        if frame.f_code is emit:
            found = frame.f_locals.get("record")
            return found if type(found) is dict else None
        frame = frame.f_back
    return None
