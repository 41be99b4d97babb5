"""One access record for each request, when its response has gone."""

from __future__ import annotations

import io
import json
import threading
from typing import Any

import flask
import pytest
from opentelemetry.trace import format_trace_id
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import otelog
from otelog.flask import FlaskLogging
from otelog.testing import CapturedLogs
from tests.flask.running import SECONDS, SERVERS, access_records, bodies, serve_waitress, serve_werkzeug

view_log = otelog.get_logger("view")


def attributes_of(record: Any) -> dict[str, Any]:
    return dict(record.log_record.attributes)


@pytest.mark.parametrize("server", SERVERS)
def test_a_request_has_one_record_with_the_names_of_the_conventions(
    server: str, app: flask.Flask, logs: CapturedLogs
) -> None:
    FlaskLogging(app)

    @app.get("/orders/<int:order_id>")
    def order(order_id: int) -> str:
        view_log.info("looking", order=order_id)
        return "é" * 5

    with SERVERS[server](app) as served:
        answer = served.get("/orders/7?token=secret", {"User-Agent": "tester/1"})
        (record,) = access_records(logs)

    attributes = attributes_of(record)
    duration = attributes.pop("http.server.request.duration")
    request_id = attributes.pop("request.id")
    assert 0 < duration < SECONDS
    assert request_id == answer.headers["X-Request-ID"]
    assert {key: value for key, value in attributes.items() if not key.startswith("code.")} == {
        "http.request.method": "GET",
        "http.route": "/orders/<int:order_id>",
        "url.path": "/orders/7",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "http.response.body.size": 10,
        "client.address": "127.0.0.1",
        "user_agent.original": "tester/1",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
    }
    assert record.log_record.body == "GET /orders/<int:order_id> 200"
    assert record.log_record.severity_text == "INFO"
    # The query, which may hold secrets, is nowhere.
    assert "secret" not in json.dumps(
        [str(one.log_record.body) + str(one.log_record.attributes) for one in logs.records]
    )

    (looking,) = (one.log_record for one in logs.records if one.instrumentation_scope.name == "view")
    assert record.log_record.trace_id == looking.trace_id != 0
    assert record.log_record.span_id == looking.span_id != 0
    assert answer.headers["X-Trace-ID"] == format_trace_id(looking.trace_id)


def test_a_streamed_response_has_its_record_after_the_last_part_with_the_bytes_that_were_sent(
    app: flask.Flask, logs: CapturedLogs
) -> None:
    FlaskLogging(app)
    go_on = threading.Event()

    @app.get("/stream")
    def stream() -> flask.Response:
        def parts() -> Any:
            yield b"a" * 1000
            assert go_on.wait(SECONDS)
            view_log.info("last part")
            yield b"b" * 234

        return flask.Response(parts())

    with serve_werkzeug(app) as served:
        connection = served.connect()
        connection.request("GET", "/stream")
        response = connection.getresponse()
        assert response.read(1000) == b"a" * 1000
        assert bodies(logs, "otelog.flask.access") == []
        go_on.set()
        assert response.read() == b"b" * 234
        connection.close()
        (record,) = access_records(logs)

    assert attributes_of(record)["http.response.body.size"] == 1234
    (last,) = (one.log_record for one in logs.records if one.log_record.body == "last part")
    assert last.trace_id == record.log_record.trace_id != 0
    assert last.attributes["request.id"] == attributes_of(record)["request.id"]


def test_a_client_that_leaves_early_has_one_record_of_what_was_sent(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app)
    sent = []

    @app.get("/endless")
    def endless() -> flask.Response:
        def parts() -> Any:
            while True:
                sent.append(1)
                yield b"x" * 100_000

        return flask.Response(parts())

    with serve_werkzeug(app) as served:
        connection = served.connect()
        connection.request("GET", "/endless")
        response = connection.getresponse()
        response.read(100)
        response.close()
        connection.close()
        (record,) = access_records(logs)
    assert 0 < attributes_of(record)["http.response.body.size"] <= len(sent) * 100_000
    assert record.log_record.severity_text == "INFO"


def test_a_file_that_the_server_sends_by_itself_is_left_to_it_and_counted(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app)
    given: list[Any] = []

    @app.get("/file")
    def file() -> flask.Response:
        return flask.send_file(io.BytesIO(b"z" * 70_000), mimetype="text/plain")

    def watched(environ: Any, start_response: Any) -> Any:
        parts = app(environ, start_response)
        given.append(isinstance(parts, environ["wsgi.file_wrapper"]))
        return parts

    with serve_waitress(watched) as served:
        assert len(served.get("/file").body) == 70_000
        (record,) = access_records(logs)
    assert given == [True]
    assert attributes_of(record)["http.response.body.size"] == 70_000


def test_a_head_request_sends_no_body(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app)
    app.add_url_rule("/", view_func=lambda: "body")
    app.test_client().head("/").close()
    (record,) = access_records(logs)
    assert record.log_record.body == "HEAD / 200"
    assert attributes_of(record)["http.response.body.size"] == 0


def test_an_answer_that_is_neither_read_nor_closed_has_its_record_when_it_is_let_go(
    app: flask.Flask, logs: CapturedLogs
) -> None:
    FlaskLogging(app)
    app.add_url_rule("/", view_func=lambda: "body")
    app.test_client().get("/")
    assert len(access_records(logs)) == 1


