"""Of what werkzeug logs, the debugger's PIN and the terminal's colours stay on the console."""

from __future__ import annotations

import http.client
import io
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otelog.testing import CapturedLogs, OTLPServer
from tests.flask.running import SECONDS, bodies
from tests.sizes import without_instrumentations
from tools.loopback import find_free_ports
from tools.waiting import end_process, wait_until

PIN = "123-456-789"
WERKZEUG = logging.getLogger("werkzeug")


@pytest.fixture
def console(logs: CapturedLogs) -> Iterator[io.StringIO]:
    """What a handler of werkzeug's own logger writes."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    WERKZEUG.addHandler(handler)
    yield text
    WERKZEUG.removeHandler(handler)


@pytest.mark.parametrize(
    ("message", "arguments", "shown"),
    [
        (" * Debugger PIN: %s", (PIN,), " * Debugger PIN: ***"),
        (f" * Debugger PIN: {PIN}", (), " * Debugger PIN: ***"),
        (" * Debugger pin code: %s", (PIN,), " * Debugger pin code: ***"),
        ("\x1b[33mPress CTRL+C to quit\x1b[0m", (), "Press CTRL+C to quit"),
        (f"\x1b[1m * Debugger PIN: \x1b[31m{PIN}\x1b[0m", (), " * Debugger PIN: ***"),
        ('%s - "%s" %s', ("::1", "\x1b[1m\x1b[31mGET /x\x1b[0m", 500), '::1 - "GET /x" 500'),
        (" * Debugger PIN disabled. DEBUGGER UNSECURED!", (), " * Debugger PIN disabled. DEBUGGER UNSECURED!"),
        ("100%", (), "100%"),
    ],
)
def test_what_is_exported_has_neither_and_the_console_has_both(
    message: str, arguments: tuple[Any, ...], shown: str, logs: CapturedLogs, console: io.StringIO
) -> None:
    WERKZEUG.warning(message, *arguments)
    assert bodies(logs, "werkzeug") == [shown]
    assert console.getvalue() == (message % arguments if arguments else message) + "\n"
    [record] = logs
    assert (record.log_record.attributes or {})["code.function.name"].endswith(
        "test_what_is_exported_has_neither_and_the_console_has_both"
    )


def test_a_filter_that_comes_later_is_asked_once(logs: CapturedLogs, console: io.StringIO) -> None:
    asked = []

    def refuse(record: logging.LogRecord) -> bool:
        asked.append(record.getMessage())
        return "secret" not in record.getMessage()

    WERKZEUG.addFilter(refuse)
    WERKZEUG.warning("\x1b[1msecret\x1b[0m")
    WERKZEUG.warning("\x1b[1mopen\x1b[0m")
    assert bodies(logs, "werkzeug") == ["open"]
    assert console.getvalue() == "\x1b[1mopen\x1b[0m\n"
    assert asked == ["\x1b[1msecret\x1b[0m", "\x1b[1mopen\x1b[0m"]


def test_other_loggers_keep_their_text(logs: CapturedLogs) -> None:
    logging.getLogger("shop").warning("\x1b[1mbold\x1b[0m, PIN: 1234")
    assert bodies(logs, "shop") == ["\x1b[1mbold\x1b[0m, PIN: 1234"]


def test_under_flask_run_with_its_debugger(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text('import flask\napp = flask.Flask("shop")\n@app.get("/")\ndef home(): return "x"\n')
    [port] = find_free_ports(1)
    with OTLPServer() as server, (tmp_path / "errors").open("wb") as file:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "otelog.cli", "run", "--endpoint", server.endpoint, "--"),
                *(sys.executable, "-m", "flask", "--app", "app", "run", "--debug", "--port", str(port)),
            ],
            cwd=tmp_path,
            env={
                **os.environ,
                **without_instrumentations("flask"),
                "WERKZEUG_DEBUG_PIN": PIN,
                "OTEL_METRICS_EXPORTER": "none",
                "OTEL_BLRP_SCHEDULE_DELAY": "100",
            },
            stdout=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
        )
        try:
            wait_until(lambda: answers(port), 3 * SECONDS, what="the application's answer")
            wait_until(lambda: any("404" in text for text in texts_of(server)), SECONDS, what="the last record")
            # The reloader has a process of its own, and the debugger is in the other.
            os.killpg(process.pid, signal.SIGTERM)
        finally:
            end_process(process, SECONDS)
        texts = texts_of(server)
    errors = (tmp_path / "errors").read_text()
    assert f"Debugger PIN: {PIN}" in errors
    assert "\x1b[33mPress CTRL+C to quit\x1b[0m" in errors
    assert " * Debugger PIN: ***" in texts
    assert "Press CTRL+C to quit" in texts
    assert any(re.search(r'"GET /missing HTTP/1\.1" 404', text) for text in texts), texts
    assert not [text for text in texts if "\x1b" in text or PIN in text]


def texts_of(server: OTLPServer) -> list[str]:
    return [record.body.string_value for record in server.records]


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", "/missing")
        return connection.getresponse().status == 404
    except OSError:
        return False
    finally:
        connection.close()
