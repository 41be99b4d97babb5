"""OTLP over HTTP: one request and its answer."""

from __future__ import annotations

import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from otelog._config import tls
from otelog._config.proxy import parse_proxy
from otelog._config.tls import explain_tls, is_hang_up, is_tls_error
from otelog._otlp.exchange import (
    CLIENT_FILES_HINT,
    MAX_ANSWER_BYTES,
    Answer,
    Exchanges,
    TransportFailure,
    TransportSettings,
)
from otelog._runtime.compression import choose_compressor
from otelog._runtime.late_import import load_module
from otelog._runtime.urls import parse_endpoint

if TYPE_CHECKING:
    import ssl
    from http.client import HTTPResponse

    from otelog._otlp.connection import DeadlineConnection

_ANY_ZLIB_WBITS = 47
_READ_BYTES = 64 * 1024
_PROXY_MAY_RECOVER = frozenset({408, 429, 500, 502, 503, 504})
"""Answers of a proxy to CONNECT after which another attempt may have its tunnel."""


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
        self._secure, self._host, self._port, self._path = parse_endpoint(settings.endpoint)
        host = f"[{self._host}]" if ":" in self._host else self._host
        # Without the query.
        target = f"{'https' if self._secure else 'http'}://{host}:{self._port}{self._path.partition('?')[0]}"
        super().__init__(target, settings.timeout, clock)
        authority = host if self._port == (443 if self._secure else 80) else f"{host}:{self._port}"
        self._headers = {"Host": authority, "User-Agent": settings.user_agent, "Content-Type": "application/x-protobuf"}
        if settings.compression != "none":
            self._headers["Content-Encoding"] = settings.compression
        self._compress = choose_compressor(settings.compression)
        given = {name.lower() for name in settings.headers}
        self._headers = {name: value for name, value in self._headers.items() if name.lower() not in given}
        self._headers.update(settings.headers)
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
            self._proxy_context = tls.make_context(settings.certificate_file, None, None)
        self._connection: DeadlineConnection | None = None
        self._answered = False
        """Whether this server has ever answered."""
        self._whole = False
        """Whether the request of the exchange under way went out whole."""

    def await_answer(self) -> bool:
        """See `Exchanges.await_answer`."""
        return self._connection is None or self._connection.await_answer()

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
            factory: type[DeadlineConnection] = load_module("otelog._otlp.connection").DeadlineConnection
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
            # Without its body a success may hide rejected records; for a failure the status is enough.
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
        elif (self._context or self._proxy_context) and is_tls_error(cause):
            refusal = explain_tls(cause, peer)
            if refusal:
                said, retryable, sent = refusal, False, False
        elif isinstance(cause, TimeoutError):
            said = "no complete answer in time" if sent else f"no connection in time ({said})"
        elif http and isinstance(cause, http.BadStatusLine) and not isinstance(cause, ConnectionError):
            said = "the answer is not HTTP/1.1; is this a gRPC port (4317)? OTLP over HTTP usually has 4318"
        elif not isinstance(cause, (OSError, *([http.HTTPException] if http else ()))):
            said, retryable = f"{type(cause).__name__}: {said}", False
        if self._secure and peer == "server" and retryable and not self._answered and is_hang_up(cause):
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
        # Whoever asks `http.client` for a part at a time does not see that the rest never came.
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


def make_context(settings: TransportSettings) -> ssl.SSLContext:
    """Returns the client's side of TLS; see `otelog._config.tls.make_context` for what it raises."""
    return tls.make_context(settings.certificate_file, settings.client_certificate_file, settings.client_key_file)
