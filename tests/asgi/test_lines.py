"""What servers say of a request: in its trace, though its span has ended, and once."""

from __future__ import annotations

import gc
import http.client
import importlib
import logging
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from otelog._capture.exception_notes import find_span, remember_span
from otelog._patches import asgi_calls, asgi_lines, asgi_spans
from otelog.asgi import AccessLog
from otelog.asgi.server_lines import drop_doubled_exceptions
from otelog.asgi.zero_code import note_fastapis_records
from otelog.testing import CapturedLogs
from tests.asgi.calling import SECONDS, make_scope, of_logger, request, with_exception
from tools.loopback import find_free_ports
from tools.waiting import wait_until

SPAN = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1))


async def failing(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        raise ValueError(scope["path"])


@contextmanager
def serve(app: Any) -> Iterator[int]:
    """Serve by uvicorn, in a thread; gives the port."""
    import uvicorn

    (port,) = find_free_ports(1)
    config = uvicorn.Config(app, port=port, http="h11", ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, SECONDS, what="uvicorn listens")
        yield port
    finally:
        server.should_exit = True
        thread.join(SECONDS)


def get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def test_an_exception_that_is_logged_when_its_span_has_ended_has_that_spans_ids(logs: CapturedLogs) -> None:
    error = ValueError("no")
    remember_span(error, SPAN)
    logging.getLogger("late").error("afterwards", exc_info=error)
    with use_span(NonRecordingSpan(SpanContext(1, 2, is_remote=False))):
        logging.getLogger("late").error("inside of another", exc_info=error)
    logging.getLogger("late").error("without one", exc_info=ValueError("another"))
    found = [record.log_record.trace_id for record in of_logger(logs, "late")]
    assert found == [0xABC, 1, 0]


def test_nothing_is_remembered_but_numbers() -> None:
    class Refusing(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise TypeError(name)

        @property
        def __dict__(self) -> Any:  # type: ignore[override]
            raise TypeError("none")

    for error in (Refusing(), KeyError(1), SystemExit()):
        remember_span(error, SPAN)
        ids = (SPAN.trace_id, SPAN.span_id, SPAN.trace_flags)
        assert find_span(error) == ids
        remember_span(error, trace.INVALID_SPAN_CONTEXT)
        assert find_span(error) == ids
    watched = weakref.ref(kept := Refusing())
    remember_span(kept, SPAN)
    del kept
    gc.collect()
    assert watched() is None


@pytest.mark.parametrize("watched", [False, True], ids=["traced", "with AccessLog"])
def test_uvicorns_lines_of_an_exception_are_in_the_trace_and_said_once(watched: bool, logs: CapturedLogs) -> None:
    # In this process the first request, at which a server is certainly loaded, may have been another test's.
    importlib.import_module("uvicorn.protocols.http.h11_impl")
    asgi_spans.install()
    asgi_lines.install()
    # Without any framework, which would have answered inside of the span.
    app = AccessLog(failing) if watched else OpenTelemetryMiddleware(failing)
    with serve(app) as port:
        assert [get(port, path) for path in ("/one", "/two")] == [500, 500]
        wait_until(lambda: len(with_exception(logs)) == 2, SECONDS, what="both exceptions are recorded")
    exceptions, lines = with_exception(logs), of_logger(logs, "otelog.asgi.access" if watched else "uvicorn.access")
    assert {one.instrumentation_scope.name for one in exceptions} == {"otelog.asgi" if watched else "uvicorn.error"}
    assert [one.log_record.trace_id for one in exceptions] == [one.log_record.trace_id for one in lines]
    assert len({one.log_record.trace_id for one in lines} - {0}) == 2
    assert (of_logger(logs, "uvicorn.access") == []) is watched


# Without httptools, uvicorn has one way less.
PLACES = [place for place in asgi_lines._PLACES if "httptools" not in place[0] or find_spec("httptools") is not None]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place[0]}.{place[2]}")
def test_what_is_replaced_is_there_and_put_back(place: tuple[str, str, str, Any]) -> None:
    owner = importlib.import_module(place[0])
    if place[1]:
        owner = getattr(owner, place[1])
    asgi_lines.uninstall()
    original = getattr(owner, place[2])
    asgi_lines.install()
    asgi_lines.install()
    assert getattr(owner, place[2]) is not original
    asgi_lines.uninstall()
    assert getattr(owner, place[2]) is original


def test_quarts_requests_have_one_span_each_however_they_are_instrumented(logs: CapturedLogs) -> None:
    from quart import Quart

    asgi_spans.install()
    original = Quart.__call__
    asgi_calls.trace_calls(Quart, None)
    try:
        app, own = Quart("one"), Quart("two")
        own.asgi_app = OpenTelemetryMiddleware(own.asgi_app)  # type: ignore[method-assign]
        for one in (app, own):

            @one.get("/")
            async def index() -> str:
                logging.getLogger("view").info("looking")
                raise ValueError("no")

            connection, raised = request(one, make_scope(headers=[(b"host", b"h")]))
            assert (raised, connection.sent[0]["status"]) == (None, 500)
        assert all(record.log_record.trace_id for record in of_logger(logs, "view") + with_exception(logs))
        assert len({record.log_record.trace_id for record in of_logger(logs, "view")}) == 2
        assert len(with_exception(logs)) == 2
    finally:
        asgi_calls.unlayer_calls(Quart)
    assert Quart.__call__ is original


def test_an_exception_that_fastapis_own_telemetry_records_is_one_record(logs: CapturedLogs) -> None:
    from fastapi import FastAPI
    from fastapi.telemetry import _asgi

    # Without OpenTelemetry's instrumentation: that turns FastAPI's own off.
    original = _asgi._exception
    note_fastapis_records(_asgi)
    drop_doubled_exceptions()
    try:
        app = FastAPI()

        @app.get("/fail")
        async def fail() -> None:
            raise ValueError("no")

        for one in (app, AccessLog(app, instrument=False)):
            _, raised = request(one, make_scope("/fail"))
            assert isinstance(raised, ValueError)
            logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=raised)
        assert [record.instrumentation_scope.name for record in with_exception(logs)] == ["fastapi", "fastapi"]
        assert all(record.log_record.trace_id for record in with_exception(logs))
    finally:
        _asgi._exception = original
