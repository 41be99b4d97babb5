"""The handler for code that logs through the standard library."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from operator import itemgetter
from threading import get_ident
from typing import Any

from otelog._capture import (
    BOUND_KEY,
    ODD,
    SMALL_BYTES,
    SPAN_KEY,
    Gate,
    caused_by_ourselves,
    current_context,
    measure,
    own_threads,
)
from otelog._diagnostics import warn
from otelog._record import CodeSite, Source
from otelog._severity import severity_number
from otelog._state import GATE
from otelog._values import STOPPING, safe_str
from otelog.logger import find_exception
from otelog.processor import BatchLogRecordProcessor

MOST_SITES = 10_000
"""Bound of the cache of call sites; beyond it the cache begins anew."""

EVENT_NAME_KEY = "otel.event.name"
"""A field of this name becomes the record's event name."""

# The fields that LogRecord sets itself come first in its __dict__; what `extra` and filters add comes after them. Which
# they are differs between Python versions, and a record factory may differ again: so the last one's place is checked
# each time.
_STANDARD = tuple(logging.LogRecord("", 0, "", 0, "", (), None).__dict__)
_LAST, _COUNT = _STANDARD[-1], len(_STANDARD)
_site_of = itemgetter("name", "levelno", "levelname", "pathname", "lineno", "funcName")
_rest_of = itemgetter("msg", "args", "exc_info", "exc_text", "stack_info", "created", "thread", "process")
NEVER_FIELDS = frozenset({*_STANDARD, "message", "asctime", "taskName"})
"""What a record's ``__dict__`` holds beside the user's fields; `extra` may not have these names."""


class _Here:
    """This process's id, which would cost a system call for each record."""

    pid = os.getpid()


_here = _Here()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: setattr(_here, "pid", os.getpid()))


_attributes_of: Callable[[logging.Handler], dict[str, Any]] = logging.Filterer.__dict__["__dict__"].__get__
_CALL_HANDLERS = logging.Logger.callHandlers.__code__


