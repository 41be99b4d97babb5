"""What a WSGI environment, or Django's ``request.META``, says of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from otelog._requests.access import MOST_AGENT_CHARACTERS, name_host, show
from otelog._requests.client import find_forwarded


def find_path(environ: Mapping[str, Any]) -> str:
    """Returns the request's path, below the server's root, without its query."""
    return show(decode(f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}")) or "/"


def find_agent(environ: Mapping[str, Any]) -> str:
    """Returns the client's name for itself."""
    return decode((environ.get("HTTP_USER_AGENT") or "")[:MOST_AGENT_CHARACTERS])


def find_version(environ: Mapping[str, Any]) -> str:
    """Returns HTTP's version."""
    version: str = (environ.get("SERVER_PROTOCOL") or "").partition("/")[2]
    return version


def find_server(environ: Mapping[str, Any]) -> str:
    """Returns the host's name that the client has asked for."""
    return name_host(environ.get("HTTP_HOST") or environ.get("SERVER_NAME") or "")


def decode(text: str) -> str:
    """Returns what UTF-8 bytes mean, which WSGI gives as Latin-1."""
    return text if text.isascii() else text.encode("latin-1", "replace").decode("utf-8", "replace")


def header_key(name: str) -> str:
    """Returns under which key a request's header is."""
    return f"HTTP_{name.upper().replace('-', '_')}"


def client_finder(client_address: str, trusted_proxies: int) -> Callable[[Mapping[str, Any]], str]:
    """Returns what finds the client's address.

    Args:
        client_address: "peer", "forwarded" or "none".
        trusted_proxies: How many proxies of one's own a request passes.
    """
    if client_address == "none":
        return lambda environ: ""
    if client_address == "peer":
        return _find_peer
    return lambda environ: (
        find_forwarded(environ.get("HTTP_X_FORWARDED_FOR", ""), trusted_proxies) or _find_peer(environ)
    )


def _find_peer(environ: Mapping[str, Any]) -> str:
    return environ.get("REMOTE_ADDR") or ""
