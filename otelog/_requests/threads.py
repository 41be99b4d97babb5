"""Threads inherit a request's trace and fields."""

from __future__ import annotations


def instrument_threading() -> None:
    """Have threads inherit the context in which they are started, in the whole process. Idempotent.

    Without opentelemetry-instrumentation-threading they do not.
    """
    try:
        from opentelemetry.instrumentation.threading import ThreadingInstrumentor
    except ImportError:
        return
    instrumentor = ThreadingInstrumentor()
    if not instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.instrument()
