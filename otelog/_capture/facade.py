"""The facade: ``otelog.get_logger(__name__).info("user %s paid", user_id, amount=12.5)``.

The level methods are made from one function, so that a call is one frame deep: a shared helper below them would cost a
tenth of the call.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from time import time_ns
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context, attach, get_current, set_value

from otelog._capture.active_pipeline import ACTIVE_PIPELINE
from otelog._capture.port import BOUND_KEY, ODD, SMALL_BYTES, SPAN_KEY, ActivePipeline, BoundFields, current_context
from otelog._record.row import FIELD_BYTES, Source
from otelog._record.severity import level_number, severity_number
from otelog._record.stacktrace import find_exception, is_true
from otelog._record.values import AnyValue, safe_str
from otelog._runtime.contexts import leave
from otelog._runtime.diagnostics import warn
from otelog._runtime.interruption import is_foreign, is_interruption
from otelog._runtime.own_threads import caused_by_ourselves, own_threads

if TYPE_CHECKING:
    from typing_extensions import Self

_LEVELS = ((10, "DEBUG"), (20, "INFO"), (30, "WARNING"), (40, "ERROR"), (50, "CRITICAL"))

_getframe = sys._getframe
_LEAST_INT = -(2**63)
_MOST_INT = 2**63 - 1


def _level_method(index: int) -> Callable[..., None]:  # noqa: C901  it is `log`, see there
    # The three keywords that are not fields are looked for in `fields`: were they parameters, every call with fields
    # would have each name compared with each of them, at a disabled level too.
    level, text = _LEVELS[index]

    # One function: each further call would cost the caller about 35 ns, 3 % of the whole.
    def log(  # noqa: C901
        self: Logger,
        msg: Any,
        /,
        *args: Any,
        **fields: Any,
    ) -> None:
        port = self._pipeline.port
        if port.level > level:
            return
        source = self._sources[index]
        size = ODD
        if type(msg) is str:
            # A foreign span that raises ends in the slow way, and not in the application.
            try:
                # It raises where Python is called by nothing but C: at exit, in a new thread.
                frame = _getframe(1)
                thread = get_ident()
                size = len(msg) if thread not in own_threads else ODD
                for value in args:
                    kind = type(value)
                    if kind is str:
                        size += len(value)
                    elif kind is int:
                        if not -0x4000_0000 < value < 0x4000_0000 and not _LEAST_INT <= value <= _MOST_INT:
                            size = ODD
                    elif kind is not float and kind is not bool and value is not None:
                        size = ODD
                if fields:
                    size += FIELD_BYTES * len(fields)
                    keyword = False
                    for value in fields.values():
                        kind = type(value)
                        if kind is str:
                            size += len(value)
                        elif kind is not float:
                            # Only values of other types can mean one of the keywords.
                            keyword = True
                            if kind is int:
                                if not -0x4000_0000 < value < 0x4000_0000 and not _LEAST_INT <= value <= _MOST_INT:
                                    size = ODD
                            elif kind is not bool and value is not None:
                                size = ODD
                    if keyword and ("exc_info" in fields or "stack_info" in fields or "stacklevel" in fields):
                        size = ODD
                if size < ODD:
                    kept = fields
                    bound = self._bound
                    if bound is not None:
                        kept = {**bound.fields, **fields}
                        size += bound.size_bytes
                    span_context = None
                    context = current_context()
                    if context:
                        bound = context.get(BOUND_KEY)
                        if bound is not None:
                            kept = {**bound.fields, **kept}
                            size += bound.size_bytes
                        span = context.get(SPAN_KEY)
                        if span is not None:
                            span_context = span.get_span_context()
            except BaseException as error:
                if is_interruption(error, in_own_code=True):
                    raise
                size = ODD
        try:
            if size < SMALL_BYTES:
                slots = port.slots
                if not slots:
                    # Asked first: where a Collector is away this is every call, and an exception would cost as much.
                    port.put_when_full(
                        (time_ns(), source, span_context, msg, args, kept, frame.f_code, frame.f_lasti, thread)
                    )
                    return
                try:
                    # The slot is popped last, and lost by nobody: see otelog._capture.queue.
                    port.push(
                        (
                            time_ns(),
                            source,
                            span_context,
                            msg,
                            args,
                            kept,
                            frame.f_code,
                            frame.f_lasti,
                            thread,
                            slots.pop(),
                        )
                    )
                except IndexError:
                    if is_foreign():
                        raise
                    # Another thread was quicker.
                    port.put_when_full(
                        (time_ns(), source, span_context, msg, args, kept, frame.f_code, frame.f_lasti, thread)
                    )
                    return
            elif size < ODD:
                row = (time_ns(), source, span_context, msg, args, kept, frame.f_code, frame.f_lasti, thread)
                port.put_sized(row, size)
                return
            else:
                self._log_slowly(source, _find_caller(2), msg, args, fields)
                return
        except MemoryError as error:
            port.refuse_for_memory(source, error)
            return
        try:
            if len(port.incoming) >= port.wake_at:
                port.wake()
        except MemoryError:
            port.wake_if_due()

    log.__name__ = text.lower()
    log.__qualname__ = f"Logger.{log.__name__}"
    log.__doc__ = f"Log at {text}. See `Logger.log` for the arguments."
    return log


class Logger:
    """Logs records with fields into the pipeline that `otelog.configure` set up.

    Make one with `otelog.get_logger`. A value of an immutable scalar type travels as it is; any other is converted at
    once, so that a later change of it never shows. A call never raises, never waits (unless ``when_full="block"`` was
    chosen) and may be made anywhere, in a signal handler or in ``__del__`` too.

    A copy is the logger itself, which nothing changes. One that is pickled travels by its name, with the fields that
    are bound to it, and logs into the pipeline of the process that it comes to, also if it came from a processor of its
    own, which stays where it is.
    """

    __slots__ = ("_bound", "_pipeline", "_sources", "name")

    def __init__(self, name: str, pipeline: ActivePipeline, bound: BoundFields | None = None) -> None:
        self.name = name
        self._pipeline = pipeline
        self._bound = bound
        self._sources = [Source(name, severity_number(level), text) for level, text in _LEVELS]

    debug = _level_method(0)
    info = _level_method(1)
    warning = _level_method(2)
    error = _level_method(3)
    critical = _level_method(4)
    warn = warning
    fatal = critical

    def log(self, level: int | str, msg: object, /, *args: object, **fields: Any) -> None:
        """Log at any level.

        Args:
            level: A level of `logging`, by number or name.
            msg: The message, a %-template if there are `args`.
            args: The template's arguments.
            exc_info: True for the exception being handled, or an exception, or what ``sys.exc_info()`` gives.
            stack_info: Whether the caller's stack becomes the attribute ``code.stacktrace``.
            stacklevel: Which frame counts as the caller: 1 the one that calls, 2 its caller, and so on.
            fields: The record's attributes.

        Never raises; what cannot be kept is counted in `otelog.stats`. A level that does not exist counts as INFO.
        """
        try:
            number = _number_of(level)
            if self._pipeline.port.level > number:
                return
            self._log_slowly(self._source_of(number), _find_caller(2), msg, args, fields)
        except MemoryError as error:
            self.refuse_for_memory(error)

    def exception(self, msg: object, /, *args: object, **fields: Any) -> None:
        """Log at ERROR with the exception being handled. See `log` for the arguments."""
        if self._pipeline.port.level > 40:
            return
        try:
            fields.setdefault("exc_info", True)
            self._log_slowly(self._sources[3], _find_caller(2), msg, args, fields)
        except MemoryError as error:
            self._pipeline.port.refuse_for_memory(self._sources[3], error)

    def event(self, name: str, /, msg: object = None, *args: object, level: int | str = 20, **fields: object) -> None:
        """Log an OpenTelemetry event: a record whose ``event_name`` is set.

        Args:
            name: What kind of event it is, the same for all of its kind: ``"order.paid"``.
            msg: The body; none by default.
            args: The body's %-arguments.
            level: A level of `logging`, by number or name.
            fields: The record's attributes.

        Source: logs data model, "Field: EventName".
        """
        try:
            number = _number_of(level)
            if self._pipeline.port.level > number:
                return
            self._log_slowly(self._source_of(number), _find_caller(2), msg, args, fields, event_name=safe_str(name))
        except MemoryError as error:
            self.refuse_for_memory(error)

    def is_enabled_for(self, level: int | str) -> bool:
        """Returns whether a call at this level would make a record."""
        return self._pipeline.port.level <= _number_of(level)

    isEnabledFor = is_enabled_for  # noqa: N815  (the standard library's spelling)

    def bind(self, **fields: object) -> Logger:
        """Returns a logger of the same name whose every record has these fields too; a call's own fields win."""
        added = BoundFields(fields, self._pipeline.port.limits)
        return Logger(self.name, self._pipeline, added if self._bound is None else self._bound.merged_with(added))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        fields = None if self._bound is None else self._bound.fields
        # A subclass may have attributes of its own.
        return _revive, (type(self), self.name, fields), getattr(self, "__dict__", None)

    def _source_of(self, level: int) -> Source:
        for index, (known, _) in enumerate(_LEVELS):
            if known == level:
                return self._sources[index]
        try:
            text = str(logging.getLevelName(level))
        except ValueError:
            # A number with more digits than Python writes out.
            text = "CRITICAL"
        return Source(self.name, severity_number(level), text)

    def _log_slowly(
        self,
        source: Source,
        frame: FrameType | None,
        msg: object,
        args: tuple[object, ...],
        fields: dict[str, Any],
        event_name: str | None = None,
    ) -> None:
        try:
            exc_info = fields.pop("exc_info", None)
            stack_info = fields.pop("stack_info", False)
            stacklevel = fields.pop("stacklevel", 1)
            while type(stacklevel) is int and stacklevel > 1 and frame is not None and frame.f_back is not None:
                frame = frame.f_back
                stacklevel -= 1
            self._capture(
                source,
                frame.f_code if frame is not None else None,
                frame.f_lasti if frame is not None else 0,
                msg,
                args,
                fields,
                error=find_exception(exc_info),
                stack=frame if is_true(stack_info) else None,
                event_name=event_name,
            )
        except MemoryError as error:
            self._pipeline.port.refuse_for_memory(source, error)

    def refuse_for_memory(self, error: MemoryError) -> None:
        """Count a record as refused for which there was no memory, before its level was known; INFO stands for it."""
        self._pipeline.port.refuse_for_memory(self._sources[1], error)

    def log_at(
        self,
        code: CodeType,
        offset: int,
        level: int,
        msg: str,
        args: tuple[object, ...],
        fields: dict[str, Any],
        *,
        error: BaseException | None = None,
        event_name: str | None = None,
    ) -> None:
        """Log for another place than the caller's: an instruction of a code object. See `log` for the rest."""
        if self._pipeline.port.level <= level:
            source = self._source_of(level)
            try:
                self._capture(source, code, offset, msg, args, fields, error=error, stack=None, event_name=event_name)
            except MemoryError as shortage:
                self._pipeline.port.refuse_for_memory(source, shortage)

    def _capture(
        self,
        source: Source,
        code: CodeType | None,
        offset: int,
        msg: object,
        args: tuple[object, ...],
        fields: dict[str, Any],
        *,
        error: BaseException | None,
        stack: FrameType | None,
        event_name: str | None,
    ) -> None:
        thread = get_ident()
        if thread in own_threads and caused_by_ourselves():
            return
        if self._bound is not None:
            fields = {**self._bound.fields, **fields}
        self._pipeline.port.capture(
            time_ns(),
            source,
            msg,
            args,
            fields,
            code=code,
            offset=offset,
            thread=thread,
            error=error,
            stack=stack,
            event_name=event_name,
        )


