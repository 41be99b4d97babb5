"""Whatever brings a call to the pipeline a second time, it is taken once; what only looks like it is taken, too."""

from __future__ import annotations

import copy
import io
import logging
import logging.config
import logging.handlers
import multiprocessing
import pickle
import queue
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import _logs
from opentelemetry.instrumentation.logging.handler import LoggingHandler as ForeignHandler
from opentelemetry.sdk.trace import TracerProvider

import otelog
from otelog._capture import once as once_module
from otelog.testing import OTLPServer
from tests.arrivals import bodies, configured, flush_records
from tests.pipelines import ExporterForTests, running
from tools.waiting import wait_until

NAMES = ("", "shop", "shop.web")
FLAGS = ("logProcesses", "logThreads", "logMultiprocessing", "logAsyncioTasks")


@pytest.fixture(autouse=True)
def loggers_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take pytest's handlers off, and give the loggers back their state: pytest's forward nothing, but who knows."""
    for flag in FLAGS:
        monkeypatch.setattr(logging, flag, True, raising=False)
    known = [logging.getLogger(name) for name in NAMES]
    before = [(one, list(one.handlers), one.level, one.propagate, list(one.filters)) for one in known]
    logging.getLogger().handlers = []
    yield
    for logger, handlers, level, propagate, filters in before:
        logger.handlers, logger.level, logger.propagate, logger.filters = handlers, level, propagate, filters
        logger.manager._clear_cache()


class Passing(logging.Handler):
    """A handler of the application's that hands on at once, as those that add something do."""

    def __init__(self, target: logging.Handler) -> None:
        super().__init__()
        self.target_of_mine = target

    def emit(self, record: logging.LogRecord) -> None:
        self.target_of_mine.handle(record)


class PassingCopies(Passing):
    def emit(self, record: logging.LogRecord) -> None:
        super().emit(copy.copy(record))


class PassingDicts(Passing):
    def emit(self, record: logging.LogRecord) -> None:
        super().emit(logging.makeLogRecord(record.__dict__))


class Later(logging.Handler):
    """A handler of the application's with a thread of its own."""

    def __init__(self, target: logging.Handler) -> None:
        super().__init__()
        self.waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.run, args=(target,))
        self.thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        self.waiting.put(copy.copy(record))

    def run(self, target: logging.Handler) -> None:
        while (record := self.waiting.get()) is not None:
            target.handle(record)

    def stop(self) -> None:
        self.waiting.put(None)
        self.thread.join()


class Unchanged(logging.handlers.QueueHandler):
    """As it is often overridden where nothing leaves the process."""

    def prepare(self, record: logging.LogRecord) -> Any:
        return record


class Pickled(logging.handlers.QueueHandler):
    """As a queue between processes has it, without the time that its thread takes."""

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.put_nowait(pickle.loads(pickle.dumps(record)))


class TurnsToFilter(logging.Filter):
    """A filter that hands on."""

    def __init__(self, target: logging.Handler) -> None:
        super().__init__()
        self.target = target

    def filter(self, record: logging.LogRecord) -> bool:
        self.target.handle(record)
        return True


@contextmanager
def listening(waiting: Any, *handlers: logging.Handler) -> Iterator[None]:
    listener = logging.handlers.QueueListener(waiting, *handlers)
    listener.start()
    try:
        yield
    finally:
        listener.stop()


@contextmanager
def configured_alone(**options: Any) -> Iterator[OTLPServer]:
    """As `configured`, without pytest's handlers, which are there again for each test."""
    root = logging.getLogger()
    root.handlers = [one for one in root.handlers if not type(one).__module__.startswith("_pytest")]
    with configured(**{"level": "DEBUG", **options}) as server:
        yield server


def add(handler: logging.Handler, name: str = "") -> None:
    logging.getLogger(name).addHandler(handler)


# What brings a call again. Each is called before or after `configure`; what it does at last brings what it holds.


def handler_by_hand() -> Iterator[None]:
    add(otelog.LoggingHandler())
    yield


def handlers_on_child_and_root_by_hand() -> Iterator[None]:
    add(otelog.LoggingHandler(), "shop.web")
    add(otelog.LoggingHandler(), "shop")
    add(otelog.LoggingHandler())
    yield


def one_handler_on_child_and_root() -> Iterator[None]:
    handler = otelog.LoggingHandler()
    for name in NAMES:
        add(handler, name)
    yield


