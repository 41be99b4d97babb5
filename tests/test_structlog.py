"""structlog's events as records: by the processor, by the factory, over `logging`, and without a change of code."""

from __future__ import annotations

import asyncio
import builtins
import datetime as dt
import json
import logging
import logging.handlers
import os
import pickle
import queue
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.sdk.trace import TracerProvider

import otelog
from otelog._capture.foreign_tracebacks import read_dicts, read_text
from otelog.testing import OTLPServer
from tests.arrivals import attributes_of, bodies, configured, fields_of, flush_record, flush_records, to_python
from tests.corpus import HOSTILE
from tests.generated import as_it_arrives, make_text, make_value

structlog = pytest.importorskip("structlog")

from otelog.structlog import LoggerFactory, OtelogProcessor  # noqa: E402
from tests.sizes import without_instrumentations  # noqa: E402

THREADS = 16
EVENTS = 2000 if os.environ.get("OTELOG_TESTS_FULL") else 150
"""Of each thread."""
LOAD_SECONDS = 120.0

INFO = structlog.make_filtering_bound_logger(logging.INFO)


@pytest.fixture(autouse=True)
def as_it_comes() -> Iterator[None]:
    # Its factory for `logging` sets a class for all loggers to come; one that was there before keeps its own, and with
    # it structlog's own place for its calls.
    kind = logging.getLoggerClass()
    logging.Logger.manager.loggerDict.pop("shop.over", None)
    yield
    logging.setLoggerClass(kind)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with configured(level="DEBUG") as server:
        yield server


def set_up(*processors: Any, keep: bool = False, **options: Any) -> Any:
    structlog.configure(processors=[*processors, OtelogProcessor(keep=keep)], **options)
    return structlog.get_logger()


def exception_of(record: LogRecord) -> tuple[Any, ...]:
    found = attributes_of(record)
    return tuple(found.get(f"exception.{name}") for name in ("type", "message", "stacktrace"))


def test_an_event_is_a_record(server: OTLPServer) -> None:
    log = set_up(structlog.contextvars.merge_contextvars, structlog.processors.add_log_level)
    with structlog.contextvars.bound_contextvars(request="r-1"):
        log.bind(user="eva").warning("paid %s", 7, amount=12.5, order={"lines": [1, {"two": None}]}, logger="shop")
    found = flush_record(server)
    assert to_python(found.body) == "paid 7"
    assert (found.severity_text, found.severity_number) == ("WARNING", 13)
    assert fields_of(found) == {
        "request": "r-1",
        "user": "eva",
        "amount": 12.5,
        "order": {"lines": [1, {"two": None}]},
    }
    assert [scope.scope.name for scope in _scopes(server)] == ["shop"]


def _scopes(server: OTLPServer) -> list[Any]:
    resources = [one for request in server.requests for one in request.decode().resource_logs]
    return [scope for one in resources for scope in one.scope_logs]


def test_without_keep_the_chain_ends_and_with_it_the_event_goes_on(server: OTLPServer, capsys: Any) -> None:
    set_up().info("ends")
    assert capsys.readouterr().out == ""
    structlog.configure(processors=[OtelogProcessor(keep=True), structlog.processors.JSONRenderer()])
    structlog.get_logger().info("goes on", a=[1])
    assert json.loads(capsys.readouterr().out) == {"event": "goes on", "a": [1]}
    assert bodies(flush_records(server)) == ["ends", "goes on"]


def level_1() -> None:
    structlog.get_logger().info("here", by="the application")


@pytest.mark.parametrize(
    "wrapper", [INFO, structlog.BoundLogger, structlog.stdlib.BoundLogger], ids=["filtering", "generic", "stdlib"]
)
def test_the_place_is_the_applications(wrapper: Any, server: OTLPServer) -> None:
    set_up(wrapper_class=wrapper)
    level_1()
    found = attributes_of(flush_record(server))
    assert found["code.file.path"] == __file__
    assert found["code.function.name"].endswith("level_1")
    assert found["code.line.number"] == level_1.__code__.co_firstlineno + 1


