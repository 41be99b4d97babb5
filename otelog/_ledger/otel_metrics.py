"""The second outlet of the ledger: OpenTelemetry metrics, with the semantic conventions' names and rules.

All but the duration are observed: the numbers are read from the ledger when somebody collects, so they are exact and
cost nothing to those who log.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter_provider

from otelog._ledger.counters import BESIDE_COUNTS, DROPPED_REASONS, ExporterStats, Ledger, Stats
from otelog._ledger.peaks import PeakSinceReading, RecentPeak
from otelog._private.opentelemetry import current_metric_reader, sdk_counts_created
from otelog._runtime.diagnostics import warn
from otelog._runtime.version import __version__

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, Meter


SCOPE = "otelog"
"""The meter's name."""

RECORDS = "{log_record}"

PROCESSOR_TYPE = "batching_log_processor"

DURATION_BOUNDARIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds; the SDK's own default buckets are made for milliseconds."""

_PROCESSED_ERRORS = ("queue_full", "already_shutdown")
"""The refusals that the conventions know; `otelog.log.refused` has all of them."""

OnExchange = Callable[[float, int | str | None, str | None], None]
"""Called after each export operation: its seconds with all attempts, the last status, why records were lost.

A number is HTTP's status, a word gRPC's."""

_Attributes = dict[str, str | int]
_Point = tuple[int | float, _Attributes]


class _Books:
    """One ledger as the metrics show it: the attributes of its processor and of its exporters."""

    def __init__(self) -> None:
        self.processor = _make_component(PROCESSOR_TYPE)
        self.exporters: dict[str, _Attributes] = {}
        self._created = (0, 0)
        self._peaks: WeakKeyDictionary[object, PeakSinceReading] = WeakKeyDictionary()
        self._recent_peak: RecentPeak | None = None

    def read_peak(self, ledger: Ledger, before: int) -> int:
        """Returns the queue's largest length since the reader who asks was told last.

        Args:
            ledger: Whose queue.
            before: The largest until now, for a reader who asks for the first time.
        """
        reader = current_metric_reader()
        watch: PeakSinceReading | RecentPeak | None
        watch = self._recent_peak if reader is None else self._peaks.get(reader)
        if watch is None:
            if reader is None:
                watch = self._recent_peak = RecentPeak()
                watch.note(before)
            else:
                watch = self._peaks[reader] = PeakSinceReading(before)
            ledger.watch_peak(watch)
        return ledger.read_peak(watch)

    def raise_created(self, count: int) -> int:
        # The SDK's records are counted apart and a moment earlier: the difference may dip while it is read.
        pid, before = self._created
        if pid == os.getpid():
            count = max(count, before)
        self._created = (os.getpid(), count)
        return count


_numbers: Counter[str] = Counter()


def _make_component(component_type: str) -> _Attributes:
    number = _numbers[component_type]
    _numbers[component_type] += 1
    return {"otel.component.type": component_type, "otel.component.name": f"{component_type}/{number}"}


