"""An unhandled exception is exactly one record, in its request's trace."""

from __future__ import annotations

import http.client
import io
import logging
from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest

from otelog.flask import FlaskLogging
from otelog.testing import CapturedLogs
from tests.flask.running import SERVERS, access_records, exceptions, serve_werkzeug


class Broken(Exception):
    pass


def fail_in_view(app: flask.Flask) -> None:
    @app.get("/")
    def view() -> str:
        raise Broken("in view")


def fail_before(app: flask.Flask) -> None:
    @app.before_request
    def before() -> None:
        raise Broken("before")


def fail_after(app: flask.Flask) -> None:
    app.add_url_rule("/", view_func=lambda: "")

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        # Flask calls it for the page that tells of the error, too.
        if response.status_code == 200:
            raise Broken("after")
        return response


def fail_in_teardown(app: flask.Flask) -> None:
    app.add_url_rule("/", view_func=lambda: "")

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        if flask.has_request_context() and error is None:
            raise Broken("in teardown")


def fail_in_body(app: flask.Flask) -> None:
    @app.get("/")
    def view() -> flask.Response:
        def parts() -> Iterator[bytes]:
            yield b"begun"
            raise Broken("in body")

        return flask.Response(parts())


def fail_at_the_beginning_of_the_body(app: flask.Flask) -> None:
    @app.get("/")
    def view() -> flask.Response:
        def parts() -> Iterator[bytes]:
            raise Broken("in body")
            yield b""

        return flask.Response(parts())


def fail_in_body_with_context(app: flask.Flask) -> None:
    @app.get("/")
    def view() -> flask.Response:
        def parts() -> Iterator[bytes]:
            yield flask.request.path.encode()
            raise Broken("in body")

        return flask.Response(flask.stream_with_context(parts()))


def fail_in_close(app: flask.Flask) -> None:
    @app.get("/")
    def view() -> flask.Response:
        response = flask.Response("whole")

        def close() -> None:
            raise Broken("in close")

        response.call_on_close(close)
        return response


PLACES = [
    fail_in_view,
    fail_before,
    fail_after,
    fail_in_teardown,
    fail_in_body,
    fail_at_the_beginning_of_the_body,
    fail_in_body_with_context,
    fail_in_close,
]

SENT_BEFORE = [fail_in_body, fail_in_body_with_context, fail_in_close]


