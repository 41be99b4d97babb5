"""The lines of WSGI servers for requests that otelog has a record of."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from threading import get_ident
from typing import Any

from otelog._requests import server_lines
from otelog._requests.server_lines import RequestLines
from otelog._requests.wsgi_servers import GUNICORN_ACCESS, WERKZEUG_SOCKET

_MARK = "otelog.recorded"
"""In the WSGI environment: otelog has a record of the request. Its value is what the server's line is for."""

_WERKZEUG_LINE = '] "%s" %s %s'
_GUNICORN_ATOM = f"{{{_MARK}}}e"

_WERKZEUG = "werkzeug"
_ERROR_LOGGERS = ("gunicorn.error", "waitress", _WERKZEUG)


class _WerkzeugLines(RequestLines):
    def __init__(self) -> None:
        super().__init__()
        self.threads: dict[int, str] = {}
        """What the next line of a thread of werkzeug's server is for, where such a request runs in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Take out ``127.0.0.1 - - [date] "GET / HTTP/1.1" 200 -``; a thread's mark holds for one line."""
        if record.levelno != logging.INFO or not isinstance(record.msg, str) or not record.msg.endswith(_WERKZEUG_LINE):
            return True
        purpose = self.threads.pop(get_ident(), None)
        status = record.args[1] if isinstance(record.args, tuple) and len(record.args) > 1 else ""
        return purpose is None or self.keep_back(record, purpose, status)


class _GunicornLines(RequestLines):
    def filter(self, record: logging.LogRecord) -> bool:
        """Take out a line whose request, which gunicorn hands over with it, or whose exception is marked."""
        atoms: Any = record.args
        if isinstance(atoms, Mapping) and _GUNICORN_ATOM in atoms:
            return self.keep_back(record, str(atoms[_GUNICORN_ATOM]), atoms.get("s"))
        purpose = getattr(sys.exc_info()[1], _MARK, None)
        return purpose is None or self.keep_back(record, purpose, "500")


_werkzeug_lines = _WerkzeugLines()
_gunicorn_lines = _GunicornLines()


def keep_back_request_lines(access_name: str) -> None:
    """Have the servers' loggers keep the lines of marked requests from the pipeline. Idempotent.

    Args:
        access_name: The logger of the access records.
    """
    for name, lines in ((_WERKZEUG, _werkzeug_lines), (GUNICORN_ACCESS, _gunicorn_lines)):
        lines.access_name = access_name
        logging.getLogger(name).addFilter(lines)


def drop_doubled_exceptions() -> None:
    """Have what servers say of recorded exceptions kept from the pipeline. Idempotent."""
    server_lines.drop_doubled_exceptions(_ERROR_LOGGERS)


def mark(environ: dict[str, Any], purpose: str) -> None:
    """Say that the pipeline does not want the server's line of this request, and what else it is for."""
    environ[_MARK] = purpose
    if WERKZEUG_SOCKET in environ:
        _werkzeug_lines.threads[get_ident()] = purpose


def mark_exception(environ: dict[str, Any], error: BaseException) -> None:
    """Say it of a request that has ended with an exception: gunicorn has lost hold of the environment by then."""
    if _MARK in environ:
        setattr(error, _MARK, environ[_MARK])


def unmark(environ: dict[str, Any]) -> None:
    """Say that it is wanted, whatever an application around this one has said; or that it would have come by now."""
    environ.pop(_MARK, None)
    if WERKZEUG_SOCKET in environ:
        forget_thread()


def forget_thread() -> None:
    """Let the lines of this thread's next request pass."""
    _werkzeug_lines.threads.pop(get_ident(), None)