class _Instruments:
    """The instruments on one provider. They know ledgers by weak references only."""

    def __init__(self, provider: MeterProvider) -> None:
        self.books: WeakKeyDictionary[Ledger, _Books] = WeakKeyDictionary()
        self._sdk_counts = sdk_counts_created()
        meter = provider.get_meter(SCOPE, __version__)
        counter, level = meter.create_observable_counter, meter.create_observable_up_down_counter
        gauge = meter.create_observable_gauge
        for create, name, points, description in (
            (counter, "otel.sdk.log.created", self._created, "Records created."),
            (level, "otel.sdk.processor.log.queue.size", self._queue_size, "Records queued."),
            (level, "otel.sdk.processor.log.queue.capacity", self._queue_capacity, "Records that the queue can hold."),
            # Behind the size, so that it is never the smaller one.
            (gauge, "otelog.log.queue.peak", self._queue_peak, "Most records queued since the last collection."),
            (counter, "otel.sdk.processor.log.processed", self._processed, "Records passed to exporters, or refused."),
            (level, "otel.sdk.exporter.log.inflight", self._inflight, "Records that the exporter is busy with."),
            (counter, "otel.sdk.exporter.log.exported", self._exported, "Records delivered, or lost in export."),
            (counter, "otelog.log.refused", self._refused, "Records lost before the queue or in it."),
            (counter, "otelog.log.removed", self._removed, "Records taken out before the exporter."),
            (counter, "otelog.log.dropped", self._dropped, "Records lost in export."),
            (level, "otelog.log.waiting", self._waiting, "Records that wait for one of several exporters."),
            (counter, "otelog.log.filtered", self._filtered, "Records that an exporter was not to have."),
            *(
                (counter, f"otelog.log.{name}", _points_beside(name), description)
                for name, description in BESIDE_COUNTS.items()
            ),
        ):
            create(name, callbacks=[self._observe_with(points)], unit=RECORDS, description=description)
        # Whether an instance is older than the Collector's own counts is seen by this alone.
        meter.create_observable_gauge(
            "otelog.log.start.time",
            callbacks=[self._observe_with(self._start_time)],
            unit="s",
            description="When the counters were at zero, in seconds since 1970.",
        )
        # One that has died never says so: "ended on purpose" is told from "silent" by this alone.
        meter.create_observable_gauge(
            "otelog.log.end.time",
            callbacks=[self._observe_with(self._end_time)],
            unit="s",
            description="When the pipeline was shut down, in seconds since 1970; 0 while it runs.",
        )
        self._duration = _create_duration(meter)

    def _observe_with(
        self, points: Callable[[Ledger, _Books, Stats], Iterable[_Point]]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            for ledger, books in list(self.books.items()):
                for value, attributes in points(ledger, books, ledger.read()):
                    yield Observation(value, attributes)

        return observe

    def _created(self, ledger: Ledger, books: _Books, stats: Stats) -> Iterator[_Point]:
        by_sdk = ledger.created_by_sdk.value if self._sdk_counts else 0
        yield books.raise_created(stats.created - by_sdk), books.processor

    @staticmethod
    def _start_time(ledger: Ledger, books: _Books, _: Stats) -> Iterator[_Point]:
        yield ledger.started, books.processor

    @staticmethod
    def _end_time(ledger: Ledger, books: _Books, _: Stats) -> Iterator[_Point]:
        yield ledger.ended, books.processor

    @staticmethod
    def _queue_size(_: Ledger, books: _Books, stats: Stats) -> Iterator[_Point]:
        yield stats.queued, books.processor

    @staticmethod
    def _queue_peak(ledger: Ledger, books: _Books, stats: Stats) -> Iterator[_Point]:
        yield books.read_peak(ledger, stats.max_queued), books.processor

    @staticmethod
    def _queue_capacity(_: Ledger, books: _Books, stats: Stats) -> Iterator[_Point]:
        yield stats.queue_capacity, books.processor

    @staticmethod
    def _processed(_: Ledger, books: _Books, stats: Stats) -> Iterator[_Point]:
        yield stats.accepted, books.processor
        for reason in _PROCESSED_ERRORS:
            yield stats.refused[reason], {**books.processor, "error.type": reason}

    @staticmethod
    def _inflight(_: Ledger, books: _Books, stats: Stats) -> Iterator[_Point]:
        for _name, attributes, exporter in _exporters(books, stats):
            yield exporter.in_flight, attributes

    @staticmethod
    def _exported(_: Ledger, books: _Books, stats: Stats) -> Iterator[_Point]:
        for _name, attributes, exporter in _exporters(books, stats):
            yield exporter.exported, attributes
            # Zeros too: a series that is born with its first loss shows no increase.
            for reason in DROPPED_REASONS:
                yield exporter.dropped[reason], {**attributes, "error.type": reason}

    @staticmethod
    def _refused(ledger: Ledger, books: _Books, _: Stats) -> Iterator[_Point]:
        yield from _by_severity(ledger.refused_by_severity(), books.processor)

    @staticmethod
    def _removed(_: Ledger, books: _Books, stats: Stats) -> Iterator[_Point]:
        for reason, count in stats.removed.items():
            yield count, {**books.processor, "reason": reason}

    @staticmethod
    def _dropped(ledger: Ledger, books: _Books, stats: Stats) -> Iterator[_Point]:
        for name, attributes, _exporter in _exporters(books, stats):
            counts = dict(ledger.exporters[name].dropped_by_severity)
            yield from _by_severity(counts, {**attributes, "otelog.exporter": name})

    @staticmethod
    def _waiting(_: Ledger, books: _Books, stats: Stats) -> Iterator[_Point]:
        for name, attributes, exporter in _exporters(books, stats):
            yield exporter.waiting, {**attributes, "otelog.exporter": name}

    @staticmethod
    def _filtered(_: Ledger, books: _Books, stats: Stats) -> Iterator[_Point]:
        for name, attributes, exporter in _exporters(books, stats):
            yield exporter.filtered, {**attributes, "otelog.exporter": name}

    def time_exchanges(self, attributes: _Attributes) -> OnExchange:
        duration = self._duration

        def record(seconds: float, status: int | str | None, error: str | None) -> None:
            labels = dict(attributes)
            if status is not None:
                labels[f"{'rpc' if isinstance(status, str) else 'http'}.response.status_code"] = status
            if error is not None:
                labels["error.type"] = error
            try:
                duration.record(seconds, labels)
            except Exception as failure:
                # A foreign meter provider must not cost the batch.
                warn("metrics.record", f"{type(failure).__name__} while recording a duration: {failure}")

        return record


def _exporters(books: _Books, stats: Stats) -> Iterator[tuple[str, _Attributes, ExporterStats]]:
    for name, attributes in list(books.exporters.items()):
        exporter = stats.exporters.get(name)
        if exporter is not None:
            yield name, attributes, exporter


def _points_beside(count_name: str) -> Callable[[Ledger, _Books, Stats], Iterable[_Point]]:
    def points(_: Ledger, books: _Books, stats: Stats) -> Iterator[_Point]:
        for name, attributes, exporter in _exporters(books, stats):
            yield getattr(exporter, count_name), {**attributes, "otelog.exporter": name}

    return points


def _by_severity(counts: Mapping[tuple[str, str], int], attributes: _Attributes) -> Iterator[_Point]:
    for (reason, severity), count in counts.items():
        if count:
            yield count, {**attributes, "reason": reason, "otelog.severity": severity}


def _create_duration(meter: Meter) -> Histogram:
    return meter.create_histogram(
        "otel.sdk.exporter.operation.duration",
        unit="s",
        description="Seconds of an export operation, with all attempts.",
        explicit_bucket_boundaries_advisory=DURATION_BOUNDARIES,
    )


_registering = threading.Lock()
_on_global: _Instruments | None = None
_on_others: WeakKeyDictionary[MeterProvider, _Instruments] = WeakKeyDictionary()


def _find_instruments(provider: MeterProvider | None) -> _Instruments:
    # A meter keeps the callbacks of the first instrument of a name: so there is one set for a provider.
    global _on_global  # noqa: PLW0603
    current = get_meter_provider()
    if provider is None or provider is current:
        if _on_global is None:
            _on_global = _Instruments(current)
        return _on_global
    found = _on_others.get(provider)
    if found is None:
        found = _on_others[provider] = _Instruments(provider)
    return found


def publish(
    ledger: Ledger,
    exporter_name: str,
    *,
    component_type: str,
    endpoint: str | None,
    meter_provider: MeterProvider | None,
) -> OnExchange:
    """Show a ledger's counters as metrics, for as long as somebody else holds the ledger.

    Args:
        ledger: The counters; if they are shown already, only the exporter is new.
        exporter_name: The exporter's name in the ledger.
        component_type: The exporter's type as the conventions call it, or its class's qualified name.
        endpoint: The URL that it sends to, where that is known.
        meter_provider: Where to; None for the global one, also if that is set later.

    Returns:
        What to call after each of this exporter's operations. It never raises.

    Thread safety: may be called by any thread. Source: semantic conventions, "OpenTelemetry SDK metrics".
    """
    server = {} if endpoint is None else _find_server(endpoint)
    with _registering:
        instruments = _find_instruments(meter_provider)
        books = instruments.books.get(ledger)
        if books is None:
            books = instruments.books[ledger] = _Books()
        known = books.exporters.get(exporter_name, {})
        if known.get("otel.component.type") == component_type:
            component = {key: value for key, value in known.items() if key.startswith("otel.component.")}
        else:
            component = _make_component(component_type)
        attributes = books.exporters[exporter_name] = {**component, **server}
    return instruments.time_exchanges(attributes)


def _find_server(endpoint: str) -> _Attributes:
    parts = urlsplit(endpoint)
    server: _Attributes = {"server.address": parts.hostname or ""}
    server["server.port"] = parts.port or (443 if parts.scheme == "https" else 80)
    return server
