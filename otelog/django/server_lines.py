"""What servers log of requests that otelog has an access record of.

They write their lines in the request's context, by `otelog._patches.django_requests`: it says that there is a record.
"""

from __future__ import annotations

import logging
from typing import Any

from opentelemetry.context import Context, create_key, get_current, set_value

from otelog._patches.asgi_lines import LINE_OF
from otelog._requests import server_lines
from otelog._requests.server_lines import RequestLines

_ACCESS_LOGGERS = ("gunicorn.access", "django.server", "uvicorn.access", "hypercorn.access", "granian.access")
_ERROR_LOGGERS = ("gunicorn.error", "waitress", "uvicorn.error", "hypercorn.error", "_granian.utils")

_KEY = create_key("otelog-recorded")
_IN_SCOPE = "otelog.django.recorded"


class _Lines(RequestLines):
    def filter(self, record: logging.LogRecord) -> bool:
        """Take out the line of a request whose context is current, or whose scope is known."""
        found: Any = get_current().get(_KEY)
        if found is None:
            # Some servers write their line when the application has ended.
            scope = LINE_OF.get()
            found = None if scope is None else scope.get(_IN_SCOPE)
        if found is None:
            return True
        purpose, status = found
        return self.keep_back(record, purpose, status)


_lines = _Lines()


def keep_back_request_lines(access_name: str) -> None:
    """Have the servers' loggers keep the lines of marked requests from the pipeline. Idempotent.

    Args:
        access_name: The logger of the access records.
    """
    _lines.access_name = access_name
    for name in _ACCESS_LOGGERS:
        logging.getLogger(name).addFilter(_lines)


def drop_doubled_exceptions() -> None:
    """Have what servers say of recorded exceptions kept from the pipeline. Idempotent."""
    server_lines.drop_doubled_exceptions(_ERROR_LOGGERS)


def mark(context: Context, purpose: str, status: int, scope: Any) -> Context:
    """Returns a context in which the pipeline does not want a server's line, and which says what else it is for.

    Args:
        context: The request's.
        purpose: `LOCAL` or `NOWHERE`.
        status: Of the response.
        scope: The request's, in ASGI; it says so, too.
    """
    if scope is not None:
        scope[_IN_SCOPE] = (purpose, status)
    return set_value(_KEY, (purpose, status), context)
