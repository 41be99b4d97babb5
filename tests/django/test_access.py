"""One access record for each request, with the names that Flask's have, in WSGI and in ASGI."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.test.utils import override_settings

import otelog
from otelog._setup.configure import reset
from otelog.django import AccessLogMiddleware
from otelog.exceptions import ConfigurationError
from otelog.testing import CapturedLogs
from tests.django.running import (
    ACCESS,
    HANDLERS,
    OURS,
    THEIRS,
    TRACE,
    TRACED,
    Ask,
    access_records,
    ask_asgi,
    ask_wsgi,
    attributes_of,
    lines,
    traces,
)

pytestmark = [
    # Django says, of what it does for the other kind of body, that there is a better way.
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume"),
    # The bodies of requests, which Django leaves to the collector where an exception goes through.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
both = pytest.mark.parametrize("interface", HANDLERS)


class ByKeyword(AccessLogMiddleware, health="/alive", access_log_name="by.keyword"):
    """What a subclass may be."""


def name_user(request: Any) -> dict[str, str]:
    """Fields by a function in the settings."""
    return {"user": request.META["HTTP_X_USER"]}


@both
def test_a_request_has_one_record_with_the_names_of_the_conventions(interface: str, logs: CapturedLogs) -> None:
    answer = HANDLERS[interface](Ask("/orders/7/?token=secret", {**TRACED, "User-Agent": "tester/1"}))
    (record,) = access_records(logs)
    attributes = attributes_of(record)
    assert 0 < attributes.pop("http.server.request.duration") < 20
    assert attributes.pop("request.id") == answer.headers["x-request-id"]
    assert attributes == {
        "http.request.method": "GET",
        "http.route": "/orders/<int:number>/",
        "url.path": "/orders/7/",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "http.response.body.size": 10,
        "client.address": "127.0.0.1",
        "user_agent.original": "tester/1",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
    }
    assert record.log_record.body == "GET /orders/<int:number>/ 200"
    assert record.log_record.severity_text == "INFO"
    assert answer.headers["x-trace-id"] == TRACE
    assert traces(logs) == {TRACE}
    assert lines(logs) == [("site", "order 7"), (ACCESS, "GET /orders/<int:number>/ 200")]


CASES: list[tuple[str, int, str, str | None, list[tuple[str, str | None]]]] = [
    ("/later/", 200, "GET /later/ 200", None, [("site", "later")]),
    ("/api/items/5/", 200, "GET /api/items/(?P<number>[0-9]+)/ 200", None, [("site", "order 5")]),
    ("/missing/", 404, "GET /missing/ 404", None, [("django.request", "Not Found: /missing/")]),
    (
        "/denied/",
        403,
        "GET /denied/ 403",
        None,
        [("django.request", "Forbidden (Permission denied): /denied/")],
    ),
    ("/suspicious/", 400, "GET /suspicious/ 400", None, [("django.security.SuspiciousOperation", "odd")]),
    (
        "/broken/",
        500,
        "GET /broken/ 500",
        "ValueError",
        [("django.request", "Internal Server Error: /broken/")],
    ),
    (
        "/broken-later/",
        500,
        "GET /broken-later/ 500",
        "ValueError",
        [("django.request", "Internal Server Error: /broken-later/")],
    ),
    ("/a%0Ab%FF", 404, "GET /a\\nb\ufffd 404", None, [("django.request", None)]),
]
"""Path, status, the access record's body and error type, and the other records."""


@pytest.mark.parametrize(
    ("interface", "path", "status", "body", "error_type", "others"),
    # pytest keeps the traceback of what is logged, and that asgiref's threads for an asynchronous view under WSGI.
    [(one, *case) for one in HANDLERS for case in CASES if (one, case[0]) != ("wsgi", "/broken-later/")],
)
def test_what_comes_of_a_request_is_said_once(
    interface: str,
    path: str,
    status: int,
    body: str,
    error_type: str | None,
    others: list[tuple[str, str | None]],
    logs: CapturedLogs,
) -> None:
    answer = HANDLERS[interface](Ask(path, TRACED))
    assert answer.status == status
    found = lines(logs)
    (record,) = access_records(logs)
    if "%FF" not in path:
        assert record.log_record.body == body
    assert attributes_of(record).get("error.type") == error_type
    assert record.log_record.severity_text == ("ERROR" if status >= 500 else "INFO")
    assert sorted(logger for logger, _ in found) == sorted([ACCESS, *(logger for logger, _ in others)])
    assert all((logger, text) in found for logger, text in others if text is not None), found
    assert traces(logs) == {TRACE}
    # What Django says when the middlewares are done has the request's fields, too.
    assert {attributes_of(one)["request.id"] for one in logs.records} == {answer.headers["x-request-id"]}
    assert not any({"request", "status_code"} & set(attributes_of(one)) for one in logs.records)


