"""What another library has brought to the pipeline already, and then hands on to `logging`, or the other way round.

Nothing is marked: the stack of a call tells what has brought it. Handlers look at it only where something may come
twice.
"""

from __future__ import annotations

import logging
from types import FrameType
from typing import Any

from otelog._capture.port import ActivePipeline
from otelog._private.structlog import find_chain

TAKES_EVENTS = "OtelogProcessor"


def watch_structlog(pipeline: ActivePipeline) -> None:
    """Have the handlers that lead to a pipeline pass over what a processor of structlog's has taken."""
    once = pipeline.once
    if came_by_structlog not in once.others:
        once.others = (*once.others, came_by_structlog)
    if not once.is_watching:
        once.watch()


def came_by_structlog(frame: FrameType | None, record: logging.LogRecord) -> bool:
    """Returns whether a record of `logging` is the end of a chain in which otelog's processor stands.

    Args:
        frame: Whoever brings the record to the handler.
        record: The record.
    """
    found = find_chain(frame)
    if found is None:
        return False
    logger: Any
    logger, processors = found
    try:
        return getattr(logger, "name", None) == record.name and any(
            type(one).__name__ == TAKES_EVENTS and type(one).__module__ == "otelog.structlog" for one in processors
        )
    except Exception:
        return False
