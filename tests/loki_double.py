"""A Loki of a few lines for faults that must be exact: entries in memory, HTTP and the live tail on one port."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from otelog.loki import Entry

_RANGE = re.compile(r"sum \(count_over_time\((.*)\n\[(\d+)ms\]\)\)", re.DOTALL)


def select(entries: list[Entry], query: str) -> list[Entry]:
    """The entries that a query's further lines leave; they are those that the client adds itself."""
    _, *filters = query.split("\n")
    for one in filters:
        name, operator, quoted = re.fullmatch(r"\|?\s*(\w*)\s*([|!=]~)\s*(\".*\")", one).groups()
        pattern = json.loads(quoted)
        wanted = re.compile(
            re.sub(r"\\x\{([0-9a-f]+)\}", lambda found: f"\\U{int(found[1], 16):08x}", pattern).replace("$", "\\Z")
        )
        matches = wanted.fullmatch if name else wanted.search

        def text(entry: Entry, name: str = name) -> str:
            return {**entry.labels, **entry.metadata}.get(name, "") if name else entry.line

        entries = [entry for entry in entries if bool(matches(text(entry))) == (operator != "!~")]
    return entries


def page(entries: list[Entry], query: str, start: int, end: int, limit: int, forward: bool) -> list[Entry]:
    """What Loki would answer, in that order; of one nanosecond, any."""
    meant = [entry for entry in select(entries, query) if start <= entry.timestamp_ns < end]
    return sorted(meant, key=lambda entry: entry.timestamp_ns, reverse=not forward)[:limit]


class LokiDouble:
    """Serves `entries`; what it is asked is in `requests`, and `answer` may say something else.

    A context manager.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.requests: list[tuple[str, dict[str, str], Headers]] = []
        self.answer: Callable[[str, dict[str, str]], tuple[int, bytes] | None] = lambda path, parameters: None
        self.tails: list[ServerConnection] = []
        self._ended = threading.Event()
        self._server: Server = serve(self._tail, "127.0.0.1", 0, process_request=self._process)
        self._thread = threading.Thread(target=self._serve, name="loki-double")
        self.url = f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"

    def __enter__(self) -> LokiDouble:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self.cut()
        self._server.shutdown()
        self._thread.join()

    def _serve(self) -> None:
        try:
            self._server.serve_forever()
        except OSError:
            # A test that asks nothing may be over before the server looks at its socket for the first time.
            if not self._ended.is_set():
                raise

    def send(self, entries: list[Entry], *, dropped: int = 0) -> None:
        """Send entries to the live tails."""
        streams = [_stream(entry) for entry in entries]
        message: dict[str, Any] = {"streams": streams}
        if dropped:
            message["dropped_entries"] = [{"timestamp": "1", "labels": {}}] * dropped
        for tail in list(self.tails):
            tail.send(json.dumps(message))

    def cut(self) -> None:
        """Break the connections of the live tails, without a word."""
        for tail in list(self.tails):
            # It may just be ending by itself.
            with contextlib.suppress(OSError):
                tail.socket.shutdown(socket.SHUT_RDWR)

    def _tail(self, connection: ServerConnection) -> None:
        self.tails.append(connection)
        try:
            connection.recv()
        except ConnectionClosed:
            pass
        finally:
            self.tails.remove(connection)

    def _process(self, connection: ServerConnection, request: Request) -> Response | None:
        parts = urlsplit(request.path)
        parameters = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.requests.append((parts.path, parameters, request.headers))
        answered = self.answer(parts.path, parameters)
        if answered is None:
            if parts.path.endswith("/tail"):
                return None
            answered = self._find(parts.path, parameters)
        status, body = answered
        headers = Headers({"Content-Length": str(len(body)), "Connection": "close"})
        return Response(status, HTTPStatus(status).phrase, headers, body)

    def _find(self, path: str, parameters: dict[str, str]) -> tuple[int, bytes]:
        if path == "/ready":
            return 200, b"ready\n"
        if path.endswith("/query_range"):
            start, end, limit = (int(parameters[name]) for name in ("start", "end", "limit"))
            found = page(self.entries, parameters["query"], start, end, limit, parameters["direction"] == "forward")
            data = {"resultType": "streams", "result": [_stream(entry) for entry in found]}
        else:
            query, milliseconds = _RANGE.fullmatch(parameters["query"]).groups()
            last = int(parameters["time"])
            first = last - int(milliseconds) * 1_000_000
            count = sum(first < entry.timestamp_ns <= last for entry in select(self.entries, query))
            data = {"resultType": "vector", "result": [{"metric": {}, "value": [0, str(count)]}] if count else []}
        return 200, json.dumps({"status": "success", "data": data}).encode()


def _stream(entry: Entry) -> dict[str, Any]:
    more = {"structuredMetadata": dict(entry.metadata)} if entry.metadata else {}
    return {"stream": dict(entry.labels), "values": [[str(entry.timestamp_ns), entry.line, more]]}
