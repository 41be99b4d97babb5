"""A `logging` call that goes the short way arrives as by the standard way, and goes it only if nobody would notice."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.trace import TracerProvider

import otelog
from otelog._patches import log_calls
from otelog._setup import configure
from otelog.testing import OTLPServer
from tests.arrivals import bodies, configured, flush_record, flush_records
from tests.pipelines import ExporterForTests

log = logging.getLogger("shop.orders")
tracer = TracerProvider().get_tracer("tests")


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with configured(level="DEBUG") as one:
        yield one


@contextmanager
def without_pytests_handlers() -> Iterator[None]:
    """Have only our own handler on the root logger; as a decorator, because pytest adds its own for each test."""
    root = logging.getLogger()
    others = [handler for handler in root.handlers if not isinstance(handler, otelog.LoggingHandler)]
    for handler in others:
        root.removeHandler(handler)
    try:
        yield
    finally:
        for handler in others:
            root.addHandler(handler)


def log_records_made(call: Callable[[], object]) -> int:
    """How many LogRecords the standard library makes during a call."""
    made = 0

    def watch(frame: Any, event: str, argument: object) -> None:
        nonlocal made
        made += event == "call" and frame.f_code is logging.LogRecord.__init__.__code__

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(before)
    return made


class Box:
    def method(self) -> None:
        log.info("from a method")


def helper(level: int = 1) -> None:
    log.info("for whoever called", stacklevel=level)


def fail() -> None:
    try:
        raise KeyError("no such order")
    except KeyError:
        log.exception("failed")


def in_span() -> None:
    span = trace.NonRecordingSpan(trace.SpanContext(7, 8, is_remote=False, trace_flags=trace.TraceFlags(1)))
    with trace.use_span(span):
        log.info("in a span")


def with_bound() -> None:
    with otelog.bound(tenant="t-1", amount=1):
        log.info("bound", extra={"amount": 2})
        log.info("bound alone")


def at_a_named_level() -> None:
    logging.addLevelName(25, "NOTICE")
    try:
        log.log(25, "noticed")
        logging.addLevelName(25, "HINT")
        log.log(25, "noticed")
    finally:
        del logging._levelToName[25], logging._nameToLevel["NOTICE"], logging._nameToLevel["HINT"]


class Broken:
    def __str__(self) -> str:
        raise ValueError

    def __repr__(self) -> str:
        return "broken"


SHORT: dict[str, Callable[[], object]] = {
    "plain": lambda: log.info("plain"),
    "arguments": lambda: log.warning("%s of %d: %.2f %r", "a", 7, 1.5, None),
    "percent": lambda: log.info("100 %"),
    "fields": lambda: log.error("fields", extra={"a": 1, "b": "x", "c": 1.5, "d": None, "e": True, "f.g": 2**40}),
    "empty extra": lambda: log.info("x", extra={}),
    "large": lambda: log.info("x" * 5000, extra={"y": "z" * 5000}),
    "wrong arguments": lambda: log.info("one %s", *(1, 2)),
    "debug": lambda: log.debug("x"),
    "critical": lambda: log.critical("x"),
    "log": lambda: log.log(30, "x"),
    "a level of ones own": at_a_named_level,
    "root": lambda: logging.getLogger().info("root"),
    "module function": lambda: logging.warning("from %s", "the module"),
    "adapter": lambda: logging.LoggerAdapter(log, {"adapted": 1}).info("adapted"),
    "method": Box().method,
    "span": in_span,
    "bound": with_bound,
    "hasHandlers": lambda: log.getChild("a.b").info("deep"),
    "compiled": lambda: exec(compile("log.info('x')\nlog.info('y')", "<made>", "exec"), {"log": log}),
    "surrogates": lambda: log.info("\ud800", extra={"\ud800": "\ud800"}),
}
STANDARD: dict[str, Callable[[], object]] = {
    "exception": fail,
    "stack": lambda: log.info("x", stack_info=True),
    "exc_info": lambda: log.info("x", exc_info=ValueError("y")),
    "stacklevel 2": lambda: helper(2),
    "stacklevel 3": lambda: helper(3),
    "far too high a stacklevel": lambda: helper(1000),
    "level without a name": lambda: log.log(23, "x"),
    "mutable argument": lambda: log.info("%s", [1]),
    "mutable field": lambda: log.info("x", extra={"a": [1, {"b": 2}]}),
    "dict argument": lambda: log.info("%(a)s", {"a": 1}),
    "message of another type": lambda: log.info({"a": 1}),
    "broken argument": lambda: log.info("%s", Broken()),
    "huge integer": lambda: log.info("x", extra={"n": 2**70}),
    "event": lambda: log.info("x", extra={"otel.event.name": "order.paid"}),
}


def arrivals(call: Callable[[], object], **options: Any) -> list[Any]:
    """What arrives of a call, without times and with the line of the call."""
    with configured(level="DEBUG", **options) as server, without_pytests_handlers():
        call()
        found = flush_records(server)
    for record in found:
        assert record.time_unix_nano
        record.time_unix_nano = record.observed_time_unix_nano = 0
        for pair in record.attributes:
            if pair.key == "exception.stacktrace" or pair.key == "code.stacktrace":
                # The call itself is on another line in the two runs.
                pair.value.string_value = pair.value.string_value[-60:]
    return [str(record) for record in found]


@pytest.mark.parametrize("name", [*SHORT, *STANDARD])
def test_what_arrives_is_the_same_either_way(name: str) -> None:
    call = {**SHORT, **STANDARD}[name]
    directly = [arrivals(call, direct_logging=flag) for flag in (True, False)]
    assert directly[0]
    for short, standard in zip(*directly, strict=True):
        assert short == standard


@pytest.mark.parametrize("name", SHORT)
@without_pytests_handlers()
def test_a_usual_call_makes_no_log_record(server: OTLPServer, name: str) -> None:
    assert log_records_made(SHORT[name]) == 0


@pytest.mark.parametrize("name", STANDARD)
@without_pytests_handlers()
def test_an_unusual_call_makes_one(server: OTLPServer, name: str) -> None:
    assert log_records_made(STANDARD[name]) >= 1
    assert len(flush_records(server)) == 1


def test_the_option_turns_it_off() -> None:
    with configured(direct_logging=False), without_pytests_handlers():
        assert log_records_made(lambda: log.info("x")) == 1
        otelog.configure(endpoint="http://127.0.0.1:1", direct_logging=True)
        assert log_records_made(lambda: log.info("x")) == 0
        otelog.configure(endpoint="http://127.0.0.1:1", direct_logging=False)
        assert log_records_made(lambda: log.info("x")) == 1


# Whoever wants to see records sees them.


class Keeping(logging.Handler):
    def __init__(self, level: int = 0) -> None:
        super().__init__(level)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def attached(logger: logging.Logger, handler: logging.Handler) -> Iterator[None]:
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def line() -> int:
    return sys._getframe(1).f_lineno


@pytest.mark.parametrize("where", ["", "shop", "shop.orders"])
@without_pytests_handlers()
def test_another_handler_gets_its_record_with_the_right_place(server: OTLPServer, where: str) -> None:
    keeping = Keeping()

    def outer() -> int:
        helper(2)
        return line() - 1

    with attached(logging.getLogger(where), keeping):
        log.info("one", extra={"a": 1})
        first = line() - 1
        log.info("two", stack_info=True)
        second = outer()
        logging.getLogger("shop.orders.deep").warning("three")
        fail()
    one, two, two_and_a_half, three, failed = keeping.records
    assert (one.pathname, one.lineno, one.funcName, one.a) == (  # type: ignore[attr-defined]
        __file__,
        first,
        "test_another_handler_gets_its_record_with_the_right_place",
        1,
    )
    assert two.stack_info is not None
    assert log_calls.__file__ not in two.stack_info
    assert two.stack_info.rstrip().endswith('log.info("two", stack_info=True)')
    assert (two_and_a_half.lineno, two_and_a_half.funcName) == (second, "outer")
    assert (three.name, failed.funcName, failed.exc_info is not None) == ("shop.orders.deep", "fail", True)
    assert sorted(bodies(flush_records(server))) == ["failed", "for whoever called", "one", "three", "two"]


@without_pytests_handlers()
def test_a_handler_above_the_level_does_not_stand_in_the_way(server: OTLPServer) -> None:
    keeping = Keeping(logging.ERROR)
    with attached(log, keeping):
        assert log_records_made(lambda: log.info("below")) == 0
        assert log_records_made(lambda: log.error("above")) == 1
    assert [record.getMessage() for record in keeping.records] == ["above"]
    assert bodies(flush_records(server)) == ["below", "above"]


@pytest.mark.parametrize("where", ["", "the logger"])
@without_pytests_handlers()
def test_a_null_handler_which_does_nothing_does_not_stand_in_the_way(server: OTLPServer, where: str) -> None:
    class Ours(logging.NullHandler):
        def handle(self, record: logging.LogRecord) -> bool:
            return super().handle(record)

    with attached(log if where else logging.getLogger(), logging.NullHandler()):
        assert log_records_made(lambda: log.info("passed over")) == 0
    with attached(log if where else logging.getLogger(), Ours()):
        assert log_records_made(lambda: log.info("not passed over")) == 1
    assert bodies(flush_records(server)) == ["passed over", "not passed over"]


def refuse(record: logging.LogRecord) -> bool:
    return "secret" not in record.getMessage()


@without_pytests_handlers()
def test_filters_are_asked(server: OTLPServer) -> None:
    (ours,) = logging.getLogger().handlers
    for filterer in (log, ours):
        filterer.addFilter(refuse)
        try:
            log.info("a secret")
            log.info("no %s", "secret")
            log.info("public")
        finally:
            filterer.removeFilter(refuse)
    assert bodies(flush_records(server)) == ["public", "public"]


@without_pytests_handlers()
def test_a_formatter_is_used(server: OTLPServer) -> None:
    (ours,) = logging.getLogger().handlers
    ours.setFormatter(logging.Formatter("<%(message)s>"))
    log.info("x")
    assert bodies(flush_records(server)) == ["<x>"]


@without_pytests_handlers()
def test_a_record_factory_is_used(server: OTLPServer) -> None:
    def factory(*arguments: Any, **keywords: Any) -> logging.LogRecord:
        record = logging.LogRecord(*arguments, **keywords)
        record.tenant = "t-1"
        return record

    logging.setLogRecordFactory(factory)
    try:
        log.info("x")
    finally:
        logging.setLogRecordFactory(logging.LogRecord)
    (pair,) = [pair for pair in flush_record(server).attributes if pair.key == "tenant"]
    assert pair.value.string_value == "t-1"


@pytest.mark.parametrize("method", ["makeRecord", "handle", "callHandlers", "filter", "findCaller"])
@pytest.mark.parametrize("in_subclass", [False, True])
@without_pytests_handlers()
def test_a_method_of_a_subclass_or_of_another_library_is_called(
    server: OTLPServer, monkeypatch: pytest.MonkeyPatch, method: str, in_subclass: bool
) -> None:
    seen: list[str] = []
    standard = getattr(logging.Logger, method)

    def instead(self: logging.Logger, *arguments: Any, **keywords: Any) -> Any:
        seen.append(method)
        return standard(self, *arguments, **keywords)

    logger = log
    if in_subclass:
        logger = type("Special", (logging.Logger,), {method: instead})("shop.special")
        logger.parent = logging.getLogger()
    else:
        monkeypatch.setattr(logging.Logger, method, instead)
    logger.info("seen")
    assert seen
    assert bodies(flush_records(server)) == ["seen"]


@without_pytests_handlers()
def test_what_the_standard_library_refuses_is_refused(server: OTLPServer) -> None:
    for key in ("message", "name", "lineno"):
        with pytest.raises(KeyError, match="overwrite"):
            log.info("x", extra={key: 1})
    silent = logging.getLogger("shop.silent")
    silent.disabled = True
    try:
        silent._log(20, "x", ())
    finally:
        silent.disabled = False
    logging.disable(logging.INFO)
    try:
        log.info("x")
    finally:
        logging.disable(logging.NOTSET)
    apart = logging.getLogger("shop.apart")
    apart.propagate = False
    try:
        apart.info("reaches nobody")
    finally:
        apart.propagate = True
    assert flush_records(server) == []


@without_pytests_handlers()
def test_a_later_change_of_the_fields_does_not_show(server: OTLPServer) -> None:
    fields = {"a": 1}
    log.info("x", extra=fields)
    fields["a"] = 2
    fields["b"] = 3
    found = {pair.key: pair.value.int_value for pair in flush_record(server).attributes if "." not in pair.key}
    assert found == {"a": 1}


@without_pytests_handlers()
def test_a_full_queue_counts_what_it_refuses(server: OTLPServer) -> None:
    otelog.configure(endpoint="http://127.0.0.1:1", max_queue_size=10, schedule_delay_millis=60_000, level="DEBUG")
    before = otelog.stats()
    for number in range(100):
        log.info("number %d", number)
    stats = otelog.stats()
    assert stats.created - before.created == 100
    assert stats.refused["queue_full"] > 0
    assert stats.created == sum(stats.refused.values()) + stats.queued + stats.accepted


@without_pytests_handlers()
def test_what_our_own_threads_log_is_no_record(server: OTLPServer) -> None:
    class Talkative(ExporterForTests):
        def export(self, batch: Sequence[Any]) -> LogRecordExportResult:
            log.info("exporting %d", len(batch))
            return super().export(batch)

    exporter = Talkative()
    otelog.configure(exporter=exporter, level="DEBUG")
    log.info("x")
    assert otelog.flush()
    assert exporter.bodies() == ["x"]
    assert otelog.stats().created == 1


@without_pytests_handlers()
def test_two_of_our_handlers_bring_a_record_once(server: OTLPServer) -> None:
    second = otelog.LoggingHandler()
    with attached(log, second):
        log.info("once")
    assert bodies(flush_records(server)) == ["once"]


# What is put in place is taken away.


def test_it_is_taken_back() -> None:
    function, standard = logging.Logger._log, logging.Logger._log.__code__
    with configured():
        # The function itself stays, so that whoever has wrapped it, or holds it, has what is in force.
        assert logging.Logger._log is function
        assert function.__code__ is not standard
        otelog.configure(endpoint="http://127.0.0.1:1")
    assert function.__code__ is standard


@without_pytests_handlers()
def test_another_librarys_function_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    function, standard = logging.Logger._log, logging.Logger._log.__code__

    def theirs(self: logging.Logger, *arguments: Any, **keywords: Any) -> None:
        function(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(logging.Logger, "_log", theirs)
        code = theirs.__code__
        with configured(level="DEBUG") as server:
            assert (logging.Logger._log, theirs.__code__, function.__code__) == (theirs, code, standard)
            log.info("by theirs")
            assert bodies(flush_records(server)) == ["by theirs"]
    with configured(), monkeypatch.context() as patch:
        patch.setattr(logging.Logger, "_log", theirs)
        configure.reset()
        assert logging.Logger._log is theirs
        assert function.__code__ is standard
    assert logging.Logger._log is function


def test_without_the_source_of_logging_there_is_no_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    standard = logging.Logger._log.__code__
    monkeypatch.setattr(logging.__spec__.loader, "get_source", lambda name: None)  # type: ignore[union-attr]
    with configured(level="DEBUG") as server, without_pytests_handlers():
        assert logging.Logger._log.__code__ is standard
        assert log_records_made(lambda: log.info("x")) == 1
        assert bodies(flush_records(server)) == ["x"]


def test_a_source_that_is_not_what_runs_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    standard = logging.Logger._log.__code__
    loader: Any = logging.__spec__.loader
    edited = loader.get_source("logging").replace("sinfo = None\n        if _srcfile", "sinfo = 0\n        if _srcfile")
    monkeypatch.setattr(loader, "get_source", lambda name: edited)
    with configured():
        assert logging.Logger._log.__code__ is standard


def test_what_logging_runs_is_found_out_by_names_that_are_there() -> None:
    # Private names of the standard library; a Python that has others must not lose the short way unnoticed.
    with configured():
        assert logging.Logger._log.__code__.co_consts != logging.LoggerAdapter._log.__code__.co_consts
        assert log_calls.take in logging.Logger._log.__code__.co_consts
    assert threading.get_ident() in threading._active  # type: ignore[attr-defined]
    assert len(log.__dict__) == 9 and "manager" in log.__dict__
    assert logging._srcfile == logging.__file__
    assert type(log_calls._methods) is dict
