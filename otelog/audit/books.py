"""What each hop says of the records: plain numbers, no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

WANTED_REMOVALS = frozenset({"filtered", "sampled", "deduplicated"})
"""The application asked for these; a record removed for any other reason is lost."""

STREAMS = ("app", "errors", "ai_responses")
"""The kinds of the Collector's files."""

ERROR_SEVERITIES = frozenset({"error", "fatal"})

RETRIED_DISCARDS = frozenset({"rate_limited", "per_stream_rate_limit", "stream_limit"})
"""Loki's reasons that it answers with 429: the sender comes again with these records."""


@dataclass(frozen=True, slots=True)
class Application:
    """The ledger of one process, with the one exporter of it that sends to the Collector; all numbers are records."""

    service: str
    instance: str = ""
    created: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    queued: int = 0
    removed: Mapping[str, int] = field(default_factory=dict)
    filtered: int = 0
    exported: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0
    in_flight: int = 0
    resent: int = 0
    outcome_unknown: int = 0
    truncated: int = 0

    @property
    def pending(self) -> int:
        """Records that are still inside the process."""
        return self.queued + self.waiting + self.in_flight

    @property
    def lost(self) -> int:
        """Records that the process knows to be lost."""
        removed = sum(n for why, n in self.removed.items() if why not in WANTED_REMOVALS)
        return sum(self.refused.values()) + removed + sum(self.dropped.values())

    @property
    def unaccounted(self) -> int:
        """Created records that no other figure has; below zero if the others have more."""
        known = sum(self.refused.values()) + sum(self.removed.values()) + sum(self.dropped.values())
        return self.created - known - self.filtered - self.exported - self.pending


@dataclass(frozen=True, slots=True)
class Exporter:
    """One of the Collector's exporters; all numbers are records.

    `queued` has those that are being sent, too. `enqueue_failed` were refused to the sender: they are in the receiver's
    `refused`, not among the accepted.
    """

    sent: int = 0
    failed: int = 0
    enqueue_failed: int = 0
    queued: int = 0


@dataclass(frozen=True, slots=True)
class Collector:
    """The Collector's own metrics; all numbers are records.

    Attributes:
        accepted: What the receivers took and answered for.
        refused: What they answered to come again.
        failed: What they could not take because of an error of their own.
        exporters: By the exporter's name.
        passed: By a filter's name, what it let through.
        restarts: How often the counters have begun again; what came after the last scrape before that is not known.
    """

    accepted: int = 0
    refused: int = 0
    failed: int = 0
    exporters: Mapping[str, Exporter] = field(default_factory=dict)
    passed: Mapping[str, int] = field(default_factory=dict)
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Loki:
    """What Loki holds, and what it says of what came.

    Attributes:
        held: Records in the window by service; None if it does not answer queries.
        received: Lines in all requests that it has read, those that came again included; None if not seen.
        discarded: Lines that it did not take, by reason, those that came again included.
        restarts: How often its counters have begun again.
    """

    held: Mapping[str, int] | None = None
    received: int | None = None
    discarded: Mapping[str, int] = field(default_factory=dict)
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class FileRecords:
    """The records in the files of one kind, by service; `errors` and `ai` are those among them."""

    records: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    ai: Mapping[str, int] = field(default_factory=dict)
    torn: int = 0
    """Lines that end in the middle of a document."""


@dataclass(frozen=True, slots=True)
class Books:
    """What is known of the whole way at about one moment; None stands for a source that was not seen.

    Attributes:
        applications: One ledger a process.
        collector: The Collector's own metrics.
        counted: Its counts by service and severity.
        loki: What Loki says.
        files: By the kind of file.
        moving: Records that came while this was read one after the other: so many the figures may be apart.
    """

    applications: tuple[Application, ...] | None = None
    collector: Collector | None = None
    counted: Mapping[str, Mapping[str, int]] | None = None
    loki: Loki | None = None
    files: Mapping[str, FileRecords] | None = None
    moving: int = 0

    def with_moving(self, moving: int) -> Books:
        """Returns the same with `moving` set."""
        return replace(self, moving=moving)


def add_up(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Returns the sums by key."""
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)
