"""The client's side of TLS: which authorities are trusted, who we are, and why a handshake failed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from otelog.exceptions import ConfigurationError

if TYPE_CHECKING:
    import ssl

__all__ = ["explain_tls", "is_hang_up", "is_tls_error", "make_context"]

_NOT_TLS = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
)
_REFUSED_BY_SERVER = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED", "PROTOCOL_VERSION")
_HOSTNAME_MISMATCH, _ADDRESS_MISMATCH = 62, 64


def make_context(
    certificate_file: str | None, client_certificate_file: str | None, client_key_file: str | None
) -> ssl.SSLContext:
    """Returns the client's side of TLS.

    Args:
        certificate_file: PEM file of the authorities to trust, or a folder of them with names as OpenSSL wants them;
            None: the system's, or what OpenSSL takes from SSL_CERT_FILE and SSL_CERT_DIR.
        client_certificate_file: PEM file that proves who we are (mTLS).
        client_key_file: PEM file of its key; None: the certificate's file holds it.

    Raises:
        ConfigurationError: A file cannot be read, or what is in it cannot be used.
    """
    # The codec of host names is one that a handshake would otherwise import, in a thread of ours (see _loading).
    import encodings.idna  # noqa: F401
    import ssl

    try:
        if certificate_file is not None and os.path.isdir(certificate_file):
            context = ssl.create_default_context(capath=certificate_file)
        else:
            context = ssl.create_default_context(cafile=certificate_file)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"certificate_file {certificate_file!r} cannot be used: {error}") from None
    context.set_alpn_protocols(["http/1.1"])
    if client_certificate_file:
        try:
            # The password is given so that OpenSSL does not ask for one on the terminal.
            context.load_cert_chain(client_certificate_file, client_key_file or None, password=lambda: b"-")
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"client_certificate_file {client_certificate_file!r} and client_key_file "
                f"{client_key_file!r} cannot be used (a key must not be encrypted): {error}"
            ) from None
    return context


def is_tls_error(cause: BaseException) -> bool:
    """Returns whether it is TLS that has failed."""
    import ssl

    return isinstance(cause, ssl.SSLError)


def is_hang_up(cause: BaseException) -> bool:
    """Returns whether the server has hung up."""
    import ssl

    return isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError, BrokenPipeError))


def explain_tls(cause: BaseException, peer: str) -> str | None:
    """Say why no further attempt can succeed with this peer, "server" or "proxy"; None if one can."""
    code = getattr(cause, "verify_code", None)
    if code is not None:
        said = f"the {peer}'s certificate was refused: {getattr(cause, 'verify_message', cause)}"
        if code in (_HOSTNAME_MISMATCH, _ADDRESS_MISMATCH):
            owner = "endpoint" if peer == "server" else peer
            return f"{said}; the {owner}'s host must be a name that the certificate holds"
        return f"{said}; set certificate_file to the authority that signed it"
    reason = getattr(cause, "reason", None) or ""
    if reason in _NOT_TLS:
        return f"the {peer} does not speak TLS here; use http:// or another port"
    if "ALERT" in reason and any(word in reason for word in _REFUSED_BY_SERVER):
        said = f"the {peer} refused our side of TLS ({reason})"
        # A proxy is shown no certificate.
        return f"{said}; check client_certificate_file and client_key_file" if peer == "server" else said
    return None
