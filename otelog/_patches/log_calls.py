"""The short way of a `logging` call that nothing but otelog's queue would see.

The standard library makes a LogRecord for every call, which costs more than all that otelog does with it. A call that
would run CPython's own code only, and come to one `LoggingHandler` and to nothing else, is captured from the call
itself, as the facade does it. What arrives is the same; whatever is unusual goes the standard way.

Nobody may be able to tell. So before any of its work is saved, it is certain that the standard way would have come upon
nothing of anybody else's: no handler, filter, formatter or record factory; no method of a subclass, none that was put
on a class or on one object; no other rule for the caller's place, the level's name or the time. None of that is found
out by running anything of the application's.

And where the standard way is gone, it is exactly the standard one. No function of ours stands on it: a frame more would
be seen by whoever looks for the caller by its module or by a count, and in tracebacks. Instead `Logger._log` itself
begins with the question, in its own frame and on the line of its own first statement; all else in it is compiled from
its own source. If that cannot be had, or is not what runs, there is no short way.

Source: logging, "Logger.findCaller", "LogRecord attributes"; inspect, "Code Objects".
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
from threading import get_ident
from time import time_ns
from types import BuiltinFunctionType, CodeType, FunctionType
from typing import Any

from otelog._capture.handler import MOST_SITES, NEVER_FIELDS, LoggingHandler
from otelog._capture.port import BOUND_KEY, EVENT_NAME_KEY, SMALL_BYTES, SPAN_KEY, Port, current_context
from otelog._patches.call_preface import compile_with_question
from otelog._private.standard import IS_INTERNAL_FRAME, SOURCE_FILE, THREADS, has_short_way
from otelog._record.row import FIELD_BYTES, Source
from otelog._record.severity import severity_number
from otelog._runtime.interruption import is_foreign, is_interruption
from otelog._runtime.own_threads import own_threads
from otelog._runtime.replacing import find_original, mark

_getframe = sys._getframe

_NO_ARGUMENTS: tuple[()] = ()
_LEAST_INT, _MOST_INT = -(2**63), 2**63 - 1

# Before 3.11 the standard library passes over the caller of `_log`, whoever that is.
_PASSES_OVER_CALLER = sys.version_info < (3, 11)

# What the standard way would run, as it was when this module was loaded.
_Logger = logging.Logger
_RootLogger = logging.RootLogger
_LogRecord = logging.LogRecord
_NullHandler = logging.NullHandler
_handle_nothing = _NullHandler.handle
_normcase = os.path.normcase
# Where the standard library would make an object for a thread that it does not know.
_threads = THREADS

_WAYS = frozenset({"makeRecord", "findCaller", "handle", "filter", "callHandlers"})
_ATTRIBUTES = frozenset({"name", "handlers", "filters", "disabled", "propagate", "parent"})
_LOOKED_AT = _WAYS | _ATTRIBUTES | {"__bool__", "__len__", "__getattribute__", "__getattr__", "__dict__"}
"""What the standard way uses of a logger."""


def _dict_of(kind: type) -> Any:
    """Returns where a class keeps its attributes: the dict itself, which is read in half the time of a view of it."""
    view = kind.__dict__
    found = gc.get_referents(view)
    return found[0] if len(found) == 1 and type(found[0]) is dict and found[0].keys() == view.keys() else view


_methods = _dict_of(_Logger)
_methods_of_root = _dict_of(_RootLogger)
_COUNT_OF_ROOT = len(_methods_of_root) if _LOOKED_AT.isdisjoint(_methods_of_root) else -1
# Those that Logger has in any case are looked at one by one, by `_CONDITION`.
_MAY_BE_ADDED = _LOOKED_AT - {"makeRecord", "findCaller", "handle", "callHandlers"}


class _Known:
    """What is known of the attributes of the standard library's Logger."""

    size = -1
    """How many there were when none was among them that the standard way would use."""


_known = _Known()

_TAKEN_NAMES = NEVER_FIELDS | {EVENT_NAME_KEY}

_internal_files: dict[str, bool] = {}
"""By a code object's file: whether the standard library passes over it when it looks for the caller."""

_sources: dict[int, dict[str, Source]] = {}
"""By level and logger: what all records have in common, wherever they are logged."""


