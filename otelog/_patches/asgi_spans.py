"""What is inside of a request's span, in ASGI applications: where OpenTelemetry's middleware calls the application.

opentelemetry-instrumentation-asgi, which those of FastAPI and Starlette stand on, starts a request's span in an empty
context: fields that were bound before are gone. It ends the span before the server says what has left the application,
and before some servers write their access line. So one layer stands between the middleware and the application: it
brings the fields back, notes the span in the request's scope, and on an exception that passes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import wraps
from typing import Any

from opentelemetry.context import attach, get_current, set_value
from opentelemetry.trace import get_current_span

from otelog._capture.exception_notes import remember_span
from otelog._capture.port import BOUND_KEY
from otelog._runtime.replacing import find_original, is_ours, mark

SPAN_IN_SCOPE = "otelog.span_context"
"""Where a scope has the SpanContext of its request."""

FIELDS_IN_SCOPE = "otelog.bound_fields"
"""Where a scope has the fields that are bound for its request."""

LATEST: ContextVar[Any] = ContextVar("otelog_latest_scope", default=None)
"""The scope of the latest request here, under gunicorn's ASGI worker, which writes its lines without any scope."""

AT_FIRST_REQUEST: list[Callable[[], None]] = []
"""Called once, when a server is certainly loaded; each must not raise."""

_NEEDS_LATEST = "gunicorn.asgi.protocol"
_MODULE, _CLASS = "opentelemetry.instrumentation.asgi", "OpenTelemetryMiddleware"


class _Inside:
    """Calls the application. `app` is its name wherever middlewares are looked through."""

    __slots__ = ("app",)

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        with suppress(Exception):
            enter(scope)
        try:
            return await self.app(scope, receive, send)
        except BaseException as error:
            remember_span(error, get_current_span().get_span_context())
            raise


def enter(scope: Any) -> None:
    """Note the current span in a scope, and go on with the fields that are bound for its request.

    Args:
        scope: The request's. Who mounts applications in others notes the outermost span.
    """
    while AT_FIRST_REQUEST:
        AT_FIRST_REQUEST.pop()()
    note_scope(scope)
    context = get_current()
    span_context = get_current_span(context).get_span_context()
    if span_context.is_valid:
        scope.setdefault(SPAN_IN_SCOPE, span_context)
    bound = scope.get(FIELDS_IN_SCOPE)
    if bound is not None and context.get(BOUND_KEY) is None:
        # The middleware takes it off, with its span.
        attach(set_value(BOUND_KEY, bound, context))


def note_scope(scope: Any) -> None:
    """Remember a scope for a server that writes its line about the request without it."""
    if _NEEDS_LATEST in sys.modules:
        LATEST.set(scope)


def install() -> None:
    """Have the middleware call its application by way of `_Inside`, if its module is loaded. Idempotent, lock-free."""
    owner = getattr(sys.modules.get(_MODULE), _CLASS, None)
    init = getattr(owner, "__init__", None)
    if owner is None or not callable(init) or is_ours(init):
        return

    @wraps(init)
    def begin(self: Any, *arguments: Any, **keywords: Any) -> None:
        init(self, *arguments, **keywords)
        app = getattr(self, "app", None)
        # In a release that calls it otherwise nothing is inside, and all goes on as without otelog.
        if callable(app) and not isinstance(app, _Inside):
            self.app = _Inside(app)

    mark(begin, init)
    owner.__init__ = begin


def uninstall() -> None:
    """Take back what `install` has put in place; middlewares that were made meanwhile stay as they are."""
    owner = getattr(sys.modules.get(_MODULE), _CLASS, None)
    init = getattr(owner, "__init__", None)
    if owner is not None and is_ours(init):
        owner.__init__ = find_original(init)
