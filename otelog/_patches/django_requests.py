"""What Django says of a request has the request's trace, from the middlewares to the last byte of the body.

opentelemetry-instrumentation-django is a middleware: when it is done, the request's span has ended and is not current
any more. What comes after is without a trace: Django's own line about a 404 or a 403, the body of a streaming response,
what receivers of `request_finished` log, and the server's access line. So the span's context is kept with the request
(in its ``META``, which is the WSGI environment), and made current again around the four.

Two more things are mended. A host that is not allowed makes the middleware itself raise, in each of its steps, though
the application may never ask for the host: it is then asked without it. And an exception that goes through the
middlewares, as with ``DEBUG_PROPAGATE_EXCEPTIONS``, leaves the span open and its context with the thread, whose next
request would become a part of this one: it is ended.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import wraps
from typing import Any

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import NonRecordingSpan, SpanContext, get_current_span, set_span_in_context

from otelog._capture.exception_notes import remember_span
from otelog._patches.asgi_spans import SPAN_IN_SCOPE, note_scope
from otelog._private.django_instrumentation import end_span, find_middleware, find_span_context
from otelog._runtime.replacing import find_original, is_ours, mark

__all__ = ["CONTEXT", "find_context", "install", "uninstall"]

CONTEXT = "otelog.context"
"""In a request's ``META``: the context in which everything is logged that comes after the middlewares, if known."""

_SPAN_CONTEXT = "otelog.span_context"
"""In a request's ``META``: the context of its span, for as long as there is the request."""

_RESPONSE_CONTEXT = "_otelog_context"

_MIDDLEWARE_STEPS = ("process_request", "process_view", "process_exception", "process_response")

_HANDLERS = "django.core.handlers."


def install() -> None:
    """Do it for those parts of Django, and of its instrumentation, that are loaded. Idempotent, free of locks."""
    for owner, name, replace in _list_places():
        found = None if owner is None else getattr(owner, name, None)
        if callable(found) and not is_ours(found):
            ours = replace(found)
            mark(ours, found)
            setattr(owner, name, ours)


def uninstall() -> None:
    """Take back what `install` has put in place; what others have put on top stays."""
    for owner, name, _ in _list_places():
        found = None if owner is None else getattr(owner, name, None)
        if found is not None and is_ours(found):
            setattr(owner, name, find_original(found))


def _list_places() -> Iterator[tuple[Any, str, Callable[[Any], Any]]]:
    base = sys.modules.get(f"{_HANDLERS}base")
    if base is None:
        return
    middleware = find_middleware()
    for step in _MIDDLEWARE_STEPS:
        yield middleware, step, _note_span if step == "process_request" else _allow_any_host
    yield middleware, "__call__", _end_with_exceptions
    yield base, "log_response", _log_within_span
    yield sys.modules.get(f"{_HANDLERS}exception"), "log_response", _log_within_span
    yield getattr(sys.modules.get(f"{_HANDLERS}wsgi"), "WSGIHandler", None), "__call__", _answer_wsgi
    handler = getattr(base, "BaseHandler", None)
    yield handler, "get_response", _note_on_response
    yield handler, "get_response_async", _note_on_async_response
    yield getattr(sys.modules.get("django.http.response"), "HttpResponseBase", None), "close", _close_within_span
    yield getattr(sys.modules.get(f"{_HANDLERS}asgi"), "ASGIHandler", None), "send_response", _send_within_span


def find_context(meta: Mapping[str, Any]) -> Context | None:
    """Returns the context in which what comes after a request's middlewares is logged, or None: there is no span.

    Args:
        meta: The request's, or the WSGI environment.
    """
    context: Context | None = meta.get(CONTEXT)
    if context is None:
        span_context: SpanContext | None = meta.get(_SPAN_CONTEXT)
        if span_context is not None:
            # Whatever is logged inside is not about to extend a span that has ended.
            context = set_span_in_context(NonRecordingSpan(span_context), Context())
    return context


def _remember(error: BaseException, meta: Mapping[str, Any]) -> None:
    """Note on an exception that leaves Django in which span it was raised, for what the server says of it."""
    span_context = meta.get(_SPAN_CONTEXT)
    if span_context is not None:
        remember_span(error, span_context)


# The instrumentation's middleware.


def _allow_any_host(step: Any) -> Any:
    """Have a step of the instrumentation's middleware pass where it raises for the host that the client names."""

    @wraps(step)
    def call(self: Any, request: Any, *arguments: Any, **keywords: Any) -> Any:
        try:
            return step(self, request, *arguments, **keywords)
        except Exception as error:
            # By its name: Django's exceptions are not loaded by this module.
            if type(error).__name__ != "DisallowedHost" or "build_absolute_uri" in vars(request):
                raise
        # It is what each step begins with, so nothing has been done yet.
        request.build_absolute_uri = lambda location=None: request.path
        try:
            return step(self, request, *arguments, **keywords)
        finally:
            del request.build_absolute_uri

    return call


