"""The books: what became of every record, exactly, under any number of threads.

Callers count only what is refused, each with one atomic step of a C iterator. All other counters are written by
whoever moves records (the worker, or the thread that shuts down) under `Ledger.moving`, which no caller of a log
function takes. A reader takes no lock: it retries while the version changes under it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import repeat
from operator import length_hint
from types import MappingProxyType
from weakref import ref

from otelog._ledger.peaks import PeakWatch
from otelog._private.standard import is_owned
from otelog._record.severity import LEAST_URGENT, MOST_SEVERE, SEVERITY_RANGES, severity_range
from otelog._runtime.threads import RLock, get_ident, sleep

REFUSED_REASONS = ("queue_full", "too_large", "already_shutdown", "reentrant")
REMOVED_REASONS = ("filtered", "sampled", "deduplicated", "invalid")
REMOVED_LOSSES = ("invalid",)
DROPPED_REASONS = (
    "encode_error",
    "too_large",
    "rejected",
    "retry_exhausted",
    "export_failed",
    "handoff_full",
    "shutdown_timeout",
    "worker_crash",
)

BESIDE_COUNTS = {
    "resent": "Log records in requests that were sent again.",
    "outcome_unknown": "Log records in requests that were never answered.",
    "truncated": "Log records that were cut to fit into a request, and delivered so.",
}
"""What is counted of each exporter beside the identity, and what it is."""

_MANY = 2**62
_READ_ATTEMPTS = 10_000


class AtomicCounter:
    """A counter that any thread, signal handler or ``__del__`` may raise by one, without a lock.

    ``repeat`` counts down inside one C call, and tells how many are left through the length-hint protocol.
    """

    __slots__ = ("_left", "add")

    def __init__(self) -> None:
        self._left = repeat(None, _MANY)
        self.add: Callable[[], None] = self._left.__next__

    @property
    def value(self) -> int:
        """How often `add` was called."""
        return _MANY - length_hint(self._left)


def _show(stats: object, always: str) -> str:
    """Returns the figures that are not zero, as they would be given to the class."""
    shown = []
    for name in (one.name for one in fields(stats)):  # type: ignore[arg-type]
        value = getattr(stats, name)
        if isinstance(value, Mapping):
            value = {key: item for key, item in value.items() if item}
        if value or name == always:
            shown.append(f"{name}={value!r}")
    return f"{type(stats).__name__}({', '.join(shown)})"


def _take_apart(stats: object) -> tuple[type, tuple[object, ...]]:
    """Returns what to make an equal one of: a view of a dict cannot be pickled."""
    values = (getattr(stats, one.name) for one in fields(stats))  # type: ignore[arg-type]
    return type(stats), tuple(dict(value) if isinstance(value, Mapping) else value for value in values)


@dataclass(frozen=True, slots=True, repr=False)
class ExporterStats:
    """What became of the records that were passed to one exporter.

    ``accepted = filtered + exported + sum(dropped.values()) + waiting + in_flight`` holds exactly; `filtered` are those
    that the exporter's own level, loggers or filter have turned away, which is no loss. Beside it stand `resent`,
    `outcome_unknown` and `truncated`: `BESIDE_COUNTS` says what they are.
    """

    accepted: int
    filtered: int
    exported: int
    dropped: Mapping[str, int]
    waiting: int
    in_flight: int
    resent: int
    outcome_unknown: int
    truncated: int

    def __repr__(self) -> str:
        return _show(self, "accepted")

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return _take_apart(self)


@dataclass(frozen=True, slots=True, repr=False)
class Stats:
    """One consistent moment of the counters; all numbers are records.

    ``created = sum(refused.values()) + queued + sum(removed.values()) + accepted`` holds exactly, and for every
    exporter the identity of `ExporterStats`. What follows `accepted` are sums over the exporters: with
    one exporter that one's own figures; a record that two of several have lost counts twice in `dropped`.
    """

    created: int
    refused: Mapping[str, int]
    queued: int
    removed: Mapping[str, int]
    accepted: int
    filtered: int
    exported: int
    dropped: Mapping[str, int]
    waiting: int
    in_flight: int
    resent: int
    outcome_unknown: int
    truncated: int
    exporters: Mapping[str, ExporterStats]
    max_queued: int
    queue_capacity: int
    worker_restarts: int
    missing_threads: tuple[str, ...] = ()
    """Threads of the pipeline that cannot be started now: what they deliver waits for `otelog.flush`."""

    @property
    def lost(self) -> int:
        """Records that were lost, whatever the reason: refused, removed because a callback raised, or dropped."""
        removed = sum(self.removed[reason] for reason in REMOVED_LOSSES)
        return sum(self.refused.values()) + removed + sum(self.dropped.values())

    def __repr__(self) -> str:
        return _show(self, "created")

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return _take_apart(self)


class ExporterCounts:
    """The counters of one exporter; written under `Ledger.moving` only."""

    __slots__ = (
        "accepted",
        "causes",
        "dropped",
        "dropped_by_severity",
        "exported",
        "failure",
        "filtered",
        "in_flight",
        "outcome_unknown",
        "resent",
        "truncated",
        "waiting",
    )

    def __init__(self) -> None:
        self.accepted = self.filtered = self.exported = self.waiting = self.in_flight = 0
        self.resent = self.outcome_unknown = self.truncated = 0
        self.dropped = dict.fromkeys(DROPPED_REASONS, 0)
        self.dropped_by_severity: dict[tuple[str, str], int] = {}
        self.failure = ""
        """What the last attempt has failed with, in words; empty after one that has delivered."""
        self.causes: dict[str, str] = {}
        """Why records were dropped last, in words, by the reason; where that is known."""


class Change:
    """What the counters of one exporter become.

    It is made in two steps, so that a lack of memory leaves the counters as they were: whatever needs memory is done
    when the change is made, and `commit` only stores.

    Args:
        counts: The counters as they are. They must not change before `commit`.
        accepted: Added to them, like all that follow.
        filtered: As said.
        exported: As said.
        waiting: As said.
        in_flight: As said.
        dropped: The reason and the severity range of each record that is lost.
    """

    __slots__ = (
        "_counts",
        "accepted",
        "dropped",
        "dropped_by_severity",
        "exported",
        "filtered",
        "in_flight",
        "waiting",
    )

    def __init__(
        self,
        counts: ExporterCounts,
        *,
        accepted: int = 0,
        filtered: int = 0,
        exported: int = 0,
        waiting: int = 0,
        in_flight: int = 0,
        dropped: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._counts = counts
        self.accepted = counts.accepted + accepted
        self.filtered = counts.filtered + filtered
        self.exported = counts.exported + exported
        self.waiting = counts.waiting + waiting
        self.in_flight = counts.in_flight + in_flight
        self.dropped, self.dropped_by_severity = counts.dropped, counts.dropped_by_severity
        if dropped:
            # Readers go through the old ones without a lock.
            self.dropped, self.dropped_by_severity = dict(self.dropped), dict(self.dropped_by_severity)
            for key in dropped:
                self.dropped[key[0]] += 1
                self.dropped_by_severity[key] = self.dropped_by_severity.get(key, 0) + 1

    def commit(self) -> None:
        """Make it so; inside a move. Needs no memory."""
        counts = self._counts
        counts.accepted = self.accepted
        counts.filtered = self.filtered
        counts.exported = self.exported
        counts.waiting = self.waiting
        counts.in_flight = self.in_flight
        counts.dropped = self.dropped
        counts.dropped_by_severity = self.dropped_by_severity


class Ledger:
    """The counters of one pipeline.

    A queue is known by its `count`: it returns the queue's own length and how many records it has evicted so far, as
    of one instant. There is one queue, but for the moment in which a pipeline replaces another.
    """

    def __init__(self) -> None:
        # Replaced as a whole, never changed in place: readers go through them without a lock.
        self._queues: tuple[Callable[[], tuple[int, int]], ...] = ()
        self._closed_queues: tuple[Callable[[], tuple[int, int]], ...] = ()
        self.queue_capacity = 0
        self.moving = RLock()
        """Held by whoever changes the counters below; never by a caller of a log function."""
        self.peak_watches: tuple[ref[PeakWatch], ...] = ()
        self._reset()

    def _reset(self) -> None:
        self._refused = {
            (reason, severity): AtomicCounter() for reason in REFUSED_REASONS for severity in SEVERITY_RANGES
        }
        self._evicted = {severity: AtomicCounter() for severity in SEVERITY_RANGES}
        ranges = {number: severity_range(number) for number in range(MOST_SEVERE + 1)}
        self.count_evicted = {number: self._evicted[severity].add for number, severity in ranges.items()}
        """Tells the severity number of a record that the queue has evicted (and has itself counted). Atomic."""
        self.refuse_full = {number: self._refused["queue_full", severity].add for number, severity in ranges.items()}
        """Counts one record as refused because the queue was full, by severity number. Atomic."""
        self.refuse_ordinary: dict[int, Callable[[], object]] = {}
        """The same below ERROR, and tells who wants to know of a refusal."""
        self.refuse_urgent: dict[int, Callable[[], object]] = {}
        """The same from ERROR up."""
        self._missing: dict[str, Callable[[], None] | None] = {}
        self._on_refusal: Callable[[], None] | None = None
        self._choose_refusal()
        self._version = self._next_version = 0
        self._depth = 0
        self._mover = 0
        self._pid = os.getpid()
        self.started = time.time()
        """When these counters were at zero, in seconds since 1970."""
        self.ended = 0.0
        """When the pipeline was shut down, in seconds since 1970; 0 while it runs."""
        self._taken = 0
        self._accepted = 0
        self._removed = dict.fromkeys(REMOVED_REASONS, 0)
        self._max_queued = 0
        # Lengths that readers have seen, and that evictions may have undone: none may be shown and then taken back.
        self._peaks: list[int] = []
        self.worker_restarts = 0
        self.exporters: dict[str, ExporterCounts] = {}
        self.created_by_sdk = AtomicCounter()
        """Records that came through the SDK's Logger, which may count them itself."""

    def open_queue(self, count: Callable[[], tuple[int, int]], capacity: int) -> None:
        """Add a queue's records to the counters."""
        self.begin_move()
        try:
            self._queues += (count,)
            self.queue_capacity = capacity
        finally:
            self.end_move()

    def close_queue(self, count: Callable[[], tuple[int, int]]) -> None:
        """Deliver no more from this queue; what it has evicted stays counted.

        A caller that was cut off with a slot in its hand may still put its record in: it counts as refused. Another
        pipeline goes on with these counters.
        """
        self.begin_move()
        try:
            self.ended = 0.0
            self._queues = tuple(one for one in self._queues if one != count)
            self._closed_queues += (count,)
        finally:
            self.end_move()

    def open_exporter(self, name: str) -> None:
        """Add an exporter's counters, unless they are there."""
        self.begin_move()
        try:
            self.exporters = {**self.exporters, name: self.exporters.get(name) or ExporterCounts()}
        finally:
            self.end_move()

    def restart_after_fork(self) -> None:
        """Begin at zero in a forked child, once: what it inherited is the parent's to deliver."""
        if self._pid == os.getpid():
            # Two pipelines, of which one replaces the other, share these counters.
            return
        names = list(self.exporters)
        self.moving = RLock()
        self._reset()
        self._closed_queues = ()
        self.exporters = {name: ExporterCounts() for name in names}
        for watch in self._living_watches():
            watch.forget()

    # Threads that cannot be started. Each is set by one thread at a time.

    def miss_thread(self, name: str, on_refusal: Callable[[], None] | None = None) -> None:
        """Tell of a thread that there is none.

        Args:
            name: The thread's.
            on_refusal: Called at each refusal from now on, until the thread is found.
        """
        self._missing = {**self._missing, name: on_refusal}
        self._choose_refusal()

    def find_thread(self, name: str) -> None:
        """Tell of a thread that it runs."""
        if name in self._missing:
            self._missing = {one: told for one, told in self._missing.items() if one != name}
            self._choose_refusal()

    def _choose_refusal(self) -> None:
        self._on_refusal = next((told for told in self._missing.values() if told is not None), None)
        counts: dict[int, Callable[[], object]] = {
            number: count if self._on_refusal is None else partial(self.refuse, "queue_full", severity_range(number))
            for number, count in self.refuse_full.items()
        }
        self.refuse_ordinary = {number: count for number, count in counts.items() if number < LEAST_URGENT}
        self.refuse_urgent = {number: count for number, count in counts.items() if number >= LEAST_URGENT}

    # Callers.

    def refuse(self, reason: str, severity_range: str) -> None:
        """Count one refused record. Atomic and free of locks."""
        self._refused[reason, severity_range].add()
        if self._on_refusal is not None:
            self._on_refusal()

    # Those who move records, under `moving`.

    def begin_move(self) -> None:
        """Make readers wait: what follows, up to `end_move`, is one step to them. Holds `moving`; may be nested."""
        self.moving.acquire()
        try:
            if not self._depth:
                # All that needs memory comes first.
                mover, version = get_ident(), self._version + 1
                self._next_version = version + 1
                self._mover, self._version = mover, version
            self._depth += 1
        except BaseException:
            self.moving.release()
            raise

    def end_move(self) -> None:
        """Let readers go on. Needs no memory."""
        self._depth -= 1
        if not self._depth:
            self._version = self._next_version
            self._mover = 0
        self.moving.release()

    def is_moving(self) -> bool:
        """Returns whether this thread is inside a move: a signal handler or a finalizer may be on top of one."""
        return self._mover == get_ident()

    def forget_move(self) -> None:
        """Undo what an asynchronous exception has left of a move of this thread, after the thread has left it."""
        self.moving.acquire()
        self._depth = 0
        self._mover = 0
        self._version += self._version & 1
        while is_owned(self.moving):
            self.moving.release()

    def take(
        self, count: int, queued_before: int, *, accepted: int = 0, drop: Callable[[int], object] | None = None
    ) -> None:
        """Count records that leave the queue; inside a move. If it raises, nothing has changed.

        Args:
            count: How many.
            queued_before: The queue's length.
            accepted: How many of them are passed to the exporters, whose own counters are changed by `Change`.
            drop: Called with `count`: has them leave the queue, or raises and has changed nothing.
        """
        for reference in self.peak_watches:
            # It was so long, whatever comes of this.
            watch = reference()
            if watch is not None:
                watch.note(queued_before)
        seen = len(self._peaks)
        self._max_queued = max(self._max_queued, queued_before, *self._peaks[:seen])
        # A reader may have added one meanwhile.
        del self._peaks[:seen]
        taken, accepted = self._taken + count, self._accepted + accepted
        if drop is not None:
            drop(count)
        self._taken = taken
        self._accepted = accepted

    def accept(self, count: int) -> None:
        """Count taken records that are passed to the exporters; inside a move, with `enter` for each of them."""
        self._accepted += count

    def enter(self, name: str, count: int) -> None:
        """Count records that are passed to this exporter, and are in flight; inside a move."""
        Change(self.exporters[name], accepted=count, in_flight=count).commit()

    def begin(self, name: str, count: int) -> None:
        """Count waiting records as in flight; inside a move."""
        Change(self.exporters[name], waiting=-count, in_flight=count).commit()

    def remove(self, reason: str, count: int) -> None:
        """Count taken records that go to no exporter; inside a move."""
        self._removed[reason] += count

    def settle(
        self,
        name: str,
        exported: int,
        dropped: Sequence[tuple[str, str]],
        *,
        filtered: int = 0,
        waiting: bool = False,
        mark: Callable[[], object] | None = None,
    ) -> None:
        """Count records in flight (or waiting) that came to their end. If it raises, nothing has changed.

        Args:
            name: The exporter.
            exported: How many were delivered.
            dropped: The reason and the severity range of each that was lost.
            filtered: How many the exporter did not want.
            waiting: They have never been in flight.
            mark: Called in the same step: notes which records these were, or raises and has changed nothing.
        """
        self.begin_move()
        try:
            settled = exported + filtered + len(dropped)
            left, begun = (settled, 0) if waiting else (0, settled)
            change = Change(
                self.exporters[name],
                filtered=filtered,
                exported=exported,
                waiting=-left,
                in_flight=-begun,
                dropped=dropped,
            )
            if mark is not None:
                mark()
            change.commit()
            if exported:
                self.exporters[name].failure = ""
        finally:
            self.end_move()

    # Readers.

    def watch_peak(self, watch: PeakWatch) -> None:
        """Tell this watch of the queue's length from now on, for as long as somebody else holds it."""
        with self.moving:
            self.peak_watches = tuple(ref(one) for one in [*self._living_watches(), watch])

    def read_peak(self, watch: PeakWatch) -> int:
        """Returns what a watch has to tell now. Unlike `read` it waits for whoever moves records."""
        with self.moving:
            return watch.read(sum(count()[0] for count in self._queues))

    def _living_watches(self) -> list[PeakWatch]:
        return [watch for watch in (reference() for reference in self.peak_watches) if watch is not None]

    def refused_by_severity(self) -> dict[tuple[str, str], int]:
        """Returns the refused records by reason and severity range."""
        counts = {key: counter.value for key, counter in self._refused.items()}
        for severity, counter in self._evicted.items():
            counts["queue_full", severity] += counter.value
        return counts

    def read(self) -> Stats:
        """Take a consistent snapshot. Never blocks a log call; thread-safe, also from a signal handler."""
        for attempt in range(_READ_ATTEMPTS):
            version = self._version
            if not version & 1:
                stats = self._read_once()
                if version == self._version:
                    return self._with_peak(stats)
            elif self.is_moving():
                # A signal handler or a __del__ above this thread's own move: it cannot wait for itself.
                break
            sleep(0 if attempt < 100 else 0.0001)
        return self._read_once()

    def _with_peak(self, stats: Stats) -> Stats:
        # Only a queue that has been full evicts, so there are few: they lie between its usable and its whole size.
        if stats.refused["queue_full"] and stats.max_queued > max(self._max_queued, *self._peaks, 0):
            self._peaks.append(stats.max_queued)
        return stats

    def _read_once(self) -> Stats:
        queued = evicted = late = 0
        for count in self._closed_queues:
            length, lost = count()
            late += length
            evicted += lost
        for count in self._queues:
            length, lost = count()
            queued += length
            evicted += lost
        refused = dict.fromkeys(REFUSED_REASONS, 0)
        refused["queue_full"] = evicted
        refused["already_shutdown"] = late
        for (reason, _), counter in self._refused.items():
            refused[reason] += counter.value
        exporters = {
            name: ExporterStats(
                accepted=counts.accepted,
                filtered=counts.filtered,
                exported=counts.exported,
                dropped=MappingProxyType(dict(counts.dropped)),
                waiting=counts.waiting,
                in_flight=counts.in_flight,
                resent=counts.resent,
                outcome_unknown=counts.outcome_unknown,
                truncated=counts.truncated,
            )
            for name, counts in self.exporters.items()
        }
        sums = exporters.values()
        return Stats(
            created=sum(refused.values()) + queued + self._taken,
            refused=MappingProxyType(refused),
            queued=queued,
            removed=MappingProxyType(dict(self._removed)),
            accepted=self._accepted,
            filtered=sum(one.filtered for one in sums),
            exported=sum(one.exported for one in sums),
            dropped=MappingProxyType({reason: sum(one.dropped[reason] for one in sums) for reason in DROPPED_REASONS}),
            waiting=sum(one.waiting for one in sums),
            in_flight=sum(one.in_flight for one in sums),
            resent=sum(one.resent for one in sums),
            outcome_unknown=sum(one.outcome_unknown for one in sums),
            truncated=sum(one.truncated for one in sums),
            exporters=MappingProxyType(exporters),
            max_queued=max(queued, *self._peaks, self._max_queued),
            queue_capacity=self.queue_capacity,
            worker_restarts=self.worker_restarts,
            missing_threads=tuple(self._missing),
        )
