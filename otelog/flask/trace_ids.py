"""The client's trace id becomes a Flask request's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otelog._private.flask_instrumentation import find_tracer
from otelog._requests import trace_ids
from otelog._requests.trace_ids import OFFERED, Offer, OfferedTraceIds

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["OFFERED", "Offer", "OfferedTraceIds", "accept_offers"]


def accept_offers(app: Flask) -> bool:
    """Have the application's request spans take the offered trace ids. Idempotent.

    Args:
        app: An application that opentelemetry-instrumentation-flask has instrumented, now or long ago.

    Returns:
        Whether they will: not without the SDK's tracer provider.
    """
    return trace_ids.accept_offers(find_tracer(app))