def handler_appended_to_the_list() -> Iterator[None]:
    logging.getLogger().handlers.append(otelog.LoggingHandler())
    logging.getLogger("shop").handlers.insert(0, otelog.LoggingHandler())
    yield


def copied_handler() -> Iterator[None]:
    handler = otelog.LoggingHandler()
    add(handler)
    add(copy.copy(handler), "shop")
    yield


def handler_by_dict_config() -> Iterator[None]:
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"otelog": {"class": "otelog.LoggingHandler"}, "own": {"()": otelog.LoggingHandler}},
            "loggers": {"shop": {"handlers": ["own"]}},
            "root": {"level": "DEBUG", "handlers": ["otelog"]},
        }
    )
    yield


def handler_by_file_config() -> Iterator[None]:
    logging.config.fileConfig(
        io.StringIO(
            "[loggers]\nkeys=root\n[handlers]\nkeys=o\n[formatters]\nkeys=\n"
            "[logger_root]\nlevel=DEBUG\nhandlers=o\n[handler_o]\nclass=otelog.LoggingHandler\nargs=()\n"
        ),
        disable_existing_loggers=False,
    )
    yield


def handler_by_basic_config() -> Iterator[None]:
    logging.basicConfig(
        level=logging.DEBUG, handlers=[otelog.LoggingHandler(), logging.NullHandler()], force=True, format="%(message)s"
    )
    yield


def queue_and_listener(kind: type[logging.handlers.QueueHandler] = logging.handlers.QueueHandler) -> Iterator[None]:
    waiting: queue.Queue[Any] = queue.Queue()
    add(kind(waiting))
    with listening(waiting, otelog.LoggingHandler()):
        yield


def queue_without_process_ids() -> Iterator[None]:
    logging.logProcesses = False
    yield from queue_and_listener()


def queue_without_thread_ids() -> Iterator[None]:
    logging.logThreads = False
    yield from queue_and_listener()


def queue_without_anything() -> Iterator[None]:
    for flag in FLAGS:
        setattr(logging, flag, False)
    yield from queue_and_listener()


def pickled_without_anything() -> Iterator[None]:
    for flag in FLAGS:
        setattr(logging, flag, False)
    yield from queue_and_listener(Pickled)


def queue_of_the_records_themselves() -> Iterator[None]:
    yield from queue_and_listener(Unchanged)


def queue_of_pickled_records() -> Iterator[None]:
    yield from queue_and_listener(Pickled)


def queue_between_processes() -> Iterator[None]:
    waiting: Any = multiprocessing.get_context("spawn").Queue()
    add(logging.handlers.QueueHandler(waiting))
    with listening(waiting, otelog.LoggingHandler()):
        yield
    waiting.close()
    waiting.join_thread()


def queue_on_a_child() -> Iterator[None]:
    waiting: queue.Queue[Any] = queue.Queue()
    add(logging.handlers.QueueHandler(waiting), "shop.web")
    with listening(waiting, otelog.LoggingHandler()):
        yield


def queue_before_and_after_ours() -> Iterator[None]:
    waiting: queue.Queue[Any] = queue.Queue()
    handler = otelog.LoggingHandler()
    for one in (logging.handlers.QueueHandler(waiting), handler, logging.handlers.QueueHandler(waiting)):
        add(one)
    with listening(waiting, handler, otelog.LoggingHandler()):
        yield


def queue_that_is_appended_to_the_list() -> Iterator[None]:
    waiting: queue.Queue[Any] = queue.Queue()
    logging.getLogger().handlers.append(logging.handlers.QueueHandler(waiting))
    with listening(waiting, otelog.LoggingHandler()):
        yield


def queue_that_is_read_at_the_end() -> Iterator[None]:
    waiting: queue.Queue[Any] = queue.Queue()
    add(logging.handlers.QueueHandler(waiting))
    yield
    with listening(waiting, otelog.LoggingHandler()):
        wait_until(waiting.empty, 5, what="the listener")


def two_queues_in_a_row() -> Iterator[None]:
    first: queue.Queue[Any] = queue.Queue()
    second: queue.Queue[Any] = queue.Queue()
    add(logging.handlers.QueueHandler(first))
    with (
        listening(second, otelog.LoggingHandler()),
        listening(first, logging.handlers.QueueHandler(second), otelog.LoggingHandler()),
    ):
        yield


def queue_of_a_custom_class() -> Iterator[None]:
    handler = Later(otelog.LoggingHandler())
    add(handler)
    yield
    handler.stop()


