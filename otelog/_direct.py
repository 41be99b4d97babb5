"""The short way of a `logging` call that nothing but otelog's queue would see.

The standard library makes a LogRecord for every call, which costs more than all that otelog does with it. A call that
would come to one `LoggingHandler` and to nothing else -- no other handler, no filter, no formatter, no record factory,
no method of a subclass or of another library on the way -- is captured from the call itself, as the facade does it.
What arrives is the same; whatever is unusual goes the standard way.
"""

from __future__ import annotations

import logging
import sys
from operator import attrgetter
from threading import get_ident
from time import time_ns
from typing import Any

from otelog._capture import BOUND_KEY, ODD, SMALL_BYTES, SPAN_KEY, Port, current_context, measure, own_threads
from otelog._interruption import is_foreign, is_interruption
from otelog._private.standard import LEVEL_NAMES
from otelog.handler import EVENT_NAME_KEY, NEVER_FIELDS, LoggingHandler

# Whoever has put something of their own in one of these places wants to see every record.
_ways_of = attrgetter("makeRecord", "findCaller", "handle", "filter", "callHandlers")
_STANDARD_WAYS = _ways_of(logging.Logger)
_standard_log = logging.Logger._log

# Not logging._srcfile, which may be set to None to save the search for the caller.
_standard_file = logging.addLevelName.__code__.co_filename
_level_names = LEVEL_NAMES
_getframe = sys._getframe

# Before 3.11 every frame counts as a level of the stack, ours too.
_OWN_FRAMES = int(sys.version_info < (3, 11))


def install() -> None:
    """Have every logger of the standard library try the short way first, unless another library has changed it."""
    if logging.Logger._log is _standard_log:
        logging.Logger._log = _log  # type: ignore[method-assign]


def uninstall() -> None:
    """Take it back, unless another library has put something on top."""
    if logging.Logger._log is _log:
        logging.Logger._log = _standard_log  # type: ignore[method-assign]


def _log(
    self: logging.Logger,
    level: Any,
    msg: Any,
    args: Any,
    exc_info: Any = None,
    extra: Any = None,
    stack_info: Any = False,
    stacklevel: Any = 1,
) -> None:
    if stacklevel != 1:
        _standard_log(self, level, msg, args, exc_info, extra, stack_info, stacklevel + _OWN_FRAMES)
    elif exc_info or stack_info or not take(self, level, msg, args, extra):
        _standard_log(self, level, msg, args, exc_info, extra, stack_info, stacklevel)


# The standard library looks for the caller in the first frame that is not of its own file: this one must not be it.
_log.__code__ = _log.__code__.replace(co_filename=_standard_file)


def take(logger: logging.Logger, level: Any, message: Any, arguments: Any, extra: Any) -> bool:
    """Capture a call, if it may go the short way. Must be called by the method that `install` puts in place.

    Returns:
        Whether the call is done with: its record is in the queue, or counted as refused.
    """
    handler = find_only_handler(logger, level)
    if handler is None or type(message) is not str:
        return False
    # Whatever raises here -- a level without a name, a call from nowhere, a foreign span -- is the standard way's.
    try:
        thread = get_ident()
        port = handler.gate.port
        if (
            logger.filters
            or handler.filters
            or handler.formatter is not None
            or logger.disabled
            or _ways_of(type(logger)) != _STANDARD_WAYS
            or logging._logRecordFactory is not logging.LogRecord  # type: ignore[attr-defined]
            or thread in own_threads
            or type(port) is not Port
        ):
            return False
        fields = None
        if extra:
            if type(extra) is not dict or not NEVER_FIELDS.isdisjoint(extra) or EVENT_NAME_KEY in extra:
                return False
            fields = extra.copy()
        size = measure(message, arguments, fields)
        if size >= ODD:
            return False
        source = handler.source_of_level(logger.name, level, _level_names[level])
        frame: Any = _getframe(2)
        while frame.f_code.co_filename == _standard_file:
            frame = frame.f_back
        span_context = None
        context = current_context()
        if context:
            bound = context.get(BOUND_KEY)
            if bound is not None:
                fields = {**bound.fields, **fields} if fields else bound.fields
                size += bound.size_bytes
            span = context.get(SPAN_KEY)
            if span is not None:
                span_context = span.get_span_context()
        code, offset = frame.f_code, frame.f_lasti
    except BaseException as error:
        if is_interruption(error, in_own_code=True):
            raise
        return False
    try:
        if size >= SMALL_BYTES:
            port.put_sized((time_ns(), source, span_context, message, arguments, fields, code, offset, thread), size)
            return True
        try:
            # The slot is popped last, and lost by nobody: see otelog._queue.
            port.push((time_ns(), source, span_context, message, arguments, fields, code, offset, thread, port.pop()))
        except IndexError:
            if is_foreign():
                raise
            port.put_when_full((time_ns(), source, span_context, message, arguments, fields, code, offset, thread))
            return True
    except MemoryError as error:
        port.refuse_for_memory(source, error)
        return True
    try:
        if len(port.incoming) >= port.wake_at:
            port.wake()
    except MemoryError:
        port.wake_if_due()
    return True


def find_only_handler(logger: logging.Logger | None, level: Any) -> LoggingHandler | None:
    """Returns otelog's handler if a record of this level would come to it and to no other; else None.

    The standard library's own NullHandler, which every well-behaved library has, does nothing with a record.
    """
    found: Any = None
    while logger is not None:
        for handler in logger.handlers:
            if level >= handler.level:
                if type(handler) is not LoggingHandler or found is not None:
                    if type(handler) is logging.NullHandler:
                        continue
                    return None
                found = handler
        if not logger.propagate:
            break
        logger = logger.parent
    return found  # type: ignore[no-any-return]
