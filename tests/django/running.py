"""A Django site's handlers, called as servers call them, and what was logged meanwhile."""

from __future__ import annotations

import asyncio
import gc
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from otelog.testing import CapturedLogs

OURS = "otelog.django.AccessLogMiddleware"
THEIRS = "opentelemetry.instrumentation.django.middleware.otel_middleware._DjangoMiddleware"
ACCESS = "otelog.django.access"
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACED = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


@dataclass
class Answer:
    """A response, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes
    raised: BaseException | None = None


@dataclass
class Ask:
    """A request.

    Args:
        path: With its query, quoted.
        headers: Of the client.
        method: As the client sends it.
        root: Where the site stands on its server.
        parts: How many parts of the body the client waits for; None for all.
    """

    path: str
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "GET"
    root: str = ""
    parts: int | None = None


def ask_wsgi(ask: Ask) -> Answer:
    """Ask as a WSGI server does, in this thread."""
    from django.core.handlers.wsgi import WSGIHandler

    path, _, query = ask.path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": ask.method,
        "SCRIPT_NAME": ask.root,
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in ask.headers.items()},
    }
    begun: list[Any] = []
    try:
        response: Any = WSGIHandler()(environ, lambda status, headers, *_: begun.extend([status, headers]))
    except BaseException as error:
        return Answer(0, {}, b"", error.with_traceback(None))
    answer = Answer(int(begun[0][:3]), {name.lower(): value for name, value in begun[1]}, b"")
    try:
        for number, part in enumerate(response, 1):
            answer.body += part
            if number == ask.parts:
                break
    except BaseException as error:
        answer.raised = error.with_traceback(None)
    response.close()
    if answer.status >= 500 or answer.raised is not None:
        # asgiref's threads for asynchronous views end with the traceback.
        gc.collect()
    return answer


def ask_asgi(ask: Ask) -> Answer:
    """Ask as an ASGI server does, in an event loop of its own."""
    return asyncio.run(_ask_asgi(ask))


async def _ask_asgi(ask: Ask) -> Answer:
    from django.core.handlers.asgi import ASGIHandler

    path, _, query = ask.path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": ask.method,
        "scheme": "http",
        "path": ask.root + unquote_to_bytes(path).decode("utf-8", "replace"),
        "root_path": ask.root,
        "query_string": query.encode(),
        "headers": [
            (name.lower().encode(), value.encode("latin-1"))
            for name, value in {"Host": "127.0.0.1", **ask.headers}.items()
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
    }
    sent: list[dict[str, Any]] = []
    enough = asyncio.Event()
    received = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in received:
            return message
        await enough.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if ask.parts is not None and len(sent) > ask.parts:
            enough.set()
            # It takes no more, until it is cancelled.
            await asyncio.Event().wait()

    raised: BaseException | None = None
    try:
        await ASGIHandler()(scope, receive, send)
    except BaseException as error:
        raised = error
    if not sent:
        return Answer(0, {}, b"", raised)
    return Answer(
        sent[0]["status"],
        {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]},
        b"".join(message.get("body", b"") for message in sent[1:]),
        raised,
    )


HANDLERS: dict[str, Callable[[Ask], Answer]] = {"wsgi": ask_wsgi, "asgi": ask_asgi}


def attributes_of(record: Any) -> dict[str, Any]:
    """A record's attributes, without the place of its call."""
    found = record.log_record.attributes or {}
    return {key: value for key, value in found.items() if not key.startswith("code.")}


def access_records(logs: CapturedLogs) -> list[Any]:
    """All access records."""
    return [one for one in logs.records if one.instrumentation_scope.name == ACCESS]


def lines(logs: CapturedLogs) -> list[tuple[str, str]]:
    """Logger and body of all records."""
    return [(one.instrumentation_scope.name, str(one.log_record.body)) for one in logs.records]


def traces(logs: CapturedLogs) -> set[str]:
    """The trace ids of all records, in hex."""
    return {f"{one.log_record.trace_id or 0:032x}" for one in logs.records}
