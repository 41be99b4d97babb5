"""The application of `tests.servers.app` for other frameworks: FastAPI, Starlette, Quart, and aiohttp's server.

``fast``, ``star`` and ``quart`` are for ASGI servers; ``python -m tests.servers.frameworks PORT`` is aiohttp's.
"""

from __future__ import annotations

import sys
from typing import Any

from aiohttp import web
from fastapi import FastAPI
from quart import Quart
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.servers import books
from tests.servers.asgi import answer

books.keep()

fast = FastAPI()
quart = Quart("shop")


@fast.get("/{path:path}")
async def answer_fast(path: str) -> dict[str, Any]:
    """Answer as FastAPI does."""
    return await answer(f"/{path}")


async def answer_star(request: Request) -> JSONResponse:
    """Answer as Starlette does."""
    return JSONResponse(await answer(request.url.path))


star = Starlette(routes=[Route("/{path:path}", answer_star)])


@quart.get("/<path:path>")
async def answer_quart(path: str) -> dict[str, Any]:
    """Answer as Quart does."""
    return await answer(f"/{path}")


async def answer_aiohttp(request: web.Request) -> web.Response:
    """Answer as aiohttp does."""
    return web.json_response(await answer(request.path))


if __name__ == "__main__":
    application = web.Application()
    application.router.add_get("/{path:.*}", answer_aiohttp)
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), print=None)