def queue_of_a_custom_class_that_is_appended_to_the_list() -> Iterator[None]:
    handler = Later(otelog.LoggingHandler())
    logging.getLogger("shop.web").handlers.append(handler)
    yield
    handler.stop()


def queue_by_dict_config() -> Iterator[None]:
    if sys.version_info < (3, 12):
        pytest.skip("dictConfig makes queues from 3.12 on")
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {
                "otelog": {"class": "otelog.LoggingHandler"},
                "queue": {"class": "logging.handlers.QueueHandler", "handlers": ["otelog"]},
            },
            "root": {"level": "DEBUG", "handlers": ["queue"]},
        }
    )
    handler: Any = logging.getHandlerByName("queue")
    handler.listener.start()
    yield
    handler.listener.stop()


def buffer(capacity: int = 1000, *, flush_in_thread: bool = False) -> Iterator[None]:
    handler = logging.handlers.MemoryHandler(capacity, target=otelog.LoggingHandler())
    add(handler)
    yield
    if flush_in_thread:
        thread = threading.Thread(target=handler.flush)
        thread.start()
        thread.join()
    handler.close()


def buffer_that_is_emptied_in_a_thread() -> Iterator[None]:
    yield from buffer(flush_in_thread=True)


def buffer_that_is_emptied_in_the_call() -> Iterator[None]:
    yield from buffer(1)


def buffer_that_is_emptied_now_and_then() -> Iterator[None]:
    yield from buffer(2)


def buffer_without_process_ids() -> Iterator[None]:
    logging.logProcesses = False
    yield from buffer()


def buffer_that_is_appended_to_the_list() -> Iterator[None]:
    handler = logging.handlers.MemoryHandler(1000, target=otelog.LoggingHandler())
    logging.getLogger().handlers.append(handler)
    yield
    handler.close()


def buffer_before_the_handler_that_it_leads_to() -> Iterator[None]:
    handler = otelog.LoggingHandler()
    memory = logging.handlers.MemoryHandler(1000, target=handler)
    add(memory, "shop.web")
    add(memory)
    add(handler)
    yield
    memory.close()


def passing_handler(kind: type[Passing] = Passing) -> Iterator[None]:
    add(kind(otelog.LoggingHandler()))
    add(kind(otelog.LoggingHandler()), "shop.web")
    yield


def handler_that_passes_copies() -> Iterator[None]:
    yield from passing_handler(PassingCopies)


def handler_that_passes_dicts() -> Iterator[None]:
    yield from passing_handler(PassingDicts)


def passing_handler_that_is_also_ours() -> Iterator[None]:
    handler = otelog.LoggingHandler()
    add(handler)
    add(Passing(handler), "shop")
    yield


def filter_that_passes_on() -> Iterator[None]:
    logging.getLogger("shop.web").addFilter(TurnsToFilter(otelog.LoggingHandler()))
    yield


def logger_that_calls_handlers_in_its_own_way() -> Iterator[None]:
    class Own(logging.Logger):
        def callHandlers(self, record: logging.LogRecord) -> None:
            for one in (self, logging.root):
                for handler in one.handlers:
                    handler.handle(record)

    logger = Own("shop.web")
    logger.handlers = [otelog.LoggingHandler(), otelog.LoggingHandler()]
    before = logging.Logger.manager.loggerDict["shop.web"]
    logging.Logger.manager.loggerDict["shop.web"] = logger
    logger.parent, logger.propagate = logging.root, True
    yield
    logging.Logger.manager.loggerDict["shop.web"] = before


def foreign_handler() -> Iterator[None]:
    add(ForeignHandler())
    add(ForeignHandler(), "shop.web")
    yield


def foreign_handler_behind_a_buffer() -> Iterator[None]:
    handler = logging.handlers.MemoryHandler(1000, target=ForeignHandler())
    add(handler)
    yield
    handler.close()


def foreign_handler_behind_a_queue() -> Iterator[None]:
    waiting: queue.Queue[Any] = queue.Queue()
    add(logging.handlers.QueueHandler(waiting))
    with listening(waiting, ForeignHandler(), ForeignHandler()):
        yield


def foreign_handler_of_a_subclass() -> Iterator[None]:
    class Own(ForeignHandler):
        def emit(self, record: logging.LogRecord) -> None:
            super().emit(record)

    add(Own())
    add(Passing(Own()), "shop")
    yield