@pytest.mark.parametrize("propagate", [False, True], ids=["answered", "propagated"])
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("place", PLACES)
def test_it_is_one_record_in_the_requests_trace_wherever_it_is_raised_and_whoever_gets_it(
    place: Callable[[flask.Flask], None], server: str, propagate: bool, app: flask.Flask, logs: CapturedLogs
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = propagate
    place(app)
    FlaskLogging(app)
    with SERVERS[server](app) as served:
        try:
            served.get("/")
        except (OSError, http.client.HTTPException):
            # A broken connection is how a server says that the body is not whole.
            assert "body" in place.__name__
        (access,) = access_records(logs)
    (error,) = exceptions(logs)
    assert error.log_record.attributes["exception.type"].endswith("Broken")
    assert error.log_record.attributes["request.id"] == access.log_record.attributes["request.id"]
    assert error.log_record.body == "Exception on / [GET]"
    assert error.log_record.severity_text == "ERROR"
    assert error.instrumentation_scope.name == app.name
    assert error.log_record.trace_id == access.log_record.trace_id != 0
    assert error.log_record.span_id == access.log_record.span_id != 0
    assert access.log_record.body == ("GET / 200" if place in SENT_BEFORE else "GET / 500")
    if place is not fail_in_close:
        # The close comes when the response is whole, and its record made.
        assert access.log_record.attributes["error.type"].endswith("Broken")
        assert access.log_record.severity_text == "ERROR"


@pytest.mark.parametrize("setting", ["testing", "debug"])
def test_it_is_one_record_where_flask_hands_it_to_the_test_or_the_debugger(
    setting: str, app: flask.Flask, logs: CapturedLogs
) -> None:
    setattr(app, setting, True)
    fail_in_view(app)
    FlaskLogging(app)
    with pytest.raises(Broken):
        app.test_client().get("/")
    (error,) = exceptions(logs)
    assert error.log_record.event_name == "exception"
    assert error.log_record.trace_id == access_records(logs)[0].log_record.trace_id != 0


def test_what_an_error_handler_handles_is_no_record(app: flask.Flask, logs: CapturedLogs) -> None:
    fail_in_view(app)
    FlaskLogging(app)
    app.register_error_handler(Exception, lambda error: ("sorry", 418))
    assert app.test_client().get("/").text == "sorry"
    (access,) = access_records(logs)
    assert access.log_record.severity_text == "INFO"
    assert exceptions(logs) == []


def test_an_abort_is_no_exception(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app)
    app.add_url_rule("/", view_func=lambda: flask.abort(403))
    app.test_client().get("/").close()
    (access,) = access_records(logs)
    assert access.log_record.body == "GET / 403"
    assert exceptions(logs) == []


@pytest.mark.parametrize("propagate", [False, True])
@pytest.mark.parametrize("change", ["propagate", "disabled"])
def test_it_is_recorded_where_flasks_own_record_goes_elsewhere(
    change: str, propagate: bool, app: flask.Flask, logs: CapturedLogs
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = propagate
    fail_in_view(app)
    FlaskLogging(app)
    elsewhere = logging.StreamHandler(io.StringIO())
    app.logger.addHandler(elsewhere)
    value = getattr(app.logger, change)
    setattr(app.logger, change, not value)
    try:
        with serve_werkzeug(app) as served:
            assert served.get("/").status == 500
            (access,) = access_records(logs)
    finally:
        setattr(app.logger, change, value)
        app.logger.removeHandler(elsewhere)
    (error,) = exceptions(logs)
    assert error.log_record.trace_id == access.log_record.trace_id != 0


def test_an_application_with_its_own_log_exception_has_the_say(logs: CapturedLogs) -> None:
    class Quiet(flask.Flask):
        def log_exception(self, exc_info: Any) -> None:
            logging.getLogger("elsewhere").error("it broke", exc_info=exc_info)

    app = Quiet("quiet")
    fail_in_view(app)
    FlaskLogging(app)
    app.test_client().get("/").close()
    (error,) = exceptions(logs)
    assert error.log_record.body == "it broke"


def test_of_several_applications_each_has_its_own(logs: CapturedLogs) -> None:
    apps = [flask.Flask("one"), flask.Flask("two")]
    for app in apps:
        fail_in_view(app)
        FlaskLogging(app)
        # So that they are ours.
        app.logger.disabled = True
    try:
        for app in apps:
            app.test_client().get("/").close()
    finally:
        for app in apps:
            app.logger.disabled = False
    assert [error.instrumentation_scope.name for error in exceptions(logs)] == ["one", "two"]


def test_the_servers_own_error_log_has_its_line_as_ever(app: flask.Flask, logs: CapturedLogs) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = True
    fail_in_view(app)
    FlaskLogging(app)
    text = io.StringIO()
    console = logging.StreamHandler(text)
    logging.getLogger("waitress").addHandler(console)
    try:
        with SERVERS["waitress"](app) as served:
            assert served.get("/").status == 500
            access_records(logs)
    finally:
        logging.getLogger("waitress").removeHandler(console)
    assert text.getvalue().count("Broken: in view") == 1
    assert len(exceptions(logs)) == 1


def test_what_a_server_logs_of_other_exceptions_arrives(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app)

    def around(environ: Any, start_response: Any) -> Any:
        raise Broken("outside of the application")

    with SERVERS["waitress"](around) as served:
        assert served.get("/").status == 500
    assert len(exceptions(logs)) == 1


def test_a_word_to_stop_is_no_exception_record_but_has_its_access_record(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app)

    @app.get("/")
    def view() -> str:
        raise SystemExit(1)

    with pytest.raises(SystemExit):
        app.test_client().get("/")
    (access,) = access_records(logs)
    assert access.log_record.attributes["error.type"] == "SystemExit"
    assert exceptions(logs) == []
