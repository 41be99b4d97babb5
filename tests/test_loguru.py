"""loguru's records in otelog: by `install`, by the sink, beside the recipes that join it with `logging`."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.sdk.trace import TracerProvider

import otelog
from otelog.testing import OTLPServer
from tests.arrivals import attributes_of, bodies, configured, fields_of, flush_record, flush_records, to_python
from tests.corpus import HOSTILE
from tests.generated import as_it_arrives, make_text, make_value
from tests.sizes import without_instrumentations

pytest.importorskip("loguru")

from loguru import logger

import otelog.loguru

THREADS = 16
CALLS = 2000 if os.environ.get("OTELOG_TESTS_FULL") else 150
"""Of each thread."""
LOAD_SECONDS = 120.0

WAYS = {"install": otelog.loguru.install, "sink": lambda: logger.add(otelog.loguru.sink, level=0)}
both_ways = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(autouse=True)
def as_it_comes() -> Iterator[None]:
    logger.remove()
    yield
    logger.configure(handlers=[], extra={}, patcher=lambda record: None, activation=[("", True)])
    otelog.loguru.uninstall()


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with configured(level=5) as server:
        yield server


def scopes(server: OTLPServer) -> set[str]:
    resources = [one for request in server.requests for one in request.decode().resource_logs]
    return {scope.scope.name for one in resources for scope in one.scope_logs}


def exception_of(record: LogRecord) -> tuple[Any, ...]:
    found = attributes_of(record)
    return tuple(found.get(f"exception.{name}") for name in ("type", "message", "stacktrace"))


def pay() -> None:
    logger.bind(user="eva").warning("paid {} by {name}", 12, name="bob")


@both_ways
def test_a_record_comes_with_all_that_it_has(way: str, server: OTLPServer) -> None:
    WAYS[way]()
    before = time.time_ns()
    with logger.contextualize(request="r-1"):
        pay()
    found = flush_record(server)
    assert to_python(found.body) == "paid 12 by bob"
    assert (found.severity_text, found.severity_number) == ("WARNING", 13)
    assert fields_of(found) == {"request": "r-1", "user": "eva", "name": "bob"}
    attributes = attributes_of(found)
    assert attributes["code.file.path"] == __file__
    assert attributes["code.function.name"] == "pay"
    assert attributes["code.line.number"] == pay.__code__.co_firstlineno + 1
    assert scopes(server) == {__name__}
    assert before - 1000 <= found.time_unix_nano <= time.time_ns()


@both_ways
def test_the_options_of_a_call(way: str, server: OTLPServer) -> None:
    WAYS[way]()

    def wrapped() -> None:
        logger.opt(depth=1).info("from above")

    wrapped()
    logger.opt(lazy=True).info("lazy {}", lambda: 7)
    logger.opt(colors=True).info("<red>red</red> text")
    logger.opt(raw=True).info("raw {}\n")
    logger.opt(record=True).info("line {record[line]}")
    logger.opt(capture=False).info("not kept {name}", name=1)
    logger.patch(lambda record: record["extra"].update(patched=[1])).info("patched")
    logger.opt(exception=ValueError("given")).info("with one")
    records = flush_records(server)
    assert attributes_of(records[0])["code.function.name"] == "test_the_options_of_a_call"
    texts = bodies(records)
    assert texts[:4] == ["from above", "lazy 7", "red text", "raw {}\n"]
    assert texts[4].startswith("line ")
    assert fields_of(records[5]) == {}
    assert fields_of(records[6]) == {"patched": [1]}
    assert exception_of(records[7])[:2] == ("ValueError", "given")


@both_ways
def test_levels_of_all_kinds(way: str, server: OTLPServer) -> None:
    WAYS[way]()
    with contextlib.suppress(TypeError, ValueError):
        logger.level("AUDIT", no=33)
    for level in ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL", "AUDIT", 27, 3):
        logger.log(level, "at {}", level)
    found = [(one.severity_text, one.severity_number) for one in flush_records(server)]
    assert found == [
        ("TRACE", 3),
        ("DEBUG", 5),
        ("INFO", 9),
        ("SUCCESS", 11),
        ("WARNING", 13),
        ("ERROR", 17),
        ("CRITICAL", 21),
        ("AUDIT", 15),
        ("Level 27", 12),
    ]


def failing() -> None:
    try:
        raise KeyError("stock")
    except KeyError as error:
        raise ValueError("no order") from error


@both_ways
def test_an_exception_is_the_records_and_its_variables_are_not(way: str, server: OTLPServer) -> None:
    WAYS[way]()
    secret = "hunter2"
    try:
        failing()
    except ValueError:
        logger.exception("failed {}", len(secret))

    @logger.catch
    def caught() -> None:
        failing()

    caught()
    for record in flush_records(server):
        kind, message, trace = exception_of(record)
        assert (kind, message) == ("ValueError", "no order")
        assert trace.index("KeyError: 'stock'") < trace.index("direct cause") < trace.index("ValueError: no order")
        assert secret not in trace
        assert record.severity_text == "ERROR"


@both_ways
def test_the_current_span_is_the_records(way: str, server: OTLPServer) -> None:
    WAYS[way]()
    with TracerProvider(shutdown_on_exit=False).get_tracer("tests").start_as_current_span("work") as span:
        logger.info("inside")
        with otelog.bound(tenant="acme"):
            logger.info("bound")
    first, second = flush_records(server)
    context = span.get_span_context()
    assert int.from_bytes(first.trace_id, "big") == context.trace_id
    assert int.from_bytes(first.span_id, "big") == context.span_id
    assert fields_of(second) == {"tenant": "acme"}


def test_an_enqueued_record_keeps_its_trace_by_the_patcher(server: OTLPServer) -> None:
    logger.configure(patcher=otelog.loguru.add_trace_context)
    logger.add(otelog.loguru.sink, enqueue=True)
    with TracerProvider(shutdown_on_exit=False).get_tracer("tests").start_as_current_span("work") as span:
        logger.info("queued", a=1)
        try:
            failing()
        except ValueError:
            logger.exception("queued, too")
    logger.info("outside")
    logger.complete()
    logger.remove()
    first, second, third = flush_records(server)
    for record in (first, second):
        assert int.from_bytes(record.trace_id, "big") == span.get_span_context().trace_id
        assert attributes_of(record)["code.file.path"] == __file__
    assert fields_of(first) == {"a": 1}
    assert exception_of(second)[:2] == ("ValueError", "no order")
    assert third.trace_id == b""


def test_ids_of_another_form_stay_fields(server: OTLPServer) -> None:
    otelog.loguru.install()
    logger.bind(trace_id="request-7").info("own")
    logger.bind(trace_id="x" * 32, span_id="y" * 16, trace_flags=1).info("no hex")
    first, second = flush_records(server)
    assert fields_of(first) == {"trace_id": "request-7"}
    assert set(fields_of(second)) == {"trace_id", "span_id", "trace_flags"}


def test_install_is_done_once_and_taken_back(server: OTLPServer) -> None:
    first = otelog.loguru.install()
    second = otelog.loguru.install(level="ERROR", filter=lambda record: record["extra"].get("keep"))
    with pytest.raises(ValueError, match=str(first)):
        logger.remove(first)
    logger.bind(keep=True).info("below")
    logger.bind(keep=False).error("turned away")
    logger.bind(keep=True).error("kept")
    otelog.loguru.uninstall()
    otelog.loguru.uninstall()
    logger.bind(keep=True).error("gone")
    with pytest.raises(ValueError, match=str(second)):
        logger.remove(second)
    assert bodies(flush_records(server)) == ["kept"]


def test_a_level_below_that_of_configure_costs_loguru_nothing() -> None:
    with configured(level="WARNING") as server:
        otelog.loguru.install()
        formatted = []
        logger.opt(lazy=True).info("{}", lambda: formatted.append(1))
        logger.add(lambda message: None, level="DEBUG")
        logger.info("below otelog's level")
        logger.warning("above")
        assert bodies(flush_records(server)) == ["above"]
        assert formatted == []


def test_before_configure_and_after_shutdown() -> None:
    otelog.loguru.install()
    logger.info("early")
    with configured() as server:
        logger.info("now")
        assert bodies(flush_records(server)) == ["now"]
        otelog.shutdown()
        logger.info("late")
        assert otelog.stats().refused["already_shutdown"] == 1


def test_what_changes_later_does_not_show(server: OTLPServer) -> None:
    otelog.loguru.install()
    logger.add(lambda message: message.record["extra"]["items"].append("later"))
    items = [1]
    logger.bind(items=items).info("seen")
    items.append(2)
    assert fields_of(flush_record(server)) == {"items": [1]}


def test_a_time_of_another_day_and_records_that_a_patcher_has_broken(server: OTLPServer) -> None:
    otelog.loguru.install()
    fixed = dt.datetime(2020, 2, 3, 4, 5, 6, 789012, tzinfo=dt.timezone.utc)
    for number in range(3):
        logger.patch(lambda record: record.update(time=fixed)).info("replayed {}", number)
    logger.patch(lambda record: record.update(time="noon")).info("no time")
    logger.patch(lambda record: record.update(file=None)).info("no file")
    logger.patch(lambda record: record.update(message=["no text"])).info("no text")
    records = flush_records(server)
    assert [one.time_unix_nano for one in records[:3]] == [1580702706_789012000 + number for number in range(3)]
    # The last one has no scope, and comes in a group of its own.
    assert bodies(records)[3:5] == ["no time", ["no text"]]
    assert "could not be read: AttributeError" in bodies(records)[5]


class Talks:
    def __repr__(self) -> str:
        logger.info("from a repr")
        return "talks"


def test_a_value_that_logs_by_loguru_neither_blocks_nor_is_lost(server: OTLPServer, capfd: Any) -> None:
    otelog.loguru.install()
    logger.bind(value=Talks()).info("outer")
    assert sorted(bodies(flush_records(server))) == ["from a repr", "outer"]
    otelog.loguru.uninstall()
    logger.add(otelog.loguru.sink)
    logger.bind(value=Talks()).info("in the sink")
    # Under loguru's lock it is loguru that refuses the inner one, and says so.
    assert "deadlock avoided" in capfd.readouterr().err
    assert bodies(flush_records(server))[2:] == ["in the sink"]


# Recipes that join it with `logging`.


class Intercept(logging.Handler):
    """As in loguru's documentation."""

    def emit(self, record: logging.LogRecord) -> None:
        frame: Any = sys._getframe()
        depth = 0
        while frame and (depth == 0 or frame.f_code.co_filename == logging.__file__):
            frame, depth = frame.f_back, depth + 1
        logger.opt(depth=depth, exception=record.exc_info).log(record.levelname, record.getMessage())


