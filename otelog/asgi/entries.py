"""Paths that otelog answers itself, as ASGI applications."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from otelog._requests.health import Answer, answer_health
from otelog._requests.metrics import MISSING_PACKAGE, find_registry

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


async def health_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the state of this process's pipeline; an ASGI application, which may be mounted anywhere."""
    if await _is_http(scope, receive, send):
        await _send(answer_health(scope["method"]), send)


async def metrics_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a scrape; an ASGI application, which may be mounted anywhere.

    With ``PROMETHEUS_MULTIPROC_DIR`` set it adds up the workers' files, anew for each scrape; without, it shows the
    default registry. Needs the extra ``prometheus``.
    """
    if not await _is_http(scope, receive, send):
        return
    from prometheus_client import make_asgi_app

    await make_asgi_app(find_registry())(scope, receive, send)


async def unavailable_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a scrape where prometheus-client is missing; an ASGI application."""
    if await _is_http(scope, receive, send):
        body = f"{MISSING_PACKAGE}\n".encode()
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        await _send(Answer(503, headers, body), send)


async def _is_http(scope: Scope, receive: Receive, send: Send) -> bool:
    """Returns whether there is a request to answer; a server that has only this application gets its lifespan."""
    kind: str = ""
    while scope["type"] == "lifespan" and kind != "lifespan.shutdown":
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
    return bool(scope["type"] == "http")


async def _send(answer: Answer, send: Send) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
