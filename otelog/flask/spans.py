"""The request's span, which opentelemetry-instrumentation-flask starts and ends: first of all, last of all, always."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.flask import FlaskInstrumentor

from otelog._patches.flask_teardown import keep_context
from otelog._runtime.diagnostics import warn

if TYPE_CHECKING:
    from flask import Flask

# Where the instrumentation keeps what ends the span; it has no public name.
_ACTIVATION = "opentelemetry-flask.activation_key"


def instrument(app: Flask, excluded_urls: str | None) -> None:
    """Instrument an application, unless it is instrumented already.

    Args:
        app: The application.
        excluded_urls: Regular expressions of URLs without a span; None for what the environment says.
    """
    # Under `otelog run` the class has it.
    if not hasattr(app.do_teardown_request, "__wrapped__"):
        keep_context(app)
    if getattr(app, "_is_instrumented_by_opentelemetry", False):
        if excluded_urls is not None:
            warn(
                "flask:excluded_urls",
                "excluded_urls says nothing to an application that is instrumented already;"
                " OTEL_PYTHON_FLASK_EXCLUDED_URLS does",
            )
        return
    FlaskInstrumentor().instrument_app(app, excluded_urls=excluded_urls)
    # What the application's own functions log or raise is to be in the span: those that are registered already, too.
    _move_to_front(app.before_request_funcs[None], getattr(app, "_before_request", None))
    # The first is called last.
    _move_to_front(app.teardown_request_funcs[None], getattr(app, "_teardown_request", None))


def _move_to_front(functions: list[Any], function: Any) -> None:
    if function in functions:
        functions.remove(function)
        functions.insert(0, function)


def end_span(environ: dict[str, Any], error: BaseException) -> None:
    """End the request's span with an exception, if the instrumentation could not: a teardown function has raised.

    Left alone it would end whenever the collector comes by, and complain of a context that is not there.
    """
    activation = environ.pop(_ACTIVATION, None)
    if activation is not None:
        activation.__exit__(type(error), error, error.__traceback__)