@both
@pytest.mark.parametrize("path", ["/rows/", "/async-rows/"])
@pytest.mark.parametrize("end", ["whole", "left", "failed"])
def test_a_streamed_response_is_recorded_at_its_end(interface: str, path: str, end: str, logs: CapturedLogs) -> None:
    answer = HANDLERS[interface](
        Ask(path + ("?fail" if end == "failed" else ""), TRACED, parts=1 if end == "left" else None)
    )
    assert answer.status == 200
    found = lines(logs)
    assert found[-1] == (ACCESS, f"GET {path} 200"), found
    (record,) = access_records(logs)
    attributes = attributes_of(record)
    assert traces(logs) == {TRACE}
    assert {attributes_of(one)["request.id"] for one in logs.records} == {answer.headers["x-request-id"]}
    if end == "left":
        assert attributes["http.response.body.size"] in (3, 9)
        return
    assert [body for logger, body in found if logger == "site"] == ["row 0", "row 1", "row 2"]
    assert attributes["http.response.body.size"] == 9 or end == "failed"
    exceptions = [one for one in logs.records if "exception.type" in attributes_of(one)]
    assert len(exceptions) == (end == "failed")
    assert attributes.get("error.type") == ("ValueError" if end == "failed" else None)
    assert (answer.raised is not None) == (end == "failed")


@both
def test_a_file_is_recorded_when_it_is_closed(interface: str, logs: CapturedLogs) -> None:
    assert len(HANDLERS[interface](Ask("/file/", TRACED)).body) == 1000
    (record,) = access_records(logs)
    assert attributes_of(record)["http.response.body.size"] == 1000
    assert traces(logs) == {TRACE}


@both
def test_ids_of_the_client_are_taken_if_they_are_sane(interface: str, logs: CapturedLogs) -> None:
    ask = HANDLERS[interface]
    assert ask(Ask("/later/", {"X-Request-ID": "from-the-proxy"})).headers["x-request-id"] == "from-the-proxy"
    assert ask(Ask("/later/", {"X-Request-ID": "a b\x7f"})).headers["x-request-id"] != "a b\x7f"
    assert ask(Ask("/own-id/")).headers["x-request-id"] == "the site's own"
    ask(Ask("/later/", {"X-Trace-ID": "order-17"}))
    assert attributes_of(logs.records[-1])["request.trace_id"] == "order-17"


@both
def test_a_host_that_is_not_allowed_is_said_once_with_its_trace(interface: str, logs: CapturedLogs) -> None:
    with override_settings(MIDDLEWARE=[THEIRS, OURS, "django.middleware.common.CommonMiddleware"]):
        answer = HANDLERS[interface](Ask("/later/", {**TRACED, "Host": "elsewhere.example"}))
    assert answer.status == 400
    assert [logger for logger, _ in lines(logs)] == ["django.security.DisallowedHost", ACCESS]
    assert traces(logs) == {TRACE}


@both
def test_who_does_not_ask_for_the_host_answers_any(interface: str, logs: CapturedLogs) -> None:
    # Without otelog the instrumentation raises here, though the site would answer.
    with override_settings(OTELOG={"health": "/health"}):
        assert HANDLERS[interface](Ask("/health", {"Host": "10.0.0.1:8000"})).status == 200
        assert HANDLERS[interface](Ask("/later/", {"Host": "10.0.0.1:8000"})).status == 200
    assert [logger for logger, _ in lines(logs)] == ["site", ACCESS]


@both
def test_options_come_from_the_settings_and_from_a_subclass(interface: str, logs: CapturedLogs) -> None:
    ask = HANDLERS[interface]
    options = {"HEALTH": "/health", "metrics": "/metrics", "ACCESS_LOG_EXCLUDED": ["/orders/*"]}
    with override_settings(OTELOG={**options, "fields": "tests.django.test_access.name_user"}):
        assert b'"status"' in ask(Ask("/health")).body
        assert b"otelog" in ask(Ask("/metrics")).body
        ask(Ask("/orders/1/"))
        ask(Ask("/later/", {"X-User": "ann"}))
        assert [attributes_of(one).get("user") for one in logs.records] == [None, "ann", "ann"]
        assert len(access_records(logs)) == 1
        with override_settings(MIDDLEWARE=["tests.django.test_access.ByKeyword"]):
            assert ask(Ask("/health")).status == 404
            assert ask(Ask("/alive", method="POST")).status == 405
            assert ask(Ask("/alive")).status == 200
            assert "by.keyword" in {logger for logger, _ in lines(logs)}
    with override_settings(OTELOG={"access_log": False}):
        count = len(logs.records)
        assert "x-request-id" in ask(Ask("/later/")).headers
        assert len(logs.records) == count + 1


