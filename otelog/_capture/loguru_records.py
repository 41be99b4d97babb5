"""What is taken of a record of loguru's, in the thread that has logged it.

loguru asks a handler's filter before it formats anything, and before it takes the handler's lock: a filter that takes
the record, and lets none pass, costs least, and can neither wait nor be waited for.
"""

from __future__ import annotations

import datetime as dt
import logging
import sys
from collections.abc import Callable
from threading import get_ident, local
from time import time_ns
from types import FrameType
from typing import Any

from otelog._capture.active_pipeline import ACTIVE_PIPELINE, UnconfiguredPort
from otelog._capture.handler import MOST_SITES, is_here
from otelog._capture.port import EVENT_NAME_KEY, ODD, ActivePipeline, current_span_context, measure
from otelog._capture.structlog_fields import NEAR_NS, datetime_ns
from otelog._capture.twice import came_by_logging, is_same
from otelog._private.loguru import find_record, handlers_of, may_come_twice
from otelog._record.row import CodeSite, Source, SpanIds
from otelog._record.severity import severity_number
from otelog._record.values import safe_str
from otelog._runtime.interruption import is_interruption
from otelog._runtime.own_threads import caused_by_ourselves, own_threads

TRACE_ID, SPAN_ID, TRACE_FLAGS = "trace_id", "span_id", "trace_flags"
"""What `add_trace_context` puts into a record's extra."""

_sources: dict[tuple[Any, ...], Source] = {}
"""By logger, level and place."""

_UNKNOWN = Source("", 9, "INFO")
_getframe = sys._getframe


class _Logger:
    """What is known of the handlers of loguru's logger."""

    handlers: Any = None
    comes_twice = False


_known = _Logger()


class _Taken(local):
    """The last record that was taken in this thread."""

    key: tuple[Any, ...] = ()


_taken = _Taken()


def take_record(pipeline: ActivePipeline, record: Any) -> None:
    """Capture a record. Never raises, takes no lock, and logs nothing by loguru; what cannot be kept is counted.

    Args:
        pipeline: Where it goes.
        record: loguru's dict; it is left as it is.
    """
    try:
        port = pipeline.port
        if type(port) is UnconfiguredPort or port.level > record["level"].no:
            return
        me = get_ident()
        if me in own_threads and caused_by_ourselves():
            return
        if not _is_taken_elsewhere(pipeline, record):
            _capture_record(pipeline, record, me)
    except MemoryError as shortage:
        pipeline.port.refuse_for_memory(_UNKNOWN, shortage)
    except BaseException as failure:
        if is_interruption(failure):
            raise
        _take_broken(pipeline, record, failure)


def _capture_record(pipeline: ActivePipeline, record: Any, me: int) -> None:
    level = record["level"]
    thread = record["thread"].id
    file = record["file"]
    key = (record["name"], level.no, level.name, file.path, record["function"], record["line"])
    source = _sources.get(key) or _make_source(key)
    fields: dict[Any, Any] = dict(record["extra"])
    message = record["message"]
    ids = _take_ids(fields) if TRACE_ID in fields else None
    exception = record["exception"]
    now = time_ns()
    moment = record["time"]
    time = (datetime_ns(moment) if isinstance(moment, dt.datetime) else None) or now
    is_given = not -NEAR_NS < time - now < NEAR_NS or (thread != me and not is_here(record["process"].id))
    size = measure(message, None, fields) if type(message) is str else ODD
    is_plain = size < ODD and exception is None and ids is None and type(thread) is int
    if is_plain and not is_given and EVENT_NAME_KEY not in fields:
        span_context, kept, more = current_span_context(fields or None)
        pipeline.port.put_sized((time, source, span_context, message, None, kept, None, 0, thread), size + more)
        return
    error = getattr(exception, "value", None)
    if exception is not None and not isinstance(error, BaseException):
        # It has been pickled, and its value could not be.
        fields.setdefault("exception.type", safe_str(getattr(getattr(exception, "type", None), "__name__", "")))
        error = None
    event_name = safe_str(fields.pop(EVENT_NAME_KEY)) if EVENT_NAME_KEY in fields else None
    pipeline.port.capture(
        time,
        source,
        message,
        None,
        fields,
        thread=thread if type(thread) is int else me,
        error=error,
        event_name=event_name,
        given_time=is_given,
        ids=ids,
    )


def _take_broken(pipeline: ActivePipeline, record: Any, failure: BaseException) -> None:
    """Have a record stand for one that could not be read: a patcher may have put anything into it."""
    try:
        said = f"a record of loguru's could not be read: {type(failure).__name__}: {safe_str(record)}"
        pipeline.port.capture(time_ns(), _UNKNOWN, said, None, None)
    except MemoryError as shortage:
        pipeline.port.refuse_for_memory(_UNKNOWN, shortage)


