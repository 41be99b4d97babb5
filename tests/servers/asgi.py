"""The application of `tests.servers.app` for ASGI servers: the same addresses and answers, without any framework."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

import otelog
from tests.servers import books
from tests.servers.app import RECORDS

books.keep()
log = logging.getLogger("shop")
requests = itertools.count(1)


async def app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Answer one request; ASGI 3."""
    if scope["type"] != "http":
        # A server goes on without a lifespan.
        raise NotImplementedError
    body = json.dumps(await answer(scope["path"])).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def answer(path: str) -> dict[str, Any]:
    """Do what `tests.servers.app` does."""
    own: dict[str, Any] = {"pid": os.getpid(), "instance": books.find_instance(), "number": next(requests)}
    if path.startswith("/records/"):
        name = path.removeprefix("/records/")
        for number in range(RECORDS):
            log.info("%s/%d", name, number)
        return {**own, **books.describe(otelog.stats())}
    # Slowly, so that the next to ask finds another worker.
    await asyncio.sleep(0.02)
    if path == "/flush":
        return {**own, "flushed": otelog.flush()}
    return own
