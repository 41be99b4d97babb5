"""Flush and shutdown keep their word and their time, and the worker outlives whatever happens to it."""

from __future__ import annotations

import gc
import os
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from otelog import BatchLogRecordProcessor, Stats
from otelog._capture.queue import RecordQueue
from otelog._config.resolve import resolve_processor
from otelog._ledger.counters import Ledger
from otelog._ledger.tally import BatchTally
from otelog._pipeline.assembly import Destination, make_worker
from otelog._pipeline.export_step import ExportStep
from otelog._pipeline.worker import Worker
from otelog._record.attributes import AttributeBuilder
from otelog._record.row import COLUMNS, Source
from otelog._record.values import DEFAULT_LIMITS
from otelog._runtime.waiting import Latch, Stop
from tests.pipelines import ExporterForTests, check_identity, hold_export, make_logger, running
from tools.waiting import wait_until

SOON = 5.0
PATIENT = 60.0
"""Seconds after which something that should take a fraction of a second has certainly failed to."""


# Waking up.


def test_a_lone_record_is_exported_after_the_schedule_delay():
    exporter = ExporterForTests()
    with running(BatchLogRecordProcessor(exporter, 50)) as processor:
        make_logger(processor).info("one")
        wait_until(lambda: exporter.count == 1)


def test_a_full_batch_is_exported_before_the_schedule_delay():
    exporter = ExporterForTests()
    with running(BatchLogRecordProcessor(exporter, 1_000_000, 10, None, 100)) as processor:
        logger = make_logger(processor)
        for _ in range(10):
            logger.info("one")
        wait_until(lambda: exporter.count == 10)
        for _ in range(9):
            logger.info("one")
        time.sleep(0.05)
        assert exporter.count == 10


@pytest.mark.parametrize("when_full", ["drop_newest", "drop_oldest"])
@pytest.mark.parametrize("level", ["info", "error"])
def test_half_of_the_usable_queue_is_exported_before_the_schedule_delay(when_full, level):
    exporter = ExporterForTests()
    processor = BatchLogRecordProcessor(
        exporter, 1_000_000, 100, None, 100, when_full=when_full, reserve_for_errors=0.2
    )
    with running(processor):
        log = getattr(make_logger(processor), level)
        for _ in range(40):
            log("one")
        wait_until(lambda: exporter.count == 40)


def test_what_is_left_over_from_a_batch_counts_when_the_worker_is_woken():
    """Records that were set aside for the next batch are part of it, or a full queue would wait for the delay."""
    exporter = ExporterForTests()
    exporter.gate.clear()
    with running(BatchLogRecordProcessor(exporter, 1_000_000, 10, None, 40)) as processor:
        logger = make_logger(processor)
        for _ in range(10):
            logger.info("one")
        assert exporter.exporting.wait(SOON)
        for _ in range(15):
            logger.info("one")
        exporter.gate.set()
        # The second batch sets fifteen aside and takes ten of them.
        wait_until(lambda: exporter.count == 20)
        for _ in range(5):
            logger.info("one")
        wait_until(lambda: exporter.count == 30)


def test_words_to_the_worker_do_not_put_the_schedule_delay_off():
    """Whoever calls a handler's flush() all the time must not keep a lone record from being exported."""
    exporter = ExporterForTests()
    with running(BatchLogRecordProcessor(exporter, 200)) as processor:
        make_logger(processor).info("one")
        deadline = time.monotonic() + SOON
        while exporter.count == 0 and time.monotonic() < deadline:
            processor.pipeline.port.wake()
            time.sleep(0.01)
        assert exporter.count == 1


def test_words_to_a_worker_that_is_busy_do_not_pile_up():
    exporter = ExporterForTests()
    with running(hold_export(exporter)) as processor:
        for _ in range(1_000):
            processor.pipeline.port.wake()
        assert processor._worker._inbox.qsize() <= 1
        exporter.gate.set()


# Flush.


def test_flush_delivers_everything_and_says_so():
    exporter = ExporterForTests()
    with running(BatchLogRecordProcessor(exporter, 1_000_000, 10)) as processor:
        logger = make_logger(processor)
        for number in range(25):
            logger.info("m%d", number)
        assert processor.force_flush(5_000)
        assert exporter.bodies() == [f"m{number}" for number in range(25)]
        assert processor.force_flush(5_000)


