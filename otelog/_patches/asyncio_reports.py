"""What asyncio logs of an exception that nobody handles belongs to the task or callback that raised it.

asyncio writes it itself, by its own logger: when it lets go of a task whose exception nobody has asked for, whatever
runs at that moment, or when a callback has failed. `call_exception_handler` of its event loop, which also calls an
application's own handler, is called in the OpenTelemetry Context of the task or callback instead of the one that
happens to be current; and the record is the event of an unhandled exception. Without that the record has no trace, or
that of a request that has nothing to do with it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from opentelemetry.context import Context, attach
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from otelog._capture.exception_notes import find_span, mark_uncaught
from otelog._patches.on_import import after_import, forget
from otelog._private.opentelemetry import current_context
from otelog._private.standard import context_of
from otelog._runtime.contexts import leave
from otelog._runtime.replacing import find_original, is_ours, mark

_NAME = "call_exception_handler"


def install() -> None:
    """Have event loops report in the right context, from when asyncio is imported: that costs as much as otelog."""
    after_import("asyncio", _replace)


def uninstall() -> None:
    """Take that back; what another library has put on top stays."""
    forget("asyncio")
    loop = _find_loop()
    if is_ours(getattr(loop, _NAME, None)):
        setattr(loop, _NAME, find_original(getattr(loop, _NAME)))


def _find_loop() -> Any:
    return getattr(sys.modules.get("asyncio"), "BaseEventLoop", None)


def _replace() -> None:
    loop = _find_loop()
    method = getattr(loop, _NAME, None)
    if callable(method) and not is_ours(method):
        setattr(loop, _NAME, _within_context(method))


def _within_context(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call_exception_handler(self: Any, context: Any) -> Any:
        ours = token = None
        try:
            ours = _find_context(context)
            token = None if ours is None else attach(ours)
        except Exception:
            # What libraries put in there is theirs. The report is made in any case.
            pass
        try:
            return method(self, context)
        finally:
            if token is not None and ours is not None:
                leave(ours, token)

    mark(call_exception_handler, method)
    return call_exception_handler


def _find_context(report: dict[str, Any]) -> Context | None:
    """Returns the OpenTelemetry Context that the report is to be made in, or None for the current one."""
    source = report.get("task") or report.get("future") or report.get("handle")
    context: Context | None = None
    if source is not None:
        variables = context_of(source)
        if variables is not None:
            # A copy may be entered at any time.
            context = Context(variables.copy().run(current_context) or {})
        elif isinstance(source, sys.modules["asyncio"].Future):
            # It is let go at any moment, in anybody's context.
            context = Context()
    error = report.get("exception")
    if isinstance(error, BaseException):
        mark_uncaught(error)
        ids = find_span(error)
        if ids is not None:
            # Whatever is logged inside is not about to extend a span that has ended.
            span = NonRecordingSpan(SpanContext(ids.trace_id, ids.span_id, False, TraceFlags(ids.trace_flags)))
            context = set_span_in_context(span, context)
    return context
