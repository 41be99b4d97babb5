"""A record that another library's exporter fails for is lost alone, where that is asked for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult

import otelog
from otelog import BatchLogRecordProcessor
from otelog._setup import configure
from tests.pipelines import check_identity, make_logger, running


class Store(LogRecordExporter):
    """Writes a batch in one transaction, as a database does; NUL in a text fails it, by its answer or an exception."""

    def __init__(self, *, raises: bool = False, fails: int = 0) -> None:
        self.raises = raises
        self.fails = fails
        self.calls = 0
        self.kept: list[str] = []

    def export(self, batch: Sequence[Any]) -> LogRecordExportResult:
        self.calls += 1
        bodies = [record.log_record.body for record in batch]
        if self.calls <= self.fails or any("\0" in body for body in bodies):
            if self.raises:
                raise ValueError("invalid byte sequence: 0x00")
            return LogRecordExportResult.FAILURE
        self.kept += bodies
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def deliver(store: Store, count: int, bad: set[int], *, bisect: bool = True) -> otelog.Stats:
    # In a queue of that size they are one batch: it is not nearly full, for which the worker would begin earlier.
    processor = BatchLogRecordProcessor(store, 60_000, count, max_queue_size=4 * count, bisect_failed_exports=bisect)
    with running(processor):
        log = make_logger(processor)
        for number in range(count):
            log.info(f"bad\0{number}" if number in bad else f"good {number}")
        delivered = processor.force_flush(20_000)
        stats = processor.stats()
    check_identity(stats)
    assert delivered == (not stats.lost)
    return stats


def good(count: int, bad: set[int]) -> list[str]:
    return [f"good {number}" for number in range(count) if number not in bad]


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 10, 100, 512])
def test_a_lone_bad_record_is_lost_alone_within_the_bound(count: int, raises: bool) -> None:
    for bad in {0, count // 2, count - 1}:
        store = Store(raises=raises)
        stats = deliver(store, count, {bad})
        assert sorted(store.kept) == sorted(good(count, {bad}))
        assert (stats.exported, stats.dropped["export_failed"]) == (count - 1, 1)
        assert store.calls <= 2 * math.log2(count) + 2


def test_without_the_option_the_batch_is_lost_as_it_was() -> None:
    store = Store()
    stats = deliver(store, 10, {3}, bisect=False)
    assert (store.calls, stats.exported, stats.dropped["export_failed"], stats.resent) == (1, 0, 10, 0)


def test_however_many_are_bad_the_bound_holds_and_the_books_are_exact() -> None:
    for step in (1, 2, 7, 50):
        bad = set(range(0, 200, step))
        store = Store()
        stats = deliver(store, 200, bad)
        assert store.calls <= 2 * math.log2(200) + 2
        assert stats.exported == len(store.kept)
        assert max(Counter(store.kept).values(), default=1) == 1
        assert stats.dropped["export_failed"] == 200 - len(store.kept)
        assert stats.resent > 0


@pytest.mark.parametrize("fails", [1, 2])
def test_a_failure_that_passes_costs_nothing(fails: int) -> None:
    store = Store(fails=fails)
    stats = deliver(store, 100, set())
    assert (stats.exported, stats.lost) == (100, 0)
    assert sorted(store.kept) == sorted(good(100, set()))


def test_configure_has_the_option_and_several_exporters_each_their_own_search() -> None:
    try:
        one, other = Store(), Store(raises=True)
        otelog.configure(exporters=[one, {"exporter": other, "name": "other"}], bisect_failed_exports=True)
        for number in range(20):
            otelog.get_logger("shop").info("bad\0" if number == 7 else f"good {number}")
        assert not otelog.flush(20.0)
        stats = otelog.stats()
        assert {name: (e.exported, e.dropped["export_failed"]) for name, e in stats.exporters.items()} == {
            "Store": (19, 1),
            "other": (19, 1),
        }
        assert sorted(one.kept) == sorted(other.kept) == sorted(good(20, {7}))
    finally:
        configure.reset()
