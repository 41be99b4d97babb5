"""Which records an exporter gets, and how many may wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from opentelemetry.sdk._logs import ReadableLogRecord

from otelog._record.row import Source


class Route(NamedTuple):
    """Which records an exporter gets.

    Args:
        severity_number: The least severity.
        loggers: Only records of these loggers and those below them; empty for all.
        filter: Returns whether the exporter wants a record; called in the exporter's own thread.
    """

    severity_number: int = 0
    loggers: tuple[str, ...] = ()
    filter: Callable[[ReadableLogRecord], object] | None = None

    @property
    def is_selective(self) -> bool:
        """Whether records can be distinguished before they are passed on."""
        return self.severity_number > 0 or bool(self.loggers)

    def wants(self, source: Any) -> bool:
        """Returns whether a record may pass, as far as its level and logger tell."""
        if source.severity_number < self.severity_number:
            return False
        if not self.loggers:
            return True
        base: Source = source.source if source.special else source
        name = base.scope_name
        return any(name == one or name.startswith(f"{one}.") for one in self.loggers)


class Bounds(NamedTuple):
    """What an exporter queue may hold.

    Args:
        max_records: Records that wait.
        max_bytes: Their estimated bytes, counted as in the queue.
        reserve: The part, 0 to 0.9, that only records at ERROR and above may fill.
    """

    max_records: int
    max_bytes: int
    reserve: float = 0.0
