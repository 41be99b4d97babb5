"""The servers' own access lines: not exported where otelog has a record of the request, and silenced on request."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from otelog.flask import FlaskLogging
from otelog.testing import CapturedLogs, OTLPServer
from tests.flask.running import SECONDS, Served, access_records, bodies, serve_werkzeug
from tools.loopback import find_free_ports
from tools.waiting import end_process, wait_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def werkzeug_lines() -> Iterator[io.StringIO]:
    """What a handler of werkzeug's own logger writes."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logging.getLogger("werkzeug").addHandler(handler)
    yield text
    logging.getLogger("werkzeug").removeHandler(handler)


@pytest.mark.parametrize(("options", "lines"), [({}, 2), ({"server_access_log": "silence"}, 0)])
def test_werkzeugs_lines_are_not_exported_or_silenced_and_its_other_words_are_not(
    options: Any, lines: int, app: flask.Flask, logs: CapturedLogs, werkzeug_lines: io.StringIO
) -> None:
    FlaskLogging(app, **options)
    with serve_werkzeug(app) as served:
        served.get("/")
        served.get("/")
        access_records(logs, 2)
        logging.getLogger("werkzeug").warning("a development server")
        logging.getLogger("werkzeug").info(" * Running on nothing")
    *of_requests, first, second = werkzeug_lines.getvalue().splitlines()
    assert [first, second] == ["a development server", " * Running on nothing"]
    assert len(of_requests) == lines and all("GET / HTTP/1.1" in line for line in of_requests)
    assert bodies(logs, "werkzeug") == ["a development server", " * Running on nothing"]


def test_scrapes_probes_and_excluded_paths_leave_no_line_either(
    app: flask.Flask, logs: CapturedLogs, werkzeug_lines: io.StringIO
) -> None:
    FlaskLogging(app, health="/health", metrics="/metrics", access_log_excluded=["/ping"])
    with serve_werkzeug(app) as served:
        assert [served.get(path).status for path in ("/health", "/metrics", "/ping")] == [200, 200, 404]
    assert werkzeug_lines.getvalue() == ""
    assert logs.records == []


@pytest.mark.parametrize("options", [{"server_access_log": "keep"}, {"access_log": False}])
def test_werkzeugs_lines_are_kept_on_request_and_where_there_are_no_others(
    options: Any, app: flask.Flask, logs: CapturedLogs
) -> None:
    FlaskLogging(app, **options)
    with serve_werkzeug(app) as served:
        served.get("/")
        wait_until(lambda: len(bodies(logs, "werkzeug")) == 1)


def test_the_lines_of_an_application_that_otelog_does_not_watch_are_kept(
    app: flask.Flask, logs: CapturedLogs, werkzeug_lines: io.StringIO
) -> None:
    FlaskLogging(app, server_access_log="silence")

    def choose(environ: Any, start_response: Any) -> Any:
        return (app if environ["PATH_INFO"] == "/watched" else flask.Flask("other"))(environ, start_response)

    with serve_werkzeug(choose) as served:
        for path in ("/watched", "/other", "/watched"):
            served.get(path)
        access_records(logs, 2)
    (line,) = werkzeug_lines.getvalue().splitlines()
    assert "GET /other HTTP/1.1" in line


def test_of_applications_in_one_another_the_inner_one_has_the_say(
    app: flask.Flask, logs: CapturedLogs, werkzeug_lines: io.StringIO
) -> None:
    inner = flask.Flask("inner")
    FlaskLogging(inner, server_access_log="keep")
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/in": inner})  # type: ignore[method-assign]
    FlaskLogging(app, server_access_log="silence")
    with serve_werkzeug(app) as served:
        for path in ("/in/x", "/x"):
            served.get(path)
        access_records(logs, 2)
    (line,) = werkzeug_lines.getvalue().splitlines()
    assert "GET /in/x HTTP/1.1" in line


APPLICATION = """
    import flask
    from otelog.flask import FlaskLogging

    app = flask.Flask("shop")
    app.config["PROPAGATE_EXCEPTIONS"] = True
    FlaskLogging(app, server_access_log={policy!r})
    other = flask.Flask("other")

    @app.get("/")
    def view():
        app.logger.warning("in view")
        return "fine"

    @app.get("/broken")
    def broken():
        raise KeyError("broken")

    def choose(environ, start_response):
        return (other if environ["PATH_INFO"] == "/other" else app)(environ, start_response)
"""


@pytest.mark.parametrize(
    ("policy", "lines", "exported"),
    [
        ("console", {"/:200", "None:500", "/other:404"}, set()),
        ("silence", {"/other:404"}, set()),
        ("keep", {"/:200", "None:500", "/other:404"}, {"/:200", "None:500"}),
    ],
)
def test_gunicorns_lines_stay_or_are_silenced_or_exported_and_an_exception_arrives_once(
    policy: str, lines: set[str], exported: set[str], tmp_path: Path
) -> None:
    pytest.importorskip("gunicorn")
    (tmp_path / "shop.py").write_text(textwrap.dedent(APPLICATION.format(policy=policy)))
    (port,) = find_free_ports(1)
    with OTLPServer() as server:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "shop:choose", "--chdir", str(tmp_path), "--workers", "1"),
                *("--bind", f"127.0.0.1:{port}", "--access-logfile", str(tmp_path / "access.log")),
                *("--access-logformat", "%(U)s:%(s)s", "--error-logfile", str(tmp_path / "error.log")),
            ],
            cwd=ROOT,
            env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": server.endpoint},
        )
        try:
            served = Served(port)
            wait_until(lambda: listens(served), SECONDS, what="gunicorn")
            assert [served.get(path).status for path in ("/", "/broken", "/other")] == [200, 500, 404]
        finally:
            end_process(process, SECONDS)
        records = server.records
    # gunicorn does not know the path any more when an application has raised.
    assert set((tmp_path / "access.log").read_text().split()) == lines
    assert {one.body.string_value for one in records} & {"/:200", "None:500"} == exported
    # Its error log has the traceback as ever, and the pipeline has it once.
    assert (tmp_path / "error.log").read_text().count("KeyError: 'broken'") == 1
    errors = [one for one in records if any(each.key == "exception.type" for each in one.attributes)]
    assert [one.body.string_value for one in errors] == ["Exception on /broken [GET]"]
    (access,) = (one for one in records if one.body.string_value == "GET /broken 500")
    assert access.trace_id == errors[0].trace_id != b""


def listens(served: Served) -> bool:
    try:
        return served.get("/other").status == 404
    except OSError:
        return False