# One function: each further call would cost the caller about 35 ns, and one call has many conditions.
def take(  # noqa: C901
    logger: logging.Logger, level: Any, message: Any, arguments: Any, extra: Any
) -> bool:
    """Capture a call, if nobody can tell. Must be called by `Logger._log`.

    Returns:
        Whether the call is done with: its record is in the queue, or counted as refused.
    """
    try:
        kind = type(logger)
        if (
            kind is not _Logger
            and (kind is not _RootLogger or len(_methods_of_root) != _COUNT_OF_ROOT)
            and not is_plain(kind)
        ):
            return False
        # An attribute of an object whose `__dict__` was asked for is read from there at half the price.
        values = logger.__dict__
        if (
            # With the nine attributes that `getLogger` gives it, a logger has no method of its own; the root has eight.
            (
                (len(values) != 9 or "manager" not in values)
                and (kind is not _RootLogger or len(values) != 8)
                and not has_no_method(values)
            )
            or type(message) is not str
            or type(level) is not int
            or (len(_methods) != _known.size and not are_methods_known())
        ):
            return False
        try:
            if values["filters"] or values["disabled"]:
                return False
            name = values["name"]
            handlers = values["handlers"]
            here = values["parent"] if values["propagate"] else None
        except KeyError:
            return False
        found: Any = None
        while True:
            if handlers:
                for handler in handlers:
                    if type(handler) is LoggingHandler and found is None:
                        if level >= handler.level:
                            found = handler
                    elif not is_blind(handler, level):
                        return False
            if here is None:
                break
            kind = type(here)
            if kind is not _Logger and kind is not _RootLogger and not is_plain(kind):
                return False
            try:
                handlers = here.handlers
                here = here.parent if here.propagate else None
            except AttributeError:
                return False
        thread = get_ident()
        if (
            found is None
            or found.filters
            or found.formatter is not None
            or thread in own_threads
            or thread not in _threads
            or (found.looked_into and (found.pipeline.once.watches_others or found.has_own_handle()))
        ):
            return False
        port = found.pipeline.port
        if type(port) is not Port:
            return False
        # As `measure` does, whose call would cost more than what it finds out.
        size = len(message)
        if arguments is not _NO_ARGUMENTS:
            if type(arguments) is not tuple:
                return False
            for value in arguments:
                kind = type(value)
                if kind is str:
                    size += FIELD_BYTES + len(value)
                elif kind is int:
                    if not -0x4000_0000 < value < 0x4000_0000 and not _LEAST_INT <= value <= _MOST_INT:
                        return False
                    size += FIELD_BYTES
                elif kind is float or value is None or kind is bool:
                    size += FIELD_BYTES
                else:
                    return False
        fields: dict[str, Any] | None = None
        if extra is not None:
            if type(extra) is not dict:
                return False
            if extra:
                fields = {}
            # In the order of `LoggingHandler.handle`: where there are too many, the same ones are kept.
            for key in reversed(extra):
                if key in _TAKEN_NAMES:
                    return False
                value = fields[key] = extra[key]  # type: ignore[index]
                kind = type(value)
                if kind is str:
                    size += FIELD_BYTES + len(value)
                elif kind is int:
                    if not -0x4000_0000 < value < 0x4000_0000 and not _LEAST_INT <= value <= _MOST_INT:
                        return False
                    size += FIELD_BYTES
                elif kind is float or value is None or kind is bool:
                    size += FIELD_BYTES
                else:
                    return False
        source: Source | None
        try:
            level_name = logging._levelToName[level]
            source = _sources[level][name]
            if source.severity_text != level_name or source.scope_name is not name:
                source = None
        except KeyError:
            source = None
        if source is None:
            source = find_source(name, level, logging._levelToName.get(level))
            if source is None or is_brought(found):
                return False
        frame: Any = _getframe(2)
        if _PASSES_OVER_CALLER:
            frame = frame.f_back
        try:
            code = frame.f_code
            while _internal_files[code.co_filename]:
                frame = frame.f_back
                code = frame.f_code
        except (KeyError, AttributeError):
            frame = find_caller(frame)
            if frame is None:
                return False
            code = frame.f_code
        span_context = None
        context = current_context()
        if context:
            bound = context.get(BOUND_KEY)
            if bound is not None:
                fields = {**bound.fields, **fields} if fields else bound.fields
                size += bound.size_bytes
            span = context.get(SPAN_KEY)
            if span is not None:
                try:
                    span_context = span.get_span_context()
                except Exception as error:
                    if is_interruption(error):
                        raise
                    # A foreign span's: the standard way knows what to do.
                    return False
        offset = frame.f_lasti
    except MemoryError as error:
        if is_interruption(error):
            raise
        # The standard way may find some, and else counts the record.
        return False
    try:
        if size >= SMALL_BYTES:
            port.put_sized((time_ns(), source, span_context, message, arguments, fields, code, offset, thread), size)
            return True
        slots = port.slots
        if not slots:
            # Asked first: where a Collector is away this is every call, and an exception would cost as much.
            port.put_when_full((time_ns(), source, span_context, message, arguments, fields, code, offset, thread))
            return True
        try:
            # The slot is popped last, and lost by nobody: see otelog._capture.queue.
            port.push((time_ns(), source, span_context, message, arguments, fields, code, offset, thread, slots.pop()))
        except IndexError:
            if is_foreign():
                raise
            # Another thread was quicker.
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


