"""The handler for code that logs through the standard library."""

from __future__ import annotations

import copy
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from operator import itemgetter
from threading import get_ident
from types import FrameType
from typing import TYPE_CHECKING, Any

from otelog._capture.active_pipeline import ACTIVE_PIPELINE, LeadsToPipeline
from otelog._capture.django_fields import tidy
from otelog._capture.once import find_handled, is_being_handled_elsewhere, is_handed_on, may_hand_on
from otelog._capture.port import (
    BOUND_KEY,
    EVENT_NAME_KEY,
    ODD,
    SMALL_BYTES,
    SPAN_KEY,
    ActivePipeline,
    current_context,
    current_span_context,
    measure,
)
from otelog._capture.structlog_fields import is_wrapped_event, read_wrapped_event
from otelog._record.row import CodeSite, Source, SpanIds
from otelog._record.severity import severity_number
from otelog._record.stacktrace import find_exception
from otelog._record.values import safe_str
from otelog._runtime.diagnostics import warn
from otelog._runtime.interruption import is_foreign, is_interruption
from otelog._runtime.own_threads import caused_by_ourselves, own_threads

if TYPE_CHECKING:
    from typing_extensions import Self

MOST_SITES = 10_000
"""Bound of the cache of call sites; beyond it the cache begins anew."""

# The fields that LogRecord sets itself come first in its __dict__; what `extra` and filters add comes after them. Which
# they are differs between Python versions, and a record factory may differ again: so the last one's place is checked
# each time.
_STANDARD = tuple(logging.LogRecord("", 0, "", 0, "", (), None).__dict__)
_LAST, _COUNT = _STANDARD[-1], len(_STANDARD)
_site_of = itemgetter("name", "levelno", "levelname", "pathname", "lineno", "funcName")
_rest_of = itemgetter("msg", "args", "exc_info", "exc_text", "stack_info", "created", "thread", "process")
_NOT_FIELDS = frozenset({*_STANDARD, "message", "asctime", "taskName"})

TRACE_ID_KEY = "otelTraceID"
_SPAN_ID_KEY = "otelSpanID"
_SERVICE_KEY = "otelServiceName"
_SAMPLED_KEY = "otelTraceSampled"
_STOCK_FIELDS = 3
"""How many fields opentelemetry-instrumentation-logging adds at least: older versions do not tell what is sampled."""

NEVER_FIELDS = _NOT_FIELDS | {TRACE_ID_KEY}
"""Names that are no fields of their own: `extra` may not have them, or they mean something."""


class _Here:
    """This process's id, which would cost a system call for each record."""

    pid = os.getpid()


_here = _Here()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: setattr(_here, "pid", os.getpid()))


_UNKNOWN = Source("", 0, "")

_attributes_of: Callable[[logging.Handler], dict[str, Any]] = logging.Filterer.__dict__["__dict__"].__get__
_CALL_HANDLERS = logging.Logger.callHandlers.__code__
_OWN_STATE = frozenset({"lock", "pipeline", "since", "watches", "_processor", "_sites", "_closed"})


class ShownRecord(logging.LogRecord):
    """What `logging` makes of something that has a record of otelog's already: it is for all other handlers."""

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy, in this process or another, is a record as any other.
        return logging.makeLogRecord, (self.__dict__,)


