"""How applications are set up: once, several of them, instrumented before or not."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import flask
import pytest
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter

import otelog
from otelog._setup.state import is_configured
from otelog.flask import FlaskLogging
from otelog.testing import CapturedLogs, OTLPServer
from tests.flask.running import SECONDS, access_records, bodies, run_code

GIVEN = "0af7651916cd43dd8448eb211c80319c"


def get(app: flask.Flask, path: str = "/", **headers: str) -> Any:
    answer = app.test_client().get(path, headers={key.replace("_", "-"): value for key, value in headers.items()})
    answer.get_data()
    return answer


def test_an_application_factory_may_name_the_application_later(logs: CapturedLogs) -> None:
    logging_of_requests = FlaskLogging(access_log_name="web")

    def create_app(name: str) -> flask.Flask:
        app = flask.Flask(name)
        logging_of_requests.init_app(app)
        return app

    for app in [create_app("one"), create_app("two")]:
        get(app)
    assert bodies(logs, "web") == ["GET / 404", "GET / 404"]


def test_a_second_set_up_with_the_same_options_does_nothing(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app, access_log_excluded=["/x"]).init_app(app)
    FlaskLogging(app, access_log_excluded=("/x",))
    get(app)
    assert len(access_records(logs)) == 1


def test_a_second_set_up_with_other_options_is_refused(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app)
    with pytest.raises(otelog.ConfigurationError, match="other options"):
        FlaskLogging(app, access_log=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"acess_log": True}, "no option acess_log"),
        ({"access_log": 1}, "access_log"),
        ({"access_log_excluded": "/x"}, "access_log_excluded"),
        ({"access_log_excluded": ["x"]}, "access_log_excluded"),
        ({"access_log_name": 7}, "access_log_name"),
        ({"server_access_log": "drop"}, "silence, keep"),
        ({"client_address": "all"}, "peer, forwarded, none"),
        ({"trusted_proxies": 0}, "trusted_proxies"),
        ({"trusted_proxies": True}, "trusted_proxies"),
        ({"metrics": "metrics"}, "metrics"),
        ({"health": True}, "health"),
        ({"health": "/x", "metrics": "/x"}, "a path of their own"),
        ({"request_id_header": "X: y"}, "request_id_header"),
        ({"trace_id_header": ""}, "trace_id_header"),
        ({"excluded_urls": ["x"]}, "excluded_urls"),
        ({"fields": {"a": 1}}, "fields"),
    ],
)
def test_a_bad_option_is_refused_at_once(options: Any, message: str) -> None:
    with pytest.raises(otelog.ConfigurationError, match=message):
        FlaskLogging(**options)


def test_it_configures_what_is_not_configured(app: flask.Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    with OTLPServer() as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.endpoint)
        FlaskLogging(app)
        assert is_configured()
        get(app)
        assert otelog.flush(SECONDS)
        assert len(server.records) == 1


def test_it_leaves_alone_what_is_configured(app: flask.Flask) -> None:
    exporter = InMemoryLogRecordExporter()
    otelog.configure(exporter=exporter)
    FlaskLogging(app)
    get(app)
    assert otelog.flush(SECONDS)
    assert len(exporter.get_finished_logs()) == 1


def test_an_application_that_is_instrumented_already_has_one_span_and_accepts_ids(
    app: flask.Flask, logs: CapturedLogs, capfd: pytest.CaptureFixture[str]
) -> None:
    FlaskInstrumentor().instrument_app(app)
    FlaskLogging(app, excluded_urls="/quiet")
    assert len(app.before_request_funcs[None]) == 2
    answer = get(app, X_Trace_ID=GIVEN)
    assert answer.headers["X-Trace-ID"] == GIVEN
    assert f"{access_records(logs)[0].log_record.trace_id:032x}" == GIVEN
    assert "excluded_urls says nothing" in capfd.readouterr().err


def test_under_auto_instrumentation_there_is_one_span_and_ids_are_accepted() -> None:
    """In a process of its own, since it replaces ``flask.Flask`` for good."""
    code = """
        from opentelemetry import trace
        from opentelemetry.instrumentation.flask import FlaskInstrumentor
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        spans = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        trace.set_tracer_provider(provider)
        FlaskInstrumentor().instrument()

        import flask, otelog
        from otelog.flask import FlaskLogging
        from otelog.testing import capture_logs
        from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter

        otelog.configure(exporter=InMemoryLogRecordExporter())
        app = flask.Flask("shop")
        FlaskLogging(app)

        @app.get("/")
        def view():
            raise KeyError("broken")

        with capture_logs() as logs:
            answer = app.test_client().get("/", headers={"X-Trace-ID": "%s"})
            answer.close()
            ids = {format(one.log_record.trace_id, "032x") for one in logs.records}
            print(len(spans.get_finished_spans()), len(logs.records), *ids, answer.headers["X-Trace-ID"])
    """
    done = run_code(code % GIVEN)
    assert done.stdout.split() == ["1", "2", GIVEN, GIVEN]
    assert "Attempting to instrument" not in done.stderr


def test_functions_that_were_registered_before_are_in_the_span(app: flask.Flask, logs: CapturedLogs) -> None:
    view_log = otelog.get_logger("early")
    app.before_request(lambda: view_log.info("before"))
    app.teardown_request(lambda error: view_log.info("teardown"))
    app.teardown_appcontext(lambda error: view_log.info("teardown of the application's context"))
    FlaskLogging(app)
    get(app)
    (access,) = access_records(logs)
    early = [one.log_record for one in logs.records if one.instrumentation_scope.name == "early"]
    assert [one.body for one in early] == ["before", "teardown", "teardown of the application's context"]
    assert {one.span_id for one in early} == {access.log_record.span_id}
    assert {one.attributes["request.id"] for one in early} == {access.log_record.attributes["request.id"]}


def test_an_application_that_is_let_go_is_gone(logs: CapturedLogs) -> None:
    extension = FlaskLogging()
    app = flask.Flask("short")
    extension.init_app(app)
    get(app)
    known = weakref.ref(app)
    del app
    gc.collect()
    assert known() is None


def test_what_takes_the_handler_away_before_the_first_request_is_undone() -> None:
    code = """
        import logging, flask, otelog
        from otelog.flask import FlaskLogging
        from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
        exporter = InMemoryLogRecordExporter()
        otelog.configure(exporter=exporter)
        app = flask.Flask("shop")
        FlaskLogging(app)
        log = logging.getLogger("std")
        app.add_url_rule("/", view_func=lambda: str(log.info("here") or ""))
        logging.getLogger().handlers.clear()
        app.test_client().get("/").close()
        otelog.flush()
        print(*(one.instrumentation_scope.name for one in exporter.get_finished_logs()))
    """
    done = run_code(code)
    assert done.stdout.split() == ["std", "otelog.flask.access"]
