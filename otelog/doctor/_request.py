"""Whether a record inside a request has the request's trace, by a request to the application itself."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from otelog.doctor._asgi_request import ask_asgi, is_asgi, log_inside
from otelog.doctor._canary import SCOPE
from otelog.doctor._findings import Finding, list_names
from otelog.doctor._flask_applications import is_flask
from otelog.doctor._other_applications import ask_django, at_end_of_django, is_django
from otelog.testing import capture_logs


def check_request(app: Any, path: str, facts: list[str]) -> Iterator[Finding]:
    """Make a request to the application itself; its records are kept from the pipeline meanwhile.

    Args:
        app: Flask's, Django's, or an ASGI application; others cannot be asked.
        path: What is asked for.
        facts: Where what is well is added.
    """
    if is_flask(app):
        ask = _ask_flask
    elif is_django(app):
        ask = _ask_django
    elif is_asgi(app):
        ask = ask_asgi
    else:
        yield Finding(
            "error",
            "application.no_test_client",
            path,
            "only a Flask, Django or ASGI application can be asked for a path here",
            "leave the request out",
        )
        return
    with capture_logs() as logs:
        try:
            status = ask(app, path)
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
            "is it instrumented, and is there a TracerProvider? a thread of its own needs its instrumentation, too",
        )
    else:
        facts.append(f"{path} was answered {status}; {len(records)} records inside, all with the request's trace id")


def _scope(record: Any) -> str:
    scope = record.instrumentation_scope
    return "" if scope is None else str(scope.name)


def _ask_flask(app: Any, path: str) -> int:
    with _record_inside(app):
        return int(app.test_client().get(path).status_code)


def _ask_django(app: Any, path: str) -> int:
    # There is one site in a process: `app` is its handler.
    def log(**_: object) -> None:
        log_inside()

    with at_end_of_django(log):
        return ask_django(path)


@contextmanager
def _record_inside(app: Any) -> Iterator[None]:
    """Log one record at the end of each request, whatever the application does before."""

    def log(sender: object, **_: object) -> None:
        log_inside()

    signal = importlib.import_module("flask").request_finished
    with signal.connected_to(log, sender=app):
        yield
