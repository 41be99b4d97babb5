"""The lines of ASGI servers for requests that otelog has a record of."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from otelog._patches.asgi_lines import LINE_OF, WRITES_LINES
from otelog._patches.last_resort import is_seen
from otelog._requests import server_lines
from otelog._requests.server_lines import RequestLines

if TYPE_CHECKING:
    from otelog.asgi.exchange import Exchange

_MARK = "otelog.recorded"
"""In the scope: otelog has a record of the request. Its value is what the server's line is for."""

_ACCESS_LOGGERS = ("uvicorn.access", "hypercorn.access", "granian.access", "gunicorn.access", "aiohttp.access")
_ERROR_LOGGERS = ("uvicorn.error", "hypercorn.error", "_granian.utils", "gunicorn.error", "aiohttp.server")
# What is loaded in a process that serves by it, and the logger of its lines.
_SERVERS = (
    ("uvicorn.protocols.http.h11_impl", "uvicorn.access"),
    ("uvicorn.protocols.http.httptools_impl", "uvicorn.access"),
    ("hypercorn.protocol", "hypercorn.access"),
    ("gunicorn.asgi.protocol", "gunicorn.access"),
)


class _AccessLines(RequestLines):
    def filter(self, record: logging.LogRecord) -> bool:
        """Take out a line whose request, or whose exception, is marked."""
        scope = LINE_OF.get()
        purpose = getattr(sys.exc_info()[1], _MARK, None) if scope is None else scope.get(_MARK)
        return purpose is None or self.keep_back(record, purpose, _find_status(record.args))


def _find_status(arguments: Any) -> object:
    if isinstance(arguments, Mapping):
        # hypercorn's and gunicorn's, granian's.
        return arguments.get("s", arguments.get("status"))
    return arguments[-1] if arguments else ""


_access_lines = _AccessLines()


def keep_back_request_lines(access_name: str) -> None:
    """Have the servers' loggers keep the lines of marked requests from the pipeline. Idempotent.

    Args:
        access_name: The logger of the access records.
    """
    _access_lines.access_name = access_name
    for name in _ACCESS_LOGGERS:
        logging.getLogger(name).addFilter(_access_lines)


def drop_doubled_exceptions() -> None:
    """Have what servers say of recorded exceptions kept from the pipeline. Idempotent."""
    server_lines.drop_doubled_exceptions(_ERROR_LOGGERS)


def mark(scope: Any, purpose: str) -> None:
    """Say that the pipeline does not want the server's line of this request, and what else it is for."""
    scope[_MARK] = purpose


def mark_exception(scope: Any, error: BaseException) -> None:
    """Say it of a request that has ended with an exception, where the server has lost hold of its scope."""
    if _MARK in scope:
        setattr(error, _MARK, scope[_MARK])


def has_line_of_server(exchange: Exchange, *, silenced: bool) -> bool:
    """Returns whether the server writes a line of its own for a request, as far as it can be known.

    Args:
        exchange: The request's.
        silenced: Whether otelog drops the servers' lines.
    """
    if silenced:
        return False
    if exchange.is_websocket:
        # uvicorn's, by its other logger, beside what it says of each connection.
        return "uvicorn.protocols.http" in sys.modules
    if WRITES_LINES.get("granian"):
        return True
    return any(module in sys.modules and is_seen(logging.getLogger(name)) for module, name in _SERVERS)


def is_silent_server() -> bool:
    """Returns whether this process serves by a server that writes no line of a request unless it is told to."""
    return any(name in sys.modules for name in ("hypercorn.protocol", "granian.asgi", "gunicorn.asgi.protocol"))