def deprecated_foreign_handler() -> Iterator[None]:
    from opentelemetry.sdk._logs import LoggingHandler as Deprecated

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        add(Deprecated())
        add(Passing(Deprecated()), "shop.web")
    yield


def foreign_handler_and_two_of_ours() -> Iterator[None]:
    add(otelog.LoggingHandler(), "shop")
    add(ForeignHandler(), "shop.web")
    add(otelog.LoggingHandler())
    yield


WAYS: list[Callable[[], Iterator[None]]] = [
    handler_by_hand,
    handlers_on_child_and_root_by_hand,
    one_handler_on_child_and_root,
    handler_appended_to_the_list,
    copied_handler,
    handler_by_dict_config,
    handler_by_file_config,
    handler_by_basic_config,
    queue_and_listener,
    queue_without_process_ids,
    queue_without_thread_ids,
    queue_without_anything,
    pickled_without_anything,
    queue_of_the_records_themselves,
    queue_of_pickled_records,
    queue_between_processes,
    queue_on_a_child,
    queue_before_and_after_ours,
    queue_that_is_appended_to_the_list,
    queue_that_is_read_at_the_end,
    two_queues_in_a_row,
    queue_of_a_custom_class,
    queue_of_a_custom_class_that_is_appended_to_the_list,
    queue_by_dict_config,
    buffer,
    buffer_that_is_emptied_in_a_thread,
    buffer_that_is_emptied_in_the_call,
    buffer_that_is_emptied_now_and_then,
    buffer_without_process_ids,
    buffer_that_is_appended_to_the_list,
    buffer_before_the_handler_that_it_leads_to,
    passing_handler,
    handler_that_passes_copies,
    handler_that_passes_dicts,
    passing_handler_that_is_also_ours,
    filter_that_passes_on,
    logger_that_calls_handlers_in_its_own_way,
    foreign_handler,
    foreign_handler_behind_a_buffer,
    foreign_handler_behind_a_queue,
    foreign_handler_of_a_subclass,
    deprecated_foreign_handler,
    foreign_handler_and_two_of_ours,
]