def test_flush_keeps_its_deadline_and_is_honest_when_the_exporter_hangs():
    exporter = ExporterForTests()
    with running(hold_export(exporter)) as processor:
        make_logger(processor).info("waiting")
        began = time.monotonic()
        assert processor.force_flush(200) is False
        assert 0.2 <= time.monotonic() - began < SOON
        assert processor.force_flush(0) is False
        exporter.gate.set()
        assert processor.force_flush(5_000) is True
        assert exporter.bodies() == ["held", "waiting"]


def test_flush_says_no_when_a_record_was_lost_meanwhile():
    exporter = ExporterForTests()
    with running(BatchLogRecordProcessor(exporter, 1_000_000)) as processor:
        exporter.answer = LogRecordExportResult.FAILURE
        make_logger(processor).info("lost")
        assert processor.force_flush(5_000) is False
        exporter.answer = LogRecordExportResult.SUCCESS
        make_logger(processor).info("delivered")
        assert processor.force_flush(5_000) is True
        assert processor.stats().dropped["export_failed"] == 1


def test_flush_says_no_when_a_queued_record_was_evicted_meanwhile():
    exporter = ExporterForTests()
    with running(
        hold_export(exporter, max_queue_size=2, max_export_batch_size=2, when_full="drop_oldest")
    ) as processor:
        logger = make_logger(processor)
        logger.info("first")
        logger.info("second")
        answers: list[bool] = []
        thread = threading.Thread(target=lambda: answers.append(processor.force_flush(5_000)))
        thread.start()
        wait_until(lambda: processor._worker._inbox.qsize() > 0)
        logger.info("third")
        exporter.gate.set()
        thread.join()
        assert answers == [False]


def test_flush_ends_under_sustained_load():
    """It waits for what is there when it is called, not for what comes afterwards."""
    exporter = ExporterForTests(pause=0.001, keep=False)
    with running(BatchLogRecordProcessor(exporter, 1_000_000, 50, None, 500)) as processor:
        logger = make_logger(processor)
        done = threading.Event()

        def call() -> None:
            while not done.is_set():
                logger.info("load")

        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                assert processor.force_flush(10_000)
        finally:
            done.set()
            for thread in threads:
                thread.join()


