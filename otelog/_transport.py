"""OTLP over HTTP: one request and its answer.

TransportFailure   there was no answer to use: it says whether to try again, and whether the records may have arrived
Exchanges          what HTTP's transport and gRPC's have in common: one exchange at a time, its end, forks
"""

from __future__ import annotations

import importlib
import math
import os
import re
import sys
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from otelog import _tls
from otelog._inherited import add_holder
from otelog._loading import load_module
from otelog._proxy import parse_proxy
from otelog._threads import Lock
from otelog.exceptions import ConfigurationError

if TYPE_CHECKING:
    import ssl
    from http.client import HTTPResponse

    from otelog._connection import DeadlineConnection

COMPRESSIONS = ("gzip", "zstd", "none")
MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""How much of an answer's body is read, compressed or not. Source: OTLP, limits of response bodies."""

CLIENT_FILES_HINT = "if the server asks for a client's certificate, check client_certificate_file and client_key_file"

_ZLIB_LEVEL = 1
_ISAL_LEVEL = 2
_GZIP_WBITS = 31
_ANY_ZLIB_WBITS = 47
_ZSTD_LEVEL = 3
_READ_BYTES = 64 * 1024
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ILLEGAL_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ILLEGAL_IN_URL = re.compile(r"[\x00-\x20\x7f]")
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
_NOT_TLS = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
)
_REFUSED_BY_SERVER = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED", "PROTOCOL_VERSION")
_PROXY_MAY_RECOVER = frozenset({408, 429, 500, 502, 503, 504})
"""Answers of a proxy to CONNECT after which another attempt may have its tunnel."""
_HOSTNAME_MISMATCH, _ADDRESS_MISMATCH = 62, 64


class TransportFailure(Exception):
    """A request got no answer that can be used.

    Args:
        detail: What happened, and what to set where that is known; one line, without secrets.
        retryable: Whether another attempt may succeed.
        outcome_unknown: Whether the whole request had been sent, so that its records may have arrived.
    """

    def __init__(self, detail: str, *, retryable: bool, outcome_unknown: bool) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retryable = retryable
        self.outcome_unknown = outcome_unknown


