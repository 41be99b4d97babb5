"""What another library has brought to the pipeline already, and then hands on to `logging`, or the other way round.

The stack of a call tells what has brought it. Handlers look at it only where something may come twice.
"""

from __future__ import annotations

import logging
from types import FrameType
from typing import Any

from otelog._capture.handler import is_taken_on_its_way
from otelog._capture.port import ActivePipeline
from otelog._private.structlog import find_chain
from otelog._runtime.interruption import is_interruption

TAKES_EVENTS = "OtelogProcessor"

_MOST_FRAMES = 24
"""How far above a call of loguru's the handler of `logging` is looked for that has made it."""

_BRINGING = (logging.Handler.handle.__code__, logging.Logger.callHandlers.__code__)


def watch_structlog(pipeline: ActivePipeline) -> None:
    """Have the handlers that lead to a pipeline pass over what a processor of structlog's has taken."""
    once = pipeline.once
    if came_by_structlog not in once.others:
        once.others = (*once.others, came_by_structlog)
    if not once.watches_others:
        once.watch(others=True)


def came_by_structlog(frame: FrameType | None, record: logging.LogRecord | None) -> bool | None:
    """Returns whether a record of `logging` is the end of a chain in which otelog's processor stands.

    Args:
        frame: Whoever brings the record to the handler.
        record: The record; None to ask whether there is a chain.

    Returns:
        None where there is none.
    """
    found = find_chain(frame)
    if found is None:
        return None
    logger: Any
    logger, processors = found
    try:
        is_taken = any(
            type(one).__name__ == TAKES_EVENTS and type(one).__module__ == "otelog.structlog" for one in processors
        )
        return is_taken and record is not None and getattr(logger, "name", None) == record.name
    except Exception:
        return None


def is_same(record: logging.LogRecord, found: dict[str, Any]) -> bool:
    """Returns whether a record of `logging` says the same as loguru's, and is not one that a sink makes of its own."""
    try:
        extra = record.__dict__.get("extra")
        # loguru's own sink for handlers puts the very dict there.
        return (extra is not None and extra is found.get("extra")) or record.getMessage() == found.get("message")
    except BaseException as error:
        if is_interruption(error):
            raise
        return False


def came_by_logging(pipeline: ActivePipeline, frame: FrameType | None, record: dict[str, Any]) -> bool:
    """Returns whether a handler of `logging` hands on to loguru what comes to otelog by otelog's own handler.

    Args:
        pipeline: Where it comes to.
        frame: Whoever brings the record.
        record: loguru's.
    """
    for _ in range(_MOST_FRAMES):
        if frame is None:
            return False
        if frame.f_code in _BRINGING:
            found = frame.f_locals.get("record")
            return (
                isinstance(found, logging.LogRecord)
                and is_same(found, record)
                and (pipeline.once.knows(found) or is_taken_on_its_way(pipeline, found))
            )
        frame = frame.f_back
    return False