def test_many_flush_at_once():
    exporter = ExporterForTests(pause=0.01)
    with running(BatchLogRecordProcessor(exporter, 1_000_000)) as processor:
        answers: list[bool] = []

        def call() -> None:
            make_logger(processor).info("one")
            answers.append(processor.force_flush(10_000))

        threads = [threading.Thread(target=call) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [True] * 20
        assert exporter.count == 20


def test_flush_in_the_workers_own_thread_does_not_wait_for_itself():
    answers: list[bool] = []

    class Flushing(ExporterForTests):
        def export(self, batch: Any) -> LogRecordExportResult:
            answers.append(processor.force_flush(20_000))
            return super().export(batch)

    with running(BatchLogRecordProcessor(Flushing(), 1_000_000)) as processor:
        make_logger(processor).info("one")
        assert processor.force_flush(SOON * 1000)
        assert answers == [False]


def test_a_flush_that_waits_is_answered_when_the_pipeline_ends():
    exporter = ExporterForTests()
    with running(hold_export(exporter)) as processor:
        answers: list[tuple[bool, float]] = []

        def call() -> None:
            began = time.monotonic()
            answers.append((processor.force_flush(60_000), time.monotonic() - began))

        thread = threading.Thread(target=call)
        thread.start()
        wait_until(lambda: processor._worker._inbox.qsize() > 0)
        assert processor.shutdown(50) is False
        thread.join(SOON)
        exporter.gate.set()
        assert [answer for answer, _ in answers] == [False]
        began = time.monotonic()
        processor.force_flush(60_000)
        assert time.monotonic() - began < SOON


# Shutdown.


def test_shutdown_delivers_what_is_queued_and_ends_the_exporter_once():
    exporter = ExporterForTests()
    processor = BatchLogRecordProcessor(exporter, 1_000_000, 10)
    logger = make_logger(processor)
    for _ in range(25):
        logger.info("one")
    assert processor.shutdown(5_000) is True
    assert processor.shutdown(5_000) is True
    assert (exporter.count, exporter.shutdowns) == (25, 1)
    logger.info("too late")
    stats = processor.stats()
    check_identity(stats)
    assert (stats.created, stats.exported, stats.refused["already_shutdown"]) == (26, 25, 1)
    assert not processor._worker._thread.is_alive()


def test_shutdown_keeps_its_deadline_counts_the_rest_and_a_late_answer_changes_nothing():
    exporter = ExporterForTests()
    processor = hold_export(exporter, max_queue_size=100, max_export_batch_size=10)
    logger = make_logger(processor)
    for _ in range(20):
        logger.error("waiting")
    began = time.monotonic()
    assert processor.shutdown(200) is False
    assert 0.2 <= time.monotonic() - began < SOON
    stats = processor.stats()
    check_identity(stats)
    assert stats.dropped["shutdown_timeout"] == 21
    assert (stats.queued, stats.in_flight, stats.exported) == (0, 0, 0)
    assert processor.ledger.exporters["ExporterForTests"].dropped_by_severity == {
        ("shutdown_timeout", "info"): 1,
        ("shutdown_timeout", "error"): 20,
    }
    exporter.gate.set()
    wait_until(lambda: not processor._worker._thread.is_alive())
    assert exporter.count == 1
    assert processor.stats() == stats
    assert processor.shutdown(1_000) is False
    wait_until(lambda: exporter.shutdowns == 1)


def test_shutdown_does_not_wait_for_an_exporter_that_hangs_in_its_own():
    class Hanging(ExporterForTests):
        def shutdown(self) -> None:
            super().shutdown()
            self.gate.wait(20)

    exporter = Hanging()
    processor = BatchLogRecordProcessor(exporter, 1_000_000)
    make_logger(processor).info("one")
    assert processor.force_flush(5_000)
    exporter.gate.clear()
    began = time.monotonic()
    assert processor.shutdown(200) is True
    assert time.monotonic() - began < SOON
    exporter.gate.set()
    assert exporter.shutdowns == 1


def test_the_exporters_shutdown_gets_the_time_that_is_left():
    timeouts: list[float] = []

    class Timed(ExporterForTests):
        def shutdown(self, timeout_millis: float = 30_000) -> None:
            timeouts.append(timeout_millis)

    BatchLogRecordProcessor(Timed(), 1_000_000).shutdown(4_000)
    assert len(timeouts) == 1
    assert 0 < timeouts[0] <= 4_000


def test_concurrent_shutdowns_agree():
    exporter = ExporterForTests(pause=0.05)
    processor = BatchLogRecordProcessor(exporter, 1_000_000)
    make_logger(processor).info("one")
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(processor.shutdown(10_000))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 8
    assert (exporter.count, exporter.shutdowns) == (1, 1)


@pytest.mark.parametrize("timeout_millis", [float("inf"), 1e18, -5.0])
def test_any_timeout_is_allowed(timeout_millis):
    exporter = ExporterForTests()
    processor = BatchLogRecordProcessor(exporter, 1_000_000)
    make_logger(processor).info("one")
    processor.force_flush(timeout_millis)
    processor.shutdown(timeout_millis)
    check_identity(processor.stats())
    wait_until(lambda: exporter.shutdowns == 1)


def test_an_exporter_that_shuts_its_own_pipeline_down_does_not_wait_for_itself():
    answers: list[bool] = []

    class Ending(ExporterForTests):
        def export(self, batch: Any) -> LogRecordExportResult:
            answers.append(processor.shutdown(20_000))
            answers.append(processor.shutdown(20_000))
            return super().export(batch)

    exporter = Ending()
    processor = BatchLogRecordProcessor(exporter, 10)
    make_logger(processor).info("one")
    wait_until(lambda: not processor._worker._thread.is_alive())
    assert answers == [False, False]
    # The worker did the rest: others learn of it, and the exporter is closed.
    assert processor.shutdown(20_000) is True
    assert (exporter.count, exporter.shutdowns) == (1, 1)
    make_logger(processor).info("late")
    assert processor.stats().refused["already_shutdown"] == 1


def test_records_of_callers_that_were_in_the_middle_of_a_call_are_delivered_at_shutdown():
    exporter = ExporterForTests()
    processor = BatchLogRecordProcessor(exporter, 1_000_000)
    port = processor.pipeline.port
    slot = port.slots.pop()
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(processor.shutdown(10_000)))
    thread.start()
    wait_until(lambda: port.queue.closed)
    port.push((1, Source("tests", 9, "INFO"), None, "slow caller", None, None, None, 0, 1, slot))
    thread.join()
    assert answers == [True]
    assert exporter.bodies() == ["slow caller"]


def test_a_record_that_comes_after_the_end_is_counted_when_somebody_looks():
    processor = BatchLogRecordProcessor(ExporterForTests(), 1_000_000)
    port = processor.pipeline.port
    slot = port.slots.pop()
    processor.shutdown(10)
    port.push((1, Source("tests", 9, "INFO"), None, "very slow caller", None, None, None, 0, 1, slot))
    stats = processor.stats()
    check_identity(stats)
    assert (stats.created, stats.queued, stats.dropped["shutdown_timeout"]) == (1, 0, 1)


