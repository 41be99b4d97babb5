"""Private names of opentelemetry-instrumentation-flask that are read, and what is done where a release has none."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["KEYS", "NAMES", "end_span", "find_tracer"]

NAMES: tuple[tuple[str, str], ...] = (
    ("opentelemetry.instrumentation.flask", "_ENVIRON_ACTIVATION_KEY"),
    ("opentelemetry.instrumentation.flask", "_ENVIRON_REQCTX_REF_KEY"),
    ("opentelemetry.instrumentation.flask", "_ENVIRON_TOKEN"),
    ("opentelemetry.instrumentation.flask", "_request_ctx_ref"),
    ("opentelemetry.trace", "ProxyTracer"),
)
"""Modules, and the names in them that are read here."""

KEYS = {
    "_ENVIRON_ACTIVATION_KEY": "opentelemetry-flask.activation_key",
    "_ENVIRON_REQCTX_REF_KEY": "opentelemetry-flask.reqctx_ref_key",
    "_ENVIRON_TOKEN": "opentelemetry-flask.token",
}
"""Where it keeps what ends a request's span, in the WSGI environment, by the names of its constants."""


def end_span(environ: dict[str, Any], error: BaseException) -> Any:
    """End the request's span with an error, where it is the current request's own.

    Returns:
        The token of the context that the instrumentation has attached; None: there is nothing to detach.
    """
    from opentelemetry.instrumentation import flask as instrumentation

    owner: Any = environ.get(KEYS["_ENVIRON_REQCTX_REF_KEY"])
    current: Any = getattr(instrumentation, "_request_ctx_ref", None)
    if owner is None or current is None or owner() is not current()():
        # A copy of the request's context, in a thread perhaps: the span is the other one's.
        return None
    activation, token = environ.pop(KEYS["_ENVIRON_ACTIVATION_KEY"], None), environ.pop(KEYS["_ENVIRON_TOKEN"], None)
    if activation is not None:
        activation.__exit__(type(error), error, error.__traceback__)
    return token


def find_tracer(app: Flask) -> Any:
    """Returns the SDK's tracer that an instrumented application starts its request spans with, or None."""
    # The instrumentation keeps it nowhere but in the function that starts the span.
    before_request = getattr(app, "_before_request", None)
    if not inspect.isfunction(before_request):
        return None
    tracer = inspect.getclosurevars(before_request).nonlocals.get("tracer")
    if isinstance(tracer, trace.ProxyTracer):
        tracer = getattr(tracer, "_tracer", None)
    return tracer if hasattr(tracer, "id_generator") else None
