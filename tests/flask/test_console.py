"""Access lines on the console: with FlaskLogging each request has one under any server, and one record is exported."""

from __future__ import annotations

import io
import logging
import logging.handlers
import os
import queue
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import flask
import pytest
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter

import otelog
from otelog._requests.wsgi_servers import has_line_of_server
from otelog.flask import FlaskLogging
from otelog.testing import CapturedLogs, OTLPServer
from tests.flask.running import SECONDS, Served, access_records, bodies, serve_waitress, serve_werkzeug
from tools.loopback import find_free_ports
from tools.waiting import end_process, wait_until

APPLICATION = """
    import logging, os
    import flask, otelog
    from otelog.flask import FlaskLogging

    set_up = os.environ["SET_UP"]
    if set_up == "a console of its own":
        logging.basicConfig(level="INFO", format="[own] %(name)s %(message)s")
    if set_up == "the console exporter":
        otelog.configure(exporters=["otlp", "console"])
    if set_up == "the console exporter for errors":
        otelog.configure(exporters=["otlp", {"type": "console", "level": "ERROR"}])
    app = flask.Flask("shop")
    FlaskLogging(app)

    @app.get("/item/<int:number>")
    def item(number):
        return "fine"

    @app.get("/broken")
    def broken():
        raise KeyError("broken")
"""

PYTHON = (sys.executable, "-m")
GUNICORN = (*PYTHON, "gunicorn", "shop:app", "--workers", "1", "--no-control-socket", "--bind", "127.0.0.1:PORT")
SERVERS = {
    "werkzeug": (*PYTHON, "flask", "--app", "shop", "run", "--port", "PORT"),
    "gunicorn": GUNICORN,
    "gunicorn with lines": (*GUNICORN, "--access-logfile", "-"),
    "waitress": (*PYTHON, "waitress", "--listen=127.0.0.1:PORT", "shop:app"),
}
EXPORTED = ["the console exporter", "the console exporter for errors"]
ITEMS = ["/item/1", "/item/2", "/item/3"]
LINES = {
    ("werkzeug", "nothing"): '"GET /item/1 HTTP/1.1" 200 -',
    ("werkzeug", "a console of its own"): "[own] werkzeug 127.0.0.1 - - ",
    ("gunicorn", "nothing"): "otelog.flask.access GET /item/<int:number> 200 url.path=/item/1 ",
    ("gunicorn", "a console of its own"): "[own] otelog.flask.access GET /item/<int:number> 200",
    ("gunicorn with lines", "nothing"): '"GET /item/1 HTTP/1.1" 200 4 ',
    ("gunicorn with lines", "a console of its own"): '"GET /item/1 HTTP/1.1" 200 4 ',
    # Its own command sets a console up for the application.
    ("waitress", "nothing"): "INFO:otelog.flask.access:GET /item/<int:number> 200",
    ("waitress", "a console of its own"): "[own] otelog.flask.access GET /item/<int:number> 200",
}


def listens(served: Served) -> bool:
    try:
        return served.get("/begin").status == 404
    except OSError:
        return False


@pytest.mark.parametrize("set_up", ["nothing", "a console of its own", *EXPORTED])
@pytest.mark.parametrize("server", list(SERVERS))
def test_each_request_has_one_line_and_one_record(server: str, set_up: str, tmp_path: Path) -> None:
    command = SERVERS[server]
    pytest.importorskip(command[2])
    (tmp_path / "shop.py").write_text(textwrap.dedent(APPLICATION))
    (port,) = find_free_ports(1)
    output = tmp_path / "output"
    with OTLPServer() as receiver, output.open("wb") as out:
        process = subprocess.Popen(
            [one.replace("PORT", str(port)) for one in command],
            cwd=tmp_path,
            env={
                **os.environ,
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
                "OTEL_METRICS_EXPORTER": "none",
                "OTEL_BLRP_SCHEDULE_DELAY": "100",
                "OTELOG_HANDLE_SIGTERM": "true",
                "SET_UP": set_up,
                "PYTHONUNBUFFERED": "1",
            },
            stdout=out,
            stderr=out,
        )
        try:
            served = Served(port)
            wait_until(lambda: listens(served), 2 * SECONDS, what=server)
            assert [served.get(path).status for path in (*ITEMS, "/broken")] == [200, 200, 200, 500]
            # The client has its answer before the server is done with the request.
            wait_until(lambda: "GET /broken 500" in [one.body.string_value for one in receiver.records], SECONDS)
        finally:
            end_process(process, SECONDS)
        records = receiver.records
    names = [one.body.string_value for one in records]
    assert (names.count("GET /item/<int:number> 200"), names.count("GET /broken 500")) == (3, 1)
    assert not [name for name in names if "HTTP/1.1" in name]
    shown = output.read_text()
    lines = [line for line in shown.splitlines() if "GET /item/" in line]
    assert len(lines) == 3, shown
    assert len([line for line in shown.splitlines() if "GET /broken" in line]) == 1, shown
    if set_up not in EXPORTED:
        assert len([line for line in lines if LINES[server, set_up] in line]) in (1, 3), shown


