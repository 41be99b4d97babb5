"""What an ASGI server says of a request has the request's trace, though it says it when the request's span has ended.

uvicorn, hypercorn and granian write their access lines with the request's scope at hand, in which the span is noted
(see `otelog._patches.asgi_spans`); aiohttp's server does with the request itself. While a line is written, `LINE_OF`
is that scope, so that a filter on the server's logger knows of which request it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any

from opentelemetry.context import attach, detach
from opentelemetry.trace import NonRecordingSpan, SpanContext, get_current_span, set_span_in_context

from otelog._patches.asgi_spans import SPAN_IN_SCOPE
from otelog._runtime.replacing import find_original, is_ours, mark

LINE_OF: ContextVar[Any] = ContextVar("otelog_line_of", default=None)
"""The scope, or aiohttp's request, whose line is being written."""

WRITES_LINES: dict[str, bool] = {}
"""Whether a server writes lines, by its name, where its logger does not tell."""


class Within:
    """Has a request's span be the current one, unless there is a current one, and its scope be known.

    Args:
        scope: The request's.
    """

    __slots__ = ("_line", "_scope", "_token")

    def __init__(self, scope: Any) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        self._token: Any = None
        self._line = LINE_OF.set(self._scope)
        found = None if self._scope is None else self._scope.get(SPAN_IN_SCOPE)
        if isinstance(found, SpanContext) and not get_current_span().get_span_context().is_valid:
            self._token = attach(set_span_in_context(NonRecordingSpan(found)))

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            detach(self._token)
        LINE_OF.reset(self._line)


def _send_of_uvicorn(send: Any) -> Any:
    async def send_within(self: Any, message: Any) -> Any:
        with Within(self.scope):
            return await send(self, message)

    @wraps(send)
    def send_or_within(self: Any, message: Any) -> Any:
        # Its line is written with the head.
        return send_within(self, message) if message["type"] == "http.response.start" else send(self, message)

    return send_or_within


def _access_of_hypercorn(access: Any) -> Any:
    @wraps(access)
    async def access_within(self: Any, request: Any, *arguments: Any, **keywords: Any) -> Any:
        with Within(request):
            return await access(self, request, *arguments, **keywords)

    return access_within


def _builder_of_granian(build: Any) -> Any:
    @wraps(build)
    def build_within(fmt: Any, *arguments: Any, **keywords: Any) -> Any:
        WRITES_LINES["granian"] = bool(fmt)
        write = build(fmt, *arguments, **keywords)

        def write_within(began: Any, moment: Any, scope: Any, *others: Any) -> Any:
            with Within(scope):
                return write(began, moment, scope, *others)

        return write_within

    return build_within


def _wrapper_of_granian(wrap: Any) -> Any:
    @wraps(wrap)
    def wrap_within(callback: Any, *arguments: Any, **keywords: Any) -> Any:
        run = wrap(callback, *arguments, **keywords)

        @wraps(callback)
        async def run_within(scope: Any, protocol: Any) -> Any:
            try:
                return await run(scope, protocol)
            except BaseException:
                # What granian says of it, it says in this task, which ends then. It keeps no exception in its record.
                found = scope.get(SPAN_IN_SCOPE)
                if isinstance(found, SpanContext):
                    attach(set_span_in_context(NonRecordingSpan(found)))
                raise

        return run_within

    return wrap_within


def _finish_of_aiohttp(finish_response: Any) -> Any:
    @wraps(finish_response)
    async def finish_within(self: Any, request: Any, *arguments: Any, **keywords: Any) -> Any:
        # A body that is made piece by piece is made here.
        with Within(request):
            return await finish_response(self, request, *arguments, **keywords)

    return finish_within


def _access_of_aiohttp(log_access: Any) -> Any:
    @wraps(log_access)
    def log_within(self: Any, request: Any, response: Any, *arguments: Any, **keywords: Any) -> Any:
        finish = request.get(FINISH)
        with Within(request):
            if finish is not None:
                finish(response)
            return log_access(self, request, response, *arguments, **keywords)

    return log_within


FINISH = "otelog.finish"
"""Where a request of aiohttp's has what is to be called with its response, when that has been sent."""

# The module, the class (none: a function of the module's), the name, and what stands in its place.
_PLACES: tuple[tuple[str, str, str, Callable[[Any], Any]], ...] = (
    ("uvicorn.protocols.http.h11_impl", "RequestResponseCycle", "send", _send_of_uvicorn),
    ("uvicorn.protocols.http.httptools_impl", "RequestResponseCycle", "send", _send_of_uvicorn),
    ("hypercorn.logging", "Logger", "access", _access_of_hypercorn),
    ("granian.asgi", "", "_build_access_logger", _builder_of_granian),
    ("granian.asgi", "", "_callback_wrapper", _wrapper_of_granian),
    ("aiohttp.web_protocol", "RequestHandler", "finish_response", _finish_of_aiohttp),
    ("aiohttp.web_protocol", "RequestHandler", "log_access", _access_of_aiohttp),
)


MODULES = tuple(dict.fromkeys(place[0] for place in _PLACES))
"""Where the servers' functions are."""


def _find(module_name: str, class_name: str, name: str) -> tuple[Any, Any]:
    owner: Any = sys.modules.get(module_name)
    if class_name:
        owner = getattr(owner, class_name, None)
    return owner, getattr(owner, name, None)


def install() -> None:
    """Have those servers that are loaded write their lines in the request's context. Idempotent, free of locks."""
    for module_name, class_name, name, make in _PLACES:
        owner, found = _find(module_name, class_name, name)
        if callable(found) and not is_ours(found):
            ours = make(found)
            mark(ours, found)
            setattr(owner, name, ours)


def uninstall() -> None:
    """Take back what `install` has put in place."""
    for module_name, class_name, name, _ in _PLACES:
        owner, found = _find(module_name, class_name, name)
        if found is not None and is_ours(found):
            setattr(owner, name, find_original(found))
