"""aiohttp's server: the same record as other frameworks', by one line."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import ClientSession, web
from opentelemetry.trace import format_trace_id

from otelog.aiohttp import access_log
from otelog.testing import CapturedLogs
from tests.asgi.calling import attributes_of, of_logger, with_exception

view_log = logging.getLogger("view")


async def order(request: web.Request) -> web.Response:
    view_log.info("looking")
    return web.Response(text="é" * 5)


async def fail(request: web.Request) -> web.Response:
    raise ValueError("no")


async def missing(request: web.Request) -> web.Response:
    raise web.HTTPNotFound


async def stream(request: web.Request) -> web.Response:
    async def parts() -> Any:
        for number in range(3):
            view_log.info("part %d", number)
            yield b"x" * 10

    return web.Response(body=parts())


async def ask(app: web.Application, *paths: str) -> list[tuple[int, Any]]:
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    answers = []
    try:
        async with ClientSession() as session:
            for path in paths:
                async with session.get(f"http://127.0.0.1:{port}{path}", headers={"User-Agent": "tester/1"}) as answer:
                    await answer.read()
                    answers.append((answer.status, answer.headers))
    finally:
        await runner.cleanup()
    return answers


def make_app() -> web.Application:
    app = web.Application()
    for path, view in (("/orders/{id}", order), ("/fail", fail), ("/missing", missing), ("/stream", stream)):
        app.router.add_get(path, view)
    inner = web.Application()
    inner.router.add_get("/orders/{id}", order)
    access_log(inner)
    app.add_subapp("/sub", inner)
    access_log(app, health="/health", metrics="/metrics", fields=lambda request: {"tenant": "north"})
    access_log(app)
    return app


def test_requests_have_one_record_each_with_the_names_of_the_conventions(logs: CapturedLogs) -> None:
    paths = ("/orders/7", "/fail", "/missing", "/stream", "/sub/orders/8", "/health", "/metrics")
    answers = asyncio.run(ask(make_app(), *paths))
    assert [status for status, _ in answers] == [200, 500, 404, 200, 200, 200, 200]
    records = of_logger(logs, "otelog.aiohttp.access")
    assert [record.log_record.body for record in records] == [
        "GET /orders/{id} 200",
        "GET /fail 500",
        "GET /missing 404",
        "GET /stream 200",
        "GET /sub/orders/{id} 200",
    ]
    attributes = attributes_of(records[0])
    assert 0 < attributes.pop("http.server.request.duration") < 20
    assert attributes.pop("request.id") == answers[0][1]["X-Request-ID"]
    assert attributes == {
        "http.request.method": "GET",
        "http.route": "/orders/{id}",
        "url.path": "/orders/7",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "http.response.body.size": 10,
        "client.address": "127.0.0.1",
        "user_agent.original": "tester/1",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "tenant": "north",
    }
    assert format_trace_id(records[0].log_record.trace_id or 0) == answers[0][1]["X-Trace-ID"]
    (exception,) = with_exception(logs)
    assert exception.log_record.trace_id == records[1].log_record.trace_id != 0
    assert attributes_of(records[1])["error.type"] == "ValueError"
    assert of_logger(logs, "aiohttp.access") == of_logger(logs, "aiohttp.server") == []
    # The parts are made when the handler has returned.
    parts = [record for record in of_logger(logs, "view") if "part" in str(record.log_record.body)]
    assert {record.log_record.trace_id for record in parts} == {records[3].log_record.trace_id}