# Where the line goes to, in one process.


class Kept(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def of(self, name: str) -> list[logging.LogRecord]:
        return [one for one in self.records if one.name == name]


@pytest.fixture
def kept(request: pytest.FixtureRequest) -> Any:
    handler = Kept()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def test_the_applications_handlers_have_the_record_with_its_fields(
    app: flask.Flask, logs: CapturedLogs, kept: Kept
) -> None:
    FlaskLogging(app)
    with serve_waitress(app) as served:
        served.get("/nowhere")
        access_records(logs)
    (record,) = kept.of("otelog.flask.access")
    assert (record.getMessage(), record.levelname) == ("GET /nowhere 404", "INFO")
    assert vars(record)["http.response.status_code"] == 404
    assert len(access_records(logs)) == 1


@pytest.mark.parametrize("way", ["level", "filter", "disabled"])
def test_the_logger_of_its_name_turns_the_line_off_and_not_the_record(
    app: flask.Flask, logs: CapturedLogs, kept: Kept, way: str
) -> None:
    FlaskLogging(app, access_log_name="web.requests")
    logger = logging.getLogger("web.requests")
    refuse = logging.Filter("nothing else")
    if way == "level":
        logger.setLevel("WARNING")
    elif way == "filter":
        logger.addFilter(refuse)
    else:
        logger.disabled = True
    try:
        with serve_waitress(app) as served:
            served.get("/")
            access_records(logs, name="web.requests")
    finally:
        logger.setLevel("NOTSET")
        logger.removeFilter(refuse)
        logger.disabled = False
    assert kept.of("web.requests") == []


@pytest.mark.parametrize("serve", [serve_waitress, serve_werkzeug], ids=["waitress", "werkzeug"])
def test_a_queue_whose_listener_leads_to_otelog_brings_no_second_record(app: flask.Flask, serve: Any) -> None:
    exporter = InMemoryLogRecordExporter()
    otelog.configure(exporter=exporter)
    text, waiting = io.StringIO(), queue.SimpleQueue()  # type: ignore[var-annotated]
    queued = logging.handlers.QueueHandler(waiting)
    listener = logging.handlers.QueueListener(waiting, logging.StreamHandler(text), otelog.LoggingHandler())
    logging.getLogger().addHandler(queued)
    listener.start()
    try:
        FlaskLogging(app)
        with serve(app) as served:
            served.get("/once")
            wait_until(lambda: "GET /once" in text.getvalue(), what="the line")
    finally:
        listener.stop()
        logging.getLogger().removeHandler(queued)
    assert otelog.flush()
    found = [str(one.log_record.body) for one in exporter.get_finished_logs()]
    assert [one for one in found if "/once" in one] == ["GET /once 404"]
    assert text.getvalue().count("/once") == 1


def test_before_configure_and_without_access_records_there_is_no_line_of_ours(
    app: flask.Flask, logs: CapturedLogs, kept: Kept
) -> None:
    FlaskLogging(app, access_log=False)
    with serve_waitress(app) as served:
        served.get("/")
    assert bodies(logs, "otelog.flask.access") == kept.of("otelog.flask.access") == []


def test_what_a_client_sends_cannot_end_the_line_or_steer_a_terminal(
    app: flask.Flask, logs: CapturedLogs, capsys: pytest.CaptureFixture[str]
) -> None:
    FlaskLogging(app)
    # Without those of the test runner, which see everything; back before otelog takes its own out of the list.
    with pytest.MonkeyPatch.context() as patch, serve_waitress(app) as served:
        patch.setattr(logging.getLogger(), "handlers", [])
        served.get("/a%0ab%1b[2J%e2%80%ae")
        access_records(logs)
    (line,) = [one for one in capsys.readouterr().err.split("\n") if "GET /a" in one]
    assert "\\nb\\x1b[2J\\u202e" in line and line.isprintable()


@pytest.mark.parametrize(
    ("environ", "silenced", "has_one"),
    [
        ({"werkzeug.socket": None}, False, True),
        ({"werkzeug.socket": None}, True, False),
        ({"SERVER_SOFTWARE": "waitress"}, False, False),
        ({"SERVER_SOFTWARE": "WSGIServer/0.2"}, True, True),
        ({"SERVER_SOFTWARE": "gevent/26.9 Python/3.11"}, False, True),
        ({"uwsgi.version": b"2.0"}, False, True),
        ({"asgi.scope": {}}, False, True),
        ({}, False, False),
    ],
)
def test_which_servers_have_lines_of_their_own(environ: dict[str, Any], silenced: bool, has_one: bool) -> None:
    assert has_line_of_server(environ, silenced=silenced) is has_one
