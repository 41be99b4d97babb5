"""The health entry: what state this process's pipeline is in, as JSON.

A load balancer sees 503 only when the pipeline is shut down or its thread is gone, so that the process should be, too.
Losing logs is no reason to take an application out of rotation: that is 200, and "degraded".
"""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from otelog._requests.exceptions import is_bridge
from otelog._setup.configure import add_observer, stats
from otelog._setup.state import is_configured, is_running, wants_handler

if TYPE_CHECKING:
    from otelog._ledger.counters import Ledger

RECENT = 60.0
"""Seconds for which a loss counts as recent."""


class ExportWatch:
    """Remembers when records were last delivered and last lost, as an observer of the ledger.

    Thread safety: written by one thread at a time; may be read by any.
    """

    def __init__(self) -> None:
        self._created = self._exported = self._lost = 0
        self.delivered_at: float | None = None
        """On the monotonic clock."""
        self.lost_at: float | None = None
        """On the monotonic clock."""

    def __call__(self, ledger: Ledger, last: bool) -> None:
        """Compare the counters with those of the last time."""
        books = ledger.read()
        now = time.monotonic()
        if books.created < self._created:
            # A forked child's counters begin anew.
            self._exported = self._lost = 0
        if books.exported > self._exported:
            self.delivered_at = now
        if books.lost > self._lost:
            self.lost_at = now
        self._created, self._exported, self._lost = books.created, books.exported, books.lost


class _Watched:
    """The process's one watch."""

    watch: ExportWatch | None = None
    making = threading.Lock()


def watch_exports() -> ExportWatch:
    """Begin to watch what becomes of exports; returns the watch. Idempotent."""
    with _Watched.making:
        if _Watched.watch is None:
            _Watched.watch = ExportWatch()
            add_observer(_Watched.watch)
        return _Watched.watch


def describe_pipeline() -> dict[str, Any]:
    """Returns the state of this process's pipeline.

    ``status`` is "ok", "degraded" (a loss in the last minute, or the handler is off the root logger), "down" (shut
    down, or without its thread) or "off" (never configured, as with ``OTEL_SDK_DISABLED``).
    """
    watch = watch_exports()
    configured, running = is_configured(), is_running()
    attached = any(is_bridge(handler) for handler in logging.getLogger().handlers)
    books = stats()
    now = time.monotonic()
    lost_recently = watch.lost_at is not None and now - watch.lost_at < RECENT
    if not configured:
        status = "off"
    elif not running:
        status = "down"
    else:
        status = "degraded" if lost_recently or (wants_handler() and not attached) else "ok"
    return {
        "status": status,
        "configured": configured,
        "handler_attached": attached,
        "queue": {"size": books.queued, "capacity": books.queue_capacity},
        "waiting": books.waiting,
        "in_flight": books.in_flight,
        "created": books.created,
        "exported": books.exported,
        "lost": books.lost,
        "last_export": _describe_last(watch, now),
    }


def _describe_last(watch: ExportWatch, now: float) -> dict[str, Any] | None:
    delivered, lost = watch.delivered_at, watch.lost_at
    if delivered is None and lost is None:
        return None
    failed = delivered is None or (lost is not None and lost > delivered)
    at = lost if failed else delivered
    return {"outcome": "lost" if failed else "delivered", "seconds_ago": round(now - (at or now), 3)}


class Answer(NamedTuple):
    """A whole response."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def answer_health(method: str) -> Answer:
    """Returns the answer to a request of the health entry, by its method."""
    if method not in ("GET", "HEAD"):
        return Answer(405, [("Allow", "GET, HEAD"), ("Content-Length", "0")], b"")
    state = describe_pipeline()
    body = json.dumps(state).encode()
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]
    return Answer(503 if state["status"] == "down" else 200, headers, b"" if method == "HEAD" else body)