@pytest.mark.parametrize("given", [{"helth": "/health"}, {"access_log": 1}, [], {"health": "health"}])
def test_wrong_options_stop_the_start(given: Any) -> None:
    with override_settings(OTELOG=given), pytest.raises(ConfigurationError, match="OTELOG|must"):
        AccessLogMiddleware(lambda request: request)


@both
@pytest.mark.parametrize("middleware", [[OURS], [OURS, THEIRS], [OURS, OURS, THEIRS]])
def test_any_place_in_the_middlewares_gives_one_record(
    interface: str, middleware: list[str], logs: CapturedLogs
) -> None:
    with override_settings(MIDDLEWARE=middleware):
        HANDLERS[interface](Ask("/later/", TRACED))
        HANDLERS[interface](Ask("/missing/", TRACED))
    assert [body for logger, body in lines(logs) if logger == ACCESS] == ["GET /later/ 200", "GET /missing/ 404"]
    if THEIRS in middleware:
        assert traces(logs) == {TRACE}


@pytest.mark.parametrize("interface", ["wsgi", "asgi", "wsgi, and a word to stop"])
def test_an_exception_that_leaves_django_is_recorded_and_its_span_ends(interface: str, logs: CapturedLogs) -> None:
    kind, _, stopped = interface.partition(", ")
    with override_settings(DEBUG_PROPAGATE_EXCEPTIONS=True):
        answer = HANDLERS[kind](Ask("/stop/" if stopped else "/broken/", TRACED))
    assert isinstance(answer.raised, SystemExit if stopped else ValueError)
    (record,) = access_records(logs)
    assert attributes_of(record)["http.response.status_code"] == 500
    assert sum("exception.type" in attributes_of(one) for one in logs.records) == (not stopped)
    assert traces(logs) == {TRACE}
    logging.getLogger("after").warning("outside")
    assert logs.records[-1].log_record.trace_id in (None, 0)


@both
def test_where_djangos_own_record_would_not_arrive_ours_does(interface: str, logs: CapturedLogs) -> None:
    logging.getLogger("django.request").disabled = True
    HANDLERS[interface](Ask("/broken/", TRACED))
    (record,) = [one for one in logs.records if "exception.type" in attributes_of(one)]
    assert record.instrumentation_scope.name == "django.request"
    assert record.log_record.event_name == "exception"
    assert traces(logs) == {TRACE}


def test_the_test_client_of_django_gets_one_record(logs: CapturedLogs) -> None:
    from django.test import Client

    client = Client(raise_request_exception=False)
    assert client.get("/orders/1/").status_code == 200
    assert client.get("/broken/").status_code == 500
    assert b"".join(client.get("/rows/").streaming_content) == b"row" * 3
    assert len(access_records(logs)) == 3
    logging.getLogger("after").warning("outside")
    assert logs.records[-1].log_record.trace_id in (None, 0)


def test_what_is_huge_or_odd_is_cut_or_shown(logs: CapturedLogs) -> None:
    ask_wsgi(Ask("/%C3%A9/", {"User-Agent": "x" * 100_000, "X-Request-ID": "y" * 10_000}, method="FROB\x1b[31m"))
    (record,) = access_records(logs)
    attributes = attributes_of(record)
    assert len(attributes["user_agent.original"]) == 256
    assert len(attributes["request.id"]) == 32
    assert attributes["url.path"] == "/é/"
    assert attributes["http.request.method"] == "_OTHER"
    assert record.log_record.body == "FROB\\x1b[31m /é/ 200"
    ask_asgi(Ask("/%C3%A9/"))
    assert attributes_of(access_records(logs)[-1])["url.path"] == "/é/"


@both
def test_below_a_root_the_path_and_the_route_are_whole(interface: str, logs: CapturedLogs) -> None:
    HANDLERS[interface](Ask("/orders/7/", root="/shop"))
    attributes = attributes_of(access_records(logs)[0])
    assert (attributes["url.path"], attributes["http.route"]) == ("/shop/orders/7/", "/shop/orders/<int:number>/")


def test_nothing_is_left_in_place_once_otelog_is_taken_back() -> None:
    from django.core.handlers import base, wsgi

    otelog.configure(exporters=["none"])
    assert hasattr(wsgi.WSGIHandler.__call__, "__wrapped__")
    reset()
    assert not hasattr(wsgi.WSGIHandler.__call__, "__wrapped__")
    assert not hasattr(base.log_response, "__wrapped__")
    assert ask_wsgi(Ask("/later/")).status == 200