def _note_span(step: Any) -> Any:
    guarded = _allow_any_host(step)

    @wraps(step)
    def process_request(self: Any, request: Any) -> Any:
        answer = guarded(self, request)
        # Another release keeps it in another place: then there is no trace after the end, as without otelog.
        with suppress(Exception):
            span_context = find_span_context(request.META)
            if span_context is not None:
                request.META[_SPAN_CONTEXT] = span_context
        return answer

    return process_request


def _end_with_exceptions(call: Any) -> Any:
    @wraps(call)
    def call_ending(self: Any, request: Any) -> Any:
        try:
            return call(self, request)
        except BaseException as error:
            # The generator behind it would be closed by the collector, and complain of a context that is not there.
            with suppress(Exception):
                end_span(request.META, error)
            raise

    return call_ending


# Django's own lines, which come when the middlewares are done.


def _log_within_span(log_response: Any) -> Any:
    @wraps(log_response)
    def log_within_span(*arguments: Any, **keywords: Any) -> Any:
        meta = getattr(keywords.get("request"), "META", None)
        context = None
        # While the request's span is current, so is all that was bound in it.
        if isinstance(meta, dict) and (CONTEXT in meta or not get_current_span().get_span_context().is_valid):
            context = find_context(meta)
        if context is None:
            return log_response(*arguments, **keywords)
        token = attach(context)
        try:
            return log_response(*arguments, **keywords)
        finally:
            detach(token)

    return log_within_span


# WSGI.


def _answer_wsgi(call: Any) -> Any:
    @wraps(call)
    def answer(self: Any, environ: Any, start_response: Any) -> Any:
        # The instrumentation may have been loaded since, by the application itself.
        _install_middleware()
        # Whatever is left attached ends here, and not in the thread's next request.
        token = attach(get_current())
        try:
            response = call(self, environ, start_response)
        except BaseException as error:
            _remember(error, environ)
            raise
        finally:
            detach(token)
        # All of another body is there already; and a file, which the server sends by itself, it must know for its own.
        if not getattr(response, "streaming", False) or isinstance(response, _Body):
            return response
        context = find_context(environ)
        return response if context is None else _Body(response, context)

    return answer


class _Body:
    """Hands a response's body on, in the trace of its request.

    Thread safety: one thread at a time, as with any WSGI body.
    """

    __slots__ = ("_context", "_next", "_response")

    def __init__(self, response: Iterable[bytes], context: Context) -> None:
        self._response: Any = response
        self._context = context
        self._next: Callable[[], bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        token = attach(self._context)
        try:
            if self._next is None:
                self._next = iter(self._response).__next__
            part = self._next()
            # What a generator attached before it paused, a span or fields, it finds again.
            self._context = get_current()
            return part
        except BaseException as error:
            remember_span(error, get_current_span(self._context).get_span_context())
            raise
        finally:
            detach(token)

    def __getattr__(self, name: str) -> Any:
        # To close it; and middlewares of WSGI may look for the response's status or headers.
        return getattr(self._response, name)


# The response.


def _note_on_response(get_response: Any) -> Any:
    @wraps(get_response)
    def get_response_noted(self: Any, request: Any) -> Any:
        response = get_response(self, request)
        _note(request, response)
        return response

    return get_response_noted


def _note_on_async_response(get_response: Any) -> Any:
    @wraps(get_response)
    async def get_response_noted(self: Any, request: Any) -> Any:
        _install_middleware()
        try:
            response = await get_response(self, request)
        except BaseException as error:
            _remember(error, request.META)
            raise
        _note(request, response)
        with suppress(Exception):
            # Some servers write their line when the application has ended.
            note_scope(request.scope)
            request.scope.setdefault(SPAN_IN_SCOPE, request.META[_SPAN_CONTEXT])
        return response

    return get_response_noted


def _note(request: Any, response: Any) -> None:
    context = find_context(request.META)
    if context is not None:
        setattr(response, _RESPONSE_CONTEXT, context)


def _close_within_span(close: Any) -> Any:
    @wraps(close)
    def close_within_span(self: Any) -> Any:
        context = getattr(self, _RESPONSE_CONTEXT, None)
        if context is None:
            return close(self)
        # Django sends `request_finished`.
        token = attach(context)
        try:
            return close(self)
        finally:
            detach(token)

    return close_within_span


# ASGI.


def _send_within_span(send_response: Any) -> Any:
    @wraps(send_response)
    async def send_within_span(self: Any, response: Any, send: Any) -> Any:
        context = getattr(response, _RESPONSE_CONTEXT, None)
        if context is None:
            return await send_response(self, response, send)
        # The server writes its access line while it is given the response.
        token = attach(context)
        try:
            return await send_response(self, response, send)
        except BaseException as error:
            remember_span(error, get_current_span(context).get_span_context())
            raise
        finally:
            detach(token)

    return send_within_span


def _install_middleware() -> None:
    """Do the part of `install` that concerns the instrumentation's middleware, if that has not been done yet."""
    middleware = find_middleware()
    if middleware is not None and not is_ours(getattr(middleware, "process_request", None)):
        install()
