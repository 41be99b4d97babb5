"""The client's side of TLS: which authorities are trusted, and who we are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from otelog.exceptions import ConfigurationError

if TYPE_CHECKING:
    import ssl

__all__ = ["make_context"]


def make_context(
    certificate_file: str | None, client_certificate_file: str | None, client_key_file: str | None
) -> ssl.SSLContext:
    """Returns the client's side of TLS.

    Args:
        certificate_file: PEM file of the authorities to trust, or a folder of them with names as OpenSSL wants them;
            None: the system's, or what OpenSSL is told by SSL_CERT_FILE and SSL_CERT_DIR.
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
