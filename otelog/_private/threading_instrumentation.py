"""What opentelemetry-instrumentation-threading keeps with a thread: read, and nothing where there is none."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context

NAME = "_otel_context"


def find_context(thread: Any) -> Context | None:
    """Returns the OpenTelemetry Context that a thread was started in and has run in, if it was to inherit one."""
    found = getattr(thread, "__dict__", {}).get(NAME)
    return found if isinstance(found, Context) else None