class Propagate(logging.Handler):
    """As in loguru's documentation."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger(record.name).handle(record)


def say(message: Any) -> None:
    logging.getLogger("by.function").log(message.record["level"].no, message.record["message"])


@contextlib.contextmanager
def handler_on(name: str | None, handler: logging.Handler, *, first: bool = False) -> Iterator[None]:
    owner = logging.getLogger(name)
    owner.addHandler(handler)
    if first:
        owner.handlers.insert(0, owner.handlers.pop(owner.handlers.index(handler)))
    try:
        yield
    finally:
        owner.removeHandler(handler)


@both_ways
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("owner", [None, "shop"])
def test_intercepted_records_are_taken_once(way: str, first: bool, owner: str | None, server: OTLPServer) -> None:
    WAYS[way]()
    with handler_on(owner, Intercept(), first=first):
        for number in range(3):
            logging.getLogger("shop").warning("by logging %d", number, extra={"number": number})
            logger.info("by loguru {}", number)
        try:
            failing()
        except ValueError:
            logging.getLogger("shop").exception("failed")
    records = flush_records(server)
    assert len(records) == 7
    assert [fields_of(one) for one in records if to_python(one.body).startswith("by logging")] == [
        {"number": number} for number in range(3)
    ]


def test_what_a_handler_says_of_its_own_by_loguru_arrives(server: OTLPServer) -> None:
    class Complains(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logger.error("cannot send: {}", record.getMessage())

    otelog.loguru.install()
    with handler_on("shop", Complains()):
        logging.getLogger("shop").warning("news")
    assert sorted(bodies(flush_records(server))) == ["cannot send: news", "news"]


def test_intercepted_records_that_otelogs_handler_does_not_take_come_by_loguru() -> None:
    with configured(install_handler=False) as server:
        otelog.loguru.install()
        with handler_on("shop", Intercept()):
            logging.getLogger("shop").warning("by logging")
        assert bodies(flush_records(server)) == ["by logging"]


@both_ways
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("recipe", [Propagate, lambda: say], ids=["handler", "function"])
def test_propagated_records_are_taken_once_as_loguru_says_them(
    way: str, order: str, recipe: Any, server: OTLPServer
) -> None:
    if order == "before":
        logger.add(recipe(), format="{message}")
    WAYS[way]()
    if order == "after":
        logger.add(recipe(), format="{message}")
    for number in range(3):
        logger.bind(number=number).warning("paid {}", number)
    logging.getLogger(__name__).warning("by logging")
    records = flush_records(server)
    assert bodies(records) == ["paid 0", "paid 1", "paid 2", "by logging"]
    assert [fields_of(one) for one in records[:3]] == [{"number": number} for number in range(3)]


def test_what_a_sink_logs_of_its_own_by_logging_arrives(server: OTLPServer) -> None:
    otelog.loguru.install()
    logger.add(lambda message: logging.getLogger("urllib3").info("connecting"))
    logger.info("one")
    logger.info("two")
    assert sorted(bodies(flush_records(server))) == ["connecting", "connecting", "one", "two"]


def test_two_handlers_of_otelogs_take_a_record_once(server: OTLPServer) -> None:
    otelog.loguru.install()
    logger.add(otelog.loguru.sink)
    logger.add(otelog.loguru.sink)
    for number in range(3):
        logger.info("once {}", number)
    assert bodies(flush_records(server)) == ["once 0", "once 1", "once 2"]


# Fields as its own renderer writes them.


@pytest.mark.no_cover
def test_the_fields_of_1000_hostile_records_are_those_of_its_own_json() -> None:
    lines: list[str] = []
    with configured(level=0, thread_attributes=True) as server:
        otelog.loguru.install()
        logger.add(lines.append, level=0, format="{message}", serialize=True)
        for seed in range(1000):
            chance = random.Random(seed)
            fields = {make_text(chance)[:30] or "k": make_value(chance) for _ in range(chance.randrange(8))}
            fields.pop("trace_id", None)
            level = chance.choice(("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL"))
            logger.bind(**fields).log(level, make_text(chance))
        records = flush_records(server)
    assert (len(records), len(lines)) == (1000, 1000)
    for record, line in zip(records, lines, strict=True):
        written = json.loads(line)["record"]
        found = attributes_of(record)
        place = [found.pop(f"code.{name}") for name in ("file.path", "function.name", "line.number")]
        assert place == [written["file"]["path"], written["function"], written["line"]]
        assert [found.pop("thread.id"), found.pop("thread.name")] == list(written["thread"].values())
        assert to_python(record.body) == as_it_arrives(written["message"])
        assert record.severity_text == written["level"]["name"]
        assert abs(record.time_unix_nano - written["time"]["timestamp"] * 1e9) < 2000
        assert found == as_it_arrives(written["extra"])


def test_no_value_however_odd_costs_a_record(server: OTLPServer) -> None:
    otelog.loguru.install()
    for name, make in HOSTILE:
        logger.bind(case=name, value=make()).info("odd")
    records = [one for one in flush_records(server) if to_python(one.body) == "odd"]
    assert [fields_of(one)["case"] for one in records] == [name for name, _ in HOSTILE]


@both_ways
def test_16_threads_every_record_once(way: str) -> None:
    with configured(max_queue_size=2 * THREADS * CALLS, max_queue_bytes=1 << 30) as server:
        WAYS[way]()
        tracer = TracerProvider(shutdown_on_exit=False).get_tracer("tests")
        begin = threading.Barrier(THREADS)

        def work(thread: int) -> int:
            begin.wait(30)
            with tracer.start_as_current_span("work") as span, logger.contextualize(thread=thread):
                for number in range(CALLS):
                    bound = logger.bind(number=number, nested={"of": [thread]})
                    if number % 7:
                        bound.info("record {}", number)
                        continue
                    try:
                        raise ValueError(f"{thread}-{number}")
                    except ValueError:
                        bound.exception("record {}", number)
                return span.get_span_context().trace_id

        with ThreadPoolExecutor(THREADS) as pool:
            traces = list(pool.map(work, range(THREADS)))
        assert otelog.flush(LOAD_SECONDS)
        records = flush_records(server)
        stats = otelog.stats()
    assert (stats.created, stats.lost, len(records)) == (THREADS * CALLS, 0, THREADS * CALLS)
    seen = set()
    for record in records:
        found = attributes_of(record)
        thread, number = found["thread"], found["number"]
        seen.add((thread, number))
        assert to_python(record.body) == f"record {number}"
        assert int.from_bytes(record.trace_id, "big") == traces[thread]
        assert found["nested"] == {"of": [thread]}
        assert found.get("exception.message") == (None if number % 7 else f"{thread}-{number}")
    assert len(seen) == THREADS * CALLS


# Without a change of code.


def test_records_are_captured_by_option_whatever_is_removed() -> None:
    with configured(capture_loguru=True) as server:
        logger.info("from the start")
        logger.remove()
        logger.info("after remove")
        logger.remove(handler_id=None)
        logger.configure(handlers=[{"sink": lambda message: None}])
        logger.info("after configure")
        own = logger.add(lambda message: None)
        logger.remove(own)
        logger.info("after its own")
        otelog.configure(
            endpoint=server.endpoint, service_name="test", thread_attributes=False, capture_loguru=True, level="ERROR"
        )
        logger.info("below")
        logger.error("above")
        otelog.loguru.install()
        logger.error("once")
        otelog.loguru.uninstall()
        otelog.configure(endpoint=server.endpoint, service_name="test", thread_attributes=False)
        logger.error("turned off")
        assert bodies(flush_records(server)) == [
            "from the start",
            "after remove",
            "after configure",
            "after its own",
            "above",
            "once",
        ]
        assert type(logger).remove.__module__ == "loguru._logger"
        assert not hasattr(type(logger).remove, "__wrapped__")


PROGRAM = """
import sys
assert "loguru" not in sys.modules
from loguru import logger
logger.remove()
logger.add(sys.stdout, format="{level} {message}")
def pay():
    logger.bind(order={"id": 7}).warning("paid")
pay()
"""


def test_under_otelog_run_nothing_is_to_be_changed(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(PROGRAM)
    with OTLPServer() as server:
        done = subprocess.run(
            [sys.executable, "-m", "otelog.cli", "run", "--endpoint", server.endpoint, "--", "python", "shop.py"],
            cwd=tmp_path,
            env={**os.environ, **without_instrumentations(), "OTELOG_CAPTURE_LOGURU": "true"},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "WARNING paid\n", "")
        (record,) = server.records
    assert fields_of(record) == {"order": {"id": 7}}
    assert attributes_of(record)["code.function.name"] == "pay"
