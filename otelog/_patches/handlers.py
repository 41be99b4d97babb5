"""Keeps otelog's handler where the application's records pass, whatever the application does to `logging`.

A logger's records pass, at the latest, at the end of its way: the root logger, or the first logger on the way up that
does not propagate. There the handler is: on the root always, elsewhere if anything on the way has a handler of its own,
so that somebody wants to see those records. One on a way is enough; a second one would double every record.

Applications take handlers off, replace whole lists of them, and copy one logger's to another; servers stop propagation
when the handlers are there already. All of that goes through four places of `logging`, which are watched while the
handler is installed: `Logger.addHandler`, `Logger.removeHandler`, the setting of a logger's attributes, and
`basicConfig`, which does nothing at all where the root logger has a handler, and so must not see this one.

Source: logging, "Logger.propagate", "basicConfig", "Configuration dictionary schema".
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry._logs import get_logger_provider

from otelog._capture.active_pipeline import ACTIVE_PIPELINE, TAKEN_BY
from otelog._capture.handler import (
    LoggingHandler,
    comes_otherwise,
    has_handler,
    is_otelogs,
    is_taken_on_its_way,
    may_come_twice,
    way_of,
)
from otelog._capture.once import find_handled
from otelog._patches import access_lines, aiohttp_spans, asgi_lines, asgi_spans, django_requests, werkzeug_lines
from otelog._patches import last_resort as last_resort_module
from otelog._private.standard import logging_lock
from otelog._runtime.diagnostics import warn
from otelog._runtime.replacing import find_original, is_ours, keep, mark

if TYPE_CHECKING:
    _Handlers = list[logging.Handler]
else:
    _Handlers = list

# Where OpenTelemetry's own handlers are.
_FOREIGN_MODULES = ("opentelemetry.instrumentation.logging.handler", "opentelemetry.sdk._logs._internal")

# Their own loggers: what goes wrong on a record's way would come back to it.
_NEVER = ("opentelemetry", "otelog")

_standard_add: Any = find_original(logging.Logger.addHandler)
_standard_remove: Any = find_original(logging.Logger.removeHandler)
_standard_set: Any = find_original(logging.Logger.__setattr__)
_standard_basic_config: Any = find_original(logging.basicConfig)

# logging.config itself is left alone: its import would cost every application some milliseconds.
_config_file = logging.addLevelName.__code__.co_filename.replace("__init__.py", "config.py")


class Processor(Protocol):
    """As much of otelog's processor as is needed here."""

    passes_over: bool
    """Whether another copy of otelog, imported since, has the records of the process's LoggerProvider."""


