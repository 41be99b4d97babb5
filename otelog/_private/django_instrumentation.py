"""Private names of opentelemetry-instrumentation-django that are read, and what is done where a release has none."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any

from opentelemetry.context import detach

__all__ = ["KEYS", "MIDDLEWARE", "NAMES", "end_span", "find_middleware", "find_span_context", "is_instrumented"]

_MODULE = "opentelemetry.instrumentation.django.middleware.otel_middleware"
_MIDDLEWARE = "_DjangoMiddleware"

MIDDLEWARE = f"{_MODULE}.{_MIDDLEWARE}"
"""What stands for it in Django's settings."""

NAMES: tuple[tuple[str, str], ...] = ((_MODULE, _MIDDLEWARE),)
"""Modules, and the names in them that are read here."""

KEYS = {
    "_environ_activation_key": "opentelemetry-instrumentor-django.activation_key",
    "_environ_span_key": "opentelemetry-instrumentor-django.span_key",
    "_environ_token": "opentelemetry-instrumentor-django.token",
}
"""Where it keeps a request's span, in the request's ``META``, by the names of its middleware's attributes."""


def is_instrumented() -> bool:
    """Returns whether Django's instrumentation is in place already."""
    kind = getattr(sys.modules.get("opentelemetry.instrumentation.django"), "DjangoInstrumentor", None)
    return kind is not None and getattr(kind(), "is_instrumented_by_opentelemetry", False) is True


def find_middleware() -> Any:
    """Returns the instrumentation's middleware, or None where it is not loaded, or has another name."""
    return getattr(sys.modules.get(_MODULE), _MIDDLEWARE, None)


def find_span_context(meta: MutableMapping[str, Any]) -> Any:
    """Returns the context of the span that runs for a request, or None."""
    span = meta.get(KEYS["_environ_span_key"])
    return None if span is None else span.get_span_context()


def end_span(meta: MutableMapping[str, Any], error: BaseException) -> None:
    """End a request's span with an error, where the instrumentation has not ended it; in the context of its begin."""
    meta.pop(KEYS["_environ_span_key"], None)
    activation = meta.pop(KEYS["_environ_activation_key"], None)
    token = meta.pop(KEYS["_environ_token"], None)
    if activation is not None:
        activation.__exit__(type(error), error, error.__traceback__)
    if token is not None:
        detach(token)
