"""Flask's applications: which there are, and whether OpenTelemetry's instrumentation is on them."""

from __future__ import annotations

import gc
import sys
from typing import Any

from otelog.doctor._findings import Finding

# What the instrumentation leaves on an application, whether the class or the object was instrumented.
_MARK = "_is_instrumented_by_opentelemetry"


def is_flask(app: object) -> bool:
    """Returns whether it is an application of Flask's, without importing that."""
    return any(one.__name__ == "Flask" and one.__module__.partition(".")[0] == "flask" for one in type(app).__mro__)


def find_applications() -> list[Any]:
    """Returns all applications of Flask's in this process."""
    kind = getattr(sys.modules.get("flask"), "Flask", None)
    if not isinstance(kind, type):
        return []
    return [one for one in gc.get_objects() if issubclass(type(one), kind)]


def check_instrumentation(app: Any, facts: list[str]) -> list[Finding]:
    """Say whether requests to an application are spans.

    Args:
        app: Of Flask's.
        facts: Where what is well is added.
    """
    name = str(getattr(app, "name", "Flask"))
    if getattr(app, _MARK, False):
        facts.append(f"{name} is instrumented: each request is a span")
        return []
    return [
        Finding(
            "error",
            "application.not_instrumented",
            name,
            "is not instrumented: records inside a request have no trace id",
            "start it with `otelog run`, or FlaskInstrumentor().instrument_app(app)",
        )
    ]
