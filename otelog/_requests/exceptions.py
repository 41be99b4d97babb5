"""Exceptions that nobody has handled: each is one record, in the trace of its request, whoever comes across it."""

from __future__ import annotations

import logging

from otelog._capture import exception_notes
from otelog._capture.active_pipeline import ACTIVE_PIPELINE
from otelog._capture.handler import LoggingHandler, way_of
from otelog._patches.handlers import is_foreign
from otelog._record.values import type_names
from otelog._setup.configure import get_logger

EVENT_NAME = exception_notes.EXCEPTION_EVENT


def record_exception(logger_name: str, method: str, path: str, error: BaseException) -> None:
    """Record an exception that nobody has handled, in the current context, unless that has been done before.

    Args:
        logger_name: The framework's own, so that it makes no difference who has recorded it.
        method: The request's.
        path: The request's.
        error: The exception.
    """
    if is_recorded(error):
        return
    note_recorded(error)
    get_logger(logger_name).event(EVENT_NAME, "Exception on %s [%s]", path, method, level=40, exc_info=error)


def note_recorded(error: BaseException) -> None:
    """Note that there is a record of an exception, so that nobody makes another one."""
    exception_notes.mark_recorded(error)


def is_recorded(error: BaseException) -> bool:
    """Returns whether there is a record of this exception."""
    return exception_notes.is_recorded(error)


def reaches_pipeline(logger: logging.Logger, level: int) -> bool:
    """Returns whether this logger's records of this level come to otelog, or to another OpenTelemetry handler."""
    if logger.disabled or not logger.isEnabledFor(level):
        return False
    return any(level >= handler.level and is_bridge(handler) for one in way_of(logger) for handler in one.handlers)


def is_bridge(handler: logging.Handler) -> bool:
    """Returns whether a handler leads to the pipeline: ours, or the SDK's."""
    if isinstance(handler, LoggingHandler):
        return handler.pipeline is ACTIVE_PIPELINE
    return is_foreign(handler)


def name_type(error: BaseException) -> str:
    """Returns what ``error.type`` says of an exception. Never raises."""
    module, kind = type_names(type(error))
    return kind if module == "builtins" else f"{module}.{kind}"
