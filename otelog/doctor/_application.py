"""Whether a Flask application is instrumented, and whether a record inside a request has the request's trace."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from otelog.doctor._canary import SCOPE
from otelog.doctor._findings import Area, Finding, list_names, make_area
from otelog.testing import capture_logs

_INSTRUMENTED = "_is_instrumented_by_opentelemetry"


def check_application(app: object, request: str | None = None) -> Area:
    """Look at an application, and make a request to it if there is a path for one.

    Args:
        app: Any; what can be said of others than Flask's is little.
        request: The path that is asked for by the application's own test client. Its records are kept from the
            pipeline meanwhile.
    """
    kind = type(app)
    facts: list[str] = []
    findings: list[Finding] = []
    if not _is_flask(app):
        facts.append(f"{kind.__module__}.{kind.__qualname__} is not Flask's: its requests are not looked at")
    elif getattr(app, _INSTRUMENTED, False):
        facts.append("Flask is instrumented: each request is a span")
    else:
        findings.append(
            Finding(
                "error",
                "application.not_instrumented",
                f"{kind.__module__}.{kind.__qualname__}",
                "is not instrumented: records inside a request have no trace id",
                "start it with `otelog run`, or FlaskInstrumentor().instrument_app(app)",
            )
        )
    if request is not None:
        findings += _check_request(app, request, facts)
    return make_area("application", facts, findings)


def _is_flask(app: object) -> bool:
    return any(one.__name__ == "Flask" and one.__module__.partition(".")[0] == "flask" for one in type(app).__mro__)


def _check_request(app: Any, path: str, facts: list[str]) -> Iterator[Finding]:
    if not _is_flask(app):
        yield Finding(
            "error",
            "application.no_test_client",
            path,
            "only a Flask application can be asked for a path here",
            "leave the request out",
        )
        return
    with capture_logs() as logs:
        try:
            with _record_inside(app):
                status = app.test_client().get(path).status_code
        except Exception as error:
            yield Finding(
                "error",
                "application.request_failed",
                path,
                f"the request ended with {type(error).__name__}: {error}",
                "ask for a path that works without a login or a database",
            )
            return
        records = logs.records
    if not any(_scope(one) == SCOPE for one in records):
        yield Finding(
            "error",
            "application.no_record",
            path,
            f"was answered {status}, but a record inside the request did not arrive",
            "see what is said of the loggers",
        )
        return
    bare = sorted({_scope(one) for one in records if not one.log_record.trace_id})
    if bare:
        yield Finding(
            "error",
            "application.no_trace_id",
            path,
            f"was answered {status}, and records of {list_names(bare)} have no trace id",
            "is Flask instrumented, and is there a TracerProvider? a thread of its own needs its instrumentation, too",
        )
    else:
        facts.append(f"{path} was answered {status}; {len(records)} records inside, all with the request's trace id")


def _scope(record: Any) -> str:
    scope = record.instrumentation_scope
    return "" if scope is None else str(scope.name)


@contextmanager
def _record_inside(app: Any) -> Iterator[None]:
    """Log one record at the end of each request, whatever the application does before."""
    logger = logging.getLogger(SCOPE)

    def log(sender: object, **_: object) -> None:
        logger.log(logger.getEffectiveLevel(), "otelog doctor was here")

    signal = importlib.import_module("flask").request_finished
    with signal.connected_to(log, sender=app):
        yield