class Answer(NamedTuple):
    """What a server said.

    Args:
        status: HTTP's; after a call of gRPC the one that asks a client for the same.
        headers: By their names in small letters.
        body: Decoded.
        rpc_status: What gRPC said, such as "UNAVAILABLE"; None where HTTP was spoken.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    rpc_status: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportSettings:
    """Where and how requests are sent, checked when it is made.

    Args:
        endpoint: The full URL, ``https://host:port/v1/logs``; left out of the `repr`, as its query may be secret.
        headers: Sent with each request; may hold secrets and is left out of the `repr`.
        compression: "gzip", "zstd" (needs the package ``zstandard`` before Python 3.14) or "none".
        timeout: Seconds for a whole exchange, from connecting to the answer's last byte.
        certificate_file: PEM file of the authorities to trust instead of the system's.
        client_certificate_file: PEM file that proves who we are (mTLS).
        client_key_file: PEM file of its key; may be left out if the certificate's file holds it.
        proxy: URL of the HTTP proxy that the endpoint is reached by; may hold a password and is left out of the `repr`.
        user_agent: Header ``User-Agent``, unless `headers` has one.
        grpc_method: Called by gRPC, ``/package.Service/Method``, whatever the endpoint's path; None: HTTP.

    Raises:
        ConfigurationError: A value cannot be used.
    """

    endpoint: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    compression: str = "gzip"
    timeout: float = 10.0
    certificate_file: str | None = None
    client_certificate_file: str | None = None
    client_key_file: str | None = None
    proxy: str | None = field(default=None, repr=False)
    user_agent: str = "otelog"
    grpc_method: str | None = None

    def __post_init__(self) -> None:
        split_endpoint(self.endpoint)
        if self.compression not in COMPRESSIONS:
            raise ConfigurationError(f"compression is {self.compression!r}; allowed are {', '.join(COMPRESSIONS)}")
        if not (0.0 < self.timeout < math.inf):
            raise ConfigurationError(f"timeout is {self.timeout!r}; allowed are seconds above 0")
        if self.client_key_file and not self.client_certificate_file:
            raise ConfigurationError("client_key_file is set without client_certificate_file; both are needed")
        if self.proxy is not None:
            try:
                parse_proxy(self.proxy)
            except ValueError as error:
                raise ConfigurationError(f"proxy: {error}; it must be http(s)://[user:password@]host:port") from None
        object.__setattr__(self, "headers", dict(self.headers))
        for name, value in [*self.headers.items(), ("user-agent", self.user_agent)]:
            _check_header(name, value)


class Exchanges(ABC):
    """One exchange after the other over one connection.

    Thread safety: any thread may call anything; there is one exchange at a time. A forked child opens a connection of
    its own, even if the fork came in the middle of an exchange.

    Args:
        target: The endpoint as diagnostics may show it.
        timeout: Seconds for a whole exchange, where a call does not say.
        clock: Monotonic seconds.
    """

    def __init__(self, target: str, timeout: float, clock: Callable[[], float]) -> None:
        self.target = target
        self._timeout = timeout
        self._clock = clock
        self._exchanging = Lock()
        """Owned by the exchange under way; `close` only tries it."""
        self._close_wanted = False
        self._unanswered = False
        """Whether an exchange is under way whose answer is still to be read."""
        self._owner_pid = os.getpid()
        add_holder(self)

    @abstractmethod
    def _send(self, body: bytes, exchange_left: Callable[[], float]) -> None:
        """Send a request, for whose whole exchange there are `exchange_left()` seconds, or raise TransportFailure."""

    @abstractmethod
    def receive(self) -> Answer:
        """Read the answer to the request that this thread has sent.

        Returns:
            The answer, whatever its status. The body of a failure may be incomplete.

        Raises:
            TransportFailure: There was no answer, or a success whose body could not be read. Nothing else is raised.
        """

    @abstractmethod
    def _disconnect(self) -> None:
        """Let the connection go, with what is under way on it. Never raises."""

    @abstractmethod
    def _abandon(self) -> None:
        """Let go a connection that belongs to the parent of the fork: close this process's copies, and nothing else."""

    @abstractmethod
    def _forget(self) -> None:
        """Never touch a connection again that belongs to the parent of the fork, nor have it closed when it is freed.

        Its descriptors' numbers may be somebody else's by now.
        """

    def post(
        self, body: bytes, *, timeout: float | None = None, time_left: Callable[[], float] | None = None
    ) -> Answer:
        """Send one request and read its answer: `send`, then `receive`."""
        self.send(body, timeout=timeout, time_left=time_left)
        try:
            return self.receive()
        finally:
            self.end_exchange()

    def send(self, body: bytes, *, timeout: float | None = None, time_left: Callable[[], float] | None = None) -> None:
        """Send one request. Its exchange lasts until `end_exchange`, which must follow if this returns.

        Args:
            body: An ``ExportLogsServiceRequest``, not compressed.
            timeout: Seconds for the whole exchange; None: as in the settings.
            time_left: Asked again while it waits; a shutdown may so cut the exchange short. Seconds, zero: it is over.

        Raises:
            TransportFailure: It could not be sent. Nothing else is raised.
        """
        end = self._clock() + (self._timeout if timeout is None else timeout)

        def exchange_left() -> float:
            left = end - self._clock()
            return left if time_left is None else min(left, time_left())

        self._see_fork()
        if not self._exchanging.acquire(timeout=max(0.0, exchange_left())):
            raise TransportFailure(
                f"{self.target}: another request took all the time", retryable=True, outcome_unknown=False
            )
        try:
            self._send(body, exchange_left)
            self._unanswered = True
        except BaseException:
            self._release()
            raise

    def end_exchange(self) -> None:
        """End what `send` has begun; an answer that was not read ends with its connection."""
        self._see_fork()
        if not self._exchanging.locked():
            # The exchange was the parent's.
            return
        if self._unanswered:
            self._disconnect()
        self._release()

    def _release(self) -> None:
        self._unanswered = False
        self._exchanging.release()
        if self._close_wanted:
            self.close()

    def close(self) -> None:
        """Let the connection go, or have the exchange under way do so at its end; a later `post` opens a new one.

        Waits for nothing and never raises.
        """
        self._see_fork()
        # In this order: whoever releases the lock afterwards sees the wish.
        self._close_wanted = True
        if self._exchanging.acquire(blocking=False):
            self._disconnect()
            self._close_wanted = False
            self._exchanging.release()

    def let_go_in_child(self) -> None:
        """See `otelog._inherited.Holder`."""
        if os.getpid() != self._owner_pid:
            self._start_anew()
            self._abandon()

    def _see_fork(self) -> None:
        # Python was not told of this one, and so neither was `let_go_in_child`.
        if os.getpid() != self._owner_pid:
            self._start_anew()
            self._forget()

    def _start_anew(self) -> None:
        # The lock may be held by a thread that the child does not have.
        self._owner_pid = os.getpid()
        self._exchanging = Lock()
        self._close_wanted = False
        self._unanswered = False


