"""With OpenTelemetry's middleware alone, what is said after it has the request's trace, too."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.core.signals import request_finished
from django.test.utils import override_settings

from otelog.testing import CapturedLogs
from tests.django.running import HANDLERS, THEIRS, TRACE, TRACED, Ask, attributes_of, lines, traces

pytestmark = [
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

SAID: dict[str, list[tuple[str, str]]] = {
    "/orders/1/": [("site", "order 1")],
    "/later/": [("site", "later")],
    "/missing/": [("django.request", "Not Found: /missing/")],
    "/denied/": [("django.request", "Forbidden (Permission denied): /denied/")],
    "/broken/": [("django.request", "Internal Server Error: /broken/")],
    "/rows/": [("site", f"row {number}") for number in range(3)],
    "/async-rows/": [("site", f"row {number}") for number in range(3)],
    "/file/": [],
}


def finished(**_: Any) -> None:
    logging.getLogger("finished").warning("finished")


@pytest.mark.parametrize("interface", HANDLERS)
@pytest.mark.parametrize("path", SAID)
def test_every_record_has_its_requests_trace_and_comes_once(interface: str, path: str, logs: CapturedLogs) -> None:
    request_finished.connect(finished)
    try:
        with override_settings(MIDDLEWARE=[THEIRS]):
            HANDLERS[interface](Ask(path, TRACED))
    finally:
        request_finished.disconnect(finished)
    assert lines(logs) == [*SAID[path], ("finished", "finished")]
    assert traces(logs) == {TRACE}
    assert not any({"request", "status_code"} & set(attributes_of(one)) for one in logs.records)
    logging.getLogger("after").warning("outside")
    assert logs.records[-1].log_record.trace_id in (None, 0)


@pytest.mark.parametrize("interface", HANDLERS)
@pytest.mark.parametrize("path", ["/rows/?fail", "/async-rows/?fail"])
def test_what_a_server_says_of_a_body_that_broke_off_has_its_trace(
    interface: str, path: str, logs: CapturedLogs
) -> None:
    with override_settings(MIDDLEWARE=[THEIRS]):
        answer = HANDLERS[interface](Ask(path, TRACED))
    error = answer.raised
    assert isinstance(error, ValueError)
    logging.getLogger("gunicorn.error").error("Error handling request", exc_info=(type(error), error, None))
    assert traces(logs) == {TRACE}


@pytest.mark.parametrize("interface", HANDLERS)
def test_the_handlers_of_the_application_get_djangos_fields_as_they_are(interface: str, logs: CapturedLogs) -> None:
    had: list[logging.LogRecord] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            had.append(record)

    keeping = Keeping()
    logging.getLogger("django.request").addHandler(keeping)
    try:
        HANDLERS[interface](Ask("/missing/", TRACED))
    finally:
        logging.getLogger("django.request").removeHandler(keeping)
    (record,) = had
    assert record.__dict__["status_code"] == 404
    assert record.__dict__["request"].path == "/missing/"
    (ours,) = [one for one in logs.records if one.instrumentation_scope.name == "django.request"]
    assert attributes_of(ours)["http.response.status_code"] == 404


def test_a_field_of_the_applications_own_stays(logs: CapturedLogs) -> None:
    logging.getLogger("shop").warning("paid", extra={"request": object(), "status_code": 5})
    logging.getLogger("django.tasks").warning("done", extra={"status_code": 5})
    first, second = logs.records
    assert {"request", "status_code"} <= set(attributes_of(first))
    assert attributes_of(second)["status_code"] == 5
