"""Ids that a client brings: its trace id is the request's, its request id comes back."""

from __future__ import annotations

import re
from typing import Any

import flask
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator

import otelog
from otelog.flask import FlaskLogging
from otelog.flask.trace_ids import OFFERED, Offer, OfferedTraceIds
from otelog.testing import CapturedLogs
from tests.flask.running import access_records

view_log = otelog.get_logger("view")

GIVEN = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b" * 32


class Seen:
    """What one request has come to."""

    def __init__(self, answer: Any, record: Any, span: Any) -> None:
        self.headers = answer.headers
        self.trace_id = f"{record.log_record.trace_id:032x}"
        self.attributes = record.log_record.attributes
        self.span = span


@pytest.fixture
def ask(app: flask.Flask, logs: CapturedLogs) -> Any:
    spans = []
    FlaskLogging(app)

    @app.get("/")
    def view() -> str:
        spans.append(trace.get_current_span())
        view_log.info("here")
        return ""

    def ask_once(headers: dict[str, str]) -> Seen:
        answer = app.test_client().get("/", headers=headers)
        answer.close()
        here = [one for one in logs.records if one.log_record.body == "here"][-1]
        access = access_records(logs)[-1]
        for name in ("request.id", "request.trace_id"):
            assert access.log_record.attributes.get(name) == here.log_record.attributes.get(name)
        return Seen(answer, here, spans[-1])

    return ask_once


@pytest.mark.parametrize("given", [GIVEN, GIVEN.upper()])
def test_32_hex_digits_become_the_requests_trace_id_without_a_parent(given: str, ask: Any) -> None:
    seen = ask({"X-Trace-ID": given})
    assert seen.trace_id == seen.headers["X-Trace-ID"] == GIVEN
    assert seen.span.parent is None
    assert "request.trace_id" not in seen.attributes


def test_the_next_request_has_a_trace_of_its_own(ask: Any) -> None:
    ask({"X-Trace-ID": GIVEN})
    seen = ask({})
    assert seen.trace_id == seen.headers["X-Trace-ID"] != GIVEN
    assert "request.trace_id" not in seen.attributes


def test_a_traceparent_wins_and_the_other_id_is_kept_as_a_field(ask: Any) -> None:
    seen = ask({"traceparent": f"00-{PARENT}-00f067aa0ba902b7-01", "X-Trace-ID": GIVEN})
    assert seen.trace_id == seen.headers["X-Trace-ID"] == PARENT
    assert seen.attributes["request.trace_id"] == GIVEN


def test_an_invalid_traceparent_does_not_win(ask: Any) -> None:
    assert ask({"traceparent": "00-zz-00f067aa0ba902b7-01", "X-Trace-ID": GIVEN}).trace_id == GIVEN


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("order 7", "order 7"),
        ("0" * 32, "0" * 32),
        (GIVEN[:-1], GIVEN[:-1]),
        ("x" * 1000, "x" * 128),
        ("a\x1bb", "ab"),
        ("  ", None),
    ],
)
def test_anything_else_is_kept_as_a_field_cleaned_and_bounded(given: str, kept: str | None, ask: Any) -> None:
    seen = ask({"X-Trace-ID": given})
    assert seen.attributes.get("request.trace_id") == kept
    assert seen.trace_id == seen.headers["X-Trace-ID"]
    assert int(seen.trace_id, 16) not in (0, int(GIVEN, 16))


def test_a_sane_request_id_comes_back(ask: Any) -> None:
    seen = ask({"X-Request-ID": "r-1"})
    assert seen.headers["X-Request-ID"] == seen.attributes["request.id"] == "r-1"


@pytest.mark.parametrize("given", [None, "", "two words", "x" * 129, "\x7f"])
def test_a_request_id_is_made_where_there_is_no_sane_one(given: str | None, ask: Any) -> None:
    seen = ask({} if given is None else {"X-Request-ID": given})
    assert seen.headers["X-Request-ID"] == seen.attributes["request.id"]
    assert re.fullmatch("[0-9a-f]{32}", seen.headers["X-Request-ID"])


def test_the_headers_may_have_other_names_or_be_left_out(logs: CapturedLogs) -> None:
    other, none = flask.Flask("other"), flask.Flask("none")
    FlaskLogging(other, trace_id_header="My-Trace", request_id_header="My-Request")
    FlaskLogging(none, trace_id_header=None, request_id_header=None)
    sent = {"My-Trace": GIVEN, "My-Request": "r-2", "X-Trace-ID": PARENT, "X-Request-ID": "r-3"}
    answers = [app.test_client().get("/", headers=sent) for app in (other, none)]
    assert (answers[0].headers["My-Trace"], answers[0].headers["My-Request"]) == (GIVEN, "r-2")
    assert not {"X-Trace-ID", "X-Request-ID", "My-Trace"} & set(answers[1].headers.keys())
    for answer in answers:
        answer.close()
    ours, theirs = access_records(logs, 2)
    assert ours.log_record.attributes["request.id"] == "r-2"
    assert "request.id" not in theirs.log_record.attributes


def test_an_application_that_sets_the_header_itself_keeps_its_own(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app)
    app.add_url_rule("/", view_func=lambda: ("", 200, {"x-request-id": "mine"}))
    assert app.test_client().get("/").headers.getlist("X-Request-ID") == ["mine"]


def test_a_view_may_read_the_fields_of_its_request(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app, fields=lambda request: {"tenant": request.headers["X-Tenant"]})
    app.add_url_rule("/", view_func=lambda: str(view_log.info("here") or ""))
    app.test_client().get("/", headers={"X-Tenant": "t-1"}).close()
    assert [one.log_record.attributes["tenant"] for one in logs.records] == ["t-1", "t-1"]


class Counting(IdGenerator):
    def __init__(self) -> None:
        self.made = 0

    def generate_span_id(self) -> int:
        return 5

    def generate_trace_id(self) -> int:
        self.made += 1
        return self.made


def test_the_generator_that_was_there_makes_all_other_ids() -> None:
    own = Counting()
    ids = OfferedTraceIds(own)
    assert (ids.generate_trace_id(), ids.generate_span_id(), ids.is_trace_id_random()) == (1, 5, False)
    token = OFFERED.set(Offer(99))
    try:
        assert [ids.generate_trace_id() for _ in range(3)] == [99, 2, 3]
    finally:
        OFFERED.reset(token)


@pytest.mark.skipif(not hasattr(RandomIdGenerator, "is_trace_id_random"), reason="this SDK does not ask")
def test_a_clients_id_is_not_said_to_be_random() -> None:
    ids = OfferedTraceIds(RandomIdGenerator())
    token = OFFERED.set(Offer(99))
    try:
        ids.generate_trace_id()
        assert not ids.is_trace_id_random()
        ids.generate_trace_id()
        assert ids.is_trace_id_random()
    finally:
        OFFERED.reset(token)