def has_no_method(values: dict[str, Any]) -> bool:
    """Returns whether a logger's own attributes are all that `logging` needs, and no method among them."""
    return _WAYS.isdisjoint(values) and values.keys() >= _ATTRIBUTES


def is_plain(kind: type) -> bool:
    """Returns whether a logger's class leaves everything alone that the standard way would use of it."""
    return issubclass(kind, _Logger) and all(
        one in _STANDARD_CLASSES or _LOOKED_AT.isdisjoint(one.__dict__) for one in kind.__mro__
    )


_STANDARD_CLASSES = (_Logger, logging.Filterer, object)


def are_methods_known() -> bool:
    """Returns whether what was added to Logger itself is none of what the standard way would use."""
    size = len(_methods)
    if not _MAY_BE_ADDED.isdisjoint(_methods):
        return False
    _known.size = size
    return True


def is_blind(handler: Any, level: int) -> bool:
    """Returns whether it is certain that a handler that is not otelog's does nothing with a record of this level.

    The standard library's own NullHandler, which every well-behaved library has, never does.
    """
    kind = type(handler)
    values = getattr(handler, "__dict__", {})
    if kind is _NullHandler:
        return _NullHandler.handle is _handle_nothing and "handle" not in values
    least = values.get("level")
    if type(least) is not int or level >= least:
        return False
    # Nor may the level be worked out by code of its own.
    return getattr(kind, "__getattribute__", None) is object.__getattribute__ and not hasattr(kind, "level")


def is_brought(handler: LoggingHandler) -> bool:
    """Returns whether another library makes a call that it may bring itself; the handler knows then what to do."""
    once = handler.pipeline.once
    # A frame is asked for only then: an audit hook sees it.
    if not once.others or not once.is_brought(_getframe(3)):
        return False
    once.watch(others=True)
    return True


def find_source(name: Any, level: int, level_name: Any) -> Source | None:
    """Returns what all records of a logger and a level have in common, or None if those have no proper names."""
    if type(name) is not str or type(level_name) is not str:
        return None
    by_name = _sources.setdefault(level, {})
    source = by_name.get(name)
    if source is not None and source.severity_text == level_name:
        return source
    if len(by_name) >= MOST_SITES:
        by_name.clear()
    source = by_name[name] = Source(name, severity_number(level), level_name, short_names=True)
    return source


def find_caller(frame: Any) -> Any:
    """Returns the first frame from here that the standard library takes for the caller's, or None."""
    while frame is not None:
        filename = frame.f_code.co_filename
        name = _normcase(filename)
        if len(_internal_files) >= MOST_SITES:
            _internal_files.clear()
        _internal_files[filename] = name == SOURCE_FILE or (
            IS_INTERNAL_FRAME is not None and "importlib" in name and "_bootstrap" in name
        )
        if not _internal_files[filename]:
            break
        frame = frame.f_back
    return frame


