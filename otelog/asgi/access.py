"""The access record of an ASGI application's request, when its response has been sent, or its websocket is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otelog._requests.access import AccessRecords
from otelog._requests.console import AccessConsole
from otelog._setup.state import is_configured
from otelog.asgi.exchange import client_finder, find_agent, find_route, find_server
from otelog.asgi.server_lines import has_line_of_server, is_silent_server

if TYPE_CHECKING:
    from otelog.asgi.exchange import Exchange
    from otelog.asgi.options import AccessLogSettings

CLOSE_CODE_FIELD = "websocket.close_code"


class AccessWriter:
    """Writes access records.

    Args:
        settings: The application's options.

    Thread safety: all methods.
    """

    def __init__(self, settings: AccessLogSettings) -> None:
        self._records = AccessRecords(settings.access_log_name)
        self._console = AccessConsole(settings.access_log_name)
        self._silenced = settings.server_access_log == "silence"
        self._find_client = client_finder(settings.client_address, settings.trusted_proxies)

    def write(self, exchange: Exchange) -> None:
        """Record a request, in the current context."""
        scope = exchange.scope
        others: dict[str, Any] | None = None
        if exchange.is_websocket:
            others = {"network.protocol.name": "websocket"}
            if exchange.close_code is not None:
                others[CLOSE_CODE_FIELD] = exchange.close_code
        written = self._records.write(
            exchange,
            method=str(scope.get("method") or "GET"),
            path=exchange.path,
            scheme=str(scope.get("scheme") or ("ws" if exchange.is_websocket else "http")),
            route=find_route(scope),
            client=self._find_client(exchange),
            agent=find_agent(exchange.headers),
            version=str(scope.get("http_version") or ""),
            server=find_server(scope, exchange.headers),
            others=others,
        )
        # Without a pipeline, `logging` has had it already.
        if is_configured() and not has_line_of_server(exchange, silenced=self._silenced):
            self._console.show(written, exchange.span_context, last_resort=is_silent_server())
