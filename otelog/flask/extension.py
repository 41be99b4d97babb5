"""The extension: ``FlaskLogging(app)``, or ``FlaskLogging()`` with ``init_app(app)`` in an application factory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import flask

from otelog._requests.entries import make_entries
from otelog._requests.threads import instrument_threading
from otelog._runtime.diagnostics import warn
from otelog._setup.configure import configure
from otelog._setup.state import is_configured
from otelog.exceptions import ConfigurationError
from otelog.flask.health import health_app
from otelog.flask.metrics_view import metrics_app, unavailable_app
from otelog.flask.middleware import RequestMiddleware
from otelog.flask.options import FlaskSettings, resolve
from otelog.flask.server_lines import drop_doubled_exceptions, keep_back_request_lines
from otelog.flask.spans import instrument
from otelog.flask.trace_ids import accept_offers

if TYPE_CHECKING:
    from flask import Flask
    from typing_extensions import Unpack

    from otelog.flask.options import FlaskOptions

EXTENSION_NAME = "otelog"


class FlaskLogging:
    """Logs a Flask application's requests through otelog.

    Each request has one access record, its unhandled exception is one record, and all its records have its trace and
    its id. `otelog.configure` is called with what the environment says, unless it has been called before.

    Args:
        app: The application; None to name it later, with `init_app`.
        options: Keyword-only, the same for every application that this extension is given.

            - `excluded_urls`: Regular expressions with commas between them: URLs that have no span, as in
              opentelemetry-instrumentation-flask.
            - `access_log`: Whether there are access records.
            - `access_log_name`: Their logger's name.
            - `access_log_excluded`: Paths without an access record; one that ends with ``*`` is a prefix.
            - `server_access_log`: What becomes of werkzeug's and gunicorn's own lines of the requests that have an
              access record. "console" leaves them on the server's console and in its files, and exports them not;
              "silence" drops them; "keep" exports them, too. A request that has no line of its server's on the console
              has one of otelog's: by the application's own handlers, or on standard error under waitress and gunicorn.
              The level of the `logging` logger `access_log_name` turns these off.
            - `client_address`: "peer" (who is connected), "forwarded" (what the outermost of `trusted_proxies` has put
              into ``X-Forwarded-For``), or "none".
            - `trusted_proxies`: How many proxies of one's own a request passes.
            - `request_id_header`: The header that brings a request id, and takes it back; None for no request id.
            - `trace_id_header`: The header that brings a trace id, and takes the request's back; None for neither.
            - `fields`: Called with the request; what it returns are fields of every record inside of the request.
            - `instrument_threading`: Whether threads inherit the request's trace and fields, in the whole process, by
              opentelemetry-instrumentation-threading.
            - `metrics`: A path that answers with Prometheus metrics, such as "/metrics"; None for none. Without
              prometheus-client, which the extra ``flask`` brings, it answers 503.
            - `health`: A path that answers with the pipeline's state, such as "/health"; None for none.

    Raises:
        ConfigurationError: An option is unknown or has a value that cannot be used.

    Thread safety: to be used where the application is set up. It holds on to no application.
    """

    def __init__(self, app: Flask | None = None, **options: Unpack[FlaskOptions]) -> None:
        self._settings = resolve(options)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set an application up, before its first request. Again with the same options it does nothing.

        Raises:
            ConfigurationError: The application has been set up with other options.
        """
        settings = self._settings
        before = app.extensions.get(EXTENSION_NAME)
        if isinstance(before, _Installed):
            if before.settings != settings:
                raise ConfigurationError("this application has FlaskLogging already, with other options")
            return
        entries = make_entries(
            "flask",
            metrics=settings.metrics,
            health=settings.health,
            metrics_app=metrics_app,
            unavailable_app=unavailable_app,
            health_app=health_app,
        )
        if not is_configured():
            configure()
        instrument(app, settings.excluded_urls)
        middleware = RequestMiddleware(app.wsgi_app, app.name, settings, entries)
        app.extensions[EXTENSION_NAME] = _Installed(settings, middleware)
        _place_before_request(app, middleware)
        app.wsgi_app = middleware  # type: ignore[method-assign]
        # Weakly: the application's end is the middleware's.
        flask.got_request_exception.connect(middleware.on_exception, app)
        if settings.trace_id_header is not None and not accept_offers(app) and is_configured():
            warn(
                "flask:trace_ids",
                f"{settings.trace_id_header} cannot become a trace id with this version of the instrumentation;"
                " it is the attribute request.trace_id",
            )
        if settings.access_log and settings.server_access_log != "keep":
            keep_back_request_lines(settings.access_log_name)
        drop_doubled_exceptions()
        if settings.instrument_threading:
            instrument_threading()


class _Installed:
    """What an application has in ``app.extensions``."""

    __slots__ = ("middleware", "settings")

    def __init__(self, settings: FlaskSettings, middleware: RequestMiddleware) -> None:
        self.settings = settings
        self.middleware = middleware


def _place_before_request(app: Flask, middleware: RequestMiddleware) -> None:
    functions = app.before_request_funcs.setdefault(None, [])
    started = getattr(app, "_before_request", None)
    functions.insert(functions.index(started) + 1 if started in functions else 0, middleware.before_request)
