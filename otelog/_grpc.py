"""OTLP over gRPC: one call, and what it says as the answer that HTTP would give.

The library grpcio is imported when the first transport is made; its channels only live in the exporting thread.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any

from otelog._answer import read_error_message, read_retry_delay
from otelog._config import fill_environment
from otelog._loading import load_module
from otelog._proxy import parse_proxy
from otelog._threads import is_patched
from otelog._transport import (
    CLIENT_FILES_HINT,
    MAX_ANSWER_BYTES,
    Answer,
    Exchanges,
    TransportFailure,
    TransportSettings,
    make_context,
    split_endpoint,
)
from otelog.exceptions import ConfigurationError

RETRYABLE_CODES = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"})
"""The codes after which a request may be sent again, whatever comes with them. Source: OTLP, "OTLP/gRPC Response"."""

POLL_INTERVAL = 0.1
"""Seconds after which a wait asks again how much time is left: a shutdown may have shortened it."""

# What grpcio reads when it begins. Without the first, a forked child of a process that has sent something hangs
# at its own first call or is aborted; without the second, each attempt to connect may write lines to standard error.
_LIBRARY_ENVIRONMENT = {"GRPC_ENABLE_FORK_SUPPORT": "1", "GRPC_VERBOSITY": "NONE"}

_EQUIVALENTS = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "UNIMPLEMENTED": 501,
    **dict.fromkeys(RETRYABLE_CODES, 503),
}
_TOO_LARGE, _TOO_MANY, _FINAL = 413, 429, 500

# The library has no better way to tell these than in words.
_SIZE_REFUSED = re.compile(r"larger than max|exceeds (the )?max|length too large", re.IGNORECASE)
_NEVER_SENT = re.compile(r"failed to connect to all addresses|DNS resolution failed|errors resolving|name resolution")
_CUT = re.compile(
    r"Socket closed|Stream removed|Connection (reset|closed)|Broken pipe|GOAWAY|RST_STREAM|Transport closed|"
    r"Endpoint closing|[Kk]eepalive|[Pp]ing timeout|recvmsg|Channel closed"
)
# The second is what comes of a server's alert once our side of TLS is through.
_HUNG_UP = re.compile(r"Socket closed|Unwrap failed|Connection reset|Broken pipe")
_PEER_NAME = re.compile(r"Peer name .* is not in peer certificate|Hostname Verification Check failed")
_UNKNOWN_AUTHORITY = re.compile(r"CERTIFICATE_VERIFY_FAILED(: [\w ]+)?")
_NOT_TLS = re.compile(r"WRONG_VERSION_NUMBER|HTTP_REQUEST|UNKNOWN_PROTOCOL")
_OUR_SIDE_REFUSED = re.compile(r"\w*ALERT_\w*(CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE|ACCESS_DENIED)\w*")

_METADATA_KEY = re.compile(r"[0-9a-z_.-]+")
_METADATA_VALUE = re.compile(r"[\x20-\x7e]*")
_OWN_METADATA = frozenset({"host", "te", "trailers"})

_inherited: list[Any] = []
"""Channels of a parent process: even to forget them could touch threads that the child does not have."""


class GrpcTransport(Exchanges):
    """Sends request bodies to one method by gRPC, as they are, over one channel.

    Nothing is sent twice. The library opens a tunnel through the settings' proxy; what the environment says of proxies
    is not asked again. A call that got no answer takes its channel with it, so that each attempt connects anew and no
    waiting of the library's own comes on top of ours.

    Args:
        settings: Where and how; `grpc_method` must be set.
        clock: Monotonic seconds.

    Raises:
        ConfigurationError: grpcio is missing, a certificate's file cannot be used, or gRPC cannot carry a header or
            has no such compression.

    Source: OTLP, "OTLP/gRPC".
    """

    def __init__(self, settings: TransportSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._secure, host, port, _ = split_endpoint(settings.endpoint)
        self._address = f"{f'[{host}]' if ':' in host else host}:{port}"
        super().__init__(f"{'https' if self._secure else 'http'}://{self._address}", settings.timeout, clock)
        if settings.compression == "zstd":
            raise ConfigurationError('compression "zstd" is not to be had with protocol "grpc"; allowed are gzip, none')
        self._library = _load_library()
        self._compression = (
            self._library.Compression.Gzip
            if settings.compression == "gzip"
            else self._library.Compression.NoCompression
        )
        self._method = settings.grpc_method
        user_agent = settings.user_agent
        self._metadata: list[tuple[str, str]] = []
        for name, value in settings.headers.items():
            if name.lower() == "user-agent":
                user_agent = value
            else:
                self._metadata.append(_check_metadata(name.lower(), value))
        self._options = [
            ("grpc.primary_user_agent", user_agent),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
            ("grpc.enable_retries", 0),
            # Its own reading of the environment knows less than ours, and nothing of NO_PROXY in capitals.
            ("grpc.enable_http_proxy", int(settings.proxy is not None)),
            ("grpc.service_config_disable_resolution", 1),
            # Else the wait after a failed attempt to connect would be shared with channels that are closed.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if settings.proxy is not None:
            self._options.append(("grpc.http_proxy", _check_proxy(settings.proxy)))
        self._certificates = _read_certificates(settings) if self._secure else None
        self._channel: Any = None
        self._call: Any = None
        self._exchange_left: Callable[[], float] = lambda: 0.0
        self._first_pid: int | None = None
        """The process that opened the first channel."""

    def receive(self) -> Answer:
        """See `Exchanges.receive`."""
        if self._call is None:
            raise TransportFailure(f"{self.target}: nothing was sent", retryable=True, outcome_unknown=False)
        try:
            self._await(self._call)
            answer = self._read_answer(self._call)
        except TransportFailure:
            self._disconnect()
            raise
        except Exception as error:
            self._disconnect()
            raise self._fail(f"{type(error).__name__}: {error}", retryable=False, outcome_unknown=True) from error
        self._unanswered = False
        self._call = None
        return answer

    def _send(self, body: bytes, exchange_left: Callable[[], float]) -> None:
        self._exchange_left = exchange_left
        if self._first_pid not in (None, os.getpid()) and not _survives_forks():
            raise self._fail(
                "gRPC cannot be used in this forked process; set GRPC_ENABLE_FORK_SUPPORT=1 in the environment, or "
                "call otelog.configure() before grpc is imported",
                retryable=False,
                outcome_unknown=False,
            )
        try:
            if self._channel is None:
                self._channel = self._open_channel()
                self._first_pid = self._first_pid or os.getpid()
            method = self._channel.unary_unary(self._method)
            how: dict[str, Any] = {"metadata": self._metadata, "compression": self._compression}
            if is_patched():
                self._call = _BlockingCall(lambda: method.with_call(body, timeout=max(0.0, exchange_left()), **how))
            else:
                self._call = method.future(body, timeout=max(0.0, exchange_left()), **how)
        except Exception as error:
            self._disconnect()
            raise self._fail(f"{type(error).__name__}: {error}", retryable=False, outcome_unknown=False) from error

    def _open_channel(self) -> Any:
        # Spelled out, because a host's name alone could be taken for a scheme.
        address = f"dns:///{self._address}"
        if self._certificates is None:
            return self._library.insecure_channel(address, options=self._options)
        credentials = self._library.ssl_channel_credentials(*self._certificates)
        return self._library.secure_channel(address, credentials, options=self._options)

    def _await(self, call: Any) -> None:
        while True:
            left = self._exchange_left()
            try:
                call.exception(timeout=max(0.0, min(left, POLL_INTERVAL)))
            except self._library.FutureTimeoutError:
                if left <= 0.0:
                    raise self._explain_timeout() from None
            except self._library.FutureCancelledError:
                return
            else:
                return

    def _read_answer(self, call: Any) -> Answer:
        code, details = call.code().name, call.details() or ""
        if code == "OK":
            return Answer(200, {}, call.result(), code)
        if code == "DEADLINE_EXCEEDED":
            raise self._explain_timeout()
        if _NEVER_SENT.search(details):
            said, retryable = self._explain_connection(details)
            raise self._fail(said, retryable=retryable, outcome_unknown=False)
        if code == "CANCELLED" or _CUT.search(details):
            raise self._fail(f"{code}: {details}", retryable=code in RETRYABLE_CODES, outcome_unknown=True)
        headers = {"content-type": "text/plain"}
        trailers = dict(call.trailing_metadata() or ())
        delay = read_retry_delay(trailers.get("grpc-status-details-bin", b""))
        if delay is not None:
            headers["retry-after"] = f"{delay:.9f}"
        status = _EQUIVALENTS.get(code, _FINAL)
        if code in ("RESOURCE_EXHAUSTED", "OUT_OF_RANGE") and _SIZE_REFUSED.search(details):
            status = _TOO_LARGE
        elif code == "RESOURCE_EXHAUSTED" and delay is not None:
            status = _TOO_MANY
        return Answer(status, headers, details.encode("utf-8", "replace"), code)

    def _explain_timeout(self) -> TransportFailure:
        sent = self._is_connected()
        said = "no complete answer in time" if sent else "no connection in time"
        return self._fail(said, retryable=True, outcome_unknown=sent)

    def _is_connected(self) -> bool:
        # The public way to ask has a thread of its own that goes on asking.
        try:
            state = self._channel._channel.check_connectivity_state(False)
        except Exception:
            return True
        return bool(state == self._library.ChannelConnectivity.READY.value[0])

    def _explain_connection(self, details: str) -> tuple[str, bool]:
        """Say why there is no connection, and whether another attempt may have one."""
        if _PEER_NAME.search(details):
            hint = "the endpoint's host must be a name that the certificate holds"
            return f"the server's certificate was refused: it holds another name; {hint}", False
        if found := _UNKNOWN_AUTHORITY.search(details):
            reason = (found[1] or "")[2:] or "it cannot be verified"
            hint = "set certificate_file to the authority that signed it"
            return f"the server's certificate was refused: {reason}; {hint}", False
        if _NOT_TLS.search(details):
            return "the server does not speak TLS here; use http:// or another port", False
        if found := _OUR_SIDE_REFUSED.search(details):
            hint = "check client_certificate_file and client_key_file"
            return f"the server refused our side of TLS ({found[0]}); {hint}", False
        hint = ""
        if "http1" in details or "SETTINGS frame" in details:
            hint = "; is this an HTTP port (4318)? OTLP over gRPC usually has 4317"
        elif _HUNG_UP.search(details):
            hint = f"; {CLIENT_FILES_HINT if self._secure else 'if the server speaks TLS here, use https://'}"
        said = details.partition("last error: ")[2] or details
        return f"no connection: {_tidy(said)}{hint}", True

    def _fail(self, said: str, *, retryable: bool, outcome_unknown: bool) -> TransportFailure:
        return TransportFailure(f"{self.target}: {said}", retryable=retryable, outcome_unknown=outcome_unknown)

    def _disconnect(self) -> None:
        self._call = None
        channel, self._channel = self._channel, None
        if channel is not None:
            try:
                channel.close()
            except Exception:
                return

    def _abandon(self) -> None:
        if self._channel is not None:
            _inherited.append((self._channel, self._call))
        self._channel = self._call = None


class _BlockingCall:
    """A call that is made when its end is waited for, in that very thread, and that nothing can cut short.

    The library's other way takes threads and locks of the standard library's. Where gevent has replaced them, a process
    that was forked waits for ever, for a greenlet that its parent had.
    """

    def __init__(self, make: Callable[[], tuple[bytes, Any]]) -> None:
        self._make = make

    def exception(self, timeout: float) -> None:
        """Make the call, in its own time; how it went is asked for later."""
        del timeout
        try:
            self._answer, self._ended = self._make()
        except Exception as error:
            if not hasattr(error, "trailing_metadata"):
                raise
            self._ended = error

    def code(self) -> Any:
        """Returns the status that the call has ended with."""
        return self._ended.code()

    def details(self) -> str | None:
        """Returns what is said about it."""
        details: str | None = self._ended.details()
        return details

    def trailing_metadata(self) -> Any:
        """Returns what came with it."""
        return self._ended.trailing_metadata()

    def result(self) -> bytes:
        """Returns the answer of a call that was "OK"."""
        return self._answer


def _load_library() -> Any:
    try:
        with fill_environment(_LIBRARY_ENVIRONMENT):
            first = "grpc" not in sys.modules
            library: Any = load_module("grpc")
            if first:
                # Older releases read it with the first channel, which connects to nothing before it is used.
                library.insecure_channel("localhost:1").close()
            return library
    except ImportError as error:
        raise ConfigurationError(
            f"protocol \"grpc\" needs the package grpcio: pip install 'otelog[grpc]' ({error})"
        ) from None


def _survives_forks() -> bool:
    # Decided when it was imported, which may have been before us.
    library = sys.modules.get("grpc._cython.cygrpc")
    return bool(getattr(library, "_GRPC_ENABLE_FORK_SUPPORT", True))


def _check_metadata(name: str, value: str) -> tuple[str, str]:
    # The value may be a secret: no message shows it.
    if name in _OWN_METADATA or name.startswith("grpc-"):
        raise ConfigurationError(f"headers: {name} is set by gRPC itself")
    if name.endswith("-bin"):
        raise ConfigurationError(f"headers: {name} cannot be sent by gRPC: names that end in -bin carry binary values")
    if not _METADATA_KEY.fullmatch(name):
        raise ConfigurationError(
            f"headers: {name!r} cannot be sent by gRPC; allowed are letters, digits, '_', '-', '.'"
        )
    if not _METADATA_VALUE.fullmatch(value):
        raise ConfigurationError(f"headers: the value of {name} has characters that gRPC cannot carry")
    return name, value


def _check_proxy(url: str) -> str:
    if parse_proxy(url).secure:
        raise ConfigurationError("proxy: gRPC cannot use one that is spoken to by https://")
    return url if "://" in url else f"http://{url}"


def _read_certificates(settings: TransportSettings) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Returns the authorities, the client's key and its certificates, as `grpc.ssl_channel_credentials` takes them."""
    # The library says nothing of files that it cannot use; this one does.
    make_context(settings)
    authorities, certificate = _read(settings.certificate_file), _read(settings.client_certificate_file)
    return authorities, _read(settings.client_key_file) or certificate, certificate


def _read(path: str | None) -> bytes | None:
    if not path:
        return None
    try:
        if os.path.isdir(path):
            # Of a folder the library knows nothing.
            return b"\n".join(content for name in sorted(os.listdir(path)) if (content := _read(f"{path}/{name}")))
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigurationError(f"{path!r} cannot be read: {error}") from None


def _tidy(text: str) -> str:
    return read_error_message({"content-type": "text/plain"}, text.encode("utf-8", "replace"))