def test_a_wrapper_of_the_applications_own_is_passed_over(server: OTLPServer) -> None:
    space: dict[str, Any] = {"__name__": "shop.logs"}
    exec("def say(log, text):\n    log.info(text)", space)
    structlog.configure(processors=[OtelogProcessor(additional_ignores=["shop.logs"])])
    space["say"](structlog.get_logger(), "said")
    assert attributes_of(flush_record(server))["code.file.path"] == __file__


@pytest.mark.parametrize("wrapper", [INFO, structlog.stdlib.BoundLogger], ids=["filtering", "stdlib"])
def test_async_methods_keep_trace_place_and_exception(wrapper: Any, server: OTLPServer) -> None:
    log = set_up(structlog.contextvars.merge_contextvars, wrapper_class=wrapper)
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("tests")

    async def work() -> int:
        with tracer.start_as_current_span("work") as span:
            structlog.contextvars.bind_contextvars(request="r-2")
            await log.ainfo("first", a=1)
            try:
                raise LookupError("no stock")
            except LookupError:
                await log.aexception("second")
            return span.get_span_context().trace_id

    trace_id = asyncio.run(work())
    records = [one for one in flush_records(server) if not to_python(one.body).startswith("Using selector")]
    assert bodies(records) == ["first", "second"]
    for record in records:
        assert int.from_bytes(record.trace_id, "big") == trace_id
        assert attributes_of(record)["code.file.path"] == __file__
        assert attributes_of(record)["request"] == "r-2"
    kind, message, trace = exception_of(records[1])
    assert (kind, message) == ("LookupError", "no stock")
    assert "in work" in trace


NAMES = ["debug", "info", "msg", "warn", "warning", "err", "error", "failure", "critical", "fatal", "log"]
TEXTS = ["DEBUG", "INFO", "INFO", "WARNING", "WARNING", "ERROR", "ERROR", "ERROR", "CRITICAL", "CRITICAL", "INFO"]


def test_the_severity_is_the_levels_or_else_the_methods(server: OTLPServer) -> None:
    log = set_up(wrapper_class=structlog.BoundLogger)
    for name in NAMES:
        getattr(log, name)(name)
    log.info("said otherwise", level="error")
    log.info("no level", level=3)
    logging.addLevelName(33, "NOTICE")
    OtelogProcessor(keep=True)(None, "notice", {"event": "the application's own"})
    records = flush_records(server)
    assert [one.severity_text for one in records] == [*TEXTS, "ERROR", "INFO", "NOTICE"]
    assert fields_of(records[-2]) == {"level": 3}
    assert records[-1].severity_number == 15


@pytest.mark.parametrize("level", ["WARNING", "ERROR"])
def test_a_level_below_that_of_configure_is_no_record(level: str) -> None:
    with configured(level=level) as server:
        log = set_up()
        log.info("below")
        log.error("above")
        assert bodies(flush_records(server)) == ["above"]
        assert otelog.stats().created == 1


LONG_AGO = dt.datetime(2020, 2, 3, 4, 5, 6, 789012, tzinfo=dt.timezone.utc)
NS = 1580702706_789012000


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        (LONG_AGO, NS),
        (LONG_AGO.isoformat(), NS),
        (LONG_AGO.isoformat().replace("+00:00", "Z"), NS),
        (LONG_AGO.astimezone(dt.timezone(dt.timedelta(hours=5))).isoformat(), NS),
        ("2020-02-03 04:05:06+00:00", NS // 10**9 * 10**9),
        (NS // 10**9, NS // 10**9 * 10**9),
        (1580702706.5, 1580702706_500000000),
        ("yesterday", None),
        ("12:30", None),
        ("", None),
        (-1, None),
        (float("nan"), None),
        (10**400, None),
        (True, None),
        ([1], None),
        ({"at": 1}, None),
        (dt.datetime(1, 1, 1), None),  # noqa: DTZ001
    ],
    ids=str,
)
def test_a_time_is_the_records_if_it_can_be_read(stamp: Any, expected: int | None, server: OTLPServer) -> None:
    before = time.time_ns()
    set_up().info("dated", timestamp=stamp)
    found = flush_record(server)
    if expected is not None:
        assert (found.time_unix_nano, fields_of(found)) == (expected, {})
    else:
        assert before <= found.time_unix_nano <= time.time_ns()
        assert list(fields_of(found)) == ["timestamp"]


