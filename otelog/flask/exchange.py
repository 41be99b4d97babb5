"""One request with its response: what is known of it, from the application's call to the body's last byte."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from opentelemetry.context import attach, get_current, set_value
from opentelemetry.trace import NonRecordingSpan, SpanContext, get_current_span, set_span_in_context

from otelog._capture.port import BOUND_KEY, BoundFields
from otelog.flask.request_ids import clean_trace_id, parse_trace_id

REQUEST_ID_FIELD = "request.id"
TRACE_ID_FIELD = "request.trace_id"

_LATEST = "otelog.exchange"

_numbers = itertools.count(1)


class Exchange:
    """What one application does for one request.

    Args:
        environ: The WSGI environment.
        request_id: The request's id; None where there shall be none.
        given_trace_id: What the client's header says of the trace, if anything.

    Thread safety: one thread at a time; the server may call the application and iterate over the body in two.
    """

    __slots__ = (
        "begin",
        "context",
        "entered",
        "error_type",
        "finished",
        "given_trace_id",
        "headers",
        "number",
        "request_id",
        "route",
        "sent_bytes",
        "span_context",
        "status",
        "wsgi",
    )

    def __init__(self, environ: dict[str, Any], request_id: str | None, given_trace_id: str | None) -> None:
        self.begin = time.perf_counter()
        self.wsgi = environ
        self.number = environ[_LATEST] = next(_numbers)
        self.request_id = request_id
        self.given_trace_id = given_trace_id
        self.span_context: SpanContext | None = None
        self.route: str | None = None
        self.status = 0
        """0 until there is a response."""
        self.headers: list[tuple[str, str]] = []
        self.sent_bytes = 0
        self.error_type: str | None = None
        """Of the exception that nobody has handled: its name only, since its frames hold on to this."""
        self.entered = False
        """Whether Flask has come as far as its ``before_request`` functions."""
        self.finished = False
        self.context = get_current()
        """In which everything is logged that belongs to the request and happens outside of Flask."""
        if request_id is not None:
            self._add_fields({REQUEST_ID_FIELD: request_id})

    @property
    def is_passed_on(self) -> bool:
        """Whether the application was only on the request's way to another one that otelog watches, too."""
        return not self.entered and self.wsgi.get(_LATEST) != self.number

    def enter(self, route: str | None) -> None:
        """Take over the current context with the request's span.

        The instrumentation has put an empty context beneath the span, so that the fields which were there are gone.
        """
        self.entered = True
        self.route = route
        bound = self.context.get(BOUND_KEY)
        self.context = get_current()
        if bound is not None:
            self.context = set_value(BOUND_KEY, bound, self.context)
        self.note_span()
        self.keep_given_trace_id()
        attach(self.context)

    def add_fields(self, fields: Mapping[Any, Any]) -> None:
        """Give every record from here on these fields, too, until the middleware takes the context off."""
        self._add_fields(fields)
        attach(self.context)

    def note_span(self) -> None:
        """Remember the current span as the request's, if there is any and none is remembered."""
        if self.span_context is None:
            span_context = get_current_span().get_span_context()
            if span_context.is_valid:
                self.span_context = span_context

    def keep_given_trace_id(self) -> None:
        """Make the client's trace id a field, unless it is the trace's. Idempotent."""
        given, self.given_trace_id = self.given_trace_id, None
        if given is None:
            return
        if self.span_context is not None and parse_trace_id(given) == self.span_context.trace_id:
            return
        kept = clean_trace_id(given)
        if kept:
            self._add_fields({TRACE_ID_FIELD: kept})

    def leave(self) -> None:
        """Go on with the ids of the span, which has ended, unless the body is still inside of it."""
        if self.span_context is None:
            return
        span = get_current_span(self.context)
        if not span.is_recording() and not isinstance(span, NonRecordingSpan):
            self.context = set_span_in_context(NonRecordingSpan(self.span_context), self.context)

    def _add_fields(self, fields: Mapping[Any, Any]) -> None:
        added = BoundFields(fields)
        outer: Any = self.context.get(BOUND_KEY)
        self.context = set_value(BOUND_KEY, added if outer is None else outer.merged_with(added), self.context)


CURRENT: ContextVar[Exchange | None] = ContextVar("otelog_exchange", default=None)
"""The exchange whose application is being called here."""
