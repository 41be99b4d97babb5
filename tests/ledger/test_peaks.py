"""The queue's largest length, for each of its readers."""

from __future__ import annotations

import pytest
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics._internal import measurement_consumer
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otelog import BatchLogRecordProcessor
from otelog._ledger.counters import Ledger
from otelog._ledger.peaks import RECENT_SECONDS, PeakSinceReading, RecentPeak
from tests.pipelines import ExporterForTests, hold_export, make_logger, running

PEAK = "otelog.log.queue.peak"
SIZE = "otel.sdk.processor.log.queue.size"


class Clock:
    """Stands still until it is set."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def collect(reader: InMemoryMetricReader, name: str = PEAK) -> int:
    """What one collection by this reader says."""
    data = reader.get_metrics_data()
    assert data is not None
    values = [
        point.value
        for part in data.resource_metrics
        for scope in part.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        if metric.name == name
    ]
    assert len(values) == 1
    return int(values[0])


def fill_and_empty(processor: BatchLogRecordProcessor, count: int) -> None:
    log = make_logger(processor)
    for number in range(count):
        log.info("record", number=number)
    assert processor.force_flush()


def never(reader: InMemoryMetricReader, exporter: InMemoryLogRecordExporter | None = None) -> BatchLogRecordProcessor:
    """Returns a processor whose worker takes nothing by itself."""
    provider = MeterProvider([reader], shutdown_on_exit=False)
    return BatchLogRecordProcessor(
        exporter or InMemoryLogRecordExporter(), schedule_delay_millis=600_000, meter_provider=provider
    )


def test_a_queue_that_fills_and_empties_between_two_collections_shows_its_peak_once() -> None:
    reader = InMemoryMetricReader()
    with running(never(reader)) as processor:
        fill_and_empty(processor, 300)
        assert collect(reader, SIZE) == 0
        fill_and_empty(processor, 200)
        assert collect(reader) == 200
        assert collect(reader) == 0
        assert processor.stats().max_queued == 300


def test_the_first_collection_tells_of_all_that_was_before() -> None:
    reader = InMemoryMetricReader()
    with running(never(reader)) as processor:
        fill_and_empty(processor, 300)
        fill_and_empty(processor, 200)
        assert collect(reader) == 300


def test_what_is_queued_counts_though_nobody_has_taken_it() -> None:
    reader = InMemoryMetricReader()
    with running(never(reader)) as processor:
        log = make_logger(processor)
        for _ in range(20):
            log.info("waits")
        assert [collect(reader), collect(reader)] == [20, 20]
        assert processor.force_flush()
        # It was so long at the moment of the last collection.
        assert [collect(reader), collect(reader)] == [20, 0]


def test_each_of_two_readers_is_told_what_was_since_its_own_last_collection() -> None:
    often, seldom = InMemoryMetricReader(), InMemoryMetricReader()
    provider = MeterProvider([often, seldom], shutdown_on_exit=False)
    exporter = InMemoryLogRecordExporter()
    processor = BatchLogRecordProcessor(exporter, schedule_delay_millis=600_000, meter_provider=provider)
    with running(processor):
        assert (collect(often), collect(seldom)) == (0, 0)
        fill_and_empty(processor, 100)
        assert collect(often) == 100
        fill_and_empty(processor, 30)
        assert collect(often) == 30
        assert collect(often) == 0
        assert (collect(seldom), collect(seldom)) == (100, 0)


def test_a_queue_that_overflows_shows_its_whole_capacity() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    exporter = ExporterForTests()
    with running(
        hold_export(exporter, max_queue_size=10, max_export_batch_size=5, meter_provider=provider)
    ) as processor:
        collect(reader)
        log = make_logger(processor)
        for _ in range(30):
            log.info("too many")
        exporter.gate.set()
        processor.force_flush()
        stats = processor.stats()
        assert stats.refused["queue_full"] == 20
        assert collect(reader) == stats.queue_capacity == 10


@pytest.mark.parametrize("found", [True, False], ids=["as this release", "as one with other names"])
def test_a_reader_that_cannot_be_told_from_others_is_told_of_the_last_sixty_seconds(
    found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another release may call its own variables otherwise: the fallback, as a provider of somebody else's sees it."""
    reader = InMemoryMetricReader()
    if not found:
        monkeypatch.setitem(vars(measurement_consumer), "__name__", "somebody.else")
    with running(never(reader)) as processor:
        assert collect(reader) == 0
        fill_and_empty(processor, 100)
        assert [collect(reader), collect(reader)] == ([100, 0] if found else [100, 100])


def test_a_reader_that_is_gone_costs_nothing_more() -> None:
    ledger = Ledger()
    kept = PeakSinceReading(0)
    ledger.watch_peak(kept)
    for _ in range(100):
        ledger.watch_peak(PeakSinceReading(0))
    ledger.watch_peak(kept)
    assert len(ledger.peak_watches) <= 3


def test_a_peak_is_recent_for_sixty_seconds() -> None:
    clock = Clock(1000.5)
    watch = RecentPeak(clock)
    watch.note(7)
    clock.now = 1001.0
    watch.note(5)
    watch.note(2)
    assert watch.read(0) == 7
    clock.now = 1000.5 + RECENT_SECONDS
    assert [watch.read(0), watch.read(0)] == [7, 7]
    clock.now += 1
    assert watch.read(0) == 5
    clock.now += 1
    assert watch.read(1) == 1


def test_a_peak_of_long_ago_in_the_same_place_of_the_ring_is_forgotten() -> None:
    clock = Clock(10.0)
    watch = RecentPeak(clock)
    watch.note(7)
    clock.now += 10 * (RECENT_SECONDS + 1)
    watch.note(3)
    assert watch.read(0) == 3