@pytest.mark.parametrize("options", [{}, {"fmt": "iso"}, {"fmt": "iso", "utc": False}, {"fmt": "%Y-%m-%d %H:%M:%S"}])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_structlogs_own_times_are_read_to_the_second_at_least(
    options: dict[str, Any], zone: str, server: OTLPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        before = time.time_ns() - 1000
        set_up(structlog.processors.TimeStamper(**options)).info("now")
        found = flush_record(server)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert before <= found.time_unix_nano <= time.time_ns()
    assert fields_of(found) == {}


def raised() -> BaseException:
    try:
        try:
            raise KeyError("stock")
        except KeyError as error:
            raise ValueError("no order: 7\nsecond line") from error
    except ValueError as error:
        return error


@pytest.mark.parametrize("form", ["true", "exception", "tuple", "text", "dicts", "empty tuple"])
def test_an_exception_in_any_form_is_the_records(form: str, server: OTLPServer) -> None:
    processors = {
        "text": [structlog.processors.format_exc_info],
        "dicts": [structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer())],
    }
    log = set_up(*processors.get(form, []))
    error = raised()
    try:
        raise error
    except ValueError:
        given: Any = {"exception": error, "tuple": (type(error), error, error.__traceback__)}.get(form, True)
        log.error("failed", exc_info=(None, None, None) if form == "empty tuple" else given, order=7)
    found = flush_record(server)
    kind, message, trace = exception_of(found)
    assert (kind, message) == ("ValueError", "no order: 7\nsecond line")
    assert trace.index("KeyError: 'stock'") < trace.index("direct cause") < trace.index("ValueError: no order: 7")
    assert "raised" in trace
    rest = {key: value for key, value in fields_of(found).items() if not key.startswith("exception.")}
    assert rest == {"order": 7}


@pytest.mark.parametrize("given", [None, False, 0, (), "yes", 1, (1, 2), [1]])
def test_exc_info_without_an_exception_is_nothing(given: Any, server: OTLPServer) -> None:
    set_up().info("all is well", exc_info=given)
    assert fields_of(flush_record(server)) == {}


HEADER = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{HEADER}    f()\na.b.Bad: one\ntwo", ("a.b.Bad", "one\ntwo")),
        (f"{HEADER}KeyboardInterrupt", ("KeyboardInterrupt", None)),
        ("ValueError: no traceback", ("ValueError", "no traceback")),
        ("it went wrong", (None, None)),
        ("", (None, None)),
        ("Traceback (most recent call last):\n", (None, None)),
        ("╭─ Traceback ─╮", (None, None)),
        ("x" * 100_000, (None, None)),
    ],
)
def test_a_text_of_an_exception_is_read(text: str, expected: tuple[Any, Any]) -> None:
    found = read_text(text)
    assert found["exception.stacktrace"] == text
    assert (found.get("exception.type"), found.get("exception.message")) == expected


@pytest.mark.parametrize("stacks", [None, [], {}, [1], [{"no": "type"}], "text", ({"exc_type": "A"},)])
def test_what_is_no_exception_stays_a_field(stacks: Any, server: OTLPServer) -> None:
    assert read_dicts(stacks) is None


def test_dicts_that_somebody_has_changed_still_say_what_they_say() -> None:
    found = read_dicts([{"exc_type": "A", "exc_value": "b", "frames": [{"nothing": 1}]}])
    assert found is not None
    assert (found["exception.type"], found["exception.message"]) == ("A", "b")
    assert "nothing" in found["exception.stacktrace"]


