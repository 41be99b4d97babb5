"""Django's sites and Celery's applications: whether they are instrumented, and what of their settings hides records."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from otelog._private.django_instrumentation import MIDDLEWARE
from otelog.doctor._findings import Finding, list_names

_HANDLERS = "django.core.handlers."
_OURS = "otelog.django."
_CELERYS = ("opentelemetry.instrumentation.celery", "CeleryInstrumentor")


def is_django(app: object) -> bool:
    """Returns whether it is what Django gives a server, without importing that."""
    return any(one.__name__ == "BaseHandler" and one.__module__.startswith(_HANDLERS) for one in type(app).__mro__)


def is_celery(app: object) -> bool:
    """Returns whether it is an application of Celery's, without importing that."""
    return any(one.__name__ == "Celery" and one.__module__.partition(".")[0] == "celery" for one in type(app).__mro__)


def has_django_handler() -> bool:
    """Returns whether there is a Django site in this process that requests can come to."""
    kind = getattr(sys.modules.get(f"{_HANDLERS}base"), "BaseHandler", None)
    return isinstance(kind, type) and any(issubclass(type(one), kind) for one in gc.get_objects())


def check_django(facts: list[str]) -> Iterator[Finding]:
    """Say whether requests are spans and have access records, and what the settings hide.

    Args:
        facts: Where what is well is added.
    """
    settings: Any = sys.modules["django.conf"].settings
    middleware = [str(one) for one in settings.MIDDLEWARE]
    name = str(getattr(settings, "ROOT_URLCONF", "Django"))
    place = middleware.index(MIDDLEWARE) if MIDDLEWARE in middleware else None
    if place is None:
        yield Finding(
            "error",
            "application.not_instrumented",
            name,
            "is not instrumented: records inside a request have no trace id",
            "start it with `otelog run`, or DjangoInstrumentor().instrument() before the settings are used",
        )
    elif place and not all(one.startswith(_OURS) for one in middleware[:place]):
        yield Finding(
            "warning",
            "application.late_instrumentation",
            name,
            f"has {list_names(middleware[:place])} in front of OpenTelemetry's: their records have no trace id",
            "leave OTEL_PYTHON_DJANGO_MIDDLEWARE_POSITION alone, so that it is the first",
        )
    else:
        facts.append(f"{name} is instrumented: each request is a span")
    if any(one.startswith(_OURS) for one in middleware):
        facts.append(f"{name} has otelog's middleware: each request has an access record")
    else:
        yield Finding(
            "note",
            "application.no_access_log",
            name,
            "has no middleware of otelog's: no access records",
            "put otelog.django.AccessLogMiddleware into MIDDLEWARE, or set OTELOG_ACCESS_LOG=true, if you want them",
        )
    yield from _check_logging(settings)


def ask_django(path: str) -> int:
    """Make a request by Django's test client; returns the status."""
    client: Any = import_module("django.test").Client
    allowed = [host for host in sys.modules["django.conf"].settings.ALLOWED_HOSTS if host[:1] not in "*."]
    status: int = client(raise_request_exception=False).get(path, SERVER_NAME=(allowed or ["localhost"])[0]).status_code
    return status


@contextmanager
def at_end_of_django(act: Callable[..., None]) -> Iterator[None]:
    """Have something called at the end of each request."""
    signal: Any = import_module("django.core.signals").request_finished
    signal.connect(act, weak=False)
    try:
        yield
    finally:
        signal.disconnect(act)


def _check_logging(settings: Any) -> Iterator[Finding]:
    if getattr(settings, "LOGGING_CONFIG", None) is None:
        return
    logging_settings = getattr(settings, "LOGGING", None)
    if not isinstance(logging_settings, dict) or not logging_settings:
        return
    if logging_settings.get("disable_existing_loggers", True):
        yield Finding(
            "note",
            "application.disables_loggers",
            "LOGGING",
            "does not say disable_existing_loggers=False: what it does not name, but is there, is disabled",
            "see what is said of the loggers; set it to False, unless that is meant",
        )


def check_celery(app: Any, facts: list[str]) -> Iterator[Finding]:
    """Say whether tasks are spans, in the trace that they are sent in.

    Args:
        app: Celery's.
        facts: Where what is well is added.
    """
    name = str(getattr(app, "main", None) or "Celery")
    kind = getattr(sys.modules.get(_CELERYS[0]), _CELERYS[1], None)
    if kind is not None and kind().is_instrumented_by_opentelemetry:
        facts.append(f"{name} is instrumented: each task is a span, in the trace that it is sent in")
        return
    yield Finding(
        "error",
        "application.not_instrumented",
        name,
        "is not instrumented: records inside a task have no trace id",
        "pip install 'otelog[celery]', and start the worker, and whoever sends tasks, with `otelog run`",
    )
