"""What a WSGI server logs of a request that otelog has a record of: filters on the server's own loggers.

Each can be taken off again, and lets everything else pass.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from threading import get_ident
from typing import Any

from otelog._capture.handler import way_of
from otelog.flask.errors import is_bridge, is_recorded

_MARK = "otelog.recorded"
"""In the WSGI environment: otelog has a record of the request, and the server shall have no line."""

_WERKZEUG_SOCKET = "werkzeug.socket"
_WERKZEUG_LINE = '] "%s" %s %s'
_GUNICORN_ATOM = f"{{{_MARK}}}e"

_WERKZEUG, _GUNICORN_ACCESS = "werkzeug", "gunicorn.access"
_ERROR_LOGGERS = ("gunicorn.error", "waitress", _WERKZEUG)


class _RequestLines(logging.Filter):
    """Drops the lines of requests that were marked: of those, and of no other application's."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()
        """Threads of werkzeug's server in which such a request runs."""


class _WerkzeugLines(_RequestLines):
    def filter(self, record: logging.LogRecord) -> bool:
        """Drop ``127.0.0.1 - - [date] "GET / HTTP/1.1" 200 -``; a thread's mark holds for one line."""
        if record.levelno != logging.INFO or not isinstance(record.msg, str) or not record.msg.endswith(_WERKZEUG_LINE):
            return True
        me = get_ident()
        if me not in self.threads:
            return True
        self.threads.discard(me)
        return False


class _GunicornLines(_RequestLines):
    def filter(self, record: logging.LogRecord) -> bool:
        """Drop a line whose request, which gunicorn hands over with it, or whose exception is marked."""
        atoms: Any = record.args
        return not (
            (isinstance(atoms, Mapping) and _GUNICORN_ATOM in atoms) or getattr(sys.exc_info()[1], _MARK, False)
        )


class _RecordedExceptions(logging.Filter):
    """Keeps from the pipeline what a server says of an exception that is recorded already.

    Its other handlers, the server's error log above all, get the record as ever.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR:
            return True
        # werkzeug writes the traceback into its message, while it handles the exception.
        error = record.exc_info[1] if record.exc_info else sys.exc_info()[1]
        if error is None or not is_recorded(error):
            return True
        _hand_to_others(record)
        return False


def _hand_to_others(record: logging.LogRecord) -> None:
    handlers = [handler for one in way_of(logging.getLogger(record.name)) for handler in one.handlers]
    for handler in handlers:
        if record.levelno >= handler.level and not is_bridge(handler):
            handler.handle(record)
    if not handlers and logging.lastResort is not None:
        logging.lastResort.handle(record)


_werkzeug_lines = _WerkzeugLines()
_gunicorn_lines = _GunicornLines()
_recorded_exceptions = _RecordedExceptions()


def silence_request_lines() -> None:
    """Have the servers' loggers drop the lines of marked requests. Idempotent."""
    logging.getLogger(_WERKZEUG).addFilter(_werkzeug_lines)
    logging.getLogger(_GUNICORN_ACCESS).addFilter(_gunicorn_lines)


def drop_doubled_exceptions() -> None:
    """Have what servers say of recorded exceptions kept from the pipeline. Idempotent."""
    for name in _ERROR_LOGGERS:
        logging.getLogger(name).addFilter(_recorded_exceptions)


def mark(environ: dict[str, Any]) -> None:
    """Say that the server's line of this request is not wanted."""
    environ[_MARK] = True
    if _WERKZEUG_SOCKET in environ:
        _werkzeug_lines.threads.add(get_ident())


def mark_exception(error: BaseException) -> None:
    """Say it of a request that has ended with an exception: gunicorn has lost hold of the environment by then."""
    setattr(error, _MARK, True)


def unmark(environ: dict[str, Any]) -> None:
    """Say that it is wanted, whatever an application around this one has said; or that it would have come by now."""
    environ.pop(_MARK, None)
    if _WERKZEUG_SOCKET in environ:
        forget_thread()


def forget_thread() -> None:
    """Let the lines of this thread's next request pass."""
    _werkzeug_lines.threads.discard(get_ident())
