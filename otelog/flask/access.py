"""The access record: one line for each request, when its response has been sent."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from otelog._setup.configure import get_logger
from otelog._setup.state import is_configured
from otelog.flask.console import AccessConsole

if TYPE_CHECKING:
    from collections.abc import Callable

    from otelog.flask.exchange import Exchange
    from otelog.flask.options import FlaskSettings

DURATION_FIELD = "http.server.request.duration"
"""Seconds, as the metric of this name is."""

MOST_AGENT_CHARACTERS = 256
MOST_METHOD_CHARACTERS = 32
MOST_ADDRESS_CHARACTERS = 64

_METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"})
_OTHER = "_OTHER"
_MESSAGE = "%s %s %d"


class AccessLog:
    """Writes access records.

    Args:
        settings: The application's options.

    Thread safety: all methods.
    """

    def __init__(self, settings: FlaskSettings) -> None:
        self._logger = get_logger(settings.access_log_name)
        self._console = AccessConsole(settings.access_log_name, silenced=settings.server_access_log == "silence")
        self._find_client = _find_client_finder(settings)

    def write(self, exchange: Exchange) -> None:
        """Record a request, in the current context.

        5xx is an ERROR, and so is a body that broke off with an exception. 4xx stays INFO: it is the client's error.

        Source: semantic conventions, HTTP attributes.
        """
        environ = exchange.wsgi
        method = environ["REQUEST_METHOD"]
        path = find_path(environ)
        status = exchange.status
        fields: dict[str, Any] = {
            "http.request.method": method,
            "url.path": path,
            "url.scheme": environ["wsgi.url_scheme"],
            "http.response.status_code": status,
            "http.response.body.size": exchange.sent_bytes,
            DURATION_FIELD: time.perf_counter() - exchange.begin,
        }
        if method not in _METHODS:
            fields["http.request.method"] = _OTHER
            fields["http.request.method_original"] = method = _show(method[:MOST_METHOD_CHARACTERS])
        route = exchange.route
        if route is not None:
            root = environ.get("SCRIPT_NAME")
            if root:
                route = _decode(root) + route
            fields["http.route"] = route
        client = self._find_client(environ)
        if client:
            fields["client.address"] = client
        agent = environ.get("HTTP_USER_AGENT")
        if agent:
            fields["user_agent.original"] = _decode(agent[:MOST_AGENT_CHARACTERS])
        protocol = environ.get("SERVER_PROTOCOL")
        if protocol:
            fields["network.protocol.version"] = protocol.partition("/")[2]
        server = _find_server(environ)
        if server:
            fields["server.address"] = server
        place = path if route is None else route
        if exchange.error_type is not None:
            fields["error.type"] = exchange.error_type
        elif status >= 500:
            fields["error.type"] = str(status)
        if status >= 500 or exchange.error_type is not None:
            level = logging.ERROR
            self._logger.error(_MESSAGE, method, place, status, **fields)
        else:
            level = logging.INFO
            self._logger.info(_MESSAGE, method, place, status, **fields)
        if is_configured():
            # Otherwise `logging` has had it already.
            arguments = (method, place, status)
            self._console.show(environ, level, _MESSAGE, arguments, fields, exchange.span_context)


def find_path(environ: dict[str, Any]) -> str:
    """Returns the request's path, below the server's root, without its query."""
    return _show(_decode(f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}")) or "/"


def _decode(text: str) -> str:
    # WSGI gives bytes as Latin-1.
    return text if text.isascii() else text.encode("latin-1", "replace").decode("utf-8", "replace")


def _show(text: str) -> str:
    # It is the client's, and a line of a log file must stay one.
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _find_server(environ: dict[str, Any]) -> str:
    host: str = environ.get("HTTP_HOST") or environ.get("SERVER_NAME") or ""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _find_client_finder(settings: FlaskSettings) -> Callable[[dict[str, Any]], str]:
    if settings.client_address == "none":
        return lambda environ: ""
    if settings.client_address == "peer":
        return _find_peer
    proxies = settings.trusted_proxies

    def find_forwarded(environ: dict[str, Any]) -> str:
        # Each proxy adds, on the right, whom it has seen: what is left of the trusted ones' words may be a lie.
        addresses = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
        address: str = addresses[-proxies].strip() if len(addresses) >= proxies else ""
        return _show(address[:MOST_ADDRESS_CHARACTERS]) or _find_peer(environ)

    return find_forwarded


def _find_peer(environ: dict[str, Any]) -> str:
    return environ.get("REMOTE_ADDR") or ""