@pytest.mark.parametrize(
    ("status", "severity", "error"),
    [(200, "INFO", None), (302, "INFO", None), (404, "INFO", None), (503, "ERROR", "503")],
)
def test_only_a_servers_failure_is_an_error(
    status: int, severity: str, error: str | None, app: flask.Flask, logs: CapturedLogs
) -> None:
    FlaskLogging(app)
    app.add_url_rule("/", view_func=lambda: ("", status))
    app.test_client().get("/").close()
    (record,) = access_records(logs)
    assert record.log_record.severity_text == severity
    assert attributes_of(record).get("error.type") == error


def test_a_request_without_a_route_shows_its_path_in_one_line(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app)
    with serve_werkzeug(app) as served:
        assert served.get("/no%0aERROR%20faked/%C3%A9").status == 404
        (record,) = access_records(logs)
    assert record.log_record.body == "GET /no\\nERROR faked/\\xe9 404"
    assert "http.route" not in attributes_of(record)
    assert record.log_record.trace_id != 0


def test_a_method_that_the_conventions_do_not_know_is_other(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app)
    app.test_client().open("/", method="BREW").close()
    (record,) = access_records(logs)
    attributes = attributes_of(record)
    assert attributes["http.request.method"] == "_OTHER"
    assert attributes["http.request.method_original"] == "BREW"


def test_a_before_request_that_answers_is_recorded_like_any_view(app: flask.Flask, logs: CapturedLogs) -> None:
    @app.before_request
    def close_shop() -> tuple[str, int]:
        view_log.info("closed")
        return "closed", 503

    FlaskLogging(app)
    app.add_url_rule("/", view_func=lambda: "open")
    app.test_client().get("/").close()
    (record,) = access_records(logs)
    assert record.log_record.body == "GET / 503"
    (closed,) = (one.log_record for one in logs.records if one.log_record.body == "closed")
    assert closed.trace_id == record.log_record.trace_id != 0


def test_paths_may_be_excluded_one_by_one_and_by_prefix(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app, access_log_excluded=["/ping", "/static/*"], access_log_name="web")
    for path in ("/ping", "/static/a.css", "/pings", "/"):
        app.test_client().get(path).close()
    assert bodies(logs, "web") == ["GET /pings 404", "GET / 404"]


def test_there_need_be_no_access_records(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app, access_log=False)
    app.test_client().get("/").close()
    assert logs.records == []


def test_an_excluded_url_has_no_trace_but_its_record(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app, excluded_urls="/quiet")
    app.add_url_rule("/quiet", view_func=lambda: "")
    answer = app.test_client().get("/quiet", headers={"X-Trace-ID": "a" * 32})
    answer.close()
    (record,) = access_records(logs)
    assert not record.log_record.trace_id
    assert attributes_of(record)["http.route"] == "/quiet"
    assert attributes_of(record)["request.trace_id"] == "a" * 32
    assert "X-Trace-ID" not in answer.headers


@pytest.mark.parametrize(
    ("options", "forwarded", "expected"),
    [
        ({}, "1.1.1.1", "9.9.9.9"),
        ({"client_address": "none"}, "1.1.1.1", None),
        ({"client_address": "forwarded"}, "6.6.6.6, 1.1.1.1", "1.1.1.1"),
        ({"client_address": "forwarded", "trusted_proxies": 2}, "6.6.6.6, 1.1.1.1, 10.0.0.1", "1.1.1.1"),
        ({"client_address": "forwarded", "trusted_proxies": 2}, "6.6.6.6", "9.9.9.9"),
        ({"client_address": "forwarded"}, None, "9.9.9.9"),
    ],
)
def test_the_clients_address_is_what_the_policy_says(
    options: dict[str, Any], forwarded: str | None, expected: str | None, app: flask.Flask, logs: CapturedLogs
) -> None:
    FlaskLogging(app, **options)
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    app.test_client().get("/", headers=headers, environ_base={"REMOTE_ADDR": "9.9.9.9"}).close()
    (record,) = access_records(logs)
    assert attributes_of(record).get("client.address") == expected


def test_nested_blueprints_have_their_whole_route(app: flask.Flask, logs: CapturedLogs) -> None:
    outer, inner = flask.Blueprint("outer", __name__), flask.Blueprint("inner", __name__)
    inner.add_url_rule("/<name>", view_func=lambda name: name)
    outer.register_blueprint(inner, url_prefix="/inner")
    app.register_blueprint(outer, url_prefix="/outer")
    FlaskLogging(app)
    app.test_client().get("/outer/inner/x").close()
    (record,) = access_records(logs)
    assert record.log_record.body == "GET /outer/inner/<name> 200"


def test_of_applications_in_one_another_only_the_one_that_answers_has_a_record(logs: CapturedLogs) -> None:
    outer, inner = flask.Flask("outer"), flask.Flask("inner")
    outer.add_url_rule("/", view_func=lambda: "outer")
    inner.add_url_rule("/<name>", view_func=lambda name: name)
    outer.wsgi_app = DispatcherMiddleware(outer.wsgi_app, {"/in": inner})  # type: ignore[method-assign]
    FlaskLogging(outer, access_log_name="outer")
    FlaskLogging(inner, access_log_name="inner")
    client = outer.test_client()
    answer = client.get("/in/x")
    answer.close()
    client.get("/").close()
    assert bodies(logs, "inner") == ["GET /in/<name> 200"]
    assert bodies(logs, "outer") == ["GET / 200"]
    assert len(answer.headers.getlist("X-Request-ID")) == len(answer.headers.getlist("X-Trace-ID")) == 1
    (record,) = access_records(logs, name="inner")
    assert attributes_of(record)["request.id"] == answer.headers["X-Request-ID"]