def test_a_group_of_exceptions_as_dicts() -> None:
    transform = structlog.tracebacks.ExceptionDictTransformer()

    def of(error: Exception, *members: Any) -> Any:
        (stack,) = transform((type(error), error, None))
        # As structlog writes a group, which Python has since 3.11.
        return [{**stack, "is_group": bool(members), "exceptions": list(members)}]

    dicts = of(Exception("several"), of(ValueError("one")), of(Exception("inner"), of(KeyError("two"))))
    if "ExceptionGroup" in vars(builtins):
        group: Any = vars(builtins)["ExceptionGroup"]
        error = group("several", [ValueError("one"), group("inner", [KeyError("two")])])
        dicts = transform((type(error), error, None))
    found = read_dicts(dicts)
    assert found is not None
    assert "ValueError: one" in found["exception.stacktrace"]
    assert "KeyError: 'two'" in found["exception.stacktrace"]


@pytest.mark.parametrize("rendered", [False, True])
def test_the_stack_is_the_applications(rendered: bool, server: OTLPServer) -> None:
    log = set_up(*[structlog.processors.StackInfoRenderer()] * rendered)
    log.info("where", stack_info=True)
    log.info("nowhere", stack_info=False, stack="of plates")
    first, second = flush_records(server)
    assert attributes_of(first)["code.stacktrace"].rstrip().endswith('log.info("where", stack_info=True)')
    assert fields_of(second) == {"stack": "of plates"}


def test_what_changes_later_does_not_show(server: OTLPServer) -> None:
    items = [1]
    event = {"event": "seen", "items": items, "own": 1}
    assert OtelogProcessor(keep=True)(None, "info", event) is event
    items.append(2)
    event["own"] = 2
    assert fields_of(flush_record(server)) == {"items": [1], "own": 1}


@pytest.mark.parametrize("key", ["message", "msg"])
def test_a_renamed_event_is_the_body(key: str, server: OTLPServer) -> None:
    set_up(structlog.processors.EventRenamer(key)).info("renamed", a=1)
    structlog.configure(processors=[structlog.processors.EventRenamer("text"), OtelogProcessor(event_key="text")])
    structlog.get_logger().info("as said")
    first, second = flush_records(server)
    assert bodies([first, second]) == ["renamed", "as said"]
    assert fields_of(first) == {"a": 1}


def test_odd_events(server: OTLPServer) -> None:
    log = set_up(wrapper_class=structlog.BoundLogger)
    log.info({"a": 1})
    log.info(None, only="fields")
    log.info(ValueError("as event"))
    log.info("by name", **{"otel.event.name": "order.paid"})
    records = flush_records(server)
    assert bodies(records) == [{"a": 1}, "", "as event", "by name"]
    assert fields_of(records[1]) == {"only": "fields"}
    assert records[3].event_name == "order.paid"


class Context(dict[str, Any]):
    """As an application may choose one."""


def test_a_context_class_of_the_applications_own(server: OTLPServer) -> None:
    set_up(context_class=Context).bind(a=1).info("own", b=2)
    assert fields_of(flush_record(server)) == {"a": 1, "b": 2}


def test_the_factory_needs_no_renderer(server: OTLPServer) -> None:
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars], wrapper_class=INFO, logger_factory=LoggerFactory()
    )
    log = structlog.get_logger("shop.orders")
    log.debug("below structlog's level")
    structlog.contextvars.bind_contextvars(self="positional only")
    log.info("paid %d", 3, amount=1)
    try:
        raise LookupError("x")
    except LookupError:
        log.exception("failed")
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    structlog.get_logger().warning("as text")
    records = flush_records(server)
    assert bodies(records) == ["paid 3", "failed", '{"event": "as text"}']
    assert [one.severity_text for one in records] == ["INFO", "ERROR", "WARNING"]
    assert fields_of(records[0]) == {"self": "positional only", "amount": 1}
    assert exception_of(records[1])[:2] == ("LookupError", "x")
    assert attributes_of(records[0])["code.file.path"] == __file__
    assert {scope.scope.name for scope in _scopes(server)} == {"shop.orders", __name__}


