"""An OTLP/HTTP receiver for one machine: answers 200 only for records that are written and counted."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from otelog.cli.dev import otlp_json
from otelog.cli.dev.bounds import (
    DEFAULT_BOUNDS,
    Bounds,
    RefusedError,
    check_host,
    check_json,
    check_protobuf,
    decompress,
    make_schema,
    too_large,
)
from otelog.cli.dev.ledgers import Ledgers
from otelog.cli.show.lines import render_lines

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import TracebackType

    from otelog.cli.dev.journal import Journal

MAX_CHUNK_HEADER_BYTES = 1024
IDLE_TIMEOUT = 60.0
MAX_CONNECTIONS = 128
"""Connections at one time; a further one is answered 503 and closed."""

_LOGS = make_schema(ExportLogsServiceRequest.DESCRIPTOR)
_METRICS = make_schema(ExportMetricsServiceRequest.DESCRIPTOR)
# ExportLogsServiceRequest.resource_logs.scope_logs.log_records
_RECORD: Any = _LOGS[1][2][2]  # type: ignore[index]
_PROTOBUF = "application/x-protobuf"
_JSON = "application/json"
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"


class Receiver:
    """Take OTLP/HTTP logs into a journal, and what metrics say of their senders' ledgers; the rest is dropped.

    POST /v1/logs, /v1/metrics and /v1/traces take protobuf or JSON with gzip, zstd or no compression. GET /stats
    returns the journal's counts and the senders' ledgers, GET /records?after=N the latest lines, both as JSON. One
    daemon thread a connection.

    Source: OTLP specification 1.x, section OTLP/HTTP.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        bounds: Bounds = DEFAULT_BOUNDS,
        hosts: Collection[str] = (),
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """Bind the address; nothing is served before `start`.

        Args:
            journal: Where the records go; the caller closes it, after `stop`.
            host: The address to listen on.
            port: 0 means any free one.
            bounds: The most that a request may have; one that has more is answered 413.
            hosts: Names that the receiver answers to beside `host` and those of the loopback; see `check_host`.
            max_connections: Connections at one time.

        Raises:
            OSError: If the address cannot be bound.
        """
        self.journal = journal
        self.bounds = bounds
        self.hosts = frozenset(name.lower() for name in (host, *hosts))
        # One request at a time is decoded, or the bounds would hold for each of many.
        self.decoding = threading.Lock()
        self.max_connections = max_connections
        self._tally = threading.Condition()
        self._requests = 0
        self._refused = 0
        self._turned_away = 0
        self._active = 0
        self.stopping = False
        self._server = _Server(host, port, self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="otelog-receiver", daemon=True
        )
        bound_host, self.port = self._server.server_address[:2]
        self.host = str(bound_host)
        self.ledgers = Ledgers(journal.received, port=self.port, began_ns=time.time_ns())

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Take no more connections and let the requests that were begun be answered; idempotent.

        Args:
            timeout: Seconds to wait for them.
        """
        self.stopping = True
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        with self._tally:
            self._tally.wait_for(lambda: not self._active, timeout)

    def stats(self) -> dict[str, object]:
        """Return the journal's counts, the senders' ledgers, and how many requests came.

        `requests` are those of /v1/logs, `refused_requests` those of them that were not taken, `refused_connections`
        the connections beyond `max_connections`.
        """
        with self._tally:
            requests, refused, turned_away = self._requests, self._refused, self._turned_away
        return {
            **self.journal.counts(),
            "ledgers": self.ledgers.show(),
            "requests": requests,
            "refused_requests": refused,
            "refused_connections": turned_away,
        }

    def begin_request(self) -> None:
        """Tell that a request is being taken, which `stop` then waits for."""
        with self._tally:
            self._active += 1

    def end_request(self) -> None:
        """Tell that it was answered."""
        with self._tally:
            self._active -= 1
            self._tally.notify_all()

    def count_turned_away(self) -> None:
        """Count a connection that is one too many."""
        with self._tally:
            self._turned_away += 1

    def count_request(self, *, refused: bool) -> None:
        """Count a request of /v1/logs."""
        with self._tally:
            self._requests += 1
            self._refused += refused

    def __enter__(self) -> Receiver:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    # Not http.server's class: that one looks up the host's full name when it binds, which can take seconds.
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, receiver: Receiver) -> None:
        self.receiver = receiver
        if ":" in host:
            self.address_family = socket.AF_INET6
        self._places = threading.BoundedSemaphore(receiver.max_connections)
        super().__init__((host, port), _Exchange)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        self.receiver.count_turned_away()
        with contextlib.suppress(OSError):
            request.sendall(_TOO_MANY)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        # Whoever cuts the connection has no answer to get; anything else is our own fault and must show.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Exchange(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "otelog"
    sys_version = ""
    timeout = IDLE_TIMEOUT
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024

    def do_POST(self) -> None:
        receiver = self.server.receiver
        receiver.begin_request()
        try:
            self._take()
        finally:
            receiver.end_request()

    def do_GET(self) -> None:
        receiver = self.server.receiver
        try:
            url = self._check_target()
        except RefusedError as refusal:
            self.close_connection = True
            self._answer(refusal.status, "text/plain", f"{refusal.detail}\n".encode())
            return
        if url.path == "/stats":
            self._answer(HTTPStatus.OK, _JSON, json.dumps(receiver.stats()).encode())
        elif url.path == "/records":
            number = parse_qs(url.query).get("after", ["0"])[-1]
            if not number.isdecimal() or len(number) > 18:
                self._answer(HTTPStatus.BAD_REQUEST, "text/plain", b"after must be a number of a record, such as 0\n")
                return
            last, lines = receiver.journal.after(int(number))
            self._answer(HTTPStatus.OK, _JSON, f'{{"last": {last}, "records": [{", ".join(lines)}]}}'.encode())
        else:
            self._answer(
                HTTPStatus.NOT_FOUND, "text/plain", b"here are POST /v1/logs, GET /stats and GET /records?after=0\n"
            )

    def log_message(self, *_: object) -> None:
        pass

    def _take(self) -> None:
        receiver = self.server.receiver
        path = self.path.partition("?")[0]
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        try:
            path = self._check_target().path
            body = self._read_body()
            if path not in ("/v1/logs", "/v1/metrics", "/v1/traces"):
                raise RefusedError(HTTPStatus.NOT_FOUND, f"nothing is taken at {path[:200]}; logs go to /v1/logs")
            with receiver.decoding:
                plain = self._unpack(kind, body, path)
                if path == "/v1/logs":
                    self._store(kind, plain)
                    receiver.count_request(refused=False)
                elif path == "/v1/metrics":
                    self._keep_ledgers(kind, plain)
        except RefusedError as refusal:
            if path == "/v1/logs":
                receiver.count_request(refused=True)
            self.close_connection = self.close_connection or refusal.close
            if kind == _PROTOBUF:
                self._answer(refusal.status, _PROTOBUF, _encode_status(refusal.detail))
            elif kind == _JSON:
                self._answer(refusal.status, _JSON, json.dumps({"message": refusal.detail}).encode())
            else:
                self._answer(refusal.status, "text/plain; charset=utf-8", f"{refusal.detail}\n".encode())
        else:
            # An empty message is the full success of all three services.
            self._answer(HTTPStatus.OK, *((_JSON, b"{}") if kind == _JSON else (_PROTOBUF, b"")))

    def _check_target(self) -> SplitResult:
        """Returns what is asked for, if it is asked of this server."""
        try:
            url = urlsplit(self.path)
        except ValueError as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the request's target is no URL", close=True) from error
        hosts = self.headers.get_all("Host", [])
        check_host([*hosts, url.netloc] if url.netloc else hosts, self.server.receiver.hosts)
        return url

    def _unpack(self, kind: str, body: bytes, path: str) -> bytes:
        if kind not in (_PROTOBUF, _JSON):
            raise RefusedError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"Content-Type must be {_PROTOBUF} or {_JSON}, it is {kind or 'missing'}",
            )
        encoding = self.headers.get("Content-Encoding", "identity").strip().lower()
        bounds = self.server.receiver.bounds
        most = min(bounds.body_bytes, bounds.metrics_bytes) if path == "/v1/metrics" else bounds.body_bytes
        return decompress(body, encoding, max_bytes=most)

    def _store(self, kind: str, plain: bytes) -> None:
        bounds = self.server.receiver.bounds
        try:
            if kind == _JSON:
                check_json(plain, bounds)
                request = otlp_json.decode_logs(plain, bounds)
            else:
                check_protobuf(plain, _LOGS, _RECORD, bounds)
                request = ExportLogsServiceRequest.FromString(plain)
            lines = render_lines(request, bounds)
        except (DecodeError, ValueError) as error:
            raise RefusedError(
                HTTPStatus.BAD_REQUEST, f"the body is not an ExportLogsServiceRequest: {error}"
            ) from error
        try:
            self.server.receiver.journal.append(lines)
        except (OSError, ValueError) as error:
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, f"the records could not be written: {error}") from error

    def _keep_ledgers(self, kind: str, plain: bytes) -> None:
        bounds = self.server.receiver.bounds
        try:
            if kind == _JSON:
                check_json(plain, bounds)
                request = otlp_json.decode_metrics(plain)
            else:
                check_protobuf(plain, _METRICS, None, bounds)
                request = ExportMetricsServiceRequest.FromString(plain)
        except (DecodeError, ValueError) as error:
            raise RefusedError(
                HTTPStatus.BAD_REQUEST, f"the body is not an ExportMetricsServiceRequest: {error}"
            ) from error
        self.server.receiver.ledgers.take(request)

    def _read_body(self) -> bytes:
        limit = self.server.receiver.bounds.body_bytes
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._read_chunks(limit)
        length = self.headers.get("Content-Length", "")
        if not length:
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "Content-Length is missing", close=True)
        if not (length.isascii() and length.isdecimal()) or len(length) > 18:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "Content-Length is not a number", close=True)
        if int(length) > limit:
            self._discard(min(int(length), 2 * limit))
            raise too_large(f"the body is over {limit} bytes")
        return self._read_exactly(int(length))

    def _read_chunks(self, limit: int) -> bytes:
        body = bytearray()
        while True:
            header = self.rfile.readline(MAX_CHUNK_HEADER_BYTES)
            try:
                size_bytes = int(header.partition(b";")[0], 16)
            except ValueError:
                size_bytes = -1
            if size_bytes < 0 or not header.endswith(b"\n"):
                raise RefusedError(HTTPStatus.BAD_REQUEST, "the chunked body is malformed", close=True)
            if len(body) + size_bytes > limit:
                raise too_large(f"the body is over {limit} bytes")
            if not size_bytes:
                break
            body += self._read_exactly(size_bytes)
            self._read_exactly(2)
        while self.rfile.readline(MAX_CHUNK_HEADER_BYTES) not in (b"\r\n", b"\n", b""):
            pass
        return bytes(body)

    def _read_exactly(self, size_bytes: int) -> bytes:
        data = self.rfile.read(size_bytes)
        if len(data) < size_bytes:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the body ended early", close=True)
        return data

    def _discard(self, size_bytes: int) -> None:
        # A sender that is still writing when the connection closes would see a reset instead of the answer.
        while size_bytes > 0 and (data := self.rfile.read(min(size_bytes, 64 * 1024))):
            size_bytes -= len(data)

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection or self.server.receiver.stopping:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def _encode_status(detail: str) -> bytes:
    """Encode a google.rpc.Status that has only a message (field 2), as OTLP/HTTP asks of failures."""
    text = detail.encode()[:4096]
    size = len(text)
    length = bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return b"\x12" + bytes(length) + text
