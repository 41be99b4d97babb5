"""Loggers, handlers and tracked functions that are copied, pickled or sent to another process."""

from __future__ import annotations

import concurrent.futures
import copy
import logging
import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import otelog
from otelog._capture.facade import Logger
from otelog.testing import OTLPServer
from tests.arrivals import bodies, configured, fields_of, flush_record, flush_records
from tests.pipelines import ExporterForTests, make_logger, running

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)
FIELDS = {"tenant": "t-1", "tags": ["a", {"b": None}], "raw": b"\x00", "ratio": 0.5}


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with configured(level="DEBUG") as one:
        yield one


class OwnLogger(Logger):
    """A subclass with an attribute of its own, and a constructor that takes nothing."""

    def __init__(self) -> None:
        super().__init__("own", otelog.get_logger()._pipeline)
        self.extra = "kept"


class Job:
    """As applications have it: a logger as an attribute."""

    def __init__(self) -> None:
        self.log = otelog.get_logger("jobs").bind(**FIELDS)
        self.work = otelog.track("job", logger=self.log, size=3)

    def run(self) -> str:
        with self.work:
            self.log.info("worked")
        return self.log.name


COPIES: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    *(lambda value, protocol=protocol: pickle.loads(pickle.dumps(value, protocol)) for protocol in range(6)),
]


@pytest.mark.parametrize("make", COPIES)
@pytest.mark.parametrize("fields", [{}, FIELDS])
def test_a_copy_of_a_logger_logs_as_the_logger_does(
    server: OTLPServer, make: Callable[[Any], Any], fields: dict[str, Any]
) -> None:
    log = otelog.get_logger("shop")
    made = make(log.bind(**fields) if fields else log)
    assert made.name == "shop"
    made.info("copied", n=1)
    assert fields_of(flush_record(server)) == {**fields, "n": 1}


@pytest.mark.parametrize("make", COPIES[2:])
def test_a_logger_that_is_pickled_before_configure_finds_the_pipeline(make: Callable[[Any], Any]) -> None:
    made = make(otelog.get_logger("early").bind(**FIELDS))
    with configured(level="DEBUG") as server:
        made.info("x")
        assert fields_of(flush_record(server)) == FIELDS


def test_many_bound_fields_travel_whole(server: OTLPServer) -> None:
    otelog.configure(endpoint=server.endpoint, max_attributes=300)
    log = otelog.get_logger("shop").bind(**{f"key{number}": number for number in range(250)})
    pickle.loads(pickle.dumps(log)).info("x")
    assert len(fields_of(flush_record(server))) == 250


@pytest.mark.parametrize("make", COPIES)
def test_a_subclass_keeps_its_class_and_attributes(server: OTLPServer, make: Callable[[Any], Any]) -> None:
    made = make(OwnLogger())
    assert (type(made), made.name, made.extra) == (OwnLogger, "own", "kept")


def test_a_logger_of_a_processor_of_its_own_stays_with_it_if_copied_and_joins_the_process_if_pickled(
    server: OTLPServer,
) -> None:
    exporter = ExporterForTests()
    with running(otelog.BatchLogRecordProcessor(exporter)) as processor:
        log = make_logger(processor)
        copy.copy(log).info("copied")
        copy.deepcopy([log])[0].info("deeply")
        pickle.loads(pickle.dumps(log)).info("pickled")
        assert processor.force_flush()
    assert exporter.bodies() == ["copied", "deeply"]
    assert bodies(flush_records(server)) == ["pickled"]


def configure_worker(endpoint: str) -> None:
    # Under `-W error` what a fork inherits from the tests is warned of by an exception that nobody handles.
    otelog.configure(endpoint=endpoint, service_name="test", capture_exceptions=False)


def run_job(job: Job) -> str:
    name = job.run()
    assert otelog.flush(10.0)
    return name


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_pool_of_processes_takes_what_has_a_logger(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("this system has no such method")
    with (
        configured() as server,
        concurrent.futures.ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context(method),
            initializer=configure_worker,
            initargs=(server.endpoint,),
        ) as pool,
    ):
        assert pool.submit(run_job, Job()).result(60) == "jobs"
        records = server.records
    assert [one.split(" in ")[0] for one in bodies(records)] == ["worked", "job succeeded"]
    assert all(fields_of(one).items() >= FIELDS.items() for one in records)


@otelog.track("tracked", kind="function")
def tracked(number: int) -> int:
    return number + 1


@pytest.mark.parametrize("make", COPIES)
def test_a_tracked_function_travels_by_its_name(server: OTLPServer, make: Callable[[Any], Any]) -> None:
    assert make(tracked) is tracked
    assert make(tracked)(1) == 2
    assert fields_of(flush_record(server))["kind"] == "function"


@pytest.mark.parametrize("make", COPIES)
def test_an_operation_is_copied_as_it_was_before_it_began(server: OTLPServer, make: Callable[[Any], Any]) -> None:
    operation = otelog.track("work", level="warning", event=True, rows=1)
    with operation:
        inner = make(operation)
        with inner as entered:
            entered.add(more=2)
    outer, first = sorted((fields_of(one) for one in flush_records(server)), key=len)
    assert (outer.get("more"), first["more"], first["rows"]) == (None, 2, 1)


class Picky(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.msg != "no"


class OwnHandler(otelog.LoggingHandler):
    def __init__(self, tenant: str) -> None:
        super().__init__()
        self.tenant = tenant


@pytest.mark.parametrize("make", COPIES[:2] + COPIES[4:])
def test_a_handler_can_be_copied_and_pickled(server: OTLPServer, make: Callable[[Any], Any]) -> None:
    handler = OwnHandler("t-1")
    handler.setLevel("WARNING")
    handler.addFilter(Picky())
    handler.setFormatter(logging.Formatter("<%(message)s>"))
    handler.set_name("bridge")
    handler.handle(logging.makeLogRecord({"msg": "before", "levelno": 30, "name": "elsewhere"}))
    made = make(handler)
    assert (type(made), made.tenant, made.level, made.name) == (OwnHandler, "t-1", 30, "bridge")
    logger = logging.Logger("elsewhere")
    logger.addHandler(made)
    for text in ("yes", "no"):
        logger.warning(text)
    logger.info("too low")
    made.acquire()
    made.release()
    made.removeFilter(made.filters[0])
    assert len(handler.filters) == 1
    assert bodies(flush_records(server)) == ["<before>", "<yes>"]


def test_a_copied_handler_stays_with_its_processor() -> None:
    exporter = ExporterForTests()
    with running(otelog.BatchLogRecordProcessor(exporter)) as processor:
        handler = otelog.LoggingHandler(processor=processor)
        for made in (copy.copy(handler), copy.deepcopy(handler)):
            made.handle(logging.makeLogRecord({"msg": "x", "levelno": 30}))
        assert processor.force_flush()
    assert exporter.bodies() == ["x", "x"]
