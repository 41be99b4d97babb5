"""One request with its response: what is known of it, from the application's call to the body's last byte."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from opentelemetry.context import attach, get_current, set_value
from opentelemetry.trace import NonRecordingSpan, SpanContext, get_current_span, set_span_in_context

from otelog._capture.port import BOUND_KEY, BoundFields
from otelog._requests.ids import clean_trace_id, parse_trace_id

REQUEST_ID_FIELD = "request.id"
TRACE_ID_FIELD = "request.trace_id"


class Exchange:
    """What one application does for one request.

    Args:
        request_id: The request's id; None where there shall be none.
        given_trace_id: What the client's header says of the trace, if anything.

    Thread safety: one thread at a time, which may be another for each step.
    """

    __slots__ = (
        "begin",
        "context",
        "end",
        "error_type",
        "finished",
        "given_trace_id",
        "request_id",
        "route",
        "sent_bytes",
        "span_context",
        "status",
    )

    def __init__(self, request_id: str | None, given_trace_id: str | None) -> None:
        self.begin = time.perf_counter()
        self.end: float | None = None
        """When the response ended; None: not yet, or just now."""
        self.request_id = request_id
        self.given_trace_id = given_trace_id
        self.span_context: SpanContext | None = None
        self.route: str | None = None
        self.status = 0
        """0 until there is a response."""
        self.sent_bytes = 0
        self.error_type: str | None = None
        """Of the exception that nobody has handled: its name only, since its frames hold on to this."""
        self.finished = False
        self.context = get_current()
        """In which everything is logged that belongs to the request and happens outside of the application."""
        if request_id is not None:
            self.bind({REQUEST_ID_FIELD: request_id})

    def take_over_context(self) -> None:
        """Go on in the current context with the request's span, and attach it with the fields that were there.

        An instrumentation may have put an empty context beneath the span.
        """
        bound = self.context.get(BOUND_KEY)
        self.context = get_current()
        if bound is not None:
            self.context = set_value(BOUND_KEY, bound, self.context)
        self.note_span()
        self.keep_given_trace_id()
        attach(self.context)

    def add_fields(self, fields: Mapping[Any, Any]) -> None:
        """Give every record from here on these fields, too, until the request's context is taken off."""
        self.bind(fields)
        attach(self.context)

    def mark_end(self) -> None:
        """Note that the response ends now, whenever its record is written."""
        self.end = time.perf_counter()

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
            self.bind({TRACE_ID_FIELD: kept})

    def leave(self) -> None:
        """Go on with the ids of the span, which has ended, unless the body is still inside of it."""
        if self.span_context is None:
            return
        span = get_current_span(self.context)
        if not span.is_recording() and not isinstance(span, NonRecordingSpan):
            self.context = set_span_in_context(NonRecordingSpan(self.span_context), self.context)

    def bind(self, fields: Mapping[Any, Any]) -> None:
        """Add fields to the context."""
        added = BoundFields(fields)
        outer: Any = self.context.get(BOUND_KEY)
        self.context = set_value(BOUND_KEY, added if outer is None else outer.merged_with(added), self.context)
