"""One access record for each request of an ASGI application, whatever client and application do."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from opentelemetry.trace import format_trace_id
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

import otelog
from otelog._requests.health import watch_exports
from otelog.asgi import AccessLog, health_app, metrics_app
from otelog.exceptions import ConfigurationError
from otelog.flask import FlaskLogging
from otelog.testing import CapturedLogs
from tests.asgi.calling import END, START, attributes_of, call, make_scope, of_logger, request, with_exception

view_log = logging.getLogger("view")


async def answer(scope: Any, receive: Any, send: Any) -> None:
    view_log.info("looking")
    await send(START)
    await send(END)


def sync_view(_: Any) -> Response:
    view_log.info("in a thread of the pool")
    return PlainTextResponse("é" * 5)


def in_background() -> None:
    view_log.info("in the background")


async def streaming_view(_: Any) -> Response:
    async def parts() -> Any:
        for number in range(3):
            view_log.info("part %d", number)
            yield b"x" * 10

    return StreamingResponse(parts(), background=BackgroundTask(in_background))


def sync_streaming_view(_: Any) -> Response:
    def parts() -> Iterator[bytes]:
        for number in range(3):
            view_log.info("part %d", number)
            yield b"x" * 10

    return StreamingResponse(parts())


async def failing_view(_: Any) -> Response:
    raise ValueError("no")


ROUTES = [
    Route("/orders/{order_id}", sync_view),
    Route("/stream", streaming_view),
    Route("/sync-stream", sync_streaming_view),
    Route("/fail", failing_view),
]
PLACES = ("around", "inside")


def make_app(place: str, **options: Any) -> Any:
    app = Starlette(routes=[*ROUTES, Mount("/sub", routes=ROUTES)])
    if place == "around":
        return AccessLog(app, **options)
    app.add_middleware(AccessLog, **options)
    return app


@pytest.mark.parametrize("place", PLACES)
def test_a_request_has_one_record_with_the_names_that_flasks_has(place: str, logs: CapturedLogs) -> None:
    connection, _ = request(make_app(place), make_scope("/sub/orders/7"))
    (record,) = of_logger(logs)
    attributes = attributes_of(record)
    assert 0 < attributes.pop("http.server.request.duration") < 20
    assert attributes.pop("request.id") == connection.headers[b"x-request-id"].decode()
    assert attributes == {
        "http.request.method": "GET",
        "http.route": "/sub/orders/{order_id}",
        "url.path": "/sub/orders/7",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "http.response.body.size": 10,
        "client.address": "127.0.0.1",
        "user_agent.original": "tester/1",
        "network.protocol.version": "1.1",
        "server.address": "shop.example",
    }
    assert record.log_record.body == "GET /sub/orders/{order_id} 200"
    assert record.log_record.severity_text == "INFO"
    assert format_trace_id(record.log_record.trace_id).encode() == connection.headers[b"x-trace-id"]

    app = flask.Flask("shop")
    FlaskLogging(app)
    app.add_url_rule("/orders/<order_id>", view_func=lambda order_id: "done")
    app.test_client().get("/orders/7", headers={"User-Agent": "tester/1"}).close()
    (of_flask,) = of_logger(logs, "otelog.flask.access")
    assert set(attributes_of(of_flask)) == set(attributes_of(record))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("path", ["/orders/7", "/stream", "/sync-stream"])
def test_every_record_of_a_request_has_its_trace_its_id_and_its_fields(
    place: str, path: str, logs: CapturedLogs
) -> None:
    app = make_app(place, fields=lambda scope: {"tenant": scope["headers"][-1][1].decode()})
    headers = [(b"x-request-id", b"given-1"), (b"x-trace-id", b"ab" * 16), (b"x-tenant", b"north")]
    connection, _ = request(app, make_scope(path, headers=headers))
    records = of_logger(logs, "view") + of_logger(logs)
    assert len(records) == {"/orders/7": 2, "/stream": 5, "/sync-stream": 4}[path]
    for record in records:
        assert attributes_of(record)["request.id"] == "given-1"
        assert attributes_of(record)["tenant"] == "north"
        assert format_trace_id(record.log_record.trace_id) == "ab" * 16
    assert connection.headers[b"x-request-id"] == b"given-1"
    assert connection.headers[b"x-trace-id"] == b"ab" * 16


@pytest.mark.parametrize("place", PLACES)
def test_an_unhandled_exception_is_one_record_in_the_trace_of_its_request(place: str, logs: CapturedLogs) -> None:
    _, raised = request(make_app(place), make_scope("/fail"))
    assert isinstance(raised, ValueError)
    # As uvicorn says it, when the span has ended.
    logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=raised)
    (exception,) = with_exception(logs)
    (access,) = of_logger(logs)
    assert (exception.log_record.body, exception.log_record.event_name) == ("Exception on /fail [GET]", "exception")
    assert exception.log_record.trace_id == access.log_record.trace_id != 0
    assert access.log_record.severity_text == "ERROR"
    attributes = attributes_of(access)
    assert (attributes["http.response.status_code"], attributes["error.type"]) == (500, "ValueError")


def test_an_exception_after_the_head_leaves_the_status_that_was_sent(logs: CapturedLogs) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("torn")

    request(AccessLog(app))
    (record,) = of_logger(logs)
    attributes = attributes_of(record)
    assert record.log_record.severity_text == "ERROR"
    assert attributes["http.response.status_code"] == 200
    assert (attributes["http.response.body.size"], attributes["error.type"]) == (4, "ValueError")


def test_an_exception_after_the_response_is_a_record_and_changes_no_other(logs: CapturedLogs) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(scope, receive, send)
        raise ValueError("in a background task")

    request(AccessLog(app))
    (access,), (exception,) = of_logger(logs), with_exception(logs)
    assert access.log_record.severity_text == "INFO"
    assert exception.log_record.trace_id == access.log_record.trace_id


def test_a_client_that_leaves_is_no_error(logs: CapturedLogs) -> None:
    async def leaves_at_once(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def leaves_half_way(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await leaves_at_once(scope, receive, send)
        raise OSError("the socket is gone")

    async def cancelled(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    for app in (leaves_at_once, leaves_half_way, cancelled):
        request(AccessLog(app), None, [{"type": "http.disconnect"}])
    found = [attributes_of(record)["http.response.status_code"] for record in of_logger(logs)]
    assert found == [499, 200, 499]
    assert {record.log_record.severity_text for record in of_logger(logs)} == {"INFO"}
    assert with_exception(logs) == []


@pytest.mark.parametrize(
    ("messages", "status", "size"),
    [
        ([], 500, 0),
        ([START, END, END], 200, 4),
        ([START, {**START, "status": 404}, END], 200, 4),
        ([START, {"type": "http.response.body", "more_body": False}], 200, 0),
        ([{**START, "headers": [(b"content-length", b"77")]}, {"type": "http.response.pathsend"}], 200, 77),
        ([{**START, "trailers": True}, END, {"type": "http.response.trailers", "headers": []}], 200, 4),
        ([{"type": "http.response.start", "status": 204}, {"type": "http.response.body"}], 204, 0),
        ([{"type": "http.response.debug", "info": {}}, START, END], 200, 4),
    ],
    ids=["nothing", "twice", "two heads", "no body", "a file", "trailers", "no headers", "an extension"],
)
def test_what_an_application_sends_is_handed_on_and_recorded_once(
    messages: list[dict[str, Any]], status: int, size: int, logs: CapturedLogs
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(dict(message))

    connection, raised = request(AccessLog(app))
    assert raised is None
    assert [message["type"] for message in connection.sent] == [message["type"] for message in messages]
    (record,) = of_logger(logs)
    attributes = attributes_of(record)
    assert (attributes["http.response.status_code"], attributes["http.response.body.size"]) == (status, size)


@pytest.mark.parametrize(
    "scope",
    [
        make_scope(client=None, server=None, headers=[]),
        make_scope("/\udcff\u202e\n", headers=[(b"host", b"\xff\xfe"), (b"user-agent", b"\xff" * 9999)]),
        make_scope(headers=[(b"x-forwarded-for", b"1.2.3.4,")] * 100_000 + [(b"x-request-id", b"a b\r\nc")]),
        make_scope(method="BREW" * 99, http_version="", scheme="", path=""),
        {"type": "http", "method": "GET", "path": "/", "headers": []},
    ],
    ids=["no client", "no UTF-8", "100,000 headers", "odd words", "almost nothing"],
)
def test_a_hostile_request_is_served_and_recorded_once(scope: dict[str, Any], logs: CapturedLogs) -> None:
    _, raised = request(AccessLog(answer, instrument=False, client_address="forwarded"), scope)
    assert raised is None
    (record,) = of_logger(logs)
    assert str(record.log_record.body).isprintable()
    assert all(str(value).isprintable() for value in attributes_of(record).values())
    assert len(attributes_of(record)["request.id"]) == 32


def test_a_scope_that_cannot_be_read_is_served_without_a_record(logs: CapturedLogs) -> None:
    _, raised = request(AccessLog(answer, instrument=False), make_scope(headers=[b"not a pair"]))
    assert raised is None
    assert [record.log_record.body for record in of_logger(logs, "view")] == ["looking"]


def test_fields_that_cannot_be_had_cost_no_request(logs: CapturedLogs) -> None:
    def fail(_: Any) -> dict[str, object]:
        raise KeyError("no tenant")

    _, raised = request(AccessLog(answer, fields=fail))
    assert raised is None
    assert len(of_logger(logs)) == 1


def test_an_application_in_another_one_has_no_second_record(logs: CapturedLogs) -> None:
    inner = AccessLog(Starlette(routes=ROUTES), access_log_name="inner")
    app = AccessLog(Starlette(routes=[Mount("/in", app=inner)]))
    request(app, make_scope("/in/orders/7"))
    request(app, make_scope("/in/fail"))
    assert len(of_logger(logs)) == 2
    assert of_logger(logs, "inner") == []
    assert len(with_exception(logs)) == 1


def test_requests_at_once_keep_their_own_traces_and_ids(logs: CapturedLogs) -> None:
    app = make_app("around")

    async def ask_all() -> None:
        await asyncio.gather(
            *(call(app, make_scope("/stream", headers=[(b"x-request-id", b"%d" % number)])) for number in range(50))
        )

    asyncio.run(ask_all())
    ids: dict[str, set[int]] = {}
    for record in of_logger(logs, "view") + of_logger(logs):
        ids.setdefault(str(attributes_of(record)["request.id"]), set()).add(record.log_record.trace_id or 0)
    assert len(ids) == 50
    assert all(len(traces) == 1 for traces in ids.values())
    assert len(set.union(*ids.values())) == 50


def test_paths_without_a_record_health_and_metrics(logs: CapturedLogs) -> None:
    app = AccessLog(answer, health="/health", metrics="/metrics", access_log_excluded=["/ping", "/static/*"])
    # What another test of this process has lost within the last minute counts as recent.
    watch_exports().lost_at = None
    for path in ("/ping", "/static/a.js"):
        request(app, make_scope(path))
    health, _ = request(app, make_scope("/health"))
    metrics, _ = request(app, make_scope("/metrics"))
    refused, _ = request(app, make_scope("/health", method="POST"))
    assert of_logger(logs) == []
    assert (health.sent[0]["status"], b'"status": "ok"' in health.sent[1]["body"]) == (200, True)
    assert b"otelog_log_records_waiting" in metrics.sent[1]["body"]
    assert refused.sent[0]["status"] == 405
    # A request that has no record is one all the same.
    assert [bool(record.log_record.trace_id) for record in of_logger(logs, "view")] == [True, True]


def test_a_websocket_is_one_record_with_its_close_code(logs: CapturedLogs) -> None:
    async def chat(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        view_log.info("open")
        await send({"type": "websocket.send", "text": "hello"})
        if (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.close", "code": 4001})

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close"})

    async def fail(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        raise ValueError("no")

    opened, said = {"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hi"}
    left = {"type": "websocket.disconnect", "code": 1001}
    scope = {key: value for key, value in make_scope("/chat", type="websocket", scheme="ws").items() if key != "method"}
    for app, messages in ((chat, [opened, said]), (chat, [opened, left]), (refuse, [opened]), (fail, [opened])):
        request(AccessLog(app), dict(scope), messages)
    found = [attributes_of(record) for record in of_logger(logs)]
    codes = [(one["http.response.status_code"], one.get("websocket.close_code")) for one in found]
    assert codes == [(101, 4001), (101, 1001), (403, None), (101, 1006)]
    assert found[0]["http.response.body.size"] == 5
    assert found[0]["network.protocol.name"] == "websocket"
    assert [record.log_record.severity_text for record in of_logger(logs)] == ["INFO", "INFO", "INFO", "ERROR"]
    (exception,) = with_exception(logs)
    assert exception.log_record.trace_id == of_logger(logs)[3].log_record.trace_id


@pytest.mark.parametrize("phase", ["startup", "shutdown", "nothing"])
def test_a_lifespan_delivers_at_its_end_and_records_what_goes_wrong(phase: str, logs: CapturedLogs) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for name in ("startup", "shutdown"):
            await receive()
            if phase == name:
                raise ValueError(name)
            view_log.info("at %s", name)
            await send({"type": f"lifespan.{name}.complete"})

    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    connection, raised = request(AccessLog(app), {"type": "lifespan"}, messages)
    if phase == "nothing":
        assert (raised, otelog.stats().queued) == (None, 0)
        assert [message["type"] for message in connection.sent] == [
            "lifespan.startup.complete",
            "lifespan.shutdown.complete",
        ]
        return
    assert isinstance(raised, ValueError)
    # granian, and uvicorn as it is by default, say nothing of it.
    (record,) = with_exception(logs)
    assert record.log_record.body == f"Exception on {phase} [lifespan]"


@pytest.mark.parametrize("app", [health_app, metrics_app])
def test_a_server_that_has_only_our_application_gets_its_lifespan(app: Any) -> None:
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    connection, raised = request(app, {"type": "lifespan"}, messages)
    assert raised is None
    assert [one["type"] for one in connection.sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_an_application_without_a_lifespan_is_no_error(logs: CapturedLogs) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("for requests only")

    async def tells_itself(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "Traceback: no database"})
        raise ValueError("no database")

    for one in (app, tells_itself):
        request(AccessLog(one), {"type": "lifespan"}, [{"type": "lifespan.startup"}])
    assert with_exception(logs) == []


def test_what_a_request_was_is_not_kept_alive(logs: CapturedLogs) -> None:
    import gc
    import weakref

    class Payload:
        pass

    seen: list[weakref.ref[Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["payload"] = payload = Payload()
        seen.append(weakref.ref(payload))
        await answer(scope, receive, send)
        raise ValueError("no")

    watched = AccessLog(app)
    for _ in range(3):
        request(watched)
    gc.collect()
    assert [one() for one in seen] == [None] * 3


@pytest.mark.parametrize(
    "options",
    [{"health": "health"}, {"metrics": "/x", "health": "/x"}, {"instrument": "yes"}, {"nonsense": 1}, {"fields": 3}],
    ids=str,
)
def test_wrong_options_are_refused(options: Any, logs: CapturedLogs) -> None:
    with pytest.raises(ConfigurationError):
        AccessLog(answer, **options)


def test_threads_that_a_request_starts_have_its_trace(logs: CapturedLogs) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        thread = threading.Thread(target=view_log.info, args=("in a thread",))
        thread.start()
        await asyncio.get_running_loop().run_in_executor(None, thread.join)
        await answer(scope, receive, send)

    request(AccessLog(app))
    (access,) = of_logger(logs)
    assert {record.log_record.trace_id for record in of_logger(logs, "view")} == {access.log_record.trace_id}
