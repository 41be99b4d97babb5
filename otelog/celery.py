"""What Celery needs: a process of its prefork pool leaves without telling Python, and would take records along::

    import otelog, otelog.celery
    otelog.configure(service_name="shop")
    otelog.celery.connect()

in the module of the Celery application. Under `otelog run` and `opentelemetry-instrument` nothing is needed.
"""

from __future__ import annotations

from typing import Any

from celery import signals

from otelog._runtime.lifetime import end_all

__all__ = ["CeleryInstrumentor", "connect", "disconnect"]


def connect() -> None:
    """Have every process of a pool deliver what it holds before it ends, whatever ends it. Idempotent.

    It may take `shutdown_timeout` seconds; what is not delivered then is counted.
    """
    signals.worker_process_shutdown.connect(_end, weak=False, dispatch_uid="otelog")


def disconnect() -> None:
    """Take it back. Idempotent."""
    signals.worker_process_shutdown.disconnect(_end, dispatch_uid="otelog")


def _end(**_: Any) -> None:
    end_all()


class CeleryInstrumentor:
    """The entry point for OpenTelemetry's automatic instrumentation."""

    def instrument(self, **_: Any) -> None:
        """See `connect`."""
        connect()

    def uninstrument(self, **_: Any) -> None:
        """See `disconnect`."""
        disconnect()
