"""What a server says of a request has the request's trace, though it says it when the request's span has ended.

gunicorn, werkzeug and Django's runserver write a line for each request once the application is done with it. The span
is still in the WSGI environment, where opentelemetry-instrumentation-flask has put it, or its context, by
`otelog._patches.django_requests`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import NonRecordingSpan, set_span_in_context

from otelog._patches.asgi_lines import Within
from otelog._patches.asgi_spans import LATEST
from otelog._patches.django_requests import find_context
from otelog._runtime.replacing import find_original, is_ours, mark

SPAN_IN_ENVIRON = "opentelemetry-flask.span_key"


def _find_gunicorns(logger: Any, response: Any, request: Any, environ: Any, *_: Any) -> Any:
    return environ


def _find_handlers(handler: Any, *_: Any) -> Any:
    # Without it the request was none that came to the application.
    return getattr(handler, "environ", None)


# The module, class and method, and where the method has the environment from.
_METHODS: tuple[tuple[str, str, str, Callable[..., Any]], ...] = (
    ("gunicorn.glogging", "Logger", "access", _find_gunicorns),
    ("werkzeug.serving", "WSGIRequestHandler", "log_request", _find_handlers),
    # Closing writes the line, and closes the response.
    ("django.core.servers.basehttp", "ServerHandler", "close", _find_handlers),
)


def install() -> None:
    """Have those servers that are loaded write their lines in the request's context. Idempotent, free of locks."""
    for module_name, class_name, name, find_environ in _METHODS:
        owner = getattr(sys.modules.get(module_name), class_name, None)
        method = getattr(owner, name, None)
        if owner is not None and callable(method) and not is_ours(method):
            setattr(owner, name, _within_span(method, find_environ))


def uninstall() -> None:
    """Take back what `install` has put in place."""
    for module_name, class_name, name, _ in _METHODS:
        owner = getattr(sys.modules.get(module_name), class_name, None)
        method = getattr(owner, name, None)
        if owner is not None and is_ours(method):
            setattr(owner, name, find_original(method))


def _within_span(method: Callable[..., Any], find_environ: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*arguments: Any, **keywords: Any) -> Any:
        scope = LATEST.get()
        if scope is not None:
            # gunicorn's ASGI worker; the connection's next request may have none.
            LATEST.set(None)
            with Within(scope):
                return method(*arguments, **keywords)
        token = None
        # No span, or a server that calls it in another way: the line comes without a trace. The method is not called
        # while that is handled: it may ask which exception is.
        with suppress(Exception):
            token = attach(_make_context(find_environ(*arguments, **keywords)))
        try:
            return method(*arguments, **keywords)
        finally:
            if token is not None:
                detach(token)

    mark(call, method)
    return call


def _make_context(environ: Any) -> Context:
    found = find_context(environ)
    if found is not None:
        return found
    # Whatever is logged inside is not about to extend a span that has ended.
    return set_span_in_context(NonRecordingSpan(environ[SPAN_IN_ENVIRON].get_span_context()))