class Attachment:
    """Where one handler is, from `install` to `uninstall`; there is one at a time.

    Args:
        handler: otelog's own.
        find_processor: Returns, for a LoggerProvider, the processor of otelog's that its records reach, or None.
        non_propagating: Whether loggers that do not propagate are looked after, too.
        last_resort: Whether the warnings of an application without any handler stay on its console.

    Thread safety: all methods; no lock is held but `logging`'s own, and that by one step at a time.
    """

    def __init__(
        self,
        handler: LoggingHandler,
        find_processor: Callable[[Any], Processor | None],
        *,
        non_propagating: bool,
        last_resort: bool,
    ) -> None:
        self._handler = handler
        self._find_processor = find_processor
        self.non_propagating = non_propagating
        self._last_resort = last_resort_module.LastResort() if last_resort else None
        self._passing: list[tuple[type[Any], Any, Any]] = []
        self._shielded: set[str] = set()

    def install(self) -> None:
        """Put the handler where it belongs, and watch that it stays there."""
        _end_other_copy()
        _here.attachment = self
        self._pass_over(False)
        _watch()
        self.check()

    @property
    def is_installed(self) -> bool:
        """Whether it is what watches in this process."""
        return _here.attachment is self

    def hand_over(self) -> None:
        """Leave all records to another copy of otelog, which was imported meanwhile and is being configured."""
        self.uninstall()
        self._pass_over(True)

    def _pass_over(self, passes_over: bool) -> None:
        processor = self._find_processor(get_logger_provider())
        if processor is not None:
            processor.passes_over = passes_over

    def uninstall(self) -> None:
        """Take everything back. Idempotent."""
        if _here.attachment is self:
            _here.attachment = None
            _unwatch()
        for logger in _list_loggers():
            self.leave(logger)
        for kind, emit, ours in self._passing:
            # What another library has put on top stays, and ours passes everything on.
            if kind.emit is ours:
                kind.emit = emit
        self._passing.clear()
        last_resort_module.restore()
        access_lines.uninstall()
        django_requests.uninstall()
        asgi_lines.uninstall()
        aiohttp_spans.uninstall()
        asgi_spans.uninstall()
        werkzeug_lines.uninstall()

    def check(self) -> None:
        """Look at every logger: who empties a list of handlers in place is not seen. Idempotent."""
        for logger in _list_loggers():
            self.tend(logger)
        _look_after_libraries()

    def shield(self) -> None:
        """Have no configuration disable the loggers that there are now, as existing before it."""
        self._shielded.update(logger.name for logger in _list_loggers())

    def is_shielded(self, logger: logging.Logger) -> bool:
        """Returns whether this logger is there because otelog, and not the application, has loaded its library."""
        return logger.name in self._shielded

    def tend(self, logger: logging.Logger) -> None:
        """Put the handler at the end of this logger's way, if it is wanted there and missing."""
        for handler in logger.handlers:
            for one in (handler, *_behind(handler)):
                self._have_pass(one)
        if not ACTIVE_PIPELINE.once.is_watching and may_come_twice(logger, ACTIVE_PIPELINE):
            ACTIVE_PIPELINE.once.watch()
        way = list(way_of(logger))
        end = way[-1]
        if logger is not end and self.owns_one_of(logger.handlers):
            # A list that was copied from another logger, and may still be the same object.
            _standard_set(logger, "handlers", [one for one in logger.handlers if not self.owns(one)])
        if end is not logging.root and not self._wants(way):
            return
        if not has_ours(end):
            _add(end, self._handler)
        if self._last_resort is not None and end is logging.root and self._last_resort not in end.handlers:
            _add(end, self._last_resort)

    def leave(self, logger: logging.Logger) -> None:
        """Take off this logger what was put there."""
        for handler in [one for one in logger.handlers if self.owns(one)]:
            _standard_remove(logger, handler)

    def owns(self, handler: logging.Handler) -> bool:
        """Returns whether this handler is otelog's own, and not one of the same class that the application made."""
        return handler is self._handler or handler is self._last_resort

    def owns_one_of(self, handlers: list[logging.Handler]) -> bool:
        """Returns whether any of these is otelog's own."""
        return any(map(self.owns, handlers))

    def _wants(self, way: list[logging.Logger]) -> bool:
        if not self.non_propagating or way[-1].name.partition(".")[0] in _NEVER:
            return False
        return any(not _is_silent(handler) for logger in way for handler in logger.handlers)

    def _have_pass(self, handler: logging.Handler) -> None:
        """Have a foreign OpenTelemetry handler pass over the processor that has its records from ours already."""
        kind = _foreign_kind(handler)
        if kind is None:
            return
        self._have_kind_pass(kind)
        if self._find_processor(getattr(handler, "_logger_provider", None)) is not None:
            warn(
                "foreign-handler",
                f"a {type(handler).__module__}.{type(handler).__name__} leads to otelog, beside otelog's own handler: "
                "each record is taken once, but at the cost of both; take it off",
            )

    def _have_kind_pass(self, kind: type[Any]) -> None:
        # Of the class, since such a handler may be where nobody sees it: behind a queue's listener or a buffer.
        if any(kind is known for known, _, _ in self._passing):
            return
        emit = kind.emit
        find_processor = self._find_processor

        def pass_over(handler: Any, record: logging.LogRecord) -> None:
            processor = find_processor(getattr(handler, "_logger_provider", None))
            if processor is None or TAKEN_BY.get() is processor or not _comes_to_ours(record, sys._getframe(1)):
                emit(handler, record)
                return
            token = TAKEN_BY.set(processor)
            try:
                emit(handler, record)
            finally:
                TAKEN_BY.reset(token)

        self._passing.append((kind, emit, pass_over))
        kind.emit = pass_over


class _Here:
    """What is installed in this process."""

    attachment: Attachment | None = None


_here: _Here = keep(globals(), "_here", _Here)


def _end_other_copy() -> None:
    """Have another copy of this package, which a program that imports it anew still has, take no records any more."""
    found: Any = logging.Logger.addHandler
    here: Any = getattr(found, "__globals__", {}).get("_here") if is_ours(found) else None
    if here is not None and here is not _here and here.attachment is not None:
        here.attachment.hand_over()


def is_foreign(handler: logging.Handler) -> bool:
    """Returns whether this is a handler of OpenTelemetry's SDK or of its instrumentation."""
    return _foreign_kind(handler) is not None


def _foreign_kind(handler: logging.Handler) -> type[Any] | None:
    for kind in type(handler).__mro__:
        if kind.__name__ == "LoggingHandler" and kind.__module__.partition(".")[0] == "opentelemetry":
            return kind
    return None


def has_ours(logger: logging.Logger) -> bool:
    """Returns whether a handler that leads to the configured pipeline is on this very logger."""
    return has_handler(logger, ACTIVE_PIPELINE)


def _comes_to_ours(record: logging.LogRecord, frame: FrameType | None) -> bool:
    """Returns whether a record that is brought to a foreign handler comes to otelog's, before or after."""
    try:
        handled = find_handled(frame, record)
        if handled is None:
            return comes_otherwise(ACTIVE_PIPELINE, record, frame)
        if ACTIVE_PIPELINE.once.knows(handled) or is_taken_on_its_way(ACTIVE_PIPELINE, record):
            return True
        ACTIVE_PIPELINE.once.watch()
        ACTIVE_PIPELINE.once.remember(handled)
    except Exception as error:
        # A record with values of other types than the standard library's.
        warn("once", f"a record was not recognised: {type(error).__name__}; it may come twice")
    return False