def speak(server: OTLPServer, way: Iterator[None]) -> None:
    """Log within a span, with each logger and twice from each place, and see that all arrives once, and in the span."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    said = []
    with tracer.start_as_current_span("request") as span:
        for number in range(3):
            for name in NAMES:
                logging.getLogger(name or None).warning("%s says %d", name, number)
                said.append(f"{name} says {number}")
    next(way, None)
    records = flush_records(server)
    assert sorted(bodies(records)) == sorted(said)
    # What comes in the call has its trace, whatever comes later.
    assert {one.trace_id for one in records} == {span.get_span_context().trace_id.to_bytes(16, "big")}
    stats = otelog.stats()
    assert (stats.created, stats.lost) == (len(said), 0)


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "handled"])
@pytest.mark.parametrize("way", WAYS)
def test_a_call_is_taken_once_with(way: Callable[[], Iterator[None]], direct: bool) -> None:
    with configured_alone(direct_logging=direct) as server:
        bringing = way()
        next(bringing)
        speak(server, bringing)


@pytest.mark.parametrize("way", WAYS)
def test_a_call_is_taken_once_when_configured_after(way: Callable[[], Iterator[None]]) -> None:
    bringing = way()
    next(bringing)
    with configured_alone() as server:
        speak(server, bringing)


@pytest.mark.parametrize("way", [handler_by_hand, queue_and_listener, buffer, passing_handler])
def test_a_way_that_appears_while_the_application_logs_is_seen(way: Callable[[], Iterator[None]]) -> None:
    with configured_alone() as server:

        def say(number: int) -> None:
            logging.getLogger("shop").warning("%d", number)

        say(1)
        bringing = way()
        next(bringing)
        say(2)
        next(bringing, None)
        assert bodies(flush_records(server)) == ["1", "2"]


@pytest.mark.parametrize("same", [True, False], ids=["one handler", "two"])
def test_a_processor_of_its_own_takes_a_call_once_too(same: bool) -> None:
    exporter = ExporterForTests()
    with running(otelog.BatchLogRecordProcessor(exporter)) as processor:
        first = otelog.LoggingHandler(processor=processor)
        second = first if same else otelog.LoggingHandler(processor=processor)
        memory = logging.handlers.MemoryHandler(1000, target=second)
        for name, handler in (("shop", first), ("", second), ("shop.web", memory)):
            add(handler, name)
        for number in range(5):
            logging.getLogger("shop.web").warning("%d", number)
        memory.close()
        assert processor.force_flush()
    assert exporter.bodies() == list("01234")


def test_two_pipelines_have_one_each() -> None:
    exporter = ExporterForTests()
    with configured_alone() as server, running(otelog.BatchLogRecordProcessor(exporter)) as processor:
        add(otelog.LoggingHandler(processor=processor))
        add(otelog.LoggingHandler())
        logging.getLogger("shop").warning("x")
        assert processor.force_flush()
        assert bodies(flush_records(server)) == exporter.bodies() == ["x"]


def test_a_record_that_is_handled_again_is_taken_once() -> None:
    with configured_alone() as server:
        add(Passing(logging.NullHandler()))
        logger = logging.getLogger("shop")
        record = logger.makeRecord("shop", 30, __file__, 1, "x", (), None)
        logger.handle(record)
        logger.handle(record)
        assert bodies(flush_records(server)) == ["x"]


def test_a_listener_that_is_quicker_leaves_the_record_to_the_call_which_has_the_trace() -> None:
    handled = threading.Event()

    class Waiting(logging.handlers.QueueHandler):
        def enqueue(self, record: logging.LogRecord) -> None:
            super().enqueue(record)
            assert handled.wait(10.0)
            handled.clear()

    class Telling(otelog.LoggingHandler):
        def handle(self, record: logging.LogRecord) -> bool:
            taken = super().handle(record)
            handled.set()
            return taken

    def bring() -> Iterator[None]:
        waiting: queue.Queue[Any] = queue.Queue()
        add(Waiting(waiting), "shop")
        add(Waiting(waiting), "shop.web")
        with listening(waiting, Telling()):
            yield

    with configured_alone() as server:
        bringing = bring()
        next(bringing)
        speak(server, bringing)


def test_what_was_forgotten_is_still_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # More is held than is remembered: then it counts who brings it.
    count = 2 * once_module.MOST_REMEMBERED + 1000
    with configured_alone(max_queue_size=2 * count) as server:
        bringing = buffer(10**6)
        next(bringing)
        log = logging.getLogger("shop")
        for number in range(count):
            log.warning("%d", number)
        next(bringing, None)
        found = bodies(flush_records(server))
    assert len(found) == count == len(set(found))


def test_threads_that_log_at_once_lose_and_double_nothing() -> None:
    count, threads = 2000, 4
    with configured_alone(max_queue_size=100_000) as server:
        bringing = queue_without_anything()
        next(bringing)
        add(otelog.LoggingHandler(), "shop")

        def say(thread: int) -> None:
            for number in range(count):
                logging.getLogger("shop.web").warning("%d %d", thread, number)

        started = [threading.Thread(target=say, args=(number,)) for number in range(threads)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
        next(bringing, None)
        found = bodies(flush_records(server))
    assert sorted(found) == sorted(f"{thread} {number}" for thread in range(threads) for number in range(count))


def test_nothing_is_kept_alive_and_memory_is_bounded() -> None:
    once = once_module.Once()
    once.watch()
    for number in range(5 * once_module.MOST_REMEMBERED):
        once.remember(logging.makeLogRecord({"lineno": number}))
    assert len(once._young) + len(once._old) <= 2 * once_module.MOST_REMEMBERED
    record = logging.makeLogRecord({})
    before = sys.getrefcount(record)
    once.remember(record)
    assert sys.getrefcount(record) == before
    assert once.knows(record) and once.knows(copy.copy(record))
    assert once.comes_again(record)
    # Another record of the same instant, as far as can be seen.
    assert not once.comes_again(copy.copy(record))


# What only looks as if it came again.


def brought(record: logging.LogRecord, handler: logging.Handler, where: str) -> None:
    """Give a record to a handler: here, or in another thread."""
    if where == "here":
        handler.handle(record)
    else:
        thread = threading.Thread(target=handler.handle, args=(record,))
        thread.start()
        thread.join()


@pytest.mark.parametrize("where", ["here", "in a thread"])
@pytest.mark.parametrize("watched", [False, True])
def test_a_record_that_another_library_has_made_is_new(where: str, watched: bool) -> None:
    # As libraries do it that hand on to handlers of `logging`; the loggers of that name are none of theirs.
    logging.getLogger("shop")
    with configured_alone() as server:
        if watched:
            add(Passing(logging.NullHandler()))
        (handler,) = [one for one in logging.getLogger().handlers if isinstance(one, otelog.LoggingHandler)]
        for number in range(3):
            record = logging.getLogger().makeRecord("shop", 30, __file__, number, f"{number}", (), None)
            brought(record, handler, where)
        logging.getLogger("shop").warning("logged")
        assert bodies(flush_records(server)) == ["0", "1", "2", "logged"]


class Not(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "no" not in str(record.msg)


def test_what_the_handler_on_the_way_does_not_take_a_listener_brings() -> None:
    logging.getLogger().setLevel("DEBUG")
    direct = otelog.LoggingHandler("ERROR")
    direct.addFilter(Not())
    add(direct)
    with configured_alone() as server:
        waiting: queue.Queue[Any] = queue.Queue()
        add(logging.handlers.QueueHandler(waiting))
        with listening(waiting, otelog.LoggingHandler()):
            for level, text in ((30, "below"), (40, "both"), (40, "no, says the filter")):
                logging.getLogger("shop").log(level, text)
        found = bodies(flush_records(server))
    assert sorted(found) == ["below", "both", "no, says the filter"]


def test_what_a_foreign_handler_alone_takes_it_takes() -> None:
    with configured_alone() as server:
        root = logging.getLogger()
        (ours,) = [one for one in root.handlers if isinstance(one, otelog.LoggingHandler)]
        ours.setLevel("ERROR")
        foreign = ForeignHandler(logger_provider=_logs.get_logger_provider())  # type: ignore[arg-type]
        root.addHandler(foreign)
        logging.getLogger("shop").warning("foreign")
        logging.getLogger("shop").error("both")
        foreign.handle(root.makeRecord("shop", 30, __file__, 1, "by hand", (), None))
        assert sorted(bodies(flush_records(server))) == ["both", "by hand", "foreign"]


def test_a_broken_record_raises_through_no_handler(capfd: pytest.CaptureFixture[str]) -> None:
    with configured_alone() as server:
        for handler in (ForeignHandler(), Passing(ForeignHandler()), Passing(otelog.LoggingHandler())):
            add(handler)
        record = logging.getLogger("shop").makeRecord("shop", 30, __file__, 1, "x", (), None)
        record.lineno = []  # type: ignore[assignment]
        logging.getLogger("shop").handle(record)
        assert set(bodies(flush_records(server))) == {"x"}
        assert otelog.stats().lost == 0


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("said", ["id", "name", "nothing"])
def test_records_of_another_process_are_new(said: str, beside: bool) -> None:
    with configured_alone() as server:
        waiting: queue.Queue[Any] = queue.Queue()
        if beside:
            add(logging.handlers.QueueHandler(waiting))
        logging.getLogger("shop").warning("own")
        record = logging.getLogger("shop").makeRecord("shop", 30, __file__, 1, "another's", (), None)
        record.process = (record.process or 0) + 1 if said == "id" else None
        record.processName = None if said == "nothing" else "Worker-1"
        waiting.put(pickle.loads(pickle.dumps(record)))
        with listening(waiting, otelog.LoggingHandler(), otelog.LoggingHandler()):
            wait_until(waiting.empty, 5, what="the listener")
        assert sorted(bodies(flush_records(server))) == ["another's", "own"]


def test_calls_at_one_and_the_same_instant_are_several(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = time.time()
    monkeypatch.setattr(time, "time", lambda: moment)
    monkeypatch.setattr(time, "time_ns", lambda: int(moment * 1e9))
    with configured_alone() as server:
        bringing = queue_without_anything()
        next(bringing)
        add(otelog.LoggingHandler(), "shop")
        for number in range(20):
            logging.getLogger("shop").warning("%d", number)
        next(bringing, None)
        assert sorted(bodies(flush_records(server)), key=int) == [str(number) for number in range(20)]


def test_a_single_handler_remembers_nothing() -> None:
    """In a process of its own: the handlers of other tests may still be alive here."""
    code = """
import io, logging, sys
import otelog
otelog.configure(endpoint=sys.argv[1], direct_logging=False)
logging.getLogger().addHandler(logging.StreamHandler(io.StringIO()))
(handler,) = [one for one in logging.getLogger().handlers if isinstance(one, otelog.LoggingHandler)]
logging.getLogger("shop").warning("x")
assert not handler.watches
assert not handler.pipeline.once._young
"""
    with OTLPServer() as server:
        done = subprocess.run(
            [sys.executable, "-c", code, server.endpoint], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert bodies(server.records) == ["x"]
