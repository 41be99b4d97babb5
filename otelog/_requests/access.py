"""The access record: one for each request, with the same names whatever framework has the request."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from otelog._setup.configure import get_logger

if TYPE_CHECKING:
    from otelog._requests.exchange import Exchange

DURATION_FIELD = "http.server.request.duration"
"""Seconds, as the metric of this name is."""

MESSAGE = "%s %s %d"
"""Method, route or else path, status."""

MOST_AGENT_CHARACTERS = 256
MOST_METHOD_CHARACTERS = 32

_METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"})
_OTHER = "_OTHER"


class Written(NamedTuple):
    """An access record that has been made."""

    level: int
    arguments: tuple[str, str, int]
    """Of `MESSAGE`."""
    fields: dict[str, Any]


class AccessRecords:
    """Makes access records.

    Args:
        name: Their logger's.

    Thread safety: all methods.
    """

    def __init__(self, name: str) -> None:
        self._logger = get_logger(name)

    def write(
        self,
        exchange: Exchange,
        *,
        method: str,
        path: str,
        scheme: str,
        route: str | None = None,
        client: str = "",
        agent: str = "",
        version: str = "",
        server: str = "",
        others: Mapping[str, Any] | None = None,
    ) -> Written:
        """Record a request, in the current context.

        5xx is an ERROR, and so is a body that broke off with an exception. 4xx stays INFO: it is the client's error.

        Source: semantic conventions, HTTP attributes.

        Args:
            exchange: The request's.
            method: As the client has sent it.
            path: Below the server's root, without its query; `show` has made it fit for a line.
            scheme: "http" or "https".
            route: The template that the path matched, below the server's root.
            client: The client's address.
            agent: The client's name for itself.
            version: Of HTTP, such as "1.1".
            server: The host's name as the client has asked for it, without its port.
            others: Further fields.
        """
        status = exchange.status
        fields: dict[str, Any] = {
            "http.request.method": method,
            "url.path": path,
            "url.scheme": scheme,
            "http.response.status_code": status,
            "http.response.body.size": exchange.sent_bytes,
            DURATION_FIELD: (exchange.end or time.perf_counter()) - exchange.begin,
        }
        if method not in _METHODS:
            fields["http.request.method"] = _OTHER
            fields["http.request.method_original"] = method = show(method[:MOST_METHOD_CHARACTERS])
        if route is not None:
            fields["http.route"] = route
        if client:
            fields["client.address"] = client
        if agent:
            fields["user_agent.original"] = agent[:MOST_AGENT_CHARACTERS]
        if version:
            fields["network.protocol.version"] = version
        if server:
            fields["server.address"] = server
        if others:
            fields.update(others)
        place = path if route is None else route
        if exchange.error_type is not None:
            fields["error.type"] = exchange.error_type
        elif status >= 500:
            fields["error.type"] = str(status)
        arguments = (method, place, status)
        if status >= 500 or exchange.error_type is not None:
            self._logger.error(MESSAGE, *arguments, **fields)
            return Written(logging.ERROR, arguments, fields)
        self._logger.info(MESSAGE, *arguments, **fields)
        return Written(logging.INFO, arguments, fields)


def show(text: str) -> str:
    """Returns a client's text without what a line of a log file must not have."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def name_host(host: str) -> str:
    """Returns the name in a ``Host`` header, without its port and the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


class ExcludedPaths:
    """Paths that are to have no access record.

    Args:
        patterns: Paths; one that ends with ``*`` is a prefix.
    """

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._paths = frozenset(path for path in patterns if not path.endswith("*"))
        self._prefixes = tuple(path[:-1] for path in patterns if path.endswith("*"))

    def __contains__(self, path: str) -> bool:
        return path in self._paths or path.startswith(self._prefixes)