def _behind(handler: logging.Handler) -> list[logging.Handler]:
    """Returns the handlers that a buffer, or a queue that `dictConfig` has made, hands its records on to."""
    try:
        queued = getattr(getattr(handler, "listener", None), "handlers", None)
        behind = [getattr(handler, "target", None), *(queued if isinstance(queued, (list, tuple)) else ())]
    except Exception:
        # Not the standard library's, and not as its are.
        return []
    return [one for one in behind if isinstance(one, logging.Handler)]


def _look_after_libraries() -> None:
    here = _here.attachment
    if here is not None:
        for name in _FOREIGN_MODULES:
            kind = getattr(sys.modules.get(name), "LoggingHandler", None)
            if isinstance(kind, type):
                here._have_kind_pass(kind)
    last_resort_module.spare()
    access_lines.install()
    django_requests.install()
    asgi_spans.install()
    asgi_lines.install()
    aiohttp_spans.install()
    werkzeug_lines.install()


def _add(logger: logging.Logger, handler: logging.Handler) -> None:
    # A list of its own: an application may have given the same one to another logger.
    with logging_lock():
        _standard_set(logger, "handlers", [*logger.handlers, handler])


def _is_silent(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.NullHandler) or is_otelogs(handler)


def _list_loggers() -> list[logging.Logger]:
    known = list(logging.Logger.manager.loggerDict.values())
    return [logging.root, *(logger for logger in known if isinstance(logger, logging.Logger))]


def _is_configuration(depth: int) -> bool:
    """Returns whether the caller of the caller, or who is above, is dictConfig or fileConfig."""
    return sys._getframe(depth + 1).f_code.co_filename == _config_file


# What stands in the four places.


def _add_handler(self: logging.Logger, hdlr: logging.Handler) -> None:
    here = _here.attachment
    if here is not None and here.owns(hdlr) and any(map(has_ours, way_of(self))):
        # Copied from another logger's: this one's records come to it already.
        return
    _standard_add(self, hdlr)
    if here is not None:
        here.tend(self)
        here.tend(logging.root)


def _remove_handler(self: logging.Logger, hdlr: logging.Handler) -> None:
    here = _here.attachment
    # Others may take off handlers until there is none left; they get it back with the next handler that they put on.
    by_configuration = _is_configuration(1)
    if here is not None and by_configuration and self is logging.root and here.owns(hdlr):
        return
    _standard_remove(self, hdlr)
    if here is not None and by_configuration:
        here.tend(self)


_TELLING = frozenset({"propagate", "handlers"})


def _set_attribute(self: logging.Logger, name: str, value: Any) -> None:
    here = _here.attachment
    if name == "disabled" and value and here is not None and here.is_shielded(self) and _is_configuration(1):
        return
    _standard_set(self, name, value)
    # A logger that is just being made has no list of handlers before it has everything else that is looked at here.
    if here is None or name not in _TELLING or not hasattr(self, "handlers"):
        return
    if name == "propagate":
        if self is not logging.root:
            here.leave(self)
        here.check()
    else:
        # The list of a new logger, too: a library that was loaded meanwhile is about to log for the first time.
        _look_after_libraries()
        werkzeug_lines.install(self)
        here.tend(self)
        here.tend(logging.root)


class _ListWithoutOurs(_Handlers):
    """A list of handlers in which otelog's are seen by those who go through it, but neither counted nor cut out."""

    def __len__(self) -> int:
        return sum(not _is_hidden(handler) for handler in self)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [handler for handler in self if not _is_hidden(handler)][place]
        return super().__getitem__(place)


def _is_hidden(handler: logging.Handler) -> bool:
    here = _here.attachment
    return here is not None and here.owns(handler)


def _basic_config(**kwargs: Any) -> None:
    root = logging.root
    if _here.attachment is None:
        _standard_basic_config(**kwargs)
        return
    with logging_lock():
        _standard_set(root, "handlers", _ListWithoutOurs(root.handlers))
        try:
            _standard_basic_config(**kwargs)
        finally:
            _standard_set(root, "handlers", [*iter(root.handlers)])


_basic_config.__doc__ = _standard_basic_config.__doc__

_PLACES: tuple[tuple[Any, str, Any, Any], ...] = (
    (logging.Logger, "addHandler", _standard_add, _add_handler),
    (logging.Logger, "removeHandler", _standard_remove, _remove_handler),
    (logging.Logger, "__setattr__", _standard_set, _set_attribute),
    (logging, "basicConfig", _standard_basic_config, _basic_config),
)


for _, _, _standard, _ours in _PLACES:
    mark(_ours, _standard)


def _watch() -> None:
    # Also where the functions of an earlier copy of this module are.
    for owner, name, standard, ours in _PLACES:
        if find_original(getattr(owner, name)) is standard:
            setattr(owner, name, ours)


def _unwatch() -> None:
    # What another library has put on top stays, and ours, which it calls, passes everything on.
    for owner, name, standard, _ in _PLACES:
        if find_original(getattr(owner, name)) is standard:
            setattr(owner, name, standard)
