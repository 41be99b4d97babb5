"""URLs and headers that a request can be sent with: each check of them stands here, once. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

__all__ = ["DEFAULT_PORTS", "Endpoint", "UnusableError", "check_header", "parse_endpoint", "read_authority"]

DEFAULT_PORTS = {"http": 80, "https": 443}

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "transfer-encoding",
    }
)


class UnusableError(ValueError):
    """Why a value cannot be used; the text never shows what may be a secret, so messages may."""


class Endpoint(NamedTuple):
    """What a URL says.

    Args:
        secure: Whether it is TLS.
        host: Name or address, without brackets; ASCII, as the look-up, the header Host and a certificate want it.
        port: TCP port.
        target: Path with query.
    """

    secure: bool
    host: str
    port: int
    target: str


def parse_endpoint(url: str) -> Endpoint:
    """Returns what the URL of a server says.

    Raises:
        UnusableError: It is no such URL.
    """
    parts, host, port = read_authority(url)
    if "@" in parts.netloc:
        raise UnusableError("a user and password belong into headers (Authorization)")
    if parts.fragment:
        raise UnusableError("it has a fragment")
    if not (parts.path + parts.query).isascii():
        raise UnusableError("its path must be percent-encoded")
    return Endpoint(
        parts.scheme == "https", host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    )


def read_authority(url: str) -> tuple[SplitResult, str, int]:
    """Returns the parts of a URL of HTTP, its host in ASCII, and its port.

    Raises:
        UnusableError: It is no such URL.
    """
    # urlsplit() drops line breaks silently and reads the port only when asked.
    if any(character.isspace() or character < " " or character == "\x7f" for character in url):
        raise UnusableError("it has a space or a control character")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host = host.encode("ascii" if host.isascii() else "idna").decode("ascii")
    except ValueError:
        raise UnusableError("it cannot be read") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise UnusableError("it does not begin with http:// or https://")
    if not host:
        raise UnusableError("it has no host")
    if port == 0:
        raise UnusableError("its port is 0")
    return parts, host, port or DEFAULT_PORTS[parts.scheme]


def check_header(name: object, value: object) -> str:
    """Returns a header's name in small letters, if it can be sent with this value.

    Raises:
        UnusableError: It cannot; the text never shows the value.
    """
    if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
        raise UnusableError(
            f"{name!r} is not a header's name" if isinstance(name, str) else "a header's name is a string"
        )
    if name.lower() in _OWN_HEADERS:
        raise UnusableError(f"{name} is set by otelog itself")
    if not isinstance(value, str):
        raise UnusableError(f"the value of {name} is a {type(value).__name__}")
    if not _HEADER_VALUE.fullmatch(value):
        raise UnusableError(f"the value of {name} has characters that a header cannot carry")
    return name.lower()
