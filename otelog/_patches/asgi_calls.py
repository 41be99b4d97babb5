"""A layer around every application of a framework's, put there when it is first called.

Frameworks without an instrumentation of OpenTelemetry's (Quart), and access records that nobody has asked for in code,
need a layer around applications that are made by their own code. What every server calls is the class's public
``__call__``: so that is replaced, and a layer is made once for each application.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from opentelemetry.trace import get_current_span

from otelog._private.opentelemetry import is_asgi_middleware
from otelog._record.values import safe_str
from otelog._runtime.diagnostics import warn
from otelog._runtime.replacing import find_original, is_ours, mark

__all__ = ["layer_calls", "trace_calls", "unlayer_calls"]


def layer_calls(owner: Any, key: str, make: Callable[[Any, Any], Any]) -> None:
    """Have the calls of all applications of a class go through a layer.

    Args:
        owner: The class; another layer may be there already.
        key: Under which an application keeps its layer.
        make: Called with an ASGI application and the one that it stands for; returns the layer, an ASGI application.
            One that raises leaves the application as it is.
    """
    call = owner.__call__

    def find_layer(self: Any) -> Any:
        layer = self.__dict__.get(key)
        if layer is None:
            bare = partial(call, self)
            try:
                layer = make(bare, self)
            except Exception as error:
                warn(f"layer:{key}", f"{type(self).__name__} goes on without {key}: {safe_str(error)}")
                layer = bare
            self.__dict__[key] = layer
        return layer

    # A coroutine function: by that servers tell ASGI 3 from ASGI 2.
    @wraps(call)
    async def call_layer(self: Any, scope: Any, receive: Any, send: Any) -> Any:
        return await find_layer(self)(scope, receive, send)

    mark(call_layer, call)
    owner.__call__ = call_layer


def unlayer_calls(owner: Any) -> None:
    """Take all layers off again."""
    if is_ours(owner.__call__):
        owner.__call__ = find_original(owner.__call__)


def trace_calls(owner: Any, excluded_urls: Any) -> None:
    """Have the requests of all applications of a class, Quart's, get a span each, unless they have one already.

    Args:
        owner: The class.
        excluded_urls: What opentelemetry.util.http has found of URLs without a span.

    Raises:
        ImportError: opentelemetry-instrumentation-asgi is missing.
    """
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    def make(bare: Any, app: Any) -> Any:
        traced = OpenTelemetryMiddleware(bare, excluded_urls=excluded_urls, exclude_spans=["receive", "send"])

        async def choose(scope: Any, receive: Any, send: Any) -> Any:
            # Somebody else's middleware around the application, or in it.
            has_span = get_current_span().get_span_context().is_valid or is_asgi_middleware(app.asgi_app)
            return await (bare if has_span else traced)(scope, receive, send)

        return choose

    layer_calls(owner, "_otelog_traced", make)