class LoggingHandler(logging.Handler):
    """Puts the standard library's log records into otelog's queue.

    `otelog.configure` installs one on the root logger. It takes no lock, and `flush` and `close` wait for nothing: the
    standard library calls them while it holds locks that an export could need. To wait, use `otelog.flush`.

    Args:
        level: The least level it takes.
        processor: Whose queue; by default that of `otelog.configure`, also if that is called later.

    Thread safety: all methods; `handle` also from a signal handler or ``__del__``.
    """

    is_otelogs = True
    """Says whose it is also where the module was loaded twice, and there are two such classes."""

    def __init__(self, level: int | str = logging.NOTSET, *, processor: BatchLogRecordProcessor | None = None) -> None:
        self.looked_into = False
        super().__init__(level)
        self.gate: Gate = GATE if processor is None else processor.gate
        self._processor = processor
        self._since = time.time()
        self._sites: dict[tuple[Any, ...], Source] = {}

    def handle(self, record: logging.LogRecord) -> bool:
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
            if thread != me and self._had_already(record):
                return True
            key = _site_of(values)
            try:
                source = self._sites[key]
            except KeyError:
                source = self._make_source(key)
            fields: dict[str, Any] | None = None
            extra = len(values) - _COUNT
            if extra:
                fields = {}
                for name in reversed(values):
                    if name == _LAST:
                        break
                    fields[name] = values[name]
                if len(fields) != extra or "message" in values:
                    fields = find_fields(values)
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
                    # A class of the application's may have as many attributes as a standard record, but not the same.
                    fields = find_fields(values)
                self._take_slowly(record, source, fields)
                return True
            if fields is not None and EVENT_NAME_KEY in fields:
                self._take_slowly(record, source, fields)
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
            row = (int(created * 1e9), source, span_context, message, arguments, fields, None, 0, thread or me)
            port = self.gate.port
            if size >= SMALL_BYTES:
                port.put_sized(row, size)
                return True
            try:
                port.pop()
            except IndexError:
                port.put_when_full(row)
                return True
            port.push(row)
            if len(port.incoming) >= port.wake_at:
                port.wake()
        except STOPPING:
            raise
        except BaseException as error:
            self._take_broken(record, error)
        return True

    def _had_already(self, record: logging.LogRecord) -> bool:
        """Returns whether a queue's listener brings, in its own thread, what has come in the caller's.

        There it had the caller's trace. What comes through its logger, or was made in another process or before this
        handler was, is new.
        """
        if sys._getframe(2).f_code is _CALL_HANDLERS or record.process != _here.pid or record.created < self._since:
            return False
        logger = find_logger(record.name)
        return logger is not None and any(has_handler(one, self.gate) for one in way_of(logger))

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
        self.gate.port.nudge()

    def _make_source(self, key: tuple[Any, ...]) -> Source:
        name, levelno, levelname, pathname, lineno, function = key
        site = CodeSite(str(pathname), str(function or ""), lineno if type(lineno) is int else 0)
        source = Source(str(name), severity_number(levelno), str(levelname), site)
        if len(self._sites) >= MOST_SITES:
            self._sites.clear()
        self._sites[key] = source
        return source

    def _take_slowly(self, record: logging.LogRecord, source: Source, fields: dict[str, Any] | None) -> None:
        message: object = record.msg
        arguments: Any = record.args
        if self.formatter is not None:
            message, arguments = self._format(record), None
        elif type(record).getMessage is not logging.LogRecord.getMessage:
            # A record factory of the application's, with a template language of its own.
            message, arguments = _ask_for_message(record), None
        event_name = None
        if fields and EVENT_NAME_KEY in fields:
            fields = dict(fields)
            event_name = safe_str(fields.pop(EVENT_NAME_KEY))
        error = find_exception(record.exc_info)
        if not record.exc_info and record.exc_text and (not fields or "exception.stacktrace" not in fields):
            # A record that came from another process has lost its exception, but not the text of it.
            fields = {"exception.stacktrace": record.exc_text, **(fields or {})}
        self.gate.port.capture(
            int(record.created * 1e9),
            source,
            message,
            arguments,
            fields,
            thread=record.thread or get_ident(),
            error=error,
            stack=record.stack_info,
            event_name=event_name,
            given_time=record.process is not None and record.process != _here.pid,
        )

    def _format(self, record: logging.LogRecord) -> str:
        # The exception becomes attributes: in the body it would stand twice.
        plain = logging.makeLogRecord({**record.__dict__, "exc_info": None, "exc_text": None, "stack_info": None})
        try:
            return self.format(plain)
        except Exception as error:
            warn("format", f"a formatter raised {type(error).__name__}: {error}; its records are kept unformatted")
            return record.getMessage()

    def _take_broken(self, record: logging.LogRecord, error: BaseException) -> None:
        # A record without the standard fields, or with values of other types in them.
        source = Source(str(getattr(record, "name", "")), severity_number(getattr(record, "levelno", 0)), "")
        self.gate.port.capture(
            time.time_ns(),
            source,
            getattr(record, "msg", repr(error)),
            getattr(record, "args", None),
            None,
            thread=get_ident(),
        )


def _ask_for_message(record: logging.LogRecord) -> str:
    try:
        return safe_str(record.getMessage())
    except Exception as error:
        warn("message", f"a record's getMessage raised {type(error).__name__}; its template is kept as it is")
        return safe_str(record.msg)


def find_fields(values: dict[str, Any]) -> dict[str, Any] | None:
    """Returns what a log record's ``__dict__`` has beside the standard library's own fields, or None.

    What a formatter leaves there (``message``, ``asctime``) is not the user's.
    """
    return {key: value for key, value in values.items() if key not in NEVER_FIELDS} or None


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


def has_handler(logger: logging.Logger, gate: Gate) -> bool:
    """Returns whether a handler that leads to this gate is on this very logger."""
    return any(is_otelogs(handler) and getattr(handler, "gate", None) is gate for handler in logger.handlers)


def is_otelogs(handler: logging.Handler) -> bool:
    """Returns whether a handler's class is otelog's, also if it is of a module that was loaded again since."""
    return getattr(type(handler), "is_otelogs", False) is True