# Crashes.


class CrashingBatchExport:
    """A batch export that raises for batches which hold a certain message."""

    name = "crashing"

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.delivered = 0

    def deliver(self, rows: list[Any], ledger: Ledger, stop: Any, hold: Callable[[BatchTally], None]) -> None:
        count = len(rows) // COLUMNS
        tally = BatchTally(ledger, self.name, count, lambda start, stop: ["info"] * (stop - start))
        hold(tally)
        if "crash" in rows[3::COLUMNS]:
            # Half of the batch is through before it crashes.
            tally.settle(0, count // 2, None)
            raise self.error
        self.delivered += count
        tally.settle(0, count, None)

    def finish(self) -> None: ...

    def restart_after_fork(self) -> None: ...

    def shutdown(self, timeout: float) -> None:
        if isinstance(self.error, Exception):
            raise self.error


def make_worker_of(queue: RecordQueue, batch_export: Any, **options: Any) -> Worker:
    ledger = Ledger()
    return Worker(queue, ledger, ExportStep(batch_export, ledger), limits=DEFAULT_LIMITS, **options)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("error", [ValueError("broken"), Unprintable(), SystemExit(), MemoryError()], ids=type)
def test_a_lane_that_raises_loses_the_rest_of_that_batch_and_no_other(error):
    batch_export = CrashingBatchExport(error)
    queue = RecordQueue(100, 64 * 1024 * 1024)
    ledger = Ledger()
    worker = Worker(
        queue,
        ledger,
        ExportStep(batch_export, ledger),
        max_export_batch_size=10,
        schedule_delay=1000.0,
        limits=DEFAULT_LIMITS,
    )
    source = Source("tests", 9, "INFO")

    def put(message: str) -> None:
        worker.port.put_sized((1, source, None, message, None, None, None, 0, 1), 10)

    for _ in range(3):
        put("fine")
    put("crash")
    assert worker.flush(SOON) is False
    put("fine")
    assert worker.flush(SOON) is True
    worker.shutdown(SOON)
    stats = worker.stats()
    check_identity(stats)
    assert (stats.exported, stats.dropped["worker_crash"], stats.worker_restarts) == (3, 2, 1)
    assert batch_export.delivered == 1


def test_a_tally_that_is_closed_before_the_lane_makes_its_own_is_not_settled_twice():
    """A shutdown may run out of time between the taking of a batch and the batch export's first word about it."""
    released = threading.Event()

    class LateBatchExport(CrashingBatchExport):
        def deliver(self, rows: list[Any], ledger: Ledger, stop: Any, hold: Callable[[BatchTally], None]) -> None:
            released.wait(SOON * 2)
            super().deliver(rows, ledger, stop, hold)

    queue = RecordQueue(100, 64 * 1024 * 1024)
    batch_export = LateBatchExport(ValueError())
    ledger = Ledger()
    worker = Worker(
        queue,
        ledger,
        ExportStep(batch_export, ledger),
        max_export_batch_size=10,
        schedule_delay=0.01,
        limits=DEFAULT_LIMITS,
    )
    worker.port.put_sized((1, Source("tests", 9, "INFO"), None, "fine", None, None, None, 0, 1), 10)
    wait_until(lambda: worker.stats().in_flight == 1)
    assert worker.shutdown(0.05) is False
    before = worker.stats()
    assert before.dropped["shutdown_timeout"] == 1
    released.set()
    wait_until(lambda: not worker._thread.is_alive())
    assert worker.stats() == before
    check_identity(before)


# Ends without a word.


def test_a_processor_that_is_let_go_is_collected_and_its_records_are_delivered():
    exporter = ExporterForTests()
    processor = BatchLogRecordProcessor(exporter, 1_000_000)
    thread = processor._worker._thread.thread
    make_logger(processor).info("one")
    worker = weakref.ref(processor._worker)
    gone = weakref.ref(processor)
    del processor
    gc.collect()
    assert gone() is None
    assert thread is not None
    thread.join(SOON)
    assert not thread.is_alive()
    assert (exporter.count, exporter.shutdowns) == (1, 1)
    del thread
    gc.collect()
    assert worker() is None


def test_a_logger_keeps_working_when_its_processor_is_let_go_and_its_records_are_refused():
    processor = BatchLogRecordProcessor(ExporterForTests(), 1_000_000)
    logger = make_logger(processor)
    thread, ledger = processor._worker._thread.thread, processor.ledger
    assert thread is not None
    del processor
    gc.collect()
    thread.join(SOON)
    logger.info("late")
    assert ledger.read().refused["already_shutdown"] == 1


# Replacing a pipeline.


def make_worker_for(exporter: LogRecordExporter, ledger: Ledger, **options: Any) -> Worker:
    settings = resolve_processor({"schedule_delay_millis": 20.0, **options})
    return make_worker(
        [Destination(exporter)],
        settings,
        AttributeBuilder(),
        Resource.get_empty,
        meter_provider=None,
        shutdown_timeout=SOON,
        ledger=ledger,
    )


def test_replacing_the_pipeline_under_load_loses_nothing_in_silence():
    exporters = [ExporterForTests(keep=False)]
    processor = BatchLogRecordProcessor(exporters[0], 20, 100, None, 2_000)
    done = threading.Event()
    calls = [0] * 6

    def call(number: int) -> None:
        logger = make_logger(processor)
        while not done.is_set():
            logger.info("m%d", calls[number])
            calls[number] += 1

    threads = [threading.Thread(target=call, args=(number,)) for number in range(len(calls))]
    with running(processor):
        for thread in threads:
            thread.start()
        last: Stats = processor.stats()
        try:
            for _ in range(5):
                exporters.append(ExporterForTests(keep=False))
                worker = make_worker_for(exporters[-1], processor.ledger, max_queue_size=2_000)
                # What outlasts this is lost, and counted so, though its exporter has it a moment later.
                processor.replace_worker(worker, PATIENT)
                stats = processor.stats()
                check_identity(stats)
                assert stats.created >= last.created
                last = stats
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert processor.shutdown(10_000)
        stats = processor.stats()
        check_identity(stats)
        assert stats.created == sum(calls)
        assert stats.exported == sum(exporter.count for exporter in exporters)
        assert all(exporter.shutdowns == 1 for exporter in exporters)


# Figures.


class BusyStore:
    """A store around which callers put records in just before and just after the worker takes some."""

    def __init__(self, store: Any, call: Callable[[], None]) -> None:
        self._store = store
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def look(self, most: int) -> list[Any]:
        self._call()
        rows: list[Any] = self._store.look(most)
        self._call()
        return rows

    def drop(self, count: int) -> None:
        self._call()
        self._store.drop(count)
        self._call()


def test_the_queue_never_holds_more_than_it_may_while_the_worker_takes():
    """A slot must not come back before its record has left."""
    queue = RecordQueue(8, 64 * 1024 * 1024)
    batch_export = CrashingBatchExport(ValueError())
    most: list[int] = []

    def call() -> None:
        for _ in range(10):
            worker.port.put_sized((1, Source("tests", 9, "INFO"), None, "one", None, None, None, 0, 1), 10)
        most.append(queue.count()[0])

    queue.store = BusyStore(queue.store, call)  # type: ignore[assignment]
    ledger = Ledger()
    worker = Worker(
        queue,
        ledger,
        ExportStep(batch_export, ledger),
        max_export_batch_size=4,
        schedule_delay=1000.0,
        limits=DEFAULT_LIMITS,
    )
    call()
    wait_until(lambda: batch_export.delivered >= 20)
    worker.shutdown(SOON)
    assert len(most) > 10
    assert max(most) == 8
    assert worker.stats().max_queued == 8
    check_identity(worker.stats())
    assert queue.held() == 0


def test_the_most_that_was_queued_is_exact():
    exporter = ExporterForTests()
    with running(hold_export(exporter, max_queue_size=100, max_export_batch_size=10)) as processor:
        logger = make_logger(processor)
        for _ in range(37):
            logger.info("one")
        exporter.gate.set()
        assert processor.force_flush(5_000)
        for _ in range(5):
            logger.info("one")
        assert processor.force_flush(5_000)
        assert processor.stats().max_queued == 37


def test_a_queued_record_keeps_no_span_and_no_context_alive():
    exporter = ExporterForTests()
    with running(hold_export(exporter)) as processor:
        span = TracerProvider().get_tracer("tests").start_span("span")
        from opentelemetry.trace import use_span

        with use_span(span, end_on_exit=True):
            make_logger(processor).info("inside")
        span_context = span.get_span_context()
        gone = weakref.ref(span)
        del span
        gc.collect()
        assert gone() is None
        exporter.gate.set()
        assert processor.force_flush(5_000)
        record = exporter.records[-1].log_record
        assert (record.trace_id, record.span_id) == (span_context.trace_id, span_context.span_id)


def test_an_exception_that_was_logged_is_not_kept_alive():
    class Kept(Exception):
        pass

    exporter = ExporterForTests()
    with running(hold_export(exporter)) as processor:
        gone: Any = None

        def fail() -> None:
            raise Kept("oh")

        try:
            fail()
        except Kept as error:
            gone = weakref.ref(error)
            make_logger(processor).exception("failed")
        gc.collect()
        assert gone() is None
        exporter.gate.set()
        assert processor.force_flush(5_000)


def test_a_full_queue_of_ten_thousand_records_fits_into_twenty_megabytes():
    from opentelemetry.trace import use_span

    exporter = ExporterForTests(keep=False)
    tracer = TracerProvider().get_tracer("tests")
    with running(hold_export(exporter, max_queue_size=10_000)) as processor:
        logger = make_logger(processor)
        logger.info("warm")
        wait_until(lambda: processor.stats().queued == 1)
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for number in range(9_999):
                # A span of its own for each record: none is shared.
                with use_span(tracer.start_span("request"), end_on_exit=True):
                    logger.info(
                        "order %s of customer %s was paid",
                        f"order-{number}",
                        number,
                        amount=number * 0.1,
                        currency="EUR",
                        path=f"/checkout/{number}",
                        ok=True,
                    )
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert processor.stats().queued == 10_000
        assert after - before < 20_000_000
        exporter.gate.set()


def test_a_dead_endpoint_costs_the_queues_bound_and_no_more():
    exporter = ExporterForTests(keep=False)
    with running(hold_export(exporter, max_queue_size=1_000)) as processor:
        logger = make_logger(processor)
        for number in range(1_000):
            logger.info("m%d", number, text="x" * 100)
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for number in range(20_000):
                logger.info("m%d", number, text="x" * 100)
                logger.info("m%d", number, parts=[number])
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 200_000
        assert processor.stats().refused["queue_full"] == 40_000
        exporter.gate.set()


# Forks.


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_is_forked_during_a_shutdown_does_not_wait_at_its_end():
    exporter = ExporterForTests()
    processor = hold_export(exporter)
    thread = threading.Thread(target=processor.shutdown, args=(10_000,))
    thread.start()
    wait_until(lambda: processor.pipeline.port.queue.closed)
    child = os.fork()
    if child == 0:
        status = 3
        try:
            began = time.monotonic()
            processor.shutdown(20_000)
            zero = processor.stats().created == processor.stats().in_flight == 0
            status = 0 if zero and time.monotonic() - began < SOON else 1
        finally:
            os._exit(status)
    _, code = os.waitpid(child, 0)
    exporter.gate.set()
    thread.join()
    assert code == 0
    assert processor.stats().exported == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_begins_with_nothing_and_delivers_its_own():
    exporter = ExporterForTests()
    with running(hold_export(exporter)) as processor:
        logger = make_logger(processor)
        logger.info("the parent's")
        child = os.fork()
        if child == 0:
            status = 3
            try:
                exporter.gate.set()
                exporter.records.clear()
                empty = processor.stats().created == 0
                logger.info("the child's")
                flushed = processor.force_flush(5_000)
                check_identity(processor.stats())
                delivered = exporter.bodies() == ["the child's"] and processor.stats().exported == 1
                status = 0 if empty and flushed and delivered else 1
            finally:
                os._exit(status)
        _, code = os.waitpid(child, 0)
        assert code == 0
        exporter.gate.set()
        assert processor.force_flush(5_000)
        assert exporter.bodies() == ["held", "the parent's"]


# Signals between the parts.


def test_a_latch_may_be_raised_on_top_of_its_own_wait():
    latch = Latch()
    import signal

    before = signal.signal(signal.SIGALRM, lambda number, frame: latch.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert latch.wait(SOON)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_latch_lets_all_who_wait_go_on():
    latch = Latch()
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(latch.wait(SOON))) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert latch.wait(0.01) is False
    latch.set()
    latch.set()
    for thread in threads:
        thread.join()
    assert answers == [True] * 5


def test_a_later_stop_can_only_shorten_the_time():
    stop = Stop()
    stop.begin(10.0)
    first = stop.stop_deadline
    stop.begin(100.0)
    assert stop.stop_deadline == first
    stop.begin(1.0)
    assert stop.stop_deadline < first
    assert stop.is_set()
    assert stop.wait(0)
