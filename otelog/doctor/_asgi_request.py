"""A request to an ASGI application, as a server makes it, with the application's startup before it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from contextlib import suppress
from typing import Any

from otelog.doctor._canary import SCOPE

PATIENCE = 30.0
"""Seconds for the request, and for the application's startup."""


def is_asgi(app: object) -> bool:
    """Returns whether it is called as an ASGI 3 application is."""
    call = app if inspect.isfunction(app) else getattr(app, "__call__", None)  # noqa: B004
    if not inspect.iscoroutinefunction(call):
        return False
    try:
        inspect.signature(call).bind({}, None, None)
    except (TypeError, ValueError):
        return False
    return True


def log_inside() -> None:
    """Log one record, at a level that is taken."""
    logger = logging.getLogger(SCOPE)
    logger.log(logger.getEffectiveLevel(), "otelog doctor was here")


def ask_asgi(app: Any, path: str) -> int:
    """Ask an application for a path, and log one record inside of the request; returns the status.

    Raises:
        Exception: What the application raises before it has answered, or ``TimeoutError``.
    """
    return asyncio.run(asyncio.wait_for(_ask(app, path), PATIENCE))


async def _ask(app: Any, path: str) -> int:
    started, ended = asyncio.Event(), asyncio.Event()
    messages = iter([{"type": "lifespan.startup"}])

    async def receive_life() -> dict[str, Any]:
        for message in messages:
            return message
        await ended.wait()
        return {"type": "lifespan.shutdown"}

    async def send_life(message: dict[str, Any]) -> None:
        started.set()

    async def live() -> None:
        with suppress(Exception):
            # One without a lifespan raises.
            await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive_life, send_life)
        started.set()

    life = asyncio.ensure_future(live())
    await started.wait()
    try:
        return await _request(app, path)
    finally:
        ended.set()
        await life


async def _request(app: Any, path: str) -> int:
    statuses: list[int] = []
    answered = asyncio.Event()
    asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in asked:
            return message
        await answered.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(int(message["status"]))
            log_inside()
        elif not message.get("more_body", False):
            answered.set()

    place, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": place,
        "raw_path": place.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
        "state": {},
    }
    try:
        await app(scope, receive, send)
    except Exception:
        # A framework answers, and hands the exception on to the server.
        if not statuses:
            raise
    if not statuses:
        raise RuntimeError("there was no answer")
    return statuses[0]
