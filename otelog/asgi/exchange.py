"""One request of an ASGI application, or one websocket, with what is sent for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from otelog._requests import exchange
from otelog._requests.access import MOST_AGENT_CHARACTERS, name_host, show
from otelog._requests.client import MOST_ADDRESS_CHARACTERS, find_forwarded

MOST_HOST_CHARACTERS = 256

HOST, AGENT, FORWARDED = b"host", b"user-agent", b"x-forwarded-for"


class Exchange(exchange.Exchange):
    """What one application does for one scope.

    Args:
        scope: The connection's scope.
        headers: What `read_headers` has found in it.
        request_id: The request's id; None where there shall be none.
        given_trace_id: What the client's header says of the trace, if anything.
    """

    __slots__ = (
        "accepted",
        "close_code",
        "disconnected",
        "has_trailers",
        "headers",
        "is_websocket",
        "path",
        "scope",
        "sent_headers",
    )

    def __init__(
        self, scope: Any, headers: Mapping[bytes, str], request_id: str | None, given_trace_id: str | None
    ) -> None:
        super().__init__(request_id, given_trace_id)
        self.scope = scope
        self.headers = headers
        self.is_websocket = scope["type"] == "websocket"
        # Now: who mounts applications changes it.
        self.path = find_path(scope)
        self.accepted = False
        """Whether a websocket's handshake was answered with yes."""
        self.close_code: int | None = None
        self.disconnected = False
        self.has_trailers = False
        self.sent_headers: list[Any] = []


def find_path(scope: Mapping[str, Any]) -> str:
    """Returns the request's path, below the server's root, without its query."""
    path, root = str(scope.get("path") or ""), str(scope.get("root_path") or "")
    # Of newer servers a path has it already.
    return show(path if path.startswith(root) else root + path) or "/"


def find_route(scope: Mapping[str, Any]) -> str | None:
    """Returns the template that a request's path has matched, where the framework says so, below the server's root."""
    template = getattr(scope.get("route"), "path", None)
    if not isinstance(template, str):
        return None
    return f"{scope.get('root_path') or ''}{template}" or "/"


def read_headers(headers: Iterable[Any], wanted: frozenset[bytes]) -> dict[bytes, str]:
    """Returns the values of some headers: the first of each name, and all of the one that is a list.

    Args:
        headers: A scope's: pairs of bytes.
        wanted: Their names, in small letters.
    """
    found: dict[bytes, bytes] = {}
    passed: list[bytes] = []
    for name, value in headers:
        if name in wanted:
            if name == FORWARDED:
                passed.append(value)
            else:
                found.setdefault(name, value)
    if passed:
        found[FORWARDED] = b",".join(passed)
    return {name: value.decode("utf-8", "replace") for name, value in found.items()}


def find_agent(headers: Mapping[bytes, str]) -> str:
    """Returns the client's name for itself."""
    return headers.get(AGENT, "")[:MOST_AGENT_CHARACTERS]


def find_server(scope: Mapping[str, Any], headers: Mapping[bytes, str]) -> str:
    """Returns the host's name that the client has asked for."""
    host = headers.get(HOST)
    if host is None:
        server = scope.get("server")
        return str(server[0] or "") if server else ""
    return name_host(host[:MOST_HOST_CHARACTERS])


def client_finder(client_address: str, trusted_proxies: int) -> Callable[[Exchange], str]:
    """Returns what finds the client's address.

    Args:
        client_address: "peer", "forwarded" or "none".
        trusted_proxies: How many proxies of one's own a request passes.
    """
    if client_address == "none":
        return lambda exchange: ""
    if client_address == "peer":
        return _find_peer
    return lambda exchange: find_forwarded(exchange.headers.get(FORWARDED, ""), trusted_proxies) or _find_peer(exchange)


def _find_peer(exchange: Exchange) -> str:
    client = exchange.scope.get("client")
    # A server on a Unix socket has none.
    return show(str(client[0] or "")[:MOST_ADDRESS_CHARACTERS]) if client else ""
