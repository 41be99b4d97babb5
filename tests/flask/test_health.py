"""The health entry tells the pipeline's state, and takes nobody out of rotation for lost logs."""

from __future__ import annotations

from typing import Any

import flask
import pytest
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, LogRecordExporter, LogRecordExportResult

import otelog
from otelog._requests.health import watch_exports
from otelog.flask import FlaskLogging, health_app
from tests.flask.running import run_code

NEVER = 600_000


class Switched(LogRecordExporter):
    """Refuses records until it is told otherwise."""

    def __init__(self) -> None:
        self.answer = LogRecordExportResult.FAILURE

    def export(self, batch: Any) -> LogRecordExportResult:
        return self.answer

    def shutdown(self) -> None:
        """Nothing to do."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True


def ask(app: flask.Flask, path: str = "/health") -> tuple[int, dict[str, Any]]:
    answer = app.test_client().get(path)
    return answer.status_code, answer.get_json()


def test_a_pipeline_that_delivers_is_ok(app: flask.Flask) -> None:
    otelog.configure(exporter=InMemoryLogRecordExporter(), schedule_delay_millis=NEVER, max_queue_size=50)
    FlaskLogging(app, health="/health")
    # What another test of this process has lost within the last minute counts as recent.
    watch_exports().lost_at = None
    otelog.get_logger("x").info("one")
    otelog.flush()
    otelog.get_logger("x").info("two")
    status, state = ask(app)
    assert status == 200
    assert state.pop("last_export")["outcome"] == "delivered"
    assert state == {
        "status": "ok",
        "configured": True,
        "handler_attached": True,
        "queue": {"size": 1, "capacity": 50},
        "waiting": 0,
        "in_flight": 0,
        "created": state["created"],
        "exported": state["exported"],
        "lost": state["lost"],
    }
    assert state["created"] >= 2


def test_a_loss_is_degraded_and_no_reason_for_503(app: flask.Flask) -> None:
    exporter = Switched()
    otelog.configure(exporter=exporter, schedule_delay_millis=NEVER)
    FlaskLogging(app, health="/health")
    log = otelog.get_logger("x")
    log.info("lost")
    otelog.flush()
    status, state = ask(app)
    assert (status, state["status"], state["last_export"]["outcome"]) == (200, "degraded", "lost")
    exporter.answer = LogRecordExportResult.SUCCESS
    log.info("delivered")
    otelog.flush()
    status, state = ask(app)
    # The loss is in the last minute still.
    assert (status, state["status"], state["last_export"]["outcome"]) == (200, "degraded", "delivered")


@pytest.mark.parametrize(("wanted", "status"), [(True, "degraded"), (False, "ok")])
def test_a_handler_that_is_gone_is_degraded_unless_none_is_wanted(wanted: bool, status: str) -> None:
    """In a process of its own, where no loss of another test is recent."""
    code = f"""
        import logging
        import flask, otelog
        from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
        from otelog.flask import FlaskLogging

        otelog.configure(exporter=InMemoryLogRecordExporter(), install_handler={wanted})
        app = flask.Flask("shop")
        FlaskLogging(app, health="/health")
        logging.getLogger().handlers.clear()
        answer = app.test_client().get("/health")
        print(answer.status_code, answer.json["status"], answer.json["handler_attached"])
    """
    assert run_code(code).stdout.split() == ["200", status, "False"]


def test_a_pipeline_that_is_shut_down_is_503(app: flask.Flask) -> None:
    otelog.configure(exporter=InMemoryLogRecordExporter())
    FlaskLogging(app, health="/health")
    otelog.shutdown()
    status, state = ask(app)
    assert (status, state["status"]) == (503, "down")


def test_a_disabled_sdk_is_off(app: flask.Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    FlaskLogging(app, health="/health")
    status, state = ask(app)
    assert (status, state["status"], state["configured"]) == (200, "off", False)


def test_it_answers_whatever_the_application_does_and_leaves_no_record(app: flask.Flask) -> None:
    exporter = InMemoryLogRecordExporter()
    otelog.configure(exporter=exporter)

    @app.before_request
    def refuse() -> None:
        flask.abort(401)

    FlaskLogging(app, health="/health")
    assert ask(app)[0] == 200
    assert app.test_client().head("/health").data == b""
    assert app.test_client().post("/health").status_code == 405
    otelog.flush()
    assert exporter.get_finished_logs() == ()


def test_a_view_may_return_it_behind_the_applications_own_checks(app: flask.Flask) -> None:
    otelog.configure(exporter=InMemoryLogRecordExporter())
    FlaskLogging(app)
    app.add_url_rule("/internal", view_func=lambda: health_app)
    assert ask(app, "/internal")[1]["status"] in ("ok", "degraded")
