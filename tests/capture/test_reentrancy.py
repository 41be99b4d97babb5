"""Logging from anywhere: no deadlock, no recursion without end, and every record counted."""

from __future__ import annotations

import faulthandler
import gc
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import LogRecordExportResult

from otelog import BatchLogRecordProcessor, LoggingHandler, OTLPLogExporter
from otelog.testing import OTLPServer
from tests.pipelines import ExporterForTests, check_identity, make_logger, running
from tools.waiting import wait_until

WATCHDOG_SECONDS = 120
SIGNALS = 10_000

Log = Callable[..., None]


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    """A deadlock would hang the test run: instead it ends with every thread's stack."""
    faulthandler.dump_traceback_later(WATCHDOG_SECONDS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def by_facade(processor: BatchLogRecordProcessor) -> Log:
    logger = make_logger(processor)
    return lambda message, *args, **fields: logger.info(message, *args, **fields)


def by_handler(processor: BatchLogRecordProcessor) -> Log:
    logger = logging.Logger("tests.reentrancy", logging.DEBUG)
    logger.addHandler(LoggingHandler(processor=processor))
    return lambda message, *args, **fields: logger.info(message, *args, extra=fields)


def by_sdk(processor: BatchLogRecordProcessor) -> Log:
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(processor)
    logger = provider.get_logger("tests.reentrancy")

    def log(message: str, *args: object, **fields: Any) -> None:
        logger.emit(body=message % args if args else message, severity_number=SeverityNumber.INFO, attributes=fields)

    return log


WAYS = pytest.mark.parametrize("way", [by_facade, by_handler, by_sdk])


@WAYS
@pytest.mark.parametrize("when_full", ["drop_newest", "drop_oldest", "block"])
def test_logging_from_del_at_any_allocation(way, when_full):
    exporter = ExporterForTests(keep=False)
    processor = BatchLogRecordProcessor(exporter, 5, 50, None, 200, when_full=when_full, block_timeout=0.01)
    with running(processor):
        log = way(processor)
        calls = [0]

        class Garbage:
            def __init__(self) -> None:
                self.me = self

            def __del__(self) -> None:
                calls[0] += 1
                log("collected", key="value")

        before = gc.get_threshold()
        gc.set_threshold(1)
        try:
            for number in range(400):
                Garbage()
                log("call %d", number, parts=[number])
        finally:
            gc.set_threshold(*before)
        # A collection that runs in another thread keeps this one from beginning.
        wait_until(lambda: gc.collect() >= 0 and calls[0] == 400)
        processor.force_flush(10_000)
        stats = processor.stats()
        check_identity(stats)
        assert stats.created == 800
        assert stats.exported == exporter.count
        assert stats.refused["queue_full"] + stats.refused["reentrant"] + stats.exported == 800


@WAYS
def test_logging_from_a_signal_handler_ten_thousand_times(way):
    exporter = ExporterForTests(keep=False)
    processor = BatchLogRecordProcessor(exporter, 20, 200, None, 1_000, when_full="drop_oldest")
    with running(processor):
        log = way(processor)
        handled = calls = 0
        # The full number once: the other ways share the queue's part of it.
        signals = SIGNALS if way is by_facade else SIGNALS // 5

        def handle(number: int, frame: object) -> None:
            nonlocal handled
            handled += 1
            log("signal %d", handled, parts=[handled]) if handled % 5 == 0 else log("signal %d", handled)
            # Armed anew at the end: on a slow machine a periodic timer would pile handlers up without end. And not by
            # the last one, which would find SIGALRM without a handler.
            if handled < signals:
                signal.setitimer(signal.ITIMER_REAL, 1e-4)

        before = signal.signal(signal.SIGALRM, handle)
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-4)
            while handled < signals:
                calls += 1
                log("call %d", calls, parts=[calls]) if calls % 5 == 0 else log("call %d", calls)
                if calls % 100 == 0:
                    processor.stats()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert processor.force_flush(10_000) in (True, False)
        stats = processor.stats()
        check_identity(stats)
        assert stats.created == handled + calls
        assert stats.exported == exporter.count
        assert stats.exported + sum(stats.refused.values()) == handled + calls
        assert processor.pipeline.port.queue.held() == 0


@pytest.mark.parametrize("action", ["force_flush", "shutdown"])
def test_a_signal_handler_may_flush_and_shut_down_on_top_of_the_same(action):
    """What a SIGTERM does to a process that is ending already."""
    for _ in range(20):
        exporter = ExporterForTests(pause=0.002)
        processor = BatchLogRecordProcessor(exporter, 1_000_000)
        log = by_facade(processor)
        answers: list[object] = []

        act: Callable[..., object] = getattr(processor, action)

        def handle(number: int, frame: object, act: Any = act, answers: Any = answers) -> None:
            answers.append(act(50))

        before = signal.signal(signal.SIGALRM, handle)
        try:
            log("one")
            signal.setitimer(signal.ITIMER_REAL, 1e-3)
            act(2_000)
            wait_until(lambda answers=answers: answers)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        processor.shutdown(2_000)
        check_identity(processor.stats())
        assert processor.stats().exported == 1


