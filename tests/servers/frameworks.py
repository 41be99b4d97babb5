"""The application of `tests.servers.app` for other frameworks: FastAPI, Starlette, Quart, and aiohttp's server.

``fast``, ``star`` and ``quart`` are for ASGI servers (hypercorn wants ``make_star()``), and aiohttp's is
``python -m tests.servers.frameworks PORT``. Each is made when it is asked for.
"""

from __future__ import annotations

import sys
from typing import Any

from tests.servers import books
from tests.servers.asgi import answer

books.keep()


def make_fast() -> Any:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/{path:path}")
    async def answer_fast(path: str) -> dict[str, Any]:
        return await answer(f"/{path}")

    return app


def make_star() -> Any:
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def answer_star(request: Any) -> JSONResponse:
        return JSONResponse(await answer(request.url.path))

    return Starlette(routes=[Route("/{path:path}", answer_star)])


def make_quart() -> Any:
    from quart import Quart

    app = Quart("shop")

    @app.get("/<path:path>")
    async def answer_quart(path: str) -> dict[str, Any]:
        return await answer(f"/{path}")

    return app


def serve_aiohttp(port: int) -> None:
    from aiohttp import web

    async def answer_aiohttp(request: web.Request) -> web.Response:
        return web.json_response(await answer(request.path))

    app = web.Application()
    app.router.add_get("/{path:.*}", answer_aiohttp)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


_MAKERS = {"fast": make_fast, "star": make_star, "quart": make_quart}


def __getattr__(name: str) -> Any:
    if name not in _MAKERS:
        raise AttributeError(name)
    made = globals()[name] = _MAKERS[name]()
    return made


if __name__ == "__main__":
    serve_aiohttp(int(sys.argv[1]))
