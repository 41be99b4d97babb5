"""What is left of a request when its teardown is over: its trace until then, and nothing afterwards."""

from __future__ import annotations

import logging

import pytest
from flask import Flask
from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.trace import TracerProvider

from otelog._patches.flask_teardown import keep_context
from otelog.testing import capture_logs

TRACES = [f"{number:032x}" for number in (0xA1, 0xA2)]


@pytest.mark.parametrize("with_parent", [True, False])
def test_a_teardown_that_raises_leaves_nothing_of_its_request_in_the_thread(with_parent: bool) -> None:
    app = Flask("shop")
    keep_context(app)
    FlaskInstrumentor().instrument_app(app, tracer_provider=TracerProvider(shutdown_on_exit=False))
    app.testing = True

    @app.get("/")
    def view() -> str:
        logging.getLogger("shop").warning("in the view")
        return "ok"

    @app.teardown_request
    def fail(error: BaseException | None) -> None:
        raise RuntimeError("the connection was gone")

    before = get_current()
    with capture_logs() as logs:
        for number in TRACES:
            headers = {"traceparent": f"00-{number}-00f067aa0ba902b7-01"} if with_parent else {}
            with pytest.raises(RuntimeError, match="the connection was gone"):
                app.test_client().get("/", headers=headers)
            assert get_current() == before
            assert not trace.get_current_span().get_span_context().is_valid
    found = [f"{record.log_record.trace_id:032x}" for record in logs.records if record.log_record.body == "in the view"]
    assert len(set(found)) == 2
    assert not with_parent or found == TRACES