class Chatty:
    """Logs when it is converted."""

    def __init__(self, log: Log, *, with_itself: bool) -> None:
        self.log = log
        self.with_itself = with_itself
        self.calls = 0

    def __str__(self) -> str:
        self.calls += 1
        if self.with_itself:
            self.log("nested %s", self, field=self)
        else:
            self.log("nested", field=1)
        return "chatty"


@pytest.mark.parametrize("way", [by_facade, by_handler])
def test_a_plain_record_from_a_str_method_is_taken(way):
    exporter = ExporterForTests()
    with running(BatchLogRecordProcessor(exporter, 1_000_000)) as processor:
        log = way(processor)
        chatty = Chatty(log, with_itself=False)
        log("outer %s", chatty)
        log("outer", field=chatty)
        assert processor.force_flush(5_000)
        stats = processor.stats()
        check_identity(stats)
        assert chatty.calls >= 2
        assert stats.created == stats.exported == 2 + chatty.calls
        assert exporter.bodies().count("nested") == chatty.calls
        assert "outer chatty" in exporter.bodies()


@pytest.mark.parametrize("way", [by_facade, by_handler])
def test_a_record_from_a_str_method_that_would_convert_again_is_counted_as_reentrant(way):
    exporter = ExporterForTests()
    with running(BatchLogRecordProcessor(exporter, 1_000_000)) as processor:
        log = way(processor)
        chatty = Chatty(log, with_itself=True)
        log("outer %s", chatty)
        log("outer", field=chatty)
        assert processor.force_flush(5_000)
        stats = processor.stats()
        check_identity(stats)
        assert stats.exported == 2
        assert stats.refused["reentrant"] == chatty.calls > 0
        # It is the conversion that is not repeated; the thread itself may log again.
        log("after %s", object())
        assert processor.force_flush(5_000)
        assert processor.stats().exported == 3


def test_what_the_exporter_logs_while_it_exports_is_not_created():
    class Logging(ExporterForTests):
        def export(self, batch: Any) -> LogRecordExportResult:
            for log in logs:
                log("from the exporter")
                log("from the exporter", parts=[1])
            return super().export(batch)

    exporter = Logging()
    with running(BatchLogRecordProcessor(exporter, 1_000_000)) as processor:
        logs = [way(processor) for way in (by_facade, by_handler, by_sdk)]
        logs[0]("from the application")
        assert processor.force_flush(5_000)
        assert processor.force_flush(5_000)
        assert processor.stats().created == 1
        assert exporter.bodies() == ["from the application"]


def test_what_a_finalizer_logs_in_the_workers_thread_is_the_applications():
    class Garbage:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            logs[0]("finalized")

    class Collecting(ExporterForTests):
        def export(self, batch: Any) -> LogRecordExportResult:
            if not self.count:
                Garbage()
                gc.collect()
            return super().export(batch)

    exporter = Collecting()
    with running(BatchLogRecordProcessor(exporter, 1_000_000)) as processor:
        logs = [by_facade(processor)]
        logs[0]("one")
        assert processor.force_flush(5_000)
        assert processor.force_flush(5_000)
        assert exporter.bodies() == ["one", "finalized"]
        assert processor.stats().created == 2