class LoggingHandler(logging.Handler):
    """Puts the standard library's log records into otelog's queue.

    `otelog.configure` installs one on the root logger. It takes no lock, and `flush` and `close` wait for nothing: the
    standard library calls them while it holds locks that an export could need. To wait, use `otelog.flush`.

    Where several lead to one queue, or another handler hands on to it, a call is taken once, by the first that it comes
    to. A copy leads where the handler does; one that is pickled, to the pipeline of the process that it comes to.

    Args:
        level: The least level it takes.
        processor: Whose queue; by default that of `otelog.configure`, also if that is called later.

    Thread safety: all methods; `handle` also from a signal handler or ``__del__``.
    """

    is_otelogs = True
    """Says whose it is also where the module was loaded twice, and there are two such classes."""

    def __init__(self, level: int | str = logging.NOTSET, *, processor: LeadsToPipeline | None = None) -> None:
        self.looked_into = False
        super().__init__(level)
        self.pipeline: ActivePipeline = ACTIVE_PIPELINE if processor is None else processor.pipeline
        # Also kept alive by this: a processor whose users have all let go of it ends.
        self._processor = processor
        self.since = time.time()
        """When it was made, seconds since 1970."""
        self.watches = False
        """Whether records are looked up that may have come before; set by `Once`."""
        self._sites: dict[tuple[Any, ...], Source] = {}
        self.pipeline.once.join(self)

    def __copy__(self) -> Self:
        return self.__deepcopy__(None)

    def __deepcopy__(self, memo: object) -> Self:
        made = type(self).__new__(type(self))
        made._open(self.__getstate__(), self._processor)
        return made

    def __getstate__(self) -> dict[str, Any]:
        # Not what is this process's own: the lock, the pipeline, and what was made once for all records of a place.
        state = {key: value for key, value in self.__dict__.items() if key not in _OWN_STATE}
        return {**state, "filters": list(self.filters)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._open(state, None)

    def _open(self, state: dict[str, Any], processor: LeadsToPipeline | None) -> None:
        LoggingHandler.__init__(self, state["level"], processor=processor)
        self.__dict__.update(state)

    # One function: each further call would cost the caller about 35 ns.
    def handle(self, record: logging.LogRecord) -> bool:  # noqa: C901
        """Take a record, unless a filter turns it away. Never raises, takes no lock; what cannot be kept is counted."""
        try:
            if self.filters:
                kept: Any = self.filter(record)
                if not kept:
                    return False
                if isinstance(kept, logging.LogRecord):
                    record = kept
            me = get_ident()
            if me in own_threads and caused_by_ourselves():
                return True
            values = record.__dict__
            message, arguments, exc_info, exc_text, stack, created, thread, process = _rest_of(values)
            if (thread != me or self.watches) and self._had_already(record):
                return True
            key = _site_of(values)
            try:
                source = self._sites[key]
            except KeyError:
                source = self._make_source(key)
                if self._look_around(record):
                    return True
            fields: dict[str, Any] | None = None
            ids = None
            extra = len(values) - _COUNT
            if extra:
                fields = {}
                for name in reversed(values):
                    if name == _LAST:
                        break
                    fields[name] = values[name]
                if len(fields) != extra or "message" in values:
                    fields = find_fields(values)
                if extra >= _STOCK_FIELDS and fields and TRACE_ID_KEY in fields:
                    ids = take_ids(fields)
            elif next(reversed(values)) != _LAST:
                fields = find_fields(values)
            size = measure(message, arguments, fields) if type(message) is str else ODD
            if (
                size >= ODD
                or exc_info
                or exc_text
                or stack
                or process != _here.pid
                or type(record) is not logging.LogRecord
                or self.formatter is not None
            ):
                if type(record) is not logging.LogRecord:
                    if type(record) is ShownRecord:
                        return True
                    # A class of the application's may have as many attributes as a standard record, but not the same.
                    fields = find_fields(values)
                self._take_slowly(record, source, fields, ids)
                return True
            if fields is not None and EVENT_NAME_KEY in fields:
                self._take_slowly(record, source, fields, ids)
                return True
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
            if ids is not None and not _are_of(span_context, ids):
                span_context = ids
            try:
                time_ns = int(created * 1e9) or time.time_ns()
            except (TypeError, ValueError, OverflowError):
                time_ns = time.time_ns()
        except BaseException as error:
            if is_interruption(error, in_own_code=True):
                raise
            self._take_broken(record, error)
            return True
        port = self.pipeline.port
        try:
            thread = thread or me
            if size >= SMALL_BYTES:
                port.put_sized((time_ns, source, span_context, message, arguments, fields, None, 0, thread), size)
                return True
            slots = port.slots
            if not slots:
                # Asked first: where a Collector is away this is every call, and an exception would cost as much.
                port.put_when_full((time_ns, source, span_context, message, arguments, fields, None, 0, thread))
                return True
            try:
                # The slot is popped last, and lost by nobody: see otelog._capture.queue.
                port.push((time_ns, source, span_context, message, arguments, fields, None, 0, thread, slots.pop()))
            except IndexError:
                if is_foreign():
                    raise
                # Another thread was quicker.
                port.put_when_full((time_ns, source, span_context, message, arguments, fields, None, 0, thread))
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

    def _had_already(self, record: logging.LogRecord) -> bool:
        """Returns whether the record has come by another way, or is about to; if not, it counts as come."""
        once = self.pipeline.once
        frame = sys._getframe(2)
        if once.watches_others and once.came_otherwise(frame, record):
            return True
        if frame.f_code is _CALL_HANDLERS:
            return once.is_watching and once.comes_again(record)
        return comes_otherwise(self.pipeline, record, frame, self)

    def _look_around(self, record: logging.LogRecord) -> bool:
        # Once for each place that logs: does anything on the way of its records hand them on? Returns whether another
        # library has brought this one before.
        once = self.pipeline.once
        if once.others and not once.watches_others and once.is_brought(sys._getframe(2)):
            once.watch(others=True)
            return once.came_otherwise(sys._getframe(2), record)
        logger = find_logger(record.name)
        if logger is not None and not self.watches and may_come_twice(logger, self.pipeline):
            once.watch()
            once.remember(record)
        return False

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; see `handle`."""
        self.handle(record)

    # Whoever puts a `handle` on this very object sees every record: `_direct` must know of it, and looks at one mark.

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "handle":
            self.looked_into = True

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        """The attributes of this very object."""
        self.looked_into = True
        return _attributes_of(self)

    def has_own_handle(self) -> bool:
        """Returns whether somebody has put another `handle` on this very object."""
        return self.looked_into and "handle" in _attributes_of(self)

    def flush(self) -> None:
        """Have the worker export what is there; wait for nothing."""
        self.pipeline.port.nudge()

    def _make_source(self, key: tuple[Any, ...]) -> Source:
        name, levelno, levelname, pathname, lineno, function = key
        site = CodeSite(str(pathname), str(function or ""), lineno if type(lineno) is int else 0)
        source = Source(str(name), severity_number(levelno), str(levelname), site)
        if len(self._sites) >= MOST_SITES:
            self._sites.clear()
        self._sites[key] = source
        return source

    def _take_slowly(
        self, record: logging.LogRecord, source: Source, fields: dict[str, Any] | None, ids: SpanIds | None
    ) -> None:
        if fields:
            fields = dict(fields)
            for name in _find_methods(record, fields):
                del fields[name]
            if TRACE_ID_KEY in fields:
                ids = take_ids(fields)
            if "request" in fields:
                tidy(source.scope_name, fields)
        error, event_name = find_exception(record.exc_info), None
        stack: Any = record.stack_info
        time_ns, is_given = _find_time(record.created), False
        message: Any
        if fields and is_wrapped_event(record.msg, fields):
            event = read_wrapped_event(record.msg, fields, source.scope_name, time_ns)
            message, arguments, fields = event.message, event.odd.arguments, event.fields
            time_ns, is_given = event.time_ns, event.is_given
            error, stack, event_name = event.odd.error or error, event.odd.stack or stack, event.odd.event_name
            if self.formatter is not None:
                message, arguments = self._find_message(record)
        else:
            message, arguments = self._find_message(record)
        if fields and EVENT_NAME_KEY in fields:
            event_name = safe_str(fields.pop(EVENT_NAME_KEY))
        if not record.exc_info and record.exc_text and (not fields or "exception.stacktrace" not in fields):
            # A record that came from another process has lost its exception, but not the text of it.
            fields = {"exception.stacktrace": record.exc_text, **(fields or {})}
        if ids is not None and _are_of(current_span_context(None)[0], ids):
            ids = None
        self.pipeline.port.capture(
            time_ns,
            source,
            message,
            arguments,
            fields,
            thread=record.thread or get_ident(),
            error=error,
            stack=stack,
            event_name=event_name,
            given_time=is_given or (record.process is not None and record.process != _here.pid),
            ids=ids,
        )

    def _find_message(self, record: logging.LogRecord) -> tuple[object, Any]:
        if self.formatter is not None:
            try:
                return self.format(_copy_without_exception(record)), None
            except Exception as error:
                warn(
                    "format",
                    f"a formatter raised {name_of(error)}: {safe_str(error)}; its records are kept unformatted",
                )
        if type(record).getMessage is not logging.LogRecord.getMessage or callable(record.__dict__.get("getMessage")):
            # A record factory of the application's, with a template language of its own.
            try:
                return safe_str(record.getMessage()), None
            except Exception as error:
                warn("message", f"a record's getMessage raised {name_of(error)}; its template is kept as it is")
                return safe_str(record.msg), None
        return record.msg, record.args

    def _take_broken(self, record: logging.LogRecord, error: BaseException) -> None:
        # A record without the standard fields, or with values of other types in them.
        port = self.pipeline.port
        try:
            try:
                values = dict(record.__dict__)
            except Exception:
                values = {"msg": f"a log record could not be read: {name_of(error)}"}
            source = Source(safe_str(values.get("name", "")), severity_number(values.get("levelno", 0)), "")
            port.capture(
                time.time_ns(),
                source,
                values.get("msg", repr(error)),
                values.get("args"),
                None,
                thread=get_ident(),
            )
        except MemoryError as shortage:
            port.refuse_for_memory(_UNKNOWN, shortage)


def _find_time(created: Any) -> int:
    """Returns the time that a record says, in nanoseconds since 1970, or the present one where it says none."""
    try:
        return int(created * 1e9) or time.time_ns()
    except (TypeError, ValueError, OverflowError):
        return time.time_ns()


def comes_otherwise(
    pipeline: ActivePipeline, record: logging.LogRecord, frame: FrameType | None, handler: LoggingHandler | None = None
) -> bool:
    """Returns whether a record that its logger does not bring directly has come, or is about to.

    If not, it counts as come.

    Args:
        pipeline: Where it has come to.
        record: The record, which may be a copy of what has come.
        frame: Whoever brings it.
        handler: The handler that it is brought to, if that is ours.
    """
    once = pipeline.once
    if once.knows(record):
        return True
    handled = find_handled(frame, record)
    is_own = _is_of_this_process(record)
    # If not on top of its own call, then later or in another thread.
    if handled is None and is_own is not False and is_taken_on_its_way(pipeline, record, handler):
        if record.thread != get_ident() and is_being_handled_elsewhere(record):
            # The call itself is coming, with its trace.
            return True
        if is_own and record.created < once.complete_since and is_handed_on(frame):
            # It may be forgotten, or be older than our memory.
            return True
    once.watch()
    # Its own call may still bring the record itself, of which this is a copy.
    once.remember(record if handled is None else handled)
    return False


def is_taken_on_its_way(
    pipeline: ActivePipeline, record: logging.LogRecord, itself: LoggingHandler | None = None
) -> bool:
    """Returns whether a handler that leads to this pipeline, and takes the record, is where its logger brings it.

    What another handler's filters say is not known; `itself` has asked its own.
    """
    logger = find_logger(record.name)
    return logger is not None and any(
        isinstance(handler, LoggingHandler)
        and handler.pipeline is pipeline
        and record.levelno >= handler.level
        and record.created >= handler.since
        and (handler is itself or not handler.filters)
        for one in way_of(logger)
        for handler in one.handlers
    )


def may_come_twice(logger: logging.Logger, pipeline: ActivePipeline) -> bool:
    """Returns whether there is more than one way from this logger to the pipeline, or may be."""
    handlers = [handler for one in way_of(logger) for handler in one.handlers]
    return any(map(may_hand_on, handlers)) or sum(leads_to(handler, pipeline) for handler in handlers) > 1


def leads_to(handler: logging.Handler, pipeline: ActivePipeline) -> bool:
    """Returns whether this is a handler of ours, to this pipeline."""
    return is_otelogs(handler) and getattr(handler, "pipeline", None) is pipeline


def is_here(process: Any) -> bool:
    """Returns whether a process's id is this one's."""
    return bool(process == _here.pid)


def _is_of_this_process(record: logging.LogRecord) -> bool | None:
    """Returns whether a record was made in this process; None where it does not say."""
    if record.process is not None:
        return record.process == _here.pid
    name = getattr(record, "processName", None)
    if name is None:
        return None
    module = sys.modules.get("multiprocessing")
    return bool(name == ("MainProcess" if module is None else module.current_process().name))


def name_of(error: BaseException) -> str:
    """Returns the name of an exception's class."""
    return type(error).__name__


def _find_methods(record: logging.LogRecord, fields: dict[str, Any]) -> list[str]:
    """Returns which of these are no fields, but methods of the record that were set on this very object."""
    kind = type(record)
    return [
        name
        for name, value in fields.items()
        if callable(value) and type(name) is str and not name.startswith("__") and callable(getattr(kind, name, None))
    ]


def _copy_without_exception(record: logging.LogRecord) -> logging.LogRecord:
    """Returns a copy for a formatter: of the record's own class, with all that it has.

    The exception becomes attributes: in the body it would stand twice. The record itself, which other handlers see, is
    left as it is.
    """
    try:
        plain = copy.copy(record)
        if plain is record:
            raise TypeError("it gives itself for a copy")
    except Exception:
        # Its class wants to be copied in another way, or not at all.
        plain = object.__new__(type(record))
        plain.__dict__.update(record.__dict__)
        for kind in type(record).__mro__:
            slots = kind.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__dict__", "__weakref__") and hasattr(record, name):
                    setattr(plain, name, getattr(record, name))
    plain.exc_info = plain.exc_text = plain.stack_info = None
    return plain


def take_ids(fields: dict[str, Any]) -> SpanIds | None:
    """Take out of the fields what opentelemetry-instrumentation-logging has put there: the record's own ids.

    Returns:
        The ids, or None where the record was made outside any span. What does not look like that library's stays.
    """
    trace, span = fields.get(TRACE_ID_KEY), fields.get(_SPAN_ID_KEY)
    if type(trace) is not str or type(span) is not str or _SERVICE_KEY not in fields:
        return None
    ids = None
    if trace != "0" or span != "0":
        if len(trace) != 32 or len(span) != 16 or not trace.isalnum() or not span.isalnum():
            return None
        try:
            ids = SpanIds(int(trace, 16), int(span, 16), int(fields.get(_SAMPLED_KEY) is True))
        except ValueError:
            return None
    del fields[TRACE_ID_KEY], fields[_SPAN_ID_KEY], fields[_SERVICE_KEY]
    fields.pop(_SAMPLED_KEY, None)
    return ids if ids is not None and ids.trace_id else None


def _are_of(span_context: Any, ids: SpanIds) -> bool:
    """Returns whether a span context, which says more, has these ids."""
    return span_context is not None and span_context.span_id == ids.span_id and span_context.trace_id == ids.trace_id


def find_fields(values: dict[str, Any]) -> dict[str, Any] | None:
    """Returns what a log record's ``__dict__`` has beside the standard library's own fields, or None.

    What a formatter leaves there (``message``, ``asctime``) is not the user's.
    """
    return {key: value for key, value in values.items() if key not in _NOT_FIELDS} or None


def find_logger(name: str) -> logging.Logger | None:
    """Returns the logger of this name if there is one, without making it, and without a lock."""
    found = logging.root if name == "root" else logging.Logger.manager.loggerDict.get(name)
    return found if isinstance(found, logging.Logger) else None


def way_of(logger: logging.Logger) -> Iterator[logging.Logger]:
    """The logger, and those above it that its records come to."""
    here: logging.Logger | None = logger
    while here is not None:
        yield here
        here = here.parent if here.propagate else None


def has_handler(logger: logging.Logger, pipeline: ActivePipeline) -> bool:
    """Returns whether a handler that leads to this pipeline is on this very logger."""
    return any(leads_to(handler, pipeline) for handler in logger.handlers)


def is_otelogs(handler: logging.Handler) -> bool:
    """Returns whether a handler's class is otelog's, also if it is of a module that was loaded again since."""
    return getattr(type(handler), "is_otelogs", False) is True
