"""The worker's thread is killed from outside, and another takes its place.

A tracer (coverage's) makes Python 3.11 spin while such an exception waits for a thread that sleeps in C: they run
without one.
"""

from __future__ import annotations

import ctypes
import threading

import pytest

from otelog import BatchLogRecordProcessor, OTLPLogExporter, Stats
from otelog._runtime.own_threads import own_threads
from otelog.testing import OTLPServer
from tests.pipelines import ExporterForTests, check_identity, hold_export, make_logger, running
from tools.waiting import wait_until


def raise_in_thread(thread: threading.Thread, error: type[BaseException]) -> None:
    # One that takes another's place is there before it runs.
    assert wait_until(thread.is_alive)
    assert thread.ident is not None
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(error)) == 1


def kill_at_random_moments(processor: BatchLogRecordProcessor) -> Stats:
    """Kill the worker eight times while it works; returns the books at the end, which are exact."""
    logger = make_logger(processor)
    for _ in range(8):
        thread = processor._worker._thread.thread
        for number in range(150):
            logger.info("m%d", number)
        raise_in_thread(thread, SystemExit)
        wait_until(lambda thread=thread: processor._worker._thread.thread is not thread)
    processor.force_flush(10_000)
    stats = processor.stats()
    check_identity(stats)
    assert stats.created == 8 * 150
    assert (stats.queued, stats.in_flight) == (0, 0)
    return stats


def test_a_worker_that_is_killed_while_it_waits_is_replaced_and_nothing_is_lost():
    exporter = ExporterForTests()
    with running(BatchLogRecordProcessor(exporter, 1_000_000, 10, None, 100)) as processor:
        logger = make_logger(processor)
        thread = processor._worker._thread.thread
        for round_number in range(3):
            assert processor.force_flush(5_000)
            thread = processor._worker._thread.thread
            raise_in_thread(thread, SystemExit)
            # It is in a wait of C code: the exception comes when that ends.
            processor.pipeline.port.wake()
            wait_until(lambda thread=thread: processor._worker._thread.thread is not thread)
            for number in range(10):
                logger.info("m%d", number)
            assert processor.force_flush(5_000)
            assert processor.stats().worker_restarts == round_number + 1
        assert exporter.count == 30
        check_identity(processor.stats())
        assert processor.stats().lost == 0


def test_a_worker_that_is_killed_in_an_export_loses_that_batch_alone_and_counts_it():
    exporter = ExporterForTests()
    with running(hold_export(exporter)) as processor:
        make_logger(processor).info("next")
        raise_in_thread(processor._worker._thread.thread, SystemExit)
        exporter.gate.set()
        wait_until(lambda: processor.stats().worker_restarts == 1)
        assert processor.force_flush(5_000)
        stats = processor.stats()
        check_identity(stats)
        assert stats.dropped["worker_crash"] == 1
        assert exporter.bodies()[-1:] == ["next"]
        wait_until(lambda: len(own_threads) == 1)


def test_a_worker_that_is_killed_at_random_moments_keeps_the_books_exact():
    exporter = ExporterForTests(keep=False)
    with running(BatchLogRecordProcessor(exporter, 5, 20, None, 200)) as processor:
        stats = kill_at_random_moments(processor)
        assert stats.worker_restarts == 8
        assert processor.pipeline.port.queue.held() == 0


# Who is killed between making a socket and keeping it, leaves it to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_worker_with_our_own_exporter_that_is_killed_at_random_moments_tells_no_more_than_has_arrived():
    """It may be killed while one batch is on its way and the next is made ready."""
    with OTLPServer() as server:
        exporter = OTLPLogExporter(endpoint=server.logs_endpoint, timeout=1.0, export_timeout=2.0)
        with running(BatchLogRecordProcessor(exporter, 5, 20, None, 200)) as processor:
            stats = kill_at_random_moments(processor)
            assert stats.exported <= len(server.records) <= stats.exported + sum(stats.dropped.values()) + stats.resent
            assert processor.pipeline.port.queue.held() == 0
