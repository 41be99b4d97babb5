"""Sentry beside otelog: each record and each exception once in both, in the same trace, whichever is set up first."""

from __future__ import annotations

import gzip
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from otelog._patches import log_calls
from otelog.testing import OTLPServer
from tests.arrivals import attributes_of, to_python

ROOT = Path(__file__).resolve().parents[1]

pytest.importorskip("sentry_sdk")

PROGRAM = """
import logging, os, sys, threading

def set_up_sentry():
    import sentry_sdk
    from sentry_sdk.integrations.otlp import OTLPIntegration
    sentry_sdk.init(
        dsn=os.environ["DSN"],
        enable_logs=True,
        integrations=[OTLPIntegration(setup_otlp_traces_exporter=False, setup_propagator=False)],
    )

def set_up_otelog():
    import otelog
    otelog.configure(endpoint=os.environ["ENDPOINT"], service_name="beside")

steps = [set_up_sentry, set_up_otelog]
for step in steps if sys.argv[1] == "sentry first" else reversed(steps):
    step()

import sentry_sdk
from opentelemetry import trace

log = logging.getLogger("app")
with trace.get_tracer("app").start_as_current_span("work") as span:
    print(format(span.get_span_context().trace_id, "032x"))
    log.info("number %s", 1)
    log.warning("number %s", 2)
    log.error("number %s", 3)
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("number 4")

def fail():
    raise LookupError("in a thread")

thread = threading.Thread(target=fail)
thread.start()
thread.join()
try:
    raise KeyError("logged, and raised again")
except KeyError:
    log.exception("number 5")
    raise
"""


class Envelopes:
    """What came in: logs, and events."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []

    def take(self, body: bytes) -> None:
        """Read one envelope: a header, then for each item a header and a payload, each on a line."""
        lines = body.split(b"\n")[1:]
        for header, payload in zip(lines[::2], lines[1::2], strict=False):
            kind = json.loads(header)["type"]
            if kind == "log":
                self.logs += json.loads(payload)["items"]
            elif kind == "event":
                self.events.append(json.loads(payload))


@contextmanager
def sentry() -> Iterator[tuple[str, Envelopes]]:
    """Run a Sentry of our own; gives its DSN, and what it has."""
    envelopes = Envelopes()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            envelopes.take(body)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://key@127.0.0.1:{server.server_port}/1", envelopes
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("order", ["sentry first", "otelog first"])
def test_each_record_and_each_exception_is_once_in_both_with_its_trace(tmp_path: Path, order: str) -> None:
    path = tmp_path / "app.py"
    path.write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    with OTLPServer() as server, sentry() as (dsn, envelopes):
        environment = {**os.environ, "ENDPOINT": server.endpoint, "DSN": dsn, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(path), order]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        records = server.records
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("LookupError: in a thread\n") == done.stderr.count("\nKeyError: ") == 1, done.stderr
    trace_id = done.stdout.strip()

    # The records of one logger lie together in a batch.
    records = sorted(records, key=lambda one: one.time_unix_nano)
    arrived = [(to_python(one.body), one.severity_text, one.trace_id.hex()) for one in records]
    in_trace = [
        ("number 1", "INFO", trace_id),
        ("number 2", "WARNING", trace_id),
        ("number 3", "ERROR", trace_id),
        ("number 4", "ERROR", trace_id),
    ]
    assert arrived == [*in_trace, ("LookupError: in a thread", "ERROR", ""), ("number 5", "ERROR", "")]
    assert [attributes_of(one).get("exception.type") for one in records][3:] == [
        "ZeroDivisionError",
        "LookupError",
        "KeyError",
    ]

    logs = [(one["body"], one["trace_id"]) for one in envelopes.logs]
    assert logs[:4] == [(body, trace_id) for body, _, _ in in_trace]
    assert [body for body, _ in logs] == ["number 1", "number 2", "number 3", "number 4", "number 5"]

    def describe(event: dict[str, Any]) -> tuple[str | None, list[str]]:
        kinds = [one["type"] for one in event.get("exception", {}).get("values", [])]
        return event.get("logentry", {}).get("formatted"), kinds

    assert [describe(one) for one in envelopes.events] == [
        ("number 3", []),
        ("number 4", ["ZeroDivisionError"]),
        (None, ["LookupError"]),
        ("number 5", ["KeyError"]),
    ]
    assert [one["contexts"]["trace"]["trace_id"] for one in envelopes.events][:2] == [trace_id] * 2


def test_what_was_there_before_otelog_is_not_taken_for_the_standard_librarys_own() -> None:
    # Whoever has put it there sees every record: then there is no short way.
    for name in log_calls._OF_LOGGING:
        assert log_calls._is_standard(name, log_calls._PINS[name])
        assert not log_calls._is_standard(name, lambda *_: None)
        assert not log_calls._is_standard(name, type("LogRecord", (logging.LogRecord,), {}))
    assert log_calls._is_standard("CLOCK", time.time)
    assert not log_calls._is_standard("CLOCK", lambda: 0.0)
