"""`OTLPServer`: a real OTLP/HTTP server on loopback that answers, and fails, as a script says."""

from __future__ import annotations

import selectors
import socket
import ssl
import struct
import threading
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException, parse_headers
from io import BufferedReader
from typing import TYPE_CHECKING, Literal

from otelog._runtime.compression import unpack_gzip, unpack_zstd

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

__all__ = ["OTLPServer", "Reply", "Request"]

LOGS_PATH = "/v1/logs"
_OTHER_SIGNALS = ("/v1/metrics", "/v1/traces")

Fault = Literal["close", "hang", "reset_request", "reset_answer", "endless_headers", "endless_body"]
"""What becomes of the exchange:

close            the connection is closed without an answer
hang             no answer, and the connection stays open
reset_request    the connection is reset while the request's body is read
reset_answer     the connection is reset in the middle of the answer's body
endless_headers  the answer's headers never end
endless_body     the answer's body never ends
"""

_FLOOD = b"x" * 65536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer of an `OTLPServer`.

    Args:
        status: What the server does with the request; with a 2xx it keeps the records, whatever `fault` does to the
            answer.
        headers: Sent beside those that the answer needs.
        body: Sent as it is; None: what `rejected` and `message` say, as a Collector would.
        rejected: Partial success: how many of the request's last records the server does not keep.
        message: Partial success: why.
        delay: Seconds before the answer.
        fault: What goes wrong; None: nothing.
        pace: Seconds between the bytes of an endless answer; 0: as fast as it goes.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    rejected: int = 0
    message: str = ""
    delay: float = 0.0
    fault: Fault | None = None
    pace: float = 0.02

    @property
    def name(self) -> str:
        """Return the key in `OTLPServer.fired`: the fault, "partial_success" or the status."""
        return self.fault or ("partial_success" if self.rejected or self.message else str(self.status))

    def encode_body(self) -> bytes:
        """Return the body as it is sent."""
        if self.body is not None:
            return self.body
        if not (self.rejected or self.message):
            return b""
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

        answer = ExportLogsServiceResponse()
        answer.partial_success.rejected_log_records = self.rejected
        answer.partial_success.error_message = self.message
        body: bytes = answer.SerializeToString()
        return body


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One complete request that an `OTLPServer` got.

    Args:
        path: With the query.
        headers: Names in lower case.
        raw: The body as it was sent.
        body: The body, decompressed.
        reply: How it is answered.
    """

    path: str
    headers: Mapping[str, str]
    raw: bytes
    body: bytes
    reply: Reply

    def decode(self) -> ExportLogsServiceRequest:
        """Return the body as the official protobuf message; needs the package ``opentelemetry-proto``."""
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

        message: ExportLogsServiceRequest = ExportLogsServiceRequest.FromString(self.body)
        return message

    @property
    def records(self) -> list[LogRecord]:
        """Return the records in it, kept or not."""
        scopes = (scope for resource in self.decode().resource_logs for scope in resource.scope_logs)
        return [record for scope in scopes for record in scope.log_records]

    @property
    def kept_records(self) -> list[LogRecord]:
        """Return the records that the server keeps, by what the reply says."""
        if not 200 <= self.reply.status < 300:
            return []
        records = self.records
        return records[: max(0, len(records) - self.reply.rejected)]


class OTLPServer:
    """A scripted OTLP/HTTP server for logs on loopback, in threads of its own; a context manager.

    Requests are recorded before they are answered, so that a client never has an answer for more than what is here::

        with OTLPServer() as server:
            server.script = [Reply(status=503), Reply(rejected=1, message="too old")]
            otelog.configure(endpoint=server.endpoint, ...)
            ...
            assert server.wait_until(lambda: len(server.records) == 10)

    Args:
        script: The first replies; afterwards every request is answered 200.
        tls: A server's context; None: plain HTTP.
        host: The address to listen on.
        port: 0: any free one.

    Thread safety: all attributes may be read, and `script` set, from any thread.
    """

    def __init__(
        self, script: Iterable[Reply] = (), *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._changed = threading.Condition()
        self._script = deque(script)
        self._requests: list[Request] = []
        self._tls = tls
        self._closing = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((host, port))
        self._wake, self._waker = socket.socketpair()
        self.port: int = self._listener.getsockname()[1]
        self.endpoint = f"{'https' if tls else 'http'}://{host}:{self.port}"
        """The base URL; a client appends /v1/logs."""
        self.fired: Counter[str] = Counter()
        """How often each kind of reply was given, by `Reply.name`; also "tls_refused": handshakes that failed."""
        self.other_signals: Counter[str] = Counter()
        """How many requests with metrics or spans were taken and forgotten, by path; no reply is spent on them."""
        self.connections = 0
        """How many connections were accepted."""
        self._start(self._accept)

    def __enter__(self) -> OTLPServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def logs_endpoint(self) -> str:
        """Return the URL that log records are sent to."""
        return self.endpoint + LOGS_PATH

    @property
    def script(self) -> list[Reply]:
        """Return the replies that were not given yet."""
        with self._changed:
            return list(self._script)

    @script.setter
    def script(self, replies: Iterable[Reply]) -> None:
        with self._changed:
            self._script = deque(replies)

    @property
    def requests(self) -> list[Request]:
        """Return the complete requests so far."""
        with self._changed:
            return list(self._requests)

    @property
    def records(self) -> list[LogRecord]:
        """Return the records that the server keeps, in the order of their arrival."""
        return [record for request in self.requests for record in request.kept_records]

    def wait_until(self, condition: Callable[[], bool], *, timeout: float = 10.0) -> bool:
        """Wait until a condition on this server holds. Returns whether it does.

        Args:
            condition: Asked after each event.
            timeout: Seconds.
        """
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def close(self) -> None:
        """Stop listening, cut all connections and wait for the threads. May be called again."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._waker.send(b"x")
        while self._threads:
            with self._changed:
                for connection in self._sockets:
                    _cut(connection)
                thread = self._threads[-1]
            thread.join(0.05)
            if not thread.is_alive():
                with self._changed:
                    self._threads.remove(thread)
        for end in (self._listener, self._wake, self._waker):
            end.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="otlp-server", daemon=True)
        with self._changed:
            # Whoever closes the server meanwhile can only wait for a thread that has begun.
            thread.start()
            self._threads.append(thread)

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while True:
                selector.select()
                if self._closing.is_set():
                    return
                connection, _ = self._listener.accept()
                with self._changed:
                    self.connections += 1
                self._start(self._serve, connection)

    def _serve(self, plain: socket.socket) -> None:
        connection = plain
        try:
            with self._changed:
                self._sockets.add(plain)
            if self._tls is not None:
                try:
                    connection = self._tls.wrap_socket(plain, server_side=True)
                except OSError:
                    self._fire("tls_refused")
                    return
                with self._changed:
                    self._sockets.add(connection)
            with connection.makefile("rb") as stream:
                while not self._closing.is_set() and self._answer_one(connection, stream):
                    pass
        except (OSError, HTTPException, ValueError):
            return  # the client has gone, or what it said is not HTTP
        finally:
            with self._changed:
                self._sockets -= {plain, connection}
                if threading.current_thread() in self._threads and not self._closing.is_set():
                    self._threads.remove(threading.current_thread())
            connection.close()
            plain.close()

    def _answer_one(self, connection: socket.socket, stream: BufferedReader) -> bool:
        """Take one request; returns whether the connection stays open."""
        begin = stream.peek(1)[:1]
        if begin and not begin.isalpha():
            # TLS on a plain port: to wait for the end of its first line would be to wait for ever.
            return self._send(connection, Reply(status=400, headers={"Connection": "close"}))
        method, _, rest = stream.readline(65537).decode("latin-1").partition(" ")
        path = rest.partition(" ")[0]
        if not path:
            return False
        headers = {name.lower(): value for name, value in parse_headers(stream).items()}
        length = int(headers.get("content-length", "0"))
        signal = path.partition("?")[0]
        if method == "POST" and signal in _OTHER_SIGNALS:
            stream.read(length)
            with self._changed:
                self.other_signals[signal] += 1
                self._changed.notify_all()
            connection.sendall(_encode_head("HTTP/1.1 200 OK\r\n", {"Content-Length": "0"}))
            return True
        if method != "POST" or signal != LOGS_PATH:
            stream.read(length)
            return self._send(connection, Reply(status=405 if method != "POST" else 404))
        with self._changed:
            reply = self._script.popleft() if self._script else Reply()
        if reply.fault == "reset_request":
            stream.read(length // 2)
            return self._reset(connection, reply)
        raw = stream.read(length)
        if len(raw) < length:
            return False
        try:
            body = _decompress(raw, headers.get("content-encoding", "identity"))
        except (OSError, EOFError, ValueError, zlib.error):
            return self._send(connection, Reply(status=400))
        with self._changed:
            self._requests.append(Request(path=path, headers=headers, raw=raw, body=body, reply=reply))
            self._changed.notify_all()
        if reply.delay:
            self._closing.wait(reply.delay)
        return self._send(connection, reply)

    def _send(self, connection: socket.socket, reply: Reply) -> bool:
        body = reply.encode_body()
        fields = {"Content-Type": "application/x-protobuf", "Content-Length": str(len(body)), **reply.headers}
        known = reply.status in HTTPStatus.__members__.values()
        line = f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase if known else 'Scripted'}\r\n"
        if reply.fault == "hang":
            self._fire(reply.name)
            self._closing.wait()
            return False
        if reply.fault == "close":
            self._fire(reply.name)
            return False
        if reply.fault == "reset_answer":
            fields["Content-Length"] = str(len(body) + 1000)
            connection.sendall(_encode_head(line, fields) + body + b"x" * 100)
            return self._reset(connection, reply)
        if reply.fault == "endless_headers":
            connection.sendall(f"{line}X-Endless: ".encode())
            return self._send_endlessly(connection, reply)
        if reply.fault == "endless_body":
            connection.sendall(_encode_head(line, {**fields, "Content-Length": str(2**62)}))
            return self._send_endlessly(connection, reply)
        # Counted first: whoever has the answer must find it counted.
        self._fire(reply.name)
        connection.sendall(_encode_head(line, fields) + (b"" if reply.status in (204, 304) else body))
        return fields.get("Connection", "").lower() != "close"

    def _send_endlessly(self, connection: socket.socket, reply: Reply) -> bool:
        self._fire(reply.name)
        while not self._closing.wait(reply.pace):
            connection.sendall(b"x" if reply.pace else _FLOOD)
        return False

    def _reset(self, connection: socket.socket, reply: Reply) -> bool:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._fire(reply.name)
        return False

    def _fire(self, name: str) -> None:
        with self._changed:
            self.fired[name] += 1
            self._changed.notify_all()


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _encode_head(line: str, fields: Mapping[str, str]) -> bytes:
    return (line + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n").encode("latin-1")


def _decompress(raw: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return unpack_gzip(raw)
    if encoding == "deflate":
        return zlib.decompress(raw)
    if encoding == "zstd":
        return unpack_zstd(raw)
    if encoding != "identity":
        raise ValueError(f"unknown encoding {encoding}")
    return raw
