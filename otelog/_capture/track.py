"""`track`: how long a piece of work took, and how it ended, as one record."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from time import perf_counter
from types import CodeType, TracebackType
from typing import Any, TypeVar

from opentelemetry import trace
from opentelemetry.context import attach
from opentelemetry.trace import Status, StatusCode

from otelog._capture.active_pipeline import ACTIVE_PIPELINE
from otelog._capture.facade import Logger
from otelog._record.severity import level_number
from otelog._record.values import safe_str, to_any_value, type_names
from otelog._runtime.contexts import leave
from otelog._runtime.diagnostics import warn

Function = TypeVar("Function", bound=Callable[..., Any])

DURATION_KEY = "duration"
"""The attribute that holds the seconds, a float."""

OUTCOME_KEY = "outcome"
"""The attribute that is "success", "failure" (an exception) or "cancelled" (a task's end, `SystemExit`)."""

ERROR_TYPE_KEY = "error.type"
"""The attribute that names an exception's class. Source: semantic conventions, error attributes."""

_WORDS = {"success": "succeeded", "failure": "failed", "cancelled": "was cancelled"}
_LEVELS = {"failure": 40, "cancelled": 30}


class _CurrentSpan:
    """A span that is the current one until it ends, also where that is another task's or thread's doing."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._outer = trace.get_current_span()
        self._context = trace.set_span_in_context(span)
        self._token = attach(self._context)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Have it the current one in the block."""
        if trace.get_current_span() is self._span:
            yield
            return
        context = trace.set_span_in_context(self._span)
        token = attach(context)
        try:
            yield
        finally:
            leave(context, token)

    def end(self, error: BaseException | None) -> None:
        """End the span as OpenTelemetry's own ``with`` block does."""
        if not leave(self._context, self._token) and trace.get_current_span() is self._span:
            attach(trace.set_span_in_context(self._outer))
        try:
            if isinstance(error, Exception) and self._span.is_recording():
                self._span.record_exception(error)
                self._span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {safe_str(error)}"))
        except Exception as failure:
            warn("track", f"a span could not take its exception: {type(failure).__name__}")
        finally:
            self._span.end()


class Operation:
    """A piece of work that is tracked; what `track` returns, and what its ``with`` block gets.

    Thread safety: one thread or task at a time. As a decorator it makes an operation of its own for each call.
    """

    __slots__ = ("_begin", "_event", "_fields", "_level", "_logger", "_name", "_place", "_span", "_wants_span")

    def __init__(
        self, name: str, logger: Logger, fields: dict[str, object], *, level: int, event: bool, span: bool
    ) -> None:
        self._name = name if type(name) is str else safe_str(name)
        self._logger = logger
        self._fields = fields
        self._level = level
        self._event = event
        self._wants_span = span
        self._span: _CurrentSpan | None = None
        self._place: tuple[CodeType, int] | None = None
        self._begin = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        # One that has been entered stays where it is: its time, place and span are this process's.
        options = (self._name, self._logger, self._fields, self._level, self._event, self._wants_span)
        return _revive, options

    def add(self, **fields: object) -> None:
        """Give the record fields that are known only now, such as how many rows were written."""
        self._fields.update(fields)

    def __enter__(self) -> Operation:
        if self._place is None:
            frame = sys._getframe(1)
            self._place = (frame.f_code, frame.f_lasti)
        if self._wants_span:
            attributes: Any = {
                key: value if type(value) in (str, bool, int, float) else safe_str(to_any_value(value))
                for key, value in self._fields.items()
            }
            self._span = _CurrentSpan(trace.get_tracer("otelog").start_span(self._name, attributes=attributes))
        self._begin = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        duration = perf_counter() - self._begin
        span, self._span = self._span, None
        if span is None:
            self._log(duration, error)
            return
        try:
            # The record belongs to the span, wherever the block ends.
            with span.current():
                self._log(duration, error)
        finally:
            span.end(error)

    async def __aenter__(self) -> Operation:
        frame = sys._getframe(1)
        self._place = (frame.f_code, frame.f_lasti)
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _log(self, duration: float, error: BaseException | None) -> None:
        if self._place is None:
            # It was not entered.
            return
        try:
            outcome = "success" if error is None else "failure" if isinstance(error, Exception) else "cancelled"
            fields: dict[str, Any] = {**self._fields, DURATION_KEY: duration, OUTCOME_KEY: outcome}
            if error is not None:
                module, kind = type_names(type(error))
                fields[ERROR_TYPE_KEY] = kind if module == "builtins" else f"{module}.{kind}"
            self._logger.log_at(
                *self._place,
                _LEVELS.get(outcome, self._level),
                "%s %s in %.3f s",
                (self._name, _WORDS[outcome], duration),
                fields,
                error=error if outcome == "failure" else None,
                event_name=self._name if self._event else None,
            )
        except MemoryError as shortage:
            self._logger.refuse_for_memory(shortage)

    def __call__(self, function: Function) -> Function:
        """Track every call of a function: plain, a generator function or a coroutine function.

        Raises:
            TypeError: It is an async generator function; use ``with`` in it.
        """
        wrapper: Any
        if inspect.isasyncgenfunction(function):
            raise TypeError(f"otelog.track cannot decorate the async generator {function.__qualname__}; use with in it")
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                with self._for_call(function):
                    return await function(*args, **kwargs)

        elif inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
                with self._for_call(function):
                    return (yield from function(*args, **kwargs))

        else:

            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                with self._for_call(function):
                    return function(*args, **kwargs)

        return wrapper  # type: ignore[no-any-return]

    def _for_call(self, function: Callable[..., Any]) -> Operation:
        operation = Operation(
            self._name,
            self._logger,
            dict(self._fields),
            level=self._level,
            event=self._event,
            span=self._wants_span,
        )
        # The place of the record is the function's, not the wrapper's.
        code: CodeType | None = getattr(inspect.unwrap(function), "__code__", None)
        operation._place = None if code is None else (code, -1)
        return operation


def _revive(
    name: str, logger: Logger, fields: dict[str, object], level: int, event: bool, wants_span: bool
) -> Operation:
    """Make an operation again that was copied or pickled."""
    return Operation(name, logger, dict(fields), level=level, event=event, span=wants_span)


def track(
    name: str,
    /,
    *,
    level: int | str = 20,
    event: bool = False,
    span: bool = False,
    logger: Logger | None = None,
    **fields: object,
) -> Operation:
    """Track a piece of work: one record at its end with `duration` in seconds, `outcome` and, if it failed, the error::

        with otelog.track("save_data", table="daily") as operation:
            operation.add(rows=save())

        @otelog.track("charge", event=True)
        async def charge(order): ...

    Args:
        name: What the work is called, the same for all of its kind.
        level: Of the record if all went well; a failure is logged at ERROR with the exception, a cancellation at
            WARNING.
        event: Whether the record is an OpenTelemetry event of that name.
        span: Whether the work is a span too, with the fields as attributes, so that what is logged in it belongs to it.
            In a generator that somebody else closes, it stays the current one where it began: nobody can reach that.
        logger: Whose record it is; by default the calling module's logger.
        fields: Attributes of the record.

    Returns:
        A context manager, for ``async with``, too, and a decorator. Exceptions pass through it unchanged.

    Raises:
        ConfigurationError: The level does not exist.

    Thread safety: see `Operation`.
    """
    if logger is None:
        logger = Logger(str(sys._getframe(1).f_globals.get("__name__", "")), ACTIVE_PIPELINE)
    return Operation(name, logger, fields, level=level_number(level), event=event, span=span)