def _make_source(key: tuple[Any, ...]) -> Source:
    name, number, level, path, function, line = key
    site = CodeSite(safe_str(path), safe_str(function), line if type(line) is int else 0)
    source = Source("" if name is None else safe_str(name), severity_number(number), safe_str(level), site)
    if len(_sources) >= MOST_SITES:
        _sources.clear()
    _sources[key] = source
    return source


def _is_taken_elsewhere(pipeline: ActivePipeline, record: Any) -> bool:
    """Returns whether `logging` has brought a record to loguru, or loguru to `logging`, and otelog has it that way."""
    if came_by_logging(pipeline, _getframe(2), record):
        return True
    handlers = handlers_of(getattr(sys.modules.get("loguru"), "logger", None))
    if handlers is None or handlers is not _known.handlers:
        _known.handlers, _known.comes_twice = handlers, may_come_twice(handlers)
        watch_loguru(pipeline, is_needed=_known.comes_twice)
    return _known.comes_twice and _was_taken(record)


def _was_taken(record: Any) -> bool:
    """Returns whether a record was taken in this thread just before; if not, it counts as taken."""
    # The address of a dict comes back; the two objects that are new for each record are kept, and so do not.
    time, elapsed = record.get("time"), record.get("elapsed")
    key = _taken.key
    if key and key[0] == id(record) and key[1] is time and key[2] is elapsed:
        return True
    _taken.key = (id(record), time, elapsed)
    return False


def watch_loguru(pipeline: ActivePipeline, *, is_needed: bool = False) -> None:
    """Have the handlers that lead to a pipeline look for what loguru brings itself.

    Args:
        pipeline: The pipeline.
        is_needed: Whether loguru has somebody else that it hands its records to; else only the first record of each
            place is looked at.
    """
    once = pipeline.once
    if came_by_loguru not in once.others:
        once.others = (*once.others, came_by_loguru)
    if is_needed and not once.watches_others:
        once.watch(others=True)


def came_by_loguru(frame: FrameType | None, record: logging.LogRecord | None) -> bool | None:
    """Returns whether a record of `logging` is one that loguru hands on; then loguru's is taken, which says more.

    Args:
        frame: Whoever brings the record to the handler.
        record: The record; None to ask whether loguru is at work.

    Returns:
        None where loguru is not.
    """
    found = find_record(frame)
    if found is None:
        return None
    if record is None or not is_same(record, found):
        return False
    try:
        if not _was_taken(found):
            _capture_record(ACTIVE_PIPELINE, found, get_ident())
    except MemoryError as shortage:
        ACTIVE_PIPELINE.port.refuse_for_memory(_UNKNOWN, shortage)
    except BaseException as failure:
        if is_interruption(failure):
            raise
        # The record of `logging` stands for it.
        return False
    return True


def _take_ids(fields: dict[Any, Any]) -> SpanIds | None:
    """Take the ids out of a record's extra that `add_trace_context` has put there."""
    trace, span, flags = fields.get(TRACE_ID), fields.get(SPAN_ID), fields.get(TRACE_FLAGS)
    if type(trace) is not str or type(span) is not str or type(flags) is not int:
        return None
    if len(trace) != 32 or len(span) != 16 or not trace.isalnum() or not span.isalnum():
        return None
    try:
        ids = SpanIds(int(trace, 16), int(span, 16), flags)
    except ValueError:
        return None
    for key in (TRACE_ID, SPAN_ID, TRACE_FLAGS):
        del fields[key]
    return ids if ids.trace_id else None


def add_trace_context(record: Any) -> None:
    """Put the current span's ids into a record's extra. Never raises."""
    context, _, _ = current_span_context(None)
    try:
        if context is not None and context.trace_id:
            record["extra"].update(
                {
                    TRACE_ID: format(context.trace_id, "032x"),
                    SPAN_ID: format(context.span_id, "016x"),
                    TRACE_FLAGS: int(context.trace_flags),
                }
            )
    except Exception as failure:
        if is_interruption(failure):
            raise


class TakingFilter:
    """A filter for `logger.add` that takes every record, and lets none pass: nothing is formatted then."""

    __slots__ = ("_filter",)

    def __init__(self, chosen: Callable[[Any], object] | None = None) -> None:
        self._filter = chosen

    def __call__(self, record: Any) -> bool:
        if self._filter is None or self._filter(record):
            take_record(ACTIVE_PIPELINE, record)
        return False


def write_nothing(message: object) -> None:
    """What `logger.add` needs for a sink; `TakingFilter` lets nothing come here."""


def add_handler(logger: Any, level: int | str, chosen: Callable[[Any], object] | None = None) -> int:
    """Have a logger of loguru's bring its records. Returns the handler's id."""
    watch_loguru(ACTIVE_PIPELINE)
    added: int = logger.add(
        write_nothing,
        level=level,
        format="{message}",
        filter=TakingFilter(chosen),
        colorize=False,
        backtrace=False,
        diagnose=False,
    )
    return added
