"""What a port speaks, whoever has signed for it: TLS, or HTTP/2 alone as gRPC does. Nothing is asked of the server."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

_HTTP1, _HTTP2 = "http/1.1", "h2"
# The client's preface, with a frame of settings that says nothing. Source: RFC 9113, sections 3.4 and 6.5.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_FRAME_HEADER_BYTES, _TYPE_AT, _SETTINGS = 9, 3, 4


@dataclass(frozen=True, slots=True)
class Port:
    """Where something may listen.

    Args:
        host: Name or address.
        number: Of TCP.
        timeout: Seconds for each step of a probe.
    """

    host: str
    number: int
    timeout: float


def speaks_tls(port: Port) -> bool:
    """Returns whether a TLS handshake begins there. Never raises."""
    try:
        _negotiate(port, None)
    except ssl.SSLError as error:
        # An alert is TLS, too: the server wants a client's certificate, or another version.
        return "ALERT" in (error.reason or "")
    except (OSError, ValueError):
        return False
    return True


def speaks_http2_alone(port: Port, *, secure: bool) -> bool:
    """Returns whether the endpoint speaks HTTP/2, and not HTTP/1.1. Never raises.

    Args:
        port: Where.
        secure: By TLS.
    """
    try:
        if not secure:
            return _greets_by_http2(port)
        if _negotiate(port, _HTTP2) != _HTTP2:
            return False
    except (OSError, ValueError):
        return False
    try:
        return _negotiate(port, _HTTP1) != _HTTP1
    except (OSError, ValueError):
        return True


def _negotiate(port: Port, protocol: str | None) -> str | None:
    """Shake hands, and return the protocol that the server has agreed to, of the one that it was offered."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocol is not None:
        context.set_alpn_protocols([protocol])
    with (
        socket.create_connection((port.host, port.number), port.timeout) as plain,
        context.wrap_socket(plain, server_hostname=port.host) as secured,
    ):
        return secured.selected_alpn_protocol()


def _greets_by_http2(port: Port) -> bool:
    with socket.create_connection((port.host, port.number), port.timeout) as plain:
        plain.sendall(_PREFACE)
        answer = b""
        while len(answer) < _FRAME_HEADER_BYTES and (more := plain.recv(_FRAME_HEADER_BYTES - len(answer))):
            answer += more
    # Text of HTTP/1.1 has a letter in that place.
    return len(answer) == _FRAME_HEADER_BYTES and answer[_TYPE_AT] == _SETTINGS
