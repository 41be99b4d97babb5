"""What is taken of an event of structlog's: its dict becomes a record, in the caller's thread.

As in `otelog._capture.facade`, nothing is formatted here that can wait, and a mutable value is converted at once.
"""

from __future__ import annotations

import logging
from threading import get_ident
from time import time_ns
from types import FrameType
from typing import Any

from otelog._capture.handler import MOST_SITES
from otelog._capture.port import ODD, ActivePipeline, current_span_context, measure
from otelog._capture.structlog_fields import NOTHING_ODD, ODD_KEYS, take_body, take_level, take_odd, take_time
from otelog._private.structlog import find_async_caller
from otelog._record.row import Source
from otelog._record.severity import severity_number
from otelog._record.values import safe_str
from otelog._runtime.interruption import is_interruption
from otelog._runtime.own_threads import caused_by_ourselves, own_threads

OWN_MODULES = ("structlog.", "otelog._patches.structlog")
"""Beginnings of the names of modules that are between the application and a processor."""

_EXECUTOR = "concurrent.futures.thread"

_sources: dict[tuple[str, str], Source] = {}
"""By scope and level: what all events have in common, wherever they are logged."""

_UNKNOWN = Source("", 9, "INFO")


def take_event(
    pipeline: ActivePipeline,
    logger: Any,
    method: str,
    event_dict: Any,
    frame: FrameType | None,
    *,
    event_key: str = "event",
    ignored: tuple[str, ...] = OWN_MODULES,
) -> None:
    """Capture an event. Never raises, takes no lock; what cannot be kept is counted.

    Args:
        pipeline: Where it goes.
        logger: What structlog has wrapped.
        method: The method of it that is about to be called.
        event_dict: The event; it is left as it is.
        frame: The frame that the application's is looked for from.
        event_key: The key of the event's text.
        ignored: Beginnings of the names of modules whose frames are not the application's.
    """
    try:
        fields: dict[Any, Any] = event_dict.copy() if type(event_dict) is dict else _copy(event_dict, event_key)
        number, text = take_level(fields, method)
        port = pipeline.port
        if isinstance(logger, logging.Logger):
            if not logger.isEnabledFor(number):
                return
        elif port.level > number:
            return
        thread = get_ident()
        if thread in own_threads and caused_by_ourselves():
            return
        frame, module, thread = _find_place(frame, ignored, thread)
        scope = _take_scope(fields, logger, module)
        source = _sources.get((scope, text)) or _make_source(scope, number, text)
        now = time_ns()
        time, is_given = take_time(fields, now)
        odd = NOTHING_ODD if ODD_KEYS.isdisjoint(fields) else take_odd(fields, frame)
        message = take_body(fields, event_key)
        size = measure(message, odd.arguments, fields) if type(message) is str else ODD
        if size < ODD and odd[1:] == (None, None, None) and not is_given and frame is not None:
            span_context, kept, more = current_span_context(fields or None)
            row = (time, source, span_context, message, odd.arguments, kept, frame.f_code, frame.f_lasti, thread)
            port.put_sized(row, size + more)
            return
        port.capture(
            time,
            source,
            message,
            odd.arguments,
            fields,
            code=None if frame is None else frame.f_code,
            offset=0 if frame is None else frame.f_lasti,
            thread=thread,
            error=odd.error,
            stack=odd.stack,
            event_name=odd.event_name,
            given_time=is_given,
        )
    except MemoryError as error:
        pipeline.port.refuse_for_memory(_UNKNOWN, error)
    except BaseException as error:
        if is_interruption(error):
            raise
        _take_broken(pipeline, event_dict, error)


def _copy(event: Any, event_key: str) -> dict[Any, Any]:
    """Returns the fields of an event that is no plain dict; a renderer in front has made a text of it."""
    return {event_key: event} if isinstance(event, (str, bytes, bytearray)) else dict(event.items())


def _find_place(frame: FrameType | None, ignored: tuple[str, ...], thread: int) -> tuple[FrameType | None, Any, int]:
    """Returns the application's frame, the name of its module, and the thread that it runs in."""
    module: Any = None
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if type(module) is not str or not (module == "structlog" or module.startswith(ignored)):
            break
        frame = frame.f_back
    if module == _EXECUTOR:
        caller, calling = find_async_caller()
        if caller is not None:
            frame, module = caller, caller.f_globals.get("__name__")
        thread = calling or thread
    return frame, module, thread


def _take_broken(pipeline: ActivePipeline, event_dict: Any, error: BaseException) -> None:
    """Have a record stand for an event that could not be read."""
    try:
        said = f"an event of structlog's could not be read: {type(error).__name__}: {safe_str(event_dict)}"
        pipeline.port.capture(time_ns(), _UNKNOWN, said, None, None)
    except MemoryError as shortage:
        pipeline.port.refuse_for_memory(_UNKNOWN, shortage)


def _take_scope(fields: dict[Any, Any], logger: Any, module: Any) -> str:
    for key in ("logger", "logger_name"):
        name = fields.get(key)
        if type(name) is str and name:
            del fields[key]
            return name
    name = getattr(logger, "name", None)
    if type(name) is str and name:
        return name
    return module if type(module) is str else ""


def _make_source(scope: str, number: int, text: str) -> Source:
    if len(_sources) >= MOST_SITES:
        _sources.clear()
    source = _sources[scope, text] = Source(scope, severity_number(number), text)
    return source
