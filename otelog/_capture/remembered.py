"""The span that an exception was raised in, for whoever logs the exception when that span has ended.

Servers say what has left an application when its request's span is not current any more. What is kept is two numbers
and flags, on the exception itself: no exception, traceback or span lives longer for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.trace import SpanContext

_SPAN = "_otelog_span"

# Every exception has one, and no class of an application's can put anything in its way.
_attributes_of: Callable[[BaseException], dict[str, Any]] = BaseException.__dict__["__dict__"].__get__


def remember_span(error: BaseException, span_context: SpanContext) -> None:
    """Note on an exception in which span it was raised. The last to say it is right. Never raises.

    Args:
        error: The exception.
        span_context: The span's; one that is invalid says nothing.
    """
    if span_context.is_valid:
        _attributes_of(error)[_SPAN] = span_context


def find_span(error: BaseException) -> SpanContext | None:
    """Returns what is noted on an exception, or None. Never raises."""
    return _attributes_of(error).get(_SPAN)
