"""An exception that leaves a span is known to have been raised in it, after the span has ended.

Whoever logs an exception that nobody has handled, a server, asyncio or a hook of the interpreter's, does so outside the
span that it was raised in. OpenTelemetry tells the span of the exception on its way: `Span.record_exception` of the SDK
notes the span's ids with the exception first. Without that such records have no trace.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

from opentelemetry.sdk.trace import Span

from otelog._capture.exception_notes import remember_span
from otelog._runtime.replacing import find_original, is_ours, mark

_NAME = "record_exception"


def install() -> None:
    """Have spans noted with the exceptions that leave them. Idempotent."""
    method = getattr(Span, _NAME, None)
    if callable(method) and not is_ours(method):
        setattr(Span, _NAME, _remembering(method))


def uninstall() -> None:
    """Take that back; what another library has put on top stays."""
    method = getattr(Span, _NAME, None)
    if is_ours(method):
        setattr(Span, _NAME, find_original(method))


def _remembering(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def record_exception(self: Any, exception: BaseException, *args: Any, **kwargs: Any) -> Any:
        # A span of a class of somebody's own, or the end of the interpreter.
        with suppress(Exception):
            remember_span(exception, self.get_span_context())
        return method(self, exception, *args, **kwargs)

    mark(record_exception, method)
    return record_exception