def _revive(kind: type[Logger], name: str, fields: dict[str, AnyValue] | None) -> Logger:
    """Make a logger again that was pickled, perhaps by another process."""
    logger = kind.__new__(kind)
    Logger.__init__(logger, name, ACTIVE_PIPELINE, None if fields is None else BoundFields.of_converted(fields))
    return logger


def _number_of(level: int | str) -> int:
    try:
        return level_number(level)
    except BaseException as error:
        if is_interruption(error):
            raise
        warn("level", f"a log call at a level that does not exist is taken as INFO: {safe_str(error)}")
        return logging.INFO


def _find_caller(depth: int) -> FrameType | None:
    try:
        return _getframe(depth)
    except ValueError:
        return None


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Give every record made inside the block these fields, in this thread or task and the tasks started there.

    They are kept in the OpenTelemetry Context, so that whatever carries that (asyncio, instrumented threads) carries
    them. An inner block's value wins over an outer's, a call's own over both.

    The block may be in a generator, also one that is closed by another task or thread: then the fields end for all who
    have them from this block.
    """
    added = BoundFields(fields)
    before = get_current()
    outer = before.get(BOUND_KEY)
    if not isinstance(outer, BoundFields):
        outer = None
    if outer is not None:
        outer = outer.find_open()
    if outer is not None:
        added = outer.merged_with(added)
    context = set_value(BOUND_KEY, added)
    token = None
    # Where an interruption keeps `__exit__` from its work, this generator is dropped, and so closed.
    try:
        token = attach(context)
        yield
    finally:
        left = False
        try:
            if token is not None:
                left = leave(_find_end(context, added), token)
            elif get_current() is context:
                # Interrupted while it was attached: the way back is lost.
                attach(before)
                left = True
        finally:
            if not left:
                # The block was in a generator that somebody else has closed, or that took turns with others. Where it
                # began there may still be a Context that holds its fields; then they must be none.
                added.end(outer)


def _find_end(context: Context, added: BoundFields) -> Context:
    """Returns the Context that is current where the block ends as it should: its own, or one of ended blocks on top."""
    current = get_current()
    top = current.get(BOUND_KEY)
    if (
        current is not context
        and isinstance(top, BoundFields)
        and top.find_open() is added
        and len(current) == len(context)
        and all(current.get(key) is value for key, value in context.items() if key != BOUND_KEY)
    ):
        return current
    return context
