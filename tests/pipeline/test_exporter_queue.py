"""Several exporters beside each other: none delays another, and the books of each are exact."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource

from otelog import BatchLogRecordProcessor, Stats
from otelog._capture.port import ActivePipeline
from otelog._config.resolve import resolve_processor
from otelog._ledger.tally import BatchTally
from otelog._pipeline.assembly import Destination, make_worker
from otelog._pipeline.batch_export import BatchExporter, ExportContext
from otelog._pipeline.exporter_queue import LOOK_AGAIN
from otelog._pipeline.route import Route
from otelog._record.attributes import AttributeBuilder
from otelog._record.row import COLUMNS
from tests.pipelines import ExporterForTests, make_logger
from tools.waiting import wait_until

SOON = 5.0


def check_books(stats: Stats) -> None:
    """Assert that every record is somewhere, once, for every exporter."""
    assert stats.created == sum(stats.refused.values()) + stats.queued + sum(stats.removed.values()) + stats.accepted
    for one in stats.exporters.values():
        lost = sum(one.dropped.values())
        assert stats.accepted == one.accepted, stats
        assert one.accepted == one.filtered + one.exported + lost + one.waiting + one.in_flight, stats
        assert min(one.filtered, one.exported, one.waiting, one.in_flight) >= 0, stats


@contextmanager
def dispatcher(*destinations: Destination | LogRecordExporter, **options: Any) -> Iterator[BatchLogRecordProcessor]:
    """A pipeline with these exporters, which wakes up every 10 ms."""
    worker = make_worker(
        [one if isinstance(one, Destination) else Destination(one) for one in destinations],
        resolve_processor({"schedule_delay_millis": 10, **options}, {}),
        AttributeBuilder(),
        Resource.get_empty,
        meter_provider=None,
        shutdown_timeout=SOON,
    )
    processor = BatchLogRecordProcessor.of_worker(worker, ActivePipeline(worker.port))
    try:
        yield processor
    finally:
        for batch_export in worker.outlet.batch_exports:
            if isinstance(batch_export.exporter, ExporterForTests):
                batch_export.exporter.gate.set()
        processor.shutdown(2_000)


def named(name: str, exporter: LogRecordExporter | None = None, **options: Any) -> Destination:
    return Destination(exporter or ExporterForTests(), name=name, **options)


def hold(processor: BatchLogRecordProcessor, exporter: ExporterForTests) -> None:
    """Have the exporter be inside an export that does not end before its gate is set."""
    exporter.gate.clear()
    make_logger(processor).info("held")
    assert exporter.exporting.wait(SOON)


def test_every_exporter_gets_every_record_in_order():
    one, other = ExporterForTests(), ExporterForTests()
    with dispatcher(one, other) as processor:
        logger = make_logger(processor)
        for number in range(100):
            logger.info("m%d", number)
        assert processor.force_flush(5_000)
        assert one.bodies() == other.bodies() == [f"m{number}" for number in range(100)]
        stats = processor.stats()
        check_books(stats)
        assert list(stats.exporters) == ["ExporterForTests", "ExporterForTests#2"]
        assert (stats.accepted, stats.exported) == (100, 200)


def test_an_exporter_that_hangs_delays_no_other_and_loses_its_own_alone():
    hanging, other = ExporterForTests(), ExporterForTests()
    with dispatcher(named("hanging", hanging, max_queue_size=50), named("other", other)) as processor:
        hold(processor, hanging)
        logger = make_logger(processor)
        for number in range(200):
            logger.info("m%d", number)
        wait_until(lambda: other.count == 201)
        stats = processor.stats()
        check_books(stats)
        books = stats.exporters["hanging"]
        assert (books.in_flight, books.waiting, books.dropped["handoff_full"]) == (1, 50, 150)
        assert stats.exporters["other"].exported == 201
        hanging.gate.set()
        wait_until(lambda: hanging.count == 51)
        assert processor.force_flush(5_000)
        assert hanging.bodies() == ["held", *(f"m{number}" for number in range(50))]
        check_books(processor.stats())


def test_an_exporter_that_fails_costs_no_other_a_record():
    failing, other = ExporterForTests(), ExporterForTests()
    failing.answer = LogRecordExportResult.FAILURE
    with dispatcher(named("failing", failing), named("other", other)) as processor:
        for _ in range(10):
            make_logger(processor).info("one")
        assert processor.force_flush(5_000) is False
        stats = processor.stats()
        check_books(stats)
        assert stats.exporters["failing"].dropped["export_failed"] == 10
        assert stats.exporters["other"].exported == 10


def test_each_exporter_has_a_level_loggers_and_a_filter_of_its_own():
    errors, shop, chosen = ExporterForTests(), ExporterForTests(), ExporterForTests()
    with dispatcher(
        named("errors", errors, route=Route(severity_number=17)),
        named("shop", shop, route=Route(loggers=("shop", "tests.deep"))),
        named("chosen", chosen, route=Route(filter=lambda record: "2" in record.log_record.body)),
    ) as processor:
        make_logger(processor, "shop").info("m1")
        make_logger(processor, "shop.cart").error("m2")
        make_logger(processor, "shopping").warning("m3")
        make_logger(processor, "tests").critical("m4 and 2")
        make_logger(processor, "tests.deep").error("m5", exc_info=ValueError("x"))
        assert processor.force_flush(5_000)
        assert errors.bodies() == ["m2", "m4 and 2", "m5"]
        assert shop.bodies() == ["m1", "m2", "m5"]
        assert chosen.bodies() == ["m2", "m4 and 2"]
        stats = processor.stats()
        check_books(stats)
        assert [stats.exporters[name].filtered for name in ("errors", "shop", "chosen")] == [2, 2, 3]
        assert stats.filtered == 7
        assert stats.lost == 0


def test_a_lone_exporter_may_be_selective_too():
    errors = ExporterForTests()
    with dispatcher(named("errors", errors, route=Route(severity_number=17))) as processor:
        make_logger(processor).info("one")
        make_logger(processor).error("two")
        assert processor.force_flush(5_000)
        assert errors.bodies() == ["two"]
        check_books(processor.stats())


def test_a_filter_that_raises_loses_nothing(capfd):
    exporter = ExporterForTests()

    def broken(record: Any) -> bool:
        raise ValueError("no")

    with dispatcher(named("filtered", exporter, route=Route(filter=broken))) as processor:
        make_logger(processor).info("one")
        assert processor.force_flush(5_000)
        assert exporter.bodies() == ["one"]
    assert "the filter of exporter 'filtered' raised ValueError: no" in capfd.readouterr().err


def test_without_any_exporter_records_are_taken_and_go_nowhere():
    with dispatcher() as processor:
        make_logger(processor).info("one")
        assert processor.force_flush(5_000)
        assert (processor.stats().accepted, processor.stats().queued) == (1, 0)


# Bounds.


def test_a_part_of_the_exporter_queue_is_for_errors():
    hanging = ExporterForTests()
    options = {"reserve_for_errors": 0.2, "max_queue_size": 100, "max_export_batch_size": 10}
    with dispatcher(named("hanging", hanging, max_queue_size=10), ExporterForTests(), **options) as processor:
        hold(processor, hanging)
        logger = make_logger(processor)
        for _ in range(20):
            logger.info("info")
        for _ in range(5):
            logger.error("error")
        wait_until(lambda: processor.stats().accepted == 26)
        stats = processor.stats().exporters["hanging"]
        assert (stats.waiting, stats.dropped["handoff_full"]) == (10, 15)
        hanging.gate.set()
        assert processor.force_flush(5_000)
        assert hanging.bodies()[1:] == ["info"] * 8 + ["error"] * 2


def test_large_records_are_bounded_by_their_bytes():
    hanging = ExporterForTests()
    options = {"max_queue_size": 100, "max_queue_bytes": 100 * 1024 + 100 * 4096}
    with dispatcher(named("hanging", hanging), ExporterForTests(), **options) as processor:
        hold(processor, hanging)
        for _ in range(20):
            make_logger(processor).info("x" * 40_000)
            wait_until(lambda: processor.stats().queued == 0)
        stats = processor.stats().exporters["hanging"]
        # Ten units of 4 KiB each, as in the queue.
        assert (stats.waiting, stats.dropped["handoff_full"]) == (10, 10)
        make_logger(processor).info("small")
        wait_until(lambda: processor.stats().exporters["hanging"].waiting == 11)
        hanging.gate.set()
        assert processor.force_flush(5_000)
        for _ in range(10):
            make_logger(processor).info("x" * 40_000)
        assert processor.force_flush(5_000)
        check_books(processor.stats())


def test_a_record_that_can_never_wait_for_an_exporter_is_no_sign_of_a_slow_one():
    one, other = ExporterForTests(), ExporterForTests()
    options = {"max_queue_size": 100, "max_queue_bytes": 100 * 1024 + 100 * 4096}
    # More records in the same bytes: less of them for large ones.
    with dispatcher(named("one", one, max_queue_size=150), named("other", other), **options) as processor:
        make_logger(processor).info("x" * 90 * 4096)
        make_logger(processor).info("small")
        wait_until(lambda: other.count == 2)
        processor.force_flush(5_000)
        stats = processor.stats()
        check_books(stats)
        books = stats.exporters["one"]
        assert (books.exported, books.dropped["too_large"], books.dropped["handoff_full"]) == (1, 1, 0)


def test_a_slow_exporter_is_waited_for_where_callers_are():
    slow, quick = ExporterForTests(pause=0.002), ExporterForTests()
    options = {"when_full": "block", "block_timeout": 5.0, "max_queue_size": 20, "max_export_batch_size": 5}
    with dispatcher(named("slow", slow), named("quick", quick), **options) as processor:
        for number in range(500):
            make_logger(processor).info("m%d", number)
        assert processor.force_flush(10_000)
        assert (slow.count, quick.count) == (500, 500)
        check_books(processor.stats())
        assert processor.stats().lost == 0


def test_an_exporter_that_hangs_is_waited_for_once_where_callers_are():
    hanging, quick = ExporterForTests(), ExporterForTests()
    options = {"when_full": "block", "block_timeout": 0.5, "max_queue_size": 20, "max_export_batch_size": 5}
    with dispatcher(named("hanging", hanging), named("quick", quick), **options) as processor:
        hold(processor, hanging)
        began = time.monotonic()
        for number in range(500):
            make_logger(processor).info("m%d", number)
        wait_until(lambda: quick.count == 501)
        # Waited for at each of the hundred batches it would have been fifty seconds.
        assert time.monotonic() - began < 10 * SOON / 5
        check_books(processor.stats())
        assert processor.stats().exporters["hanging"].dropped["handoff_full"] == 480


def test_an_exporter_that_has_come_back_is_waited_for_again():
    slow, quick = ExporterForTests(pause=0.002), ExporterForTests()
    options = {"when_full": "block", "block_timeout": 2.0, "max_queue_size": 20, "max_export_batch_size": 5}
    with dispatcher(named("slow", slow), named("quick", quick), **options) as processor:
        hold(processor, slow)
        logger = make_logger(processor)
        while not processor.stats().exporters["slow"].dropped["handoff_full"]:
            logger.info("meanwhile")
        slow.gate.set()
        assert wait_until(lambda: processor.stats().exporters["slow"].waiting == 0)
        lost = processor.stats().exporters["slow"].dropped["handoff_full"]
        for number in range(300):
            logger.info("m%d", number)
        processor.force_flush(10_000)
        assert processor.stats().exporters["slow"].dropped["handoff_full"] == lost
        check_books(processor.stats())


# Flush and shutdown.


def test_flush_keeps_its_deadline_and_says_what_is_so_when_one_hangs():
    hanging, other = ExporterForTests(), ExporterForTests()
    with dispatcher(named("hanging", hanging), named("other", other)) as processor:
        hold(processor, hanging)
        make_logger(processor).info("waiting")
        began = time.monotonic()
        assert processor.force_flush(200) is False
        assert 0.2 <= time.monotonic() - began < SOON
        assert other.bodies() == ["held", "waiting"]
        hanging.gate.set()
        assert processor.force_flush(5_000) is True
        assert hanging.bodies() == ["held", "waiting"]


def test_observers_know_what_has_become_of_the_records_when_flush_returns():
    slow = ExporterForTests(pause=0.05)
    seen: list[int] = []
    with dispatcher(named("slow", slow), ExporterForTests(), schedule_delay_millis=1_000_000) as processor:
        processor.add_observer(lambda ledger, last: seen.append(ledger.read().exporters["slow"].exported))
        make_logger(processor).info("one")
        assert processor.force_flush(5_000)
        assert seen[-1] == 1


def test_shutdown_delivers_everywhere_and_ends_every_exporter_once():
    one, other = ExporterForTests(), ExporterForTests(pause=0.01)
    with dispatcher(one, other, schedule_delay_millis=1_000_000, max_export_batch_size=10) as processor:
        for _ in range(100):
            make_logger(processor).info("one")
        assert processor.shutdown(5_000) is True
        assert (one.count, other.count, one.shutdowns, other.shutdowns) == (100, 100, 1, 1)
        check_books(processor.stats())


def test_shutdown_keeps_its_deadline_for_the_others_and_a_late_answer_changes_nothing():
    hanging, other = ExporterForTests(), ExporterForTests()
    with dispatcher(named("hanging", hanging), named("other", other)) as processor:
        hold(processor, hanging)
        for _ in range(10):
            make_logger(processor).info("one")
        began = time.monotonic()
        assert processor.shutdown(300) is False
        assert 0.3 <= time.monotonic() - began < SOON
        before = processor.stats()
        check_books(before)
        assert before.exporters["hanging"].dropped["shutdown_timeout"] == 11
        assert (before.exporters["other"].exported, other.shutdowns) == (11, 1)
        hanging.gate.set()
        wait_until(lambda: hanging.shutdowns == 1)
        assert processor.stats() == before


def test_what_is_queued_at_a_shutdown_is_delivered_even_if_it_is_more_than_may_wait():
    slow = ExporterForTests()
    with dispatcher(named("slow", slow, max_queue_size=5), ExporterForTests(), schedule_delay_millis=1e6) as processor:
        hold_without_waiting = make_logger(processor)
        slow.gate.clear()
        for _ in range(100):
            hold_without_waiting.info("one")
        ended = threading.Thread(target=processor.shutdown, args=(5_000,))
        ended.start()
        wait_until(lambda: processor.stats().queued == 0)
        slow.gate.set()
        ended.join(SOON)
        assert slow.count == 100
        check_books(processor.stats())


def test_a_processor_that_is_let_go_delivers_everywhere():
    one, other = ExporterForTests(), ExporterForTests()
    with dispatcher(one, other, schedule_delay_millis=1_000_000) as processor:
        make_logger(processor).info("one")
        processor._worker.let_go()
        wait_until(lambda: (one.count, other.count, one.shutdowns, other.shutdowns) == (1, 1, 1, 1))


def test_an_exporter_that_the_next_pipeline_has_too_stays_open():
    kept, gone, new = ExporterForTests(), ExporterForTests(), ExporterForTests()
    with dispatcher(named("kept", kept), named("gone", gone)) as processor:
        make_logger(processor).info("one")
        replacement = make_worker(
            [named("kept", kept), named("new", new)],
            resolve_processor({}, {}),
            AttributeBuilder(),
            Resource.get_empty,
            meter_provider=None,
            shutdown_timeout=SOON,
            ledger=processor.ledger,
        )
        assert processor.replace_worker(replacement, SOON)
        make_logger(processor).info("two")
        assert processor.force_flush(5_000)
        assert (kept.bodies(), gone.bodies(), new.bodies()) == (["one", "two"], ["one"], ["two"])
        assert (kept.shutdowns, gone.shutdowns) == (0, 1)
        stats = processor.stats()
        assert {name: one.exported for name, one in stats.exporters.items()} == {"kept": 2, "gone": 1, "new": 1}


# Crashes.


class CrashingExporter(LogRecordExporter, BatchExporter):
    """Its batch export raises for batches that hold a certain message."""

    default_name = "crashing"

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.delivered = 0

    def make_batch_export(self, context: ExportContext) -> Any:
        return CrashingBatchExport(self, context.name)

    def export(self, batch: Any) -> LogRecordExportResult:
        raise AssertionError("never asked")

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True

    def shutdown(self) -> None: ...


class CrashingBatchExport:
    component_type = "crashing"
    endpoint = None
    on_exchange = None

    def __init__(self, exporter: CrashingExporter, name: str) -> None:
        self.exporter = exporter
        self.name = name

    def deliver(self, rows: list[Any], ledger: Any, stop: Any, hold: Any) -> None:
        count = len(rows) // COLUMNS
        tally = BatchTally(ledger, self.name, count, lambda start, stop: ["info"] * (stop - start))
        hold(tally)
        if "crash" in rows[3::COLUMNS]:
            raise self.exporter.error
        self.exporter.delivered += count
        tally.settle(0, count, None)

    def finish(self) -> None: ...

    def restart_after_fork(self) -> None: ...

    def shutdown(self, timeout: float) -> None: ...


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(), MemoryError()], ids=type)
def test_a_lane_that_crashes_loses_that_batch_and_its_exporter_goes_on(error, capfd):
    crashing, other = CrashingExporter(error), ExporterForTests()
    with dispatcher(crashing, named("other", other)) as processor:
        for message in ("fine", "crash", "fine"):
            make_logger(processor).info(message)
            processor.force_flush(SOON * 1000)
        assert processor.force_flush(5_000)
        stats = processor.stats()
        check_books(stats)
        assert (crashing.delivered, stats.exporters["crashing"].dropped["worker_crash"]) == (2, 1)
        assert (other.count, stats.worker_restarts) == (3, 1)
    assert "the exporter 'crashing' was stopped by" in capfd.readouterr().err


def test_whoever_waits_for_an_exporter_queue_whose_thread_is_gone_does_its_work():
    """As at the interpreter's end, when no thread can be had."""
    one, other = ExporterForTests(), ExporterForTests()
    with dispatcher(named("one", one), named("other", other), schedule_delay_millis=1_000_000) as processor:
        exporter_queue = processor._worker.outlet._queues[0]  # type: ignore[attr-defined]
        exporter_queue._ending = True
        exporter_queue._inbox.put(None)
        exporter_queue._thread.join(time.monotonic() + SOON)
        make_logger(processor).info("one")
        assert processor.force_flush((LOOK_AGAIN + SOON) * 1000)
        assert (one.count, other.count) == (1, 1)
        check_books(processor.stats())


def test_snapshots_hold_while_threads_log_and_exporters_are_slow_and_fail():
    slow, failing = ExporterForTests(pause=0.001, keep=False), ExporterForTests(keep=False)
    failing.answer = LogRecordExportResult.FAILURE
    picky = named("picky", route=Route(severity_number=17, filter=lambda record: record.log_record.body != "m7"))
    options = {"max_queue_size": 200, "max_export_batch_size": 20}
    with dispatcher(named("slow", slow, max_queue_size=50), named("failing", failing), picky, **options) as processor:
        logger = make_logger(processor)

        def log() -> None:
            for number in range(2_000):
                (logger.error if number % 2 else logger.info)("m%d", number)

        threads = [threading.Thread(target=log) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            check_books(processor.stats())
        processor.force_flush(10_000)
        stats = processor.stats()
        check_books(stats)
        assert stats.created == 8_000
        assert stats.waiting == stats.in_flight == stats.queued == 0
        assert stats.exporters["slow"].exported == slow.count