def test_the_factory_under_the_stdlibs_bound_logger(server: OTLPServer) -> None:
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.add_logger_name],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=LoggerFactory(),
    )
    structlog.get_logger("shop").info("order %s", 7)
    assert bodies(flush_records(server)) == ["order 7"]


def test_processor_and_logger_are_pickled() -> None:
    processor = pickle.loads(pickle.dumps(OtelogProcessor(keep=True, additional_ignores=["shop"])))
    assert (processor.keep, processor.additional_ignores) == (True, ("shop",))
    assert pickle.loads(pickle.dumps(LoggerFactory()("shop"))).name == "shop"


def test_before_configure_events_go_to_logging(caplog: pytest.LogCaptureFixture) -> None:
    set_up().warning("early", a=1)
    structlog.configure(
        processors=[OtelogProcessor(keep=True), structlog.stdlib.render_to_log_kwargs],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    structlog.get_logger().warning("kept")
    assert [record.getMessage() for record in caplog.records] == ["early", "kept"]


def test_after_shutdown_events_are_counted(server: OTLPServer) -> None:
    log = set_up()
    otelog.shutdown()
    log.info("late")
    assert otelog.stats().refused["already_shutdown"] == 1


# Over `logging`.


def over_logging(*processors: Any, factory: Any = None) -> Any:
    structlog.configure(
        processors=[
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            *processors,
        ],
        logger_factory=factory or structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return structlog.get_logger("shop.over")


@pytest.mark.parametrize("factory", [structlog.stdlib.LoggerFactory, lambda: logging.getLogger], ids=["own", "plain"])
@pytest.mark.parametrize(
    "ending",
    [
        structlog.processors.JSONRenderer(),
        structlog.stdlib.render_to_log_kwargs,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    ids=["text", "kwargs", "formatter"],
)
def test_a_kept_event_that_goes_on_to_logging_is_taken_once(
    ending: Any, factory: Any, server: OTLPServer, caplog: pytest.LogCaptureFixture
) -> None:
    log = over_logging(OtelogProcessor(keep=True), ending, factory=factory())
    for number in range(3):
        log.info("once", number=number)
    # What is not structlog's comes as always, and so does what a processor or a handler logs on its way.
    logging.getLogger("shop.over").info("by logging")
    records = flush_records(server)
    assert bodies(records) == ["once", "once", "once", "by logging"]
    assert [fields_of(one) for one in records[:3]] == [{"number": number} for number in range(3)]
    assert len(caplog.records) == 4


def test_what_processors_and_handlers_log_on_the_way_arrives(server: OTLPServer) -> None:
    def talks(logger: Any, name: str, event: Any) -> Any:
        logging.getLogger("shop.over").info("by a processor")
        return event

    class Talks(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name == "shop.over":
                logging.getLogger("urllib3").info("by a handler")

    handler = Talks()
    logging.getLogger().addHandler(handler)
    try:
        log = over_logging(talks, OtelogProcessor(keep=True), structlog.processors.JSONRenderer())
        log.info("once")
        log.info("once more")
    finally:
        logging.getLogger().removeHandler(handler)
    found = Counter(bodies(flush_records(server)))
    assert found == {"by a handler": 4, "by a processor": 2, "once": 1, "once more": 1}


def test_loggings_own_level_counts_where_it_is_wrapped(server: OTLPServer) -> None:
    log = over_logging(OtelogProcessor(keep=True), structlog.stdlib.render_to_log_kwargs)
    logging.getLogger("shop.over").setLevel("ERROR")
    try:
        log.info("below")
        log.error("above")
    finally:
        logging.getLogger("shop.over").setLevel("NOTSET")
    assert bodies(flush_records(server)) == ["above"]


@pytest.mark.parametrize("through", ["root", "queue", "formatter of otelog's handler"])
def test_an_event_for_a_processor_formatter_is_read(through: str) -> None:
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()]
    )
    lines: list[str] = []
    shown = logging.StreamHandler(Stream(lines))
    shown.setFormatter(formatter)
    with configured(level="DEBUG") as server:
        own = next(one for one in logging.getLogger().handlers if isinstance(one, otelog.LoggingHandler))
        if through.startswith("formatter"):
            own.setFormatter(formatter)
        listener = None
        if through == "queue":
            waiting: queue.Queue[Any] = queue.Queue()
            listener = logging.handlers.QueueListener(waiting, shown)
            listener.start()
            shown = AsItIs(waiting)  # type: ignore[assignment]
        logging.getLogger().addHandler(shown)
        try:
            log = over_logging(
                structlog.processors.StackInfoRenderer(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter
            ).bind(user="eva")
            log.warning("paid %s", 7, lines=[1, {"two": None}])
            try:
                raise LookupError("no stock")
            except LookupError:
                log.exception("failed", **{"otel.event.name": "order.failed"})
            log.info("where", stack_info=True, timestamp="2020-02-03T04:05:06.789012Z")
        finally:
            logging.getLogger().removeHandler(shown)
            if listener is not None:
                listener.stop()
        first, second, third = flush_records(server)
    if through.startswith("formatter"):
        assert json.loads(to_python(first.body))["event"] == "paid %s"
    else:
        assert bodies([first, second, third]) == ["paid 7", "failed", "where"]
    assert fields_of(first) == {"user": "eva", "lines": [1, {"two": None}]}
    assert (first.severity_text, second.severity_text) == ("WARNING", "ERROR")
    assert attributes_of(first)["code.file.path"] == __file__
    assert exception_of(second)[:2] == ("LookupError", "no stock")
    assert second.event_name == "order.failed"
    assert attributes_of(third)["code.stacktrace"].startswith("Stack (most recent call last)")
    assert lines


class AsItIs(logging.handlers.QueueHandler):
    """Does not make a text of the event, as structlog wants it."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record


class Stream:
    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def write(self, text: str) -> None:
        self.lines.append(text)

    def flush(self) -> None:
        """Nothing to do."""


def test_events_as_keywords_of_logging(server: OTLPServer) -> None:
    over_logging(structlog.stdlib.render_to_log_kwargs).warning("paid", order=[7], exc_info=ValueError("x"))
    found = flush_record(server)
    assert to_python(found.body) == "paid"
    assert fields_of(found)["order"] == [7]
    assert exception_of(found)[:2] == ("ValueError", "x")


@pytest.mark.parametrize("message", [{"a": 1}, "text"])
def test_a_mapping_that_is_no_event_is_the_body(message: Any, server: OTLPServer) -> None:
    logging.getLogger("shop.map").info(message)
    logging.getLogger("shop.map").info(message, extra={"_name": 1})
    first, second = flush_records(server)
    assert bodies([first, second]) == [message, message]
    assert fields_of(second) == {"_name": 1}


# Fields as its own renderer writes them.


_MEANT = {"event", "level", "timestamp", "logger", "exc_info", "exception", "stack_info", "stack", "positional_args"}


def hostile_fields(seed: int) -> dict[str, Any]:
    chance = random.Random(seed)
    keys = [make_text(chance)[:30] or "k" for _ in range(chance.randrange(8))]
    return {key: make_value(chance) for key in keys if key not in _MEANT}


@pytest.mark.no_cover
def test_the_fields_of_1000_hostile_events_are_those_of_its_json_renderer() -> None:
    lines: list[str] = []
    with configured(level="DEBUG", max_attribute_length=None) as server:
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso"),
                OtelogProcessor(keep=True),
                structlog.processors.JSONRenderer(),
            ],
            logger_factory=lambda *_: _Lines(lines),
        )
        log = structlog.get_logger()
        for seed in range(1000):
            chance = random.Random(-1 - seed)
            bound = log.bind(seed=seed, **hostile_fields(seed))
            getattr(bound, chance.choice(("debug", "info", "warning", "error", "critical")))(make_text(chance))
        records = flush_records(server)
    assert (len(records), len(lines)) == (1000, 1000)
    for record, line in zip(records, lines, strict=True):
        written = json.loads(line)
        assert written.pop("timestamp")
        assert to_python(record.body) == as_it_arrives(written.pop("event"))
        assert record.severity_text == written.pop("level").upper()
        assert fields_of(record) == as_it_arrives(written)


class _Lines:
    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def msg(self, line: str) -> None:
        self.lines.append(line)

    debug = info = warning = error = critical = msg


def test_no_value_however_odd_costs_an_event(server: OTLPServer) -> None:
    log = set_up()
    for name, make in HOSTILE:
        log.info("odd", case=name, value=make())
    records = [one for one in flush_records(server) if to_python(one.body) == "odd"]
    assert [fields_of(one)["case"] for one in records] == [name for name, _ in HOSTILE]
    assert all("value" in fields_of(one) for one in records)


class EvilEvent(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no items")


def test_an_event_that_cannot_be_read_is_said(server: OTLPServer) -> None:
    take = OtelogProcessor(keep=True)
    for event in (EvilEvent(event="x"), None, "a renderer's text", ("args", {})):
        assert take(None, "info", event) is event
    said = " | ".join(sorted(bodies(flush_records(server))))
    assert said.startswith("a renderer's text | an event of structlog's could not be read: ")
    assert said.count("could not be read: AttributeError") == 2
    assert said.count("could not be read: RuntimeError") == 1


def test_in_a_processor_formatter_it_takes_and_drops_nothing(server: OTLPServer) -> None:
    event = {"event": "by logging", "_record": object(), "_from_structlog": False}
    assert OtelogProcessor()(None, "info", event) is event
    assert flush_records(server) == []


class Talks:
    def __repr__(self) -> str:
        structlog.get_logger().info("from a repr")
        return "talks"


def test_a_value_that_logs_by_structlog_ends(server: OTLPServer) -> None:
    set_up().info("outer", value=Talks())
    assert sorted(bodies(flush_records(server))) == ["from a repr", "outer"]


def test_16_threads_every_event_once() -> None:
    with configured(max_queue_size=2 * THREADS * EVENTS, max_queue_bytes=1 << 30) as server:
        log = set_up(
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            wrapper_class=INFO,
        )
        tracer = TracerProvider(shutdown_on_exit=False).get_tracer("tests")
        begin = threading.Barrier(THREADS)

        def work(thread: int) -> int:
            begin.wait(30)
            structlog.contextvars.bind_contextvars(thread=thread)
            with tracer.start_as_current_span("work") as span:
                for number in range(EVENTS):
                    if number % 7:
                        log.info("event %d", number, number=number, nested={"of": [thread]})
                        continue
                    try:
                        raise ValueError(f"{thread}-{number}")
                    except ValueError:
                        log.exception("event %d", number, number=number)
                return span.get_span_context().trace_id

        with ThreadPoolExecutor(THREADS) as pool:
            traces = list(pool.map(work, range(THREADS)))
        assert otelog.flush(LOAD_SECONDS)
        records = flush_records(server)
        stats = otelog.stats()
    assert (stats.created, stats.lost, len(records)) == (THREADS * EVENTS, 0, THREADS * EVENTS)
    seen = set()
    for record in records:
        found = attributes_of(record)
        thread, number = found["thread"], found["number"]
        seen.add((thread, number))
        assert to_python(record.body) == f"event {number}"
        assert int.from_bytes(record.trace_id, "big") == traces[thread]
        expected = ("nested", {"of": [thread]}) if number % 7 else ("exception.message", f"{thread}-{number}")
        assert found[expected[0]] == expected[1]
    assert len(seen) == THREADS * EVENTS


# Without a change of code.


def captured(**options: Any) -> Any:
    return configured(capture_structlog=True, level="DEBUG", **options)


def test_events_of_its_own_loggers_are_captured_by_option(capsys: Any) -> None:
    kept = structlog.get_logger()
    kept.info("before")
    with captured() as server:
        kept.bind(user="eva").info("by default", lines=[1])
        structlog.configure(
            processors=[structlog.processors.JSONRenderer(serializer=dumps)],
            logger_factory=structlog.BytesLoggerFactory(),
            cache_logger_on_first_use=True,
        )
        log = structlog.get_logger("shop.bytes")
        log.warning("bytes")
        structlog.reset_defaults()
        log.warning("kept by its cache")
        level_1()
        with structlog.testing.capture_logs() as logs:
            structlog.get_logger().info("in a test")
        otelog.configure(endpoint=server.endpoint, service_name="test", thread_attributes=False, capture_structlog=True)
        kept.info("configured again")
        records = flush_records(server)
        otelog.configure(endpoint=server.endpoint, service_name="test", thread_attributes=False)
        kept.info("turned off")
        assert len(flush_records(server)) == len(records)
    kept.info("after")
    assert [one["event"] for one in logs] == ["in a test"]
    assert sorted(bodies(records)) == ["by default", "bytes", "configured again", "here", "kept by its cache"]
    by_body = {to_python(one.body): one for one in records}
    assert fields_of(by_body["by default"]) == {"user": "eva", "lines": [1]}
    assert attributes_of(by_body["here"])["code.function.name"].endswith("level_1")
    shown = capsys.readouterr().out
    for text in ("before", "by default", "bytes", "kept by its cache", "configured again", "turned off", "after"):
        assert shown.count(text) == 1


def dumps(event: Any, **options: Any) -> bytes:
    return json.dumps(event, **options).encode()


def test_what_comes_otherwise_is_not_captured_twice(caplog: pytest.LogCaptureFixture) -> None:
    with captured() as server:
        set_up().info("by the processor")
        structlog.configure(processors=[], logger_factory=LoggerFactory())
        structlog.get_logger().info("by the factory")
        over_logging(structlog.processors.KeyValueRenderer(["event"])).info("over logging")
        assert sorted(bodies(flush_records(server)))[:2] == ["by the factory", "by the processor"]
        assert len(server.records) == 3


def test_what_another_library_puts_on_top_stays_and_doubles_nothing() -> None:
    base = structlog.get_logger().bind().__class__.__mro__[1]
    standard = base._process_event
    with captured() as server:
        below = base._process_event
        base._process_event = lambda self, *rest: below(self, *rest)
        on_top = base._process_event
        try:
            options = {"endpoint": server.endpoint, "service_name": "test", "thread_attributes": False}
            structlog.get_logger().info("first")
            otelog.configure(**options, capture_structlog=False)
            structlog.get_logger().info("off")
            otelog.configure(**options, capture_structlog=True)
            assert base._process_event is not on_top
            structlog.get_logger().info("again")
            assert bodies(flush_records(server)) == ["first", "again"]
        finally:
            base._process_event = standard


def test_a_chain_of_texts_is_captured_as_text(capsys: Any) -> None:
    with captured() as server:
        structlog.configure(processors=[structlog.processors.JSONRenderer(), lambda logger, name, text: text + "!"])
        structlog.get_logger().info("as json")
        assert bodies(flush_records(server)) == ['{"event": "as json"}']
    assert capsys.readouterr().out == '{"event": "as json"}!\n'


PROGRAM = """
import sys
assert "structlog" not in sys.modules
import structlog
structlog.configure(processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()])
def pay():
    structlog.get_logger().warning("paid", order={"id": 7})
pay()
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger().exception("failed")
import importlib
assert type(structlog.__spec__.loader).__name__ == "SourceFileLoader"
assert "exec_module" not in vars(structlog.__spec__.loader)
"""


def test_under_otelog_run_nothing_is_to_be_changed(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(PROGRAM)
    with OTLPServer() as server:
        done = subprocess.run(
            [sys.executable, "-m", "otelog.cli", "run", "--endpoint", server.endpoint, "--", "python", "shop.py"],
            cwd=tmp_path,
            env={**os.environ, **without_instrumentations(), "OTELOG_CAPTURE_STRUCTLOG": "true"},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["paid", "failed"]
        first, second = server.records
    assert fields_of(first) == {"order": {"id": 7}}
    assert attributes_of(first)["code.function.name"] == "pay"
    assert exception_of(second)[0] == "ZeroDivisionError"
