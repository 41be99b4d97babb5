"""Whether a port speaks TLS, whoever has signed for it."""

from __future__ import annotations

import socket
import ssl


def speaks_tls(host: str, port: int, timeout: float) -> bool:
    """Returns whether a TLS handshake begins there. Nothing is sent over it. Never raises.

    Args:
        host: Name or address.
        port: TCP port.
        timeout: Seconds for each step.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            return secure.version() is not None
    except ssl.SSLError as error:
        # An alert is TLS, too: the server wants a client's certificate, or another version.
        return "ALERT" in (error.reason or "")
    except (OSError, ValueError):
        return False
