"""Flask applications under a real server, and what they have logged."""

from __future__ import annotations

import http.client
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentelemetry.sdk._logs import ReadableLogRecord

from otelog.testing import CapturedLogs
from tools.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 20.0


class Answer:
    """A server's answer, read to its end."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()


class Served:
    """An application that listens on loopback."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, headers: dict[str, str] | None = None, *, method: str = "GET") -> Answer:
        connection = self.connect()
        try:
            connection.request(method, path, headers=headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)


@contextmanager
def serve_werkzeug(app: Any) -> Iterator[Served]:
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, app, threaded=True)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Served(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(SECONDS)


@contextmanager
def serve_waitress(app: Any) -> Iterator[Served]:
    import waitress.server

    sockets: dict[int, Any] = {}
    server = waitress.server.create_server(app, map=sockets, host="127.0.0.1", port=0, threads=4)
    stopping = threading.Event()

    def run() -> None:
        while not stopping.is_set():
            server.asyncore.loop(timeout=0.01, map=sockets, count=1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield Served(server.effective_port)
    finally:
        stopping.set()
        thread.join(SECONDS)
        server.task_dispatcher.shutdown()
        server.asyncore.close_all(sockets)


SERVERS = {"werkzeug": serve_werkzeug, "waitress": serve_waitress}


def access_records(logs: CapturedLogs, count: int = 1, name: str = "otelog.flask.access") -> list[ReadableLogRecord]:
    """Wait for as many access records, which come after the client has its answer, and return all there are."""

    def find() -> list[ReadableLogRecord]:
        return [one for one in logs.records if one.instrumentation_scope.name == name]

    wait_until(lambda: len(find()) >= count, what=f"{count} access records")
    return find()


def exceptions(logs: CapturedLogs) -> list[ReadableLogRecord]:
    """All records that tell of an exception, in whatever way."""
    return [
        one
        for one in logs.records
        if "exception.type" in (one.log_record.attributes or {}) or "Traceback" in str(one.log_record.body)
    ]


def bodies(logs: CapturedLogs, name: str) -> list[Any]:
    return [one.log_record.body for one in logs.records if one.instrumentation_scope.name == name]


def run_code(code: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, to its end, and return what it has written."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
        cwd=ROOT,
    )
