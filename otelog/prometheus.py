"""The third outlet of the ledger: `prometheus_client` metrics for an application's own ``/metrics``::

    otelog.configure(service_name="checkout")
    otelog.prometheus.publish()

Needs the extra ``prometheus``, and no Collector.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.registry import Collector

from otelog._ledger.counters import BESIDE_COUNTS, DROPPED_REASONS, REFUSED_REASONS, REMOVED_REASONS, Ledger, Stats
from otelog._ledger.peaks import RecentPeak
from otelog._runtime.fork_gate import ForkGate
from otelog._setup.configure import add_observer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import CollectorRegistry, Metric

__all__ = ["publish"]

_Key = tuple[str, tuple[str, ...]]

_LABELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "created": ("Log records created.", ()),
    "refused": ("Log records lost before the queue or in it.", ("reason",)),
    "removed": ("Log records taken out before the exporter.", ("reason",)),
    "exported": ("Log records delivered.", ("exporter",)),
    "filtered": ("Log records that an exporter was not to have.", ("exporter",)),
    "dropped": ("Log records lost in export.", ("exporter", "reason")),
    **{name: (description, ("exporter",)) for name, description in BESIDE_COUNTS.items()},
    "lost": ("Log records lost, whatever the reason.", ()),
}


FORK_PATIENCE = 1.0
"""Seconds that a fork waits at most for what is being published: a child must not inherit the library's locks taken."""

_gate = ForkGate(FORK_PATIENCE)


class _Publisher(Collector):
    """Adds what has changed since the last time to the library's own counters: its multi-process mode knows only these.

    It is registered in front of them, without metrics of its own: so a scrape brings them up to date before it reads
    them. In multi-process mode another process may be scraped; the numbers are then those of the last batch.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        registry.register(self)
        self._counters = {
            name: Counter(f"otelog_log_records_{name}", description, labels, registry=registry)
            for name, (description, labels) in _LABELS.items()
        }
        self._queue_size, self._queue_capacity = (
            Gauge(f"otelog_log_records_queue_{name}", description, registry=registry, multiprocess_mode="livesum")
            for name, description in (("size", "Log records queued."), ("capacity", "Log records the queue can hold."))
        )
        # Several processes have a queue each, and one that is full does not help another: the fullest is told of.
        self._queue_peak, self._queue_peak_ratio = (
            Gauge(f"otelog_log_records_queue_{name}", description, registry=registry, multiprocess_mode="livemax")
            for name, description in (
                ("peak", "Most log records queued in the last 60 s, in the fullest of several processes."),
                ("peak_ratio", "The same, as a share of what the queue can hold."),
            )
        )
        self._waiting = Gauge(
            "otelog_log_records_waiting",
            "Log records that wait for one of several exporters.",
            ["exporter"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._published: WeakKeyDictionary[Ledger, dict[_Key, int]] = WeakKeyDictionary()
        self._peaks: WeakKeyDictionary[Ledger, RecentPeak] = WeakKeyDictionary()

    def __call__(self, ledger: Ledger, last: bool) -> None:
        with _gate.lock:
            self._publish(ledger)

    def describe(self) -> Iterable[Metric]:
        """Returns nothing, so that registering does not collect."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Bring the counters up to date; returns nothing."""
        with _gate.lock:
            for ledger in list(self._published):
                self._publish(ledger)
        return ()

    def restart_after_fork(self) -> None:
        """Begin anew, as the child's ledger does."""
        self._published = WeakKeyDictionary()
        self._peaks = WeakKeyDictionary()

    def _publish(self, ledger: Ledger) -> None:
        stats = ledger.read()
        before = self._published.setdefault(ledger, {})
        for key, count in _list_counts(stats):
            added = count - before.get(key, 0)
            # Zero at first too: a series that is born with its first loss shows no increase.
            if added > 0 or key not in before:
                name, labels = key
                counter = self._counters[name]
                (counter.labels(*labels) if labels else counter).inc(max(0, added))
                before[key] = count
        self._queue_size.set(stats.queued)
        self._queue_capacity.set(stats.queue_capacity)
        peak = self._read_peak(ledger)
        self._queue_peak.set(peak)
        self._queue_peak_ratio.set(peak / stats.queue_capacity if stats.queue_capacity else 0.0)
        for name, exporter in stats.exporters.items():
            self._waiting.labels(name).set(exporter.waiting)

    def _read_peak(self, ledger: Ledger) -> int:
        watch = self._peaks.get(ledger)
        if watch is None:
            watch = self._peaks[ledger] = RecentPeak()
            ledger.watch_peak(watch)
        return ledger.read_peak(watch)


def _list_counts(stats: Stats) -> Iterator[tuple[_Key, int]]:
    yield ("created", ()), stats.created
    yield ("lost", ()), stats.lost
    for reason in REFUSED_REASONS:
        yield ("refused", (reason,)), stats.refused[reason]
    for reason in REMOVED_REASONS:
        yield ("removed", (reason,)), stats.removed[reason]
    for name, exporter in stats.exporters.items():
        yield ("exported", (name,)), exporter.exported
        yield ("filtered", (name,)), exporter.filtered
        for beside in BESIDE_COUNTS:
            yield (beside, (name,)), getattr(exporter, beside)
        for reason in DROPPED_REASONS:
            yield ("dropped", (name, reason)), exporter.dropped[reason]


_publishing = threading.Lock()
_published_in: WeakKeyDictionary[CollectorRegistry, _Publisher] = WeakKeyDictionary()


def _restart_after_fork() -> None:
    for publisher in list(_published_in.values()):
        publisher.restart_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart_after_fork)


def publish(registry: CollectorRegistry = REGISTRY) -> None:
    """Publish the counters of the configured pipeline as ``otelog_log_records_*``.

    The counters follow batch by batch, and are exact when `otelog.flush` or `otelog.shutdown` returns; in one process
    also at each scrape. In multi-process mode (``PROMETHEUS_MULTIPROC_DIR``) every process adds its own; call
    ``prometheus_client.multiprocess.mark_process_dead`` when one ends, as for any gauge. To be called before or after
    `otelog.configure`, once in each process that is not forked from one that has called it; again does nothing.

    Args:
        registry: Where; the library's own by default.

    Raises:
        ValueError: Metrics of these names are registered there already.

    Thread safety: may be called by any thread.
    """
    with _publishing:
        if registry not in _published_in:
            publisher = _published_in[registry] = _Publisher(registry)
            add_observer(publisher)
