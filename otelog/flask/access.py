"""The access record of a Flask application's request, when its response has been sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otelog._requests.access import AccessRecords
from otelog._requests.console import AccessConsole
from otelog._requests.environ import client_finder, decode, find_agent, find_path, find_server, find_version
from otelog._requests.wsgi_servers import has_line_of_server, is_silent_server
from otelog._setup.state import is_configured

if TYPE_CHECKING:
    from otelog.flask.exchange import Exchange
    from otelog.flask.options import FlaskSettings


class AccessLog:
    """Writes access records.

    Args:
        settings: The application's options.

    Thread safety: all methods.
    """

    def __init__(self, settings: FlaskSettings) -> None:
        self._records = AccessRecords(settings.access_log_name)
        self._console = AccessConsole(settings.access_log_name)
        self._silenced = settings.server_access_log == "silence"
        self._find_client = client_finder(settings.client_address, settings.trusted_proxies)

    def write(self, exchange: Exchange) -> None:
        """Record a request, in the current context."""
        environ = exchange.wsgi
        route = exchange.route
        if route is not None:
            root = environ.get("SCRIPT_NAME")
            if root:
                route = decode(root) + route
        written = self._records.write(
            exchange,
            method=environ["REQUEST_METHOD"],
            path=find_path(environ),
            scheme=environ["wsgi.url_scheme"],
            route=route,
            client=self._find_client(environ),
            agent=find_agent(environ),
            version=find_version(environ),
            server=find_server(environ),
        )
        # Without a pipeline, `logging` has had it already.
        if is_configured() and not has_line_of_server(environ, silenced=self._silenced):
            self._console.show(written, exchange.span_context, last_resort=is_silent_server(environ))