@pytest.mark.parametrize("official", [False, True], ids=["ours", "official"])
def test_debug_lines_of_urllib3_while_exporting_are_not_created(official):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as OfficialExporter

    library = logging.getLogger("urllib3")
    seen: list[str] = []

    class Watching(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    with OTLPServer() as server:
        endpoint = f"{server.endpoint}/v1/logs" if not server.endpoint.endswith("/v1/logs") else server.endpoint
        exporter: Any = OfficialExporter(endpoint=endpoint) if official else OTLPLogExporter(endpoint=endpoint)
        with running(BatchLogRecordProcessor(exporter, 1_000_000)) as processor:
            handlers = [LoggingHandler(processor=processor), Watching()]
            level = library.level
            library.setLevel(logging.DEBUG)
            for handler in handlers:
                library.addHandler(handler)
            try:
                for number in range(3):
                    make_logger(processor).info("m%d", number)
                    assert processor.force_flush(10_000)
            finally:
                library.setLevel(level)
                for handler in handlers:
                    library.removeHandler(handler)
            assert processor.stats().created == processor.stats().exported == 3
            assert seen or not official, "urllib3 said nothing: the test shows nothing"


def test_a_handlers_flush_and_close_wait_for_nothing_while_logging_is_locked():
    """Reconfiguring `logging`, and ending it, call both under locks that an export may need."""
    exporter = ExporterForTests()

    class Locking(ExporterForTests):
        def export(self, batch: Any) -> LogRecordExportResult:
            result = super().export(batch)
            with logging._lock:  # type: ignore[attr-defined]
                return result

    exporter = Locking()
    with running(BatchLogRecordProcessor(exporter, 5)) as processor:
        handler = LoggingHandler(processor=processor)
        logger = logging.Logger("tests.locked")
        logger.addHandler(handler)
        with logging._lock:  # type: ignore[attr-defined]
            logger.error("one")
            wait_until(exporter.exporting.is_set)
            began = time.monotonic()
            handler.acquire()
            try:
                handler.flush()
                logger.error("two")
                handler.close()
            finally:
                handler.release()
            assert time.monotonic() - began < 5.0
            # Asking for the export is waiting for it: that keeps its deadline.
            assert processor.force_flush(100) is False
        assert processor.force_flush(10_000)
        assert exporter.bodies() == ["one", "two"]


DICT_CONFIG = """
import faulthandler, logging, logging.config, threading
faulthandler.dump_traceback_later(60, exit=True)
from otelog import BatchLogRecordProcessor, LoggingHandler
from tests.pipelines import ExporterForTests, check_identity

exporter = ExporterForTests()
processor = BatchLogRecordProcessor(exporter, 5, 50, None, 10_000)
counts = {"main": 0, "other": 0}
done = threading.Event()

class Emitting(logging.Formatter):
    def __init__(self, *args, **kwargs):
        super().__init__()
        log("main", "from inside dictConfig")

def log(who, message):
    logger.warning(message)
    counts[who] += 1

def other():
    while not done.is_set():
        if counts["other"] < 5000:
            log("other", "from another thread")

logger = logging.getLogger("app")
logger.propagate = False
kept = LoggingHandler(processor=processor)
logger.addHandler(kept)
config = {
    "version": 1,
    "disable_existing_loggers": True,
    "formatters": {"f": {"()": Emitting}},
    "handlers": {"otel": {"()": lambda: LoggingHandler(processor=processor)},
                 "null": {"class": "logging.NullHandler", "formatter": "f"}},
    "root": {"level": "INFO", "handlers": ["otel", "null"]},
    "loggers": {"app": {"level": "INFO", "handlers": ["otel"], "propagate": False}},
}
exporter.gate.clear()
log("main", "held")
assert exporter.exporting.wait(10)
thread = threading.Thread(target=other)
thread.start()
between = 0
for _ in range(20):
    # Every round closes the handlers of the round before, under logging's lock, while the exporter hangs.
    logging.config.dictConfig(config)
    log("main", "between")
done.set()
thread.join()
exporter.gate.set()
assert processor.force_flush(20_000)
stats = processor.stats()
check_identity(stats)
calls = sum(counts.values())
# While dictConfig takes the handlers off and puts them on again, the standard library itself drops records.
assert stats.created <= calls, (stats.created, calls)
assert exporter.bodies().count("between") == 20
assert stats.exported == stats.created == exporter.count
logging.shutdown()
assert processor.shutdown(10_000)
print("ok", stats.created)
"""


def test_dict_config_while_everybody_logs_and_the_exporter_hangs():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DICT_CONFIG], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok ")


AT_EXIT = """
import atexit, gc, sys
from otelog import BatchLogRecordProcessor
from tests.pipelines import ExporterForTests, make_logger

class Last:
    def __del__(self):
        log.info("at the very end")
        log.info("at the very end %s", object())

processor = BatchLogRecordProcessor(ExporterForTests(), 1_000_000)
log = make_logger(processor)
sys.modules["kept_to_the_end"] = last = Last()
last.me = last
log.info("one")
"""


def test_a_finalizer_that_logs_at_the_interpreters_end_leaves_no_traceback():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", AT_EXIT], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr


def test_logging_at_the_bottom_of_the_stack_neither_raises_nor_loses_count():
    """Deep recursion ends somewhere inside a log call: then the call fails as a whole, or it is counted."""
    exporter = ExporterForTests(keep=False)
    with running(BatchLogRecordProcessor(exporter, 1_000_000, 10, None, 2_000, when_full="drop_oldest")) as processor:
        log = by_facade(processor)
        returned = [0]

        def descend(depth: int) -> None:
            log("depth %d", depth)
            returned[0] += 1
            log("depth", parts=[depth])
            returned[0] += 1
            descend(depth + 1)

        with pytest.raises(RecursionError):
            descend(0)
        assert threading.active_count() >= 2
        processor.force_flush(10_000)
        stats = processor.stats()
        check_identity(stats)
        # A call that was cut off may have put its record in.
        assert returned[0] <= stats.created <= returned[0] + 1