class Transport(Exchanges):
    """Sends request bodies to one endpoint by HTTP, over one kept-alive connection.

    Redirects are not followed, and nothing is sent twice. By a proxy an https endpoint is reached through a tunnel, an
    http one by requests with its whole URL; the exchange's time holds for the proxy, too.

    Args:
        settings: Where and how.
        clock: Monotonic seconds.

    Raises:
        ConfigurationError: A certificate's file cannot be read, or the compression's library is missing.
    """

    def __init__(self, settings: TransportSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._secure, self._host, self._port, self._path = split_endpoint(settings.endpoint)
        host = f"[{self._host}]" if ":" in self._host else self._host
        # Without the query.
        target = f"{'https' if self._secure else 'http'}://{host}:{self._port}{self._path.partition('?')[0]}"
        super().__init__(target, settings.timeout, clock)
        authority = host if self._port == (443 if self._secure else 80) else f"{host}:{self._port}"
        self._headers = {"Host": authority, "User-Agent": settings.user_agent, "Content-Type": "application/x-protobuf"}
        if settings.compression != "none":
            self._headers["Content-Encoding"] = settings.compression
        self._compress = _choose_compressor(settings.compression)
        given = {name.lower() for name in settings.headers}
        self._headers = {name: value for name, value in self._headers.items() if name.lower() not in given}
        self._headers.update(settings.headers)
        self._settings = settings
        self._proxy = None if settings.proxy is None else parse_proxy(settings.proxy)
        self._url = self._path
        if self._proxy is not None and not self._secure:
            self._url = f"http://{authority}{self._path}"
            if self._proxy.authorization is not None:
                self._headers["Proxy-Authorization"] = self._proxy.authorization
        self._context = make_context(settings) if self._secure else None
        self._proxy_context = None
        if self._proxy is not None and self._proxy.secure:
            # To whom nobody has to prove who we are.
            self._proxy_context = _tls.make_context(settings.certificate_file, None, None)
        self._connection: DeadlineConnection | None = None
        self._answered = False
        """Whether this server has ever answered."""
        self._whole = False
        """Whether the request of the exchange under way went out whole."""

    def receive(self) -> Answer:
        """See `Exchanges.receive`."""
        sent, connection = self._whole, self._connection
        if connection is None:
            raise TransportFailure(f"{self.target}: nothing was sent", retryable=True, outcome_unknown=False)
        with self._failures(lambda: sent):
            answer = self._read_answer(connection)
        self._unanswered = False
        if not sent:
            self._disconnect()
        return answer

    def _send(self, body: bytes, exchange_left: Callable[[], float]) -> None:
        sent = False
        with self._failures(lambda: sent):
            content = self._compress(body)
            connection = self._get_connection(exchange_left)
            try:
                connection.request("POST", self._url, content, self._headers)
                sent = True
            except (BrokenPipeError, ConnectionResetError):
                # A server may refuse a large request (413) before it has read it; its answer is then waiting for us.
                if connection.sock is None:
                    raise
        self._whole = sent

    @contextmanager
    def _failures(self, sent: Callable[[], bool]) -> Iterator[None]:
        """Make whatever goes wrong inside a `TransportFailure`, after which there is no connection."""
        try:
            yield
        except TransportFailure:
            self._disconnect()
            raise
        except Exception as error:
            self._disconnect()
            raise self._explain(error, sent=sent()) from error
        except BaseException:
            self._disconnect()
            raise

    def _abandon(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.forget()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except OSError:
                return

    def _get_connection(self, exchange_left: Callable[[], float]) -> DeadlineConnection:
        if self._connection is None:
            # Late, because importing TLS and HTTP takes longer than all of otelog. All of it is the standard library's,
            # where no package imports its own modules while it is imported itself. Two threads that import one which
            # does, from its two ends, are torn apart by Python: one is left with half a module, maybe the application.
            factory: type[DeadlineConnection] = load_module("otelog._connection").DeadlineConnection
            self._connection = factory(
                self._host, self._port, context=self._context, proxy=self._proxy, proxy_context=self._proxy_context
            )
        self._connection.start_exchange(exchange_left)
        if not self._connection.is_usable():
            self._connection.close()
        return self._connection

    def _read_answer(self, connection: DeadlineConnection) -> Answer:
        response = connection.getresponse()
        self._answered = True
        succeeded = 200 <= response.status < 300
        try:
            body = _read_body(response)
        except Exception:
            # Without its body a success may hide rejected records; a failure is told by its status alone.
            self._disconnect()
            if succeeded:
                raise
            body = b""
        if body is None:
            self._disconnect()
            if succeeded:
                raise TransportFailure(
                    f"{self.target} answered {response.status} with more than {MAX_ANSWER_BYTES} bytes",
                    retryable=False,
                    outcome_unknown=True,
                )
            body = b""
        return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, body)

    def _explain(self, error: Exception, *, sent: bool) -> TransportFailure:
        # Imported with the connection; where that has failed, for want of a descriptor say, this would fail as well.
        http: Any = sys.modules.get("http.client")
        cause: BaseException = error
        peer = "proxy" if self._context is None else "server"
        while cause.__cause__ is not None:
            if getattr(cause, "of_proxy", False):
                peer = "proxy"
            cause = cause.__cause__
        retryable = True
        said = str(cause) or type(cause).__name__
        refused_by_proxy = getattr(cause, "proxy_status", None)
        if refused_by_proxy is not None:
            retryable, sent = refused_by_proxy in _PROXY_MAY_RECOVER, False
        elif (self._context or self._proxy_context) and _is_tls_error(cause):
            refusal = _explain_tls(cause, peer)
            if refusal:
                said, retryable, sent = refusal, False, False
        elif isinstance(cause, TimeoutError):
            said = "no complete answer in time" if sent else f"no connection in time ({said})"
        elif http and isinstance(cause, http.BadStatusLine) and not isinstance(cause, ConnectionError):
            said = "the answer is not HTTP/1.1; is this a gRPC port (4317)? OTLP over HTTP usually has 4318"
        elif not isinstance(cause, (OSError, *([http.HTTPException] if http else ()))):
            said, retryable = f"{type(cause).__name__}: {said}", False
        if self._secure and peer == "server" and retryable and not self._answered and _is_hang_up(cause):
            # By TLS 1.3 a server reads the client's certificate when our side is through with the handshake.
            said = f"{said}; {CLIENT_FILES_HINT}"
        if self._proxy is not None and refused_by_proxy is None and not sent:
            said = f"{said}; by the proxy {self._proxy.url}"
        return TransportFailure(f"{self.target}: {said}", retryable=retryable, outcome_unknown=sent)


def _read_body(response: HTTPResponse) -> bytes | None:
    """Read a whole body; None if it is longer than `MAX_ANSWER_BYTES`; one that cannot be decoded counts as empty."""
    chunks: list[bytes] = []
    size = 0
    while chunk := response.read(_READ_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            return None
    body = b"".join(chunks)
    if response.length:
        # Whoever asks `http.client` for a part at a time is not told that the rest never came.
        from http.client import IncompleteRead

        raise IncompleteRead(body, response.length)
    if body and response.headers.get("Content-Encoding", "identity").lower() in ("gzip", "x-gzip", "deflate"):
        try:
            body = zlib.decompressobj(_ANY_ZLIB_WBITS).decompress(body, MAX_ANSWER_BYTES + 1)
        except zlib.error:
            return b""
        if len(body) > MAX_ANSWER_BYTES:
            return None
    return body


def split_endpoint(endpoint: str) -> tuple[bool, str, int, str]:
    """Returns whether it is TLS, the host, the port, and path with query.

    Raises:
        ConfigurationError: It is no such URL.
    """
    problem = "the endpoint must be http://host:port/path or https://…"
    if _ILLEGAL_IN_URL.search(endpoint):
        raise ConfigurationError(f"{problem}; it has a space or a control character")
    try:
        parts = urlsplit(endpoint)
        port = parts.port
        # The look-up, the header Host and a certificate all want it in this form.
        host = (parts.hostname or "").encode("ascii" if (parts.hostname or "").isascii() else "idna").decode("ascii")
    except ValueError:
        raise ConfigurationError(f"{problem}; it cannot be read") from None
    if parts.scheme not in ("http", "https"):
        raise ConfigurationError(f"{problem}; its scheme is {parts.scheme!r}")
    if not host:
        raise ConfigurationError(f"{problem}; it has no host")
    if "@" in parts.netloc:
        raise ConfigurationError(f"{problem}; a user and password belong into headers (Authorization)")
    if not endpoint.isascii() and not (parts.path + parts.query).isascii():
        raise ConfigurationError(f"{problem}; its path must be percent-encoded")
    secure = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return secure, host, port or (443 if secure else 80), path


def _check_header(name: object, value: object) -> None:
    # The value may be a secret: no message shows it.
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ConfigurationError(f"headers: {name!r} is not a header's name")
    if name.lower() in _OWN_HEADERS:
        raise ConfigurationError(f"headers: {name} is set by otelog itself")
    if not isinstance(value, str):
        raise ConfigurationError(f"headers: the value of {name} must be a str, not {type(value).__name__}")
    if _ILLEGAL_IN_VALUE.search(value) or any(ord(character) > 0xFF for character in value):
        raise ConfigurationError(f"headers: the value of {name} has characters that a header cannot carry")


def _choose_compressor(compression: str) -> Callable[[bytes], bytes]:
    if compression == "gzip":
        return _Gzip().compress
    if compression == "none":
        return bytes
    if sys.version_info >= (3, 14):
        from compression import zstd

        return lambda body: zstd.compress(body, _ZSTD_LEVEL)
    try:
        library = importlib.import_module("zstandard")
    except ImportError:
        raise ConfigurationError(
            'compression is "zstd", which needs the package "zstandard": pip install zstandard'
        ) from None
    compress: Callable[[bytes], bytes] = library.ZstdCompressor(level=_ZSTD_LEVEL).compress
    return compress


class _Gzip:
    """Packs bodies with the library isal where it is installed: it takes a quarter of the time, and packs tighter."""

    def __init__(self) -> None:
        self._library: Any = None
        self._level = 0

    def compress(self, body: bytes) -> bytes:
        if self._library is None:
            # Late, so that it costs the worker's time and not the start's.
            try:
                self._library, self._level = load_module("isal.isal_zlib"), _ISAL_LEVEL
            except ImportError:
                self._library, self._level = zlib, _ZLIB_LEVEL
        packer = self._library.compressobj(self._level, zlib.DEFLATED, _GZIP_WBITS)
        return bytes(packer.compress(body) + packer.flush())


def make_context(settings: TransportSettings) -> ssl.SSLContext:
    """Returns the client's side of TLS; see `otelog._tls.make_context` for what it raises."""
    return _tls.make_context(settings.certificate_file, settings.client_certificate_file, settings.client_key_file)


def _is_tls_error(cause: BaseException) -> bool:
    import ssl

    return isinstance(cause, ssl.SSLError)


def _is_hang_up(cause: BaseException) -> bool:
    import ssl

    return isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError, BrokenPipeError))


def _explain_tls(cause: BaseException, peer: str) -> str | None:
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
