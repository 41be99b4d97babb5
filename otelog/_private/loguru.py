"""Private names of loguru that are read, and what is done where a release has none of that name.

The library itself is not imported here: what it hands on is asked for where the process has loaded it.
"""

from __future__ import annotations

import sys

__all__ = ["LOGURU_LINE", "hands_on"]

LOGURU_LINE = 'logger.add(otelog.LoggingHandler(), format="{message}")'
"""What brings loguru's records to otelog, where the application sets its logger up."""

_ENDS = frozenset({"StreamSink", "FileSink"})
"""What writes a record, and hands it to nobody."""


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
