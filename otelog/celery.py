"""What Celery needs.

A process of its prefork pool leaves without telling Python, and would take records along. And what the worker says of a
task outside of the process that runs it has no trace::

    import otelog, otelog.celery
    otelog.configure(service_name="shop")
    otelog.celery.connect()

in the module of the Celery application. Under `otelog run` and `opentelemetry-instrument` nothing is needed.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any

from celery import signals

from otelog._patches import celery_lines
from otelog._runtime.lifetime import end_all

__all__ = ["CeleryInstrumentor", "connect", "disconnect"]


def connect() -> None:
    """Have every process of a pool deliver what it holds before it ends, whatever ends it. Idempotent.

    And have the worker's own lines about a task be in the trace that the task was sent in. Delivery may take
    `shutdown_timeout` seconds; what is not delivered then is counted.
    """
    signals.worker_process_shutdown.connect(_end, weak=False, dispatch_uid="otelog")
    signals.celeryd_init.connect(_prepare_worker, weak=False, dispatch_uid="otelog")


def disconnect() -> None:
    """Take it back. Idempotent."""
    signals.worker_process_shutdown.disconnect(_end, dispatch_uid="otelog")
    signals.celeryd_init.disconnect(_prepare_worker, dispatch_uid="otelog")
    celery_lines.uninstall()


def _end(**_: Any) -> None:
    end_all()


def _prepare_worker(**_: Any) -> None:
    # The worker is about to load them; a program that only sends tasks need not.
    for name in ("celery.worker.request", "celery.worker.strategy"):
        with suppress(ImportError):
            import_module(name)
    celery_lines.install()


class CeleryInstrumentor:
    """The entry point for OpenTelemetry's automatic instrumentation."""

    def instrument(self, **_: Any) -> None:
        """See `connect`."""
        connect()

    def uninstrument(self, **_: Any) -> None:
        """See `disconnect`."""
        disconnect()
