"""HTTP proxies: which one a server is reached by, as the environment says, and what is in a proxy's URL. Pure.

The variables are those of the usual clients: HTTPS_PROXY and HTTP_PROXY by the server's scheme, ALL_PROXY for both, and
NO_PROXY with what is reached without. A name in small letters wins over the same in capitals.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from otelog._runtime.urls import DEFAULT_PORTS, read_authority

__all__ = ["DIRECT", "Proxy", "choose_proxy", "hide_credentials", "parse_proxy"]

DIRECT = "none"
"""What the option `proxy` says for no proxy at all."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_CREDENTIALS = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)?[^/?#]*@")


class Proxy(NamedTuple):
    """An HTTP proxy.

    Args:
        secure: Whether the proxy itself is reached by TLS.
        host: Name or address, without brackets; ASCII.
        port: TCP port.
        authorization: Value of the header ``Proxy-Authorization``, a secret; None: there is none.
    """

    secure: bool
    host: str
    port: int
    authorization: str | None

    @property
    def url(self) -> str:
        """The proxy's URL without credentials, for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}"

    def __repr__(self) -> str:
        return f"Proxy({self.url!r})"


def parse_proxy(url: str) -> Proxy:
    """Returns what a proxy's URL says; without a scheme it is ``http://``.

    Raises:
        UnusableError: It is no URL of an HTTP proxy.
    """
    url = url.strip()
    if not _SCHEME.match(url):
        url = f"http://{url}"
    parts, host, port = read_authority(url)
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {b2a_base64(pair.encode(), newline=False).decode()}"
    return Proxy(parts.scheme == "https", host, port, authorization)


def hide_credentials(url: str) -> str:
    """Returns a proxy's URL without user and password."""
    return _CREDENTIALS.sub(lambda found: f"{found[1] or ''}***@", url)


def choose_proxy(endpoint: str, environ: Mapping[str, str], *, grpc: bool = False) -> tuple[str, str] | None:
    """Returns the variable that names the proxy for an endpoint, and its value; None: there is none for it.

    Args:
        endpoint: The whole URL.
        environ: The environment.
        grpc: Whether the protocol is gRPC, whose libraries have a variable of their own, and take the same
            proxy with TLS and without.
    """
    parts = urlsplit(endpoint)
    names = ("grpc_proxy", "https_proxy", "http_proxy") if grpc else (f"{parts.scheme}_proxy",)
    for name in (*names, "all_proxy"):
        variable, value = _look_up(name, environ)
        if value:
            exceptions = _look_up("no_grpc_proxy", environ)[1] if grpc else ""
            exceptions = exceptions or _look_up("no_proxy", environ)[1]
            if _is_exception(parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 0), exceptions):
                return None
            return variable, value
    return None


def _look_up(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    # An empty one in small letters takes the one in capitals away.
    if name in environ:
        return name, environ[name].strip()
    if name == "http_proxy" and "REQUEST_METHOD" in environ:
        # In a CGI program it may be the client's header Proxy.
        return name, ""
    return name.upper(), environ.get(name.upper(), "").strip()


def _is_exception(host: str, port: int, exceptions: str) -> bool:
    host = host.lower().rstrip(".")
    address = _read_address(host)
    for one in _split(exceptions):
        if one == "*":
            return True
        named, separator, wanted = one.rpartition(":")
        if not separator or not wanted.isdigit() or (":" in named and not named.endswith("]")):
            # The last part of an IPv6 address is no port.
            named, wanted = one, ""
        if wanted and int(wanted) != port:
            continue
        named = named.strip("[]").lower().strip(".")
        if address is not None:
            if _covers(named, address):
                return True
        elif host == named or host.endswith(f".{named}"):
            return True
    return False


def _split(exceptions: str) -> Iterator[str]:
    return (one for part in exceptions.split(",") if (one := part.strip()))


def _read_address(text: str) -> object:
    # Late: few need it, and its import is not free.
    from ipaddress import ip_address

    try:
        return ip_address(text)
    except ValueError:
        return None


def _covers(named: str, address: object) -> bool:
    from ipaddress import ip_network

    try:
        return address in ip_network(named, strict=False)
    except (ValueError, TypeError):
        return False
