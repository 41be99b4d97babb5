"""Leaving an OpenTelemetry Context that was attached here.

A block in a generator may end anywhere: an async generator is closed by another task, a generator by the cyclic
collector in another thread, and two that take turns end in another order than they began in. OpenTelemetry's `detach`
logs an error there, or brings back a Context that is out of date, and drops what others have attached meanwhile.
"""

from __future__ import annotations

from contextvars import Token
from typing import Any

from opentelemetry.context import Context, detach


def leave(context: Context, token: Any) -> bool:
    """Detach a Context, if it is still the current one where it was attached.

    Args:
        context: What was attached.
        token: What `attach` has returned.

    Returns:
        Whether it was. If not, nothing has changed, and the Context may still be current elsewhere.

    Never raises, logs nothing. Any thread or task.
    """
    if not isinstance(token, Token):
        # Another runtime context than that of the standard library.
        detach(token)
        return True
    if token.var.get(None) is not context:
        return False
    try:
        token.var.reset(token)
    except (ValueError, RuntimeError):
        # A copy of the Context's own context, as tasks have it.
        return False
    return True
