"""Runs before.py and after.py side by side, counts what arrives, and prints what is missing without a word.

    python compare.py

Both servers are here, and equally slow: each answer takes two milliseconds.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from otelog.testing import OTLPServer, Reply
from work import BURST_RECORDS, FEW_RECORDS

FOLDER = Path(__file__).resolve().parent
ANSWER_SECONDS = 0.002
# What happens, how the program is told, how many records it logs, and whether the server is there.
SCENARIOS = (
    ("more at once than the queue holds", "burst", BURST_RECORDS, True),
    ("SIGTERM", "sigterm", FEW_RECORDS, True),
    ("the server is away", "few", FEW_RECORDS, False),
)


@contextmanager
def serve_before() -> Iterator[tuple[str, Callable[[], int]]]:
    """A server for HTTPHandler, which sends each record by a request of its own."""
    counted: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            counted.append(self.path)
            time.sleep(ANSWER_SECONDS)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", lambda: len(counted)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serve_after() -> Iterator[tuple[str, Callable[[], int]]]:
    """A server for OTLP, which takes many records in one request."""
    with OTLPServer([Reply(delay=ANSWER_SECONDS)] * 1_000) as server:
        yield server.endpoint.removeprefix("http://"), lambda: len(server.records)


@contextmanager
def serve_nobody() -> Iterator[tuple[str, Callable[[], int]]]:
    """An address where nobody listens, and nobody else can."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{unheard.getsockname()[1]}", lambda: 0


def run(program: str, address: str, way: str) -> int:
    """Run a program to its end. Returns: how many records it says that it has lost, on standard error."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / program), address, way],
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=300,
        check=False,
        env={**os.environ, "OTEL_METRICS_EXPORTER": "none"},
    )
    lines = done.stderr.splitlines()
    # otelog's last line, if something was lost, is the receipt: one JSON object.
    if lines and lines[-1].startswith('{"otelog": "receipt"'):
        lost: int = json.loads(lines[-1])["lost"]
        return lost
    # Anything else that was said would be about one record.
    return len(lines)


def main() -> None:
    """Print a table, a line for each program and scenario."""
    print(f"{'':36}{'program':12}{'logged':>8}{'arrived':>9}{'reported':>10}{'in silence':>12}")
    for what, way, logged, there in SCENARIOS:
        for program, serve in (("before.py", serve_before), ("after.py", serve_after)):
            with serve() if there else serve_nobody() as (address, count):
                reported = run(program, address, way)
                arrived = count()
            silent = logged - arrived - reported
            print(f"{what:36}{program:12}{logged:8,}{arrived:9,}{reported:10,}{silent:12,}", flush=True)


if __name__ == "__main__":
    main()
