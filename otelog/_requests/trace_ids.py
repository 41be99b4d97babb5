"""The client's trace id becomes the request's, by way of the SDK's id generator.

The generator is asked only for a span that has no parent: so a valid ``traceparent`` wins by itself, and no parent span
is made up.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from opentelemetry.sdk.trace.id_generator import IdGenerator

from otelog._requests.ids import parse_trace_id


class Offer:
    """A trace id that the request's span may take, once."""

    __slots__ = ("_just_taken", "trace_id")

    def __init__(self, trace_id: int) -> None:
        self.trace_id = trace_id
        self._just_taken = False

    def take(self) -> int:
        """Returns the id, or 0 if it is taken."""
        trace_id, self.trace_id = self.trace_id, 0
        self._just_taken = trace_id != 0
        return trace_id

    def was_just_taken(self) -> bool:
        """Returns, once, whether the last id that was generated is the client's."""
        taken, self._just_taken = self._just_taken, False
        return taken


OFFERED: ContextVar[Offer | None] = ContextVar("otelog_offered_trace_id", default=None)
"""What the request that runs here offers."""


def make_offer(given: str | None) -> Offer | None:
    """Returns what a client's header offers, or None for what is no trace id."""
    trace_id = 0 if given is None else parse_trace_id(given)
    return Offer(trace_id) if trace_id else None


class OfferedTraceIds(IdGenerator):
    """Generates the ids of another generator, but for the trace id that a request has brought along.

    Args:
        wrapped: The generator that the tracer had.

    Thread safety: that of the wrapped generator.
    """

    def __init__(self, wrapped: IdGenerator) -> None:
        self._wrapped = wrapped

    def generate_span_id(self) -> int:
        """Returns a new span id."""
        return self._wrapped.generate_span_id()

    def generate_trace_id(self) -> int:
        """Returns the offered trace id, if there is one, or a new one."""
        offer = OFFERED.get()
        return (0 if offer is None else offer.take()) or self._wrapped.generate_trace_id()

    def is_trace_id_random(self) -> bool:
        """Returns whether the trace id that was just generated is known to be random; a client's is not.

        Source: W3C trace context level 2, "random-trace-id flag".
        """
        offer = OFFERED.get()
        if offer is not None and offer.was_just_taken():
            return False
        # SDKs before 1.40 do not ask.
        is_random: Any = getattr(self._wrapped, "is_trace_id_random", None)
        return bool(is_random()) if is_random is not None else False


def accept_offers(tracer: Any) -> bool:
    """Have the request spans that a tracer starts take the offered trace ids. Idempotent.

    Args:
        tracer: An instrumentation's; None: it is not to be found.

    Returns:
        Whether they will: not without the SDK's tracer provider.
    """
    if not hasattr(tracer, "id_generator"):
        return False
    # Not the provider's: a tracer keeps the generator that it was made with, and no other tracer needs the offer.
    if not isinstance(tracer.id_generator, OfferedTraceIds):
        tracer.id_generator = OfferedTraceIds(tracer.id_generator)
    return True
