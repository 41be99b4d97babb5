"""One request of a Flask application with its response."""

from __future__ import annotations

import itertools
from contextvars import ContextVar
from typing import Any

from otelog._requests import exchange

_LATEST = "otelog.exchange"

_numbers = itertools.count(1)


class Exchange(exchange.Exchange):
    """What one application does for one request.

    Args:
        environ: The WSGI environment.
        request_id: The request's id; None where there shall be none.
        given_trace_id: What the client's header says of the trace, if anything.

    Thread safety: one thread at a time; the server may call the application and iterate over the body in two.
    """

    __slots__ = ("entered", "headers", "number", "wsgi")

    def __init__(self, environ: dict[str, Any], request_id: str | None, given_trace_id: str | None) -> None:
        super().__init__(request_id, given_trace_id)
        self.wsgi = environ
        self.number = environ[_LATEST] = next(_numbers)
        self.headers: list[tuple[str, str]] = []
        self.entered = False
        """Whether Flask has come as far as its ``before_request`` functions."""

    @property
    def is_passed_on(self) -> bool:
        """Whether the application was only on the request's way to another one that otelog watches, too."""
        return not self.entered and self.wsgi.get(_LATEST) != self.number

    def enter(self, route: str | None) -> None:
        """Take over the current context with the request's span."""
        self.entered = True
        self.route = route
        self.take_over_context()


CURRENT: ContextVar[Exchange | None] = ContextVar("otelog_exchange", default=None)
"""The exchange whose application is being called here."""