def install() -> None:
    """Have every logger of the standard library try the short way first, unless another library has changed that."""
    function: Any = _Logger._log
    if type(function) is not FunctionType or not has_short_way() or not _ARE_STANDARD:
        return
    if any(constant is take for constant in function.__code__.co_consts):
        return
    standard = _find_standard(function.__code__)
    try:
        code = compile_with_question(standard, _CONDITION, {**_PINS, "TAKE": take})
    except (MemoryError, SystemError):
        # CPython raises the latter, too, when memory is short while it compiles. The calls go the long way.
        return
    if code is not None:
        mark(take, standard)
        function.__code__ = code
        _functions.append(function)


def uninstall() -> None:
    """Take it back, also where another library has put something on top."""
    while _functions:
        function = _functions.pop()
        function.__code__ = _find_standard(function.__code__)


_clock_name = "time" if sys.version_info < (3, 13) else "time_ns"

# What is named in capitals stands in the code itself; the rest is looked up where the standard way would.
_CONDITION = """
    exc_info is None and stack_info is False and stacklevel == 1
    and _logRecordFactory is RECORD and LogRecord is RECORD
    and METHODS["handle"] is HANDLE and METHODS["makeRecord"] is MAKE and METHODS["findCaller"] is FIND
    and METHODS["callHandlers"] is CALL and FILTERS["filter"] is FILTER
    and RECORDS["__init__"] is INIT and RECORDS["getMessage"] is GET_MESSAGE
    and getLevelName is GET_LEVEL_NAME and _srcfile is SRCFILE and currentframe is CURRENTFRAME
    and OURS["handle"] is TAKE_RECORD and time.time is CLOCK and threading.get_ident is GET_IDENT
    and TAKE(self, level, msg, args, extra)
"""
_PINS: dict[str, Any] = {
    "RECORD": _LogRecord,
    "METHODS": _methods,
    "HANDLE": _Logger.handle,
    "MAKE": _Logger.makeRecord,
    "FIND": _Logger.findCaller,
    "CALL": _Logger.callHandlers,
    "FILTERS": _dict_of(logging.Filterer),
    "FILTER": logging.Filterer.filter,
    "RECORDS": _dict_of(_LogRecord),
    "INIT": _LogRecord.__init__,
    "GET_MESSAGE": _LogRecord.getMessage,
    "GET_LEVEL_NAME": logging.getLevelName,
    "SRCFILE": SOURCE_FILE,
    "CURRENTFRAME": logging.currentframe,
    "OURS": _dict_of(LoggingHandler),
    "TAKE_RECORD": LoggingHandler.handle,
    "CLOCK": getattr(time, _clock_name),
    "GET_IDENT": get_ident,
}
_CONDITION = _CONDITION.replace("time.time ", f"time.{_clock_name} ")
if IS_INTERNAL_FRAME is not None:
    _CONDITION = _CONDITION.replace("and currentframe", "and _is_internal_frame is IS_INTERNAL and currentframe")
    _PINS["IS_INTERNAL"] = IS_INTERNAL_FRAME


def _is_standard(name: str, found: Any) -> bool:
    """Returns whether what a name means here is the standard library's own."""
    if name == "RECORD":
        return isinstance(found, type) and found.__module__ == "logging"
    if name == "CLOCK":
        return type(found) is BuiltinFunctionType
    return type(found) is FunctionType and _normcase(found.__code__.co_filename) == SOURCE_FILE


_OF_LOGGING = (
    "RECORD",
    "HANDLE",
    "MAKE",
    "FIND",
    "CALL",
    "FILTER",
    "INIT",
    "GET_MESSAGE",
    "GET_LEVEL_NAME",
    "CURRENTFRAME",
)
# A library that was there before otelog, such as Sentry's, may have put its own in these places: it sees every record.
_ARE_STANDARD = all(_is_standard(name, _PINS[name]) for name in (*_OF_LOGGING, "CLOCK"))

# It outlives a reload of this module.
_functions: list[Any] = globals().get("_functions", [])


def _find_standard(code: CodeType) -> CodeType:
    """Returns a method's own code, without the question of any copy of this module."""
    for constant in code.co_consts:
        standard = find_original(constant)
        if standard is not constant:
            return standard  # type: ignore[no-any-return]
    return code
