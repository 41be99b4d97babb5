"""ASGI applications, called as a server calls them, and what they have logged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk._logs import ReadableLogRecord

from otelog.testing import CapturedLogs

SECONDS = 20.0
SERVER_LOGGERS = (
    "uvicorn.access",
    "hypercorn.access",
    "granian.access",
    "gunicorn.access",
    "aiohttp.access",
    "uvicorn.error",
    "hypercorn.error",
    "_granian.utils",
    "gunicorn.error",
    "aiohttp.server",
)
START: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
END: dict[str, Any] = {"type": "http.response.body", "body": b"done"}


def make_scope(path: str = "/", **others: Any) -> dict[str, Any]:
    """Returns the scope of a request, as uvicorn makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "root_path": "",
        "method": "GET",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogatepass"),
        "query_string": b"",
        "headers": [(b"host", b"shop.example:8000"), (b"user-agent", b"tester/1")],
        "state": {},
        **others,
    }


class Connection:
    """The server's side: what was sent, and what there is to receive; after the response that is a disconnect."""

    def __init__(self, messages: Sequence[dict[str, Any]] = ()) -> None:
        self._messages = list(messages) or [{"type": "http.request", "body": b"", "more_body": False}]
        self._ended = asyncio.Event()
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        if self._messages:
            return self._messages.pop(0)
        await asyncio.wait_for(self._ended.wait(), SECONDS)
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(dict(message))
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._ended.set()

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])


async def call(
    app: Any, scope: dict[str, Any] | None = None, messages: Sequence[dict[str, Any]] = ()
) -> tuple[Connection, BaseException | None]:
    """Call an application, in a task of its own as servers do; returns the connection, and what it has raised."""
    connection = Connection(messages)
    scope = make_scope() if scope is None else scope
    (raised,) = await asyncio.gather(
        asyncio.ensure_future(app(scope, connection.receive, connection.send)), return_exceptions=True
    )
    return connection, raised


def request(
    app: Any, scope: dict[str, Any] | None = None, messages: Sequence[dict[str, Any]] = ()
) -> tuple[Connection, BaseException | None]:
    """As `call`, in a loop of its own."""
    return asyncio.run(call(app, scope, messages))


def of_logger(logs: CapturedLogs, name: str = "otelog.asgi.access") -> list[ReadableLogRecord]:
    return [one for one in logs.records if one.instrumentation_scope.name == name]


def attributes_of(record: Any) -> dict[str, Any]:
    return {key: value for key, value in record.log_record.attributes.items() if not key.startswith("code.")}


def with_exception(logs: CapturedLogs) -> list[ReadableLogRecord]:
    return [one for one in logs.records if "exception.type" in (one.log_record.attributes or {})]
