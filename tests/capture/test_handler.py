"""The handler: what a record of the standard library becomes on the wire."""

from __future__ import annotations

import copy
import io
import json
import logging
import logging.handlers
import os
import pickle
import queue
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import otelog
from otelog._capture.handler import find_fields
from otelog.testing import OTLPServer
from tests.arrivals import attributes_of, bodies, configured, fields_of, flush_record, flush_records, to_python

log = logging.getLogger("shop.orders")


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with configured(level="DEBUG") as one:
        yield one


@pytest.fixture
def handler(server: OTLPServer) -> otelog.LoggingHandler:
    """The handler that `configure` has put on the root logger."""
    (found,) = [one for one in logging.getLogger().handlers if isinstance(one, otelog.LoggingHandler)]
    return found


@pytest.fixture
def alone(server: OTLPServer) -> logging.Logger:
    """A logger below no other: pytest's handlers raise where a record cannot be formatted."""
    logger = logging.Logger("alone")
    logger.addHandler(otelog.LoggingHandler())
    return logger


def line() -> int:
    """The caller's line."""
    return sys._getframe(1).f_lineno


# What a call becomes.


def test_a_record_has_the_calls_level_scope_place_and_time(server: OTLPServer) -> None:
    before = time.time_ns()
    log.warning("order %d is late", 7)
    expected = line() - 1
    after = time.time_ns()
    record = flush_record(server)
    (request,) = server.requests
    (scope,) = [scope for resource in request.decode().resource_logs for scope in resource.scope_logs]
    assert scope.scope.name == "shop.orders"
    assert (record.severity_number, record.severity_text) == (13, "WARNING")
    assert to_python(record.body) == "order 7 is late"
    assert attributes_of(record) == {
        "code.file.path": __file__,
        "code.function.name": "test_a_record_has_the_calls_level_scope_place_and_time",
        "code.line.number": expected,
    }
    # The standard library keeps seconds as a float, which is good for about 200 ns.
    assert before - 1000 <= record.time_unix_nano <= after + 1000


def test_levels_of_ones_own_keep_their_names(server: OTLPServer) -> None:
    logging.addLevelName(25, "NOTICE")
    try:
        log.log(25, "x")
        log.log(26, "y")
    finally:
        logging._levelToName.pop(25)
        logging._nameToLevel.pop("NOTICE")
    assert [(one.severity_number, one.severity_text) for one in flush_records(server)] == [
        (11, "NOTICE"),
        (12, "Level 26"),
    ]


@pytest.mark.parametrize(
    ("message", "arguments", "body"),
    [
        ("plain %", (), "plain %"),
        ("%(user)s paid", ({"user": "ada"},), "ada paid"),
        ("%s", ({},), "{}"),
        ("%s", ([1],), "[1]"),
        ("%s %s", ("one",), "%s %s ('one',)"),
        ("none", (1,), "none (1,)"),
        ({"a": 1}, (), {"a": 1}),
        (ValueError("as message"), (), "as message"),
        (None, (), "None"),
        (5, (), "5"),
    ],
)
def test_a_message_of_any_form_becomes_the_body(
    server: OTLPServer, alone: logging.Logger, message: Any, arguments: tuple[Any, ...], body: Any
) -> None:
    alone.info(message, *arguments)
    assert to_python(flush_record(server).body) == body


@pytest.mark.parametrize("form", ["true", "error", "tuple", "method"])
def test_an_exception_becomes_attributes_in_all_forms(server: OTLPServer, form: str) -> None:
    try:
        raise KeyError("sku")
    except KeyError as error:
        if form == "method":
            log.exception("failed")
        else:
            given: Any = {"true": True, "error": error, "tuple": sys.exc_info()}[form]
            log.error("failed", exc_info=given)
    attributes = attributes_of(flush_record(server))
    assert (attributes["exception.type"], attributes["exception.message"]) == ("KeyError", "'sku'")
    assert 'raise KeyError("sku")' in attributes["exception.stacktrace"]


def test_exc_info_without_an_exception_is_nothing(server: OTLPServer) -> None:
    log.exception("nothing is being handled")
    log.info("x", exc_info=False)
    for record in flush_records(server):
        assert fields_of(record) == {}


def test_stack_info_is_kept(server: OTLPServer) -> None:
    log.info("x", stack_info=True)
    assert 'log.info("x", stack_info=True)' in attributes_of(flush_record(server))["code.stacktrace"]


def test_stacklevel_moves_the_call_to_a_caller(server: OTLPServer) -> None:
    def helper() -> None:
        log.info("x", stacklevel=2)

    helper()
    expected = line() - 1
    assert attributes_of(flush_record(server))["code.line.number"] == expected


def test_extra_fields_become_attributes(server: OTLPServer) -> None:
    log.info("x", extra={"user": "ada", "amount": 12.5, "items": [1, {"a": None}]})
    assert fields_of(flush_record(server)) == {"user": "ada", "amount": 12.5, "items": [1, {"a": None}]}


@pytest.mark.parametrize("odd", [False, True])
def test_an_event_name_can_be_given_as_a_field(server: OTLPServer, odd: bool) -> None:
    extra: dict[str, Any] = {"otel.event.name": "order.paid", "order_id": 7}
    if odd:
        extra["items"] = [1]
    log.info("paid", extra=extra)
    record = flush_record(server)
    assert record.event_name == "order.paid"
    assert fields_of(record) == {key: value for key, value in extra.items() if key != "otel.event.name"}


@pytest.mark.parametrize("odd", [{}, {"l": [1]}])
def test_bound_fields_lie_beneath_those_of_the_record(server: OTLPServer, odd: dict[str, Any]) -> None:
    with otelog.bound(request="r-1", user="bound"):
        log.info("x", extra={"user": "extra", **odd})
        log.info("y")
    with_extra, without = flush_records(server)
    assert fields_of(with_extra) == {"request": "r-1", "user": "extra", **odd}
    assert fields_of(without) == {"request": "r-1", "user": "bound"}


# Formatters, filters, factories.


def test_a_formatter_makes_the_body_and_the_exception_stands_once(
    server: OTLPServer, handler: otelog.LoggingHandler
) -> None:
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    try:
        raise KeyError("sku")
    except KeyError:
        log.exception("order %d failed", 7, extra={"a": 1})
    record = flush_record(server)
    assert to_python(record.body) == "ERROR shop.orders: order 7 failed"
    assert "KeyError" in attributes_of(record)["exception.stacktrace"]
    assert fields_of(record)["a"] == 1


def test_a_formatter_that_raises_costs_the_format_and_not_the_record(
    server: OTLPServer, handler: otelog.LoggingHandler, capfd: pytest.CaptureFixture[str]
) -> None:
    handler.setFormatter(logging.Formatter("%(no_such_field)s"))
    log.info("kept %d", 1)
    assert to_python(flush_record(server).body) == "kept 1"


def test_fields_that_another_handlers_formatter_leaves_are_not_the_users(server: OTLPServer) -> None:
    other = logging.StreamHandler(io.StringIO())
    other.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    root = logging.getLogger()
    root.handlers.insert(0, other)
    try:
        log.info("x", extra={"a": 1})
        log.info("y")
        try:
            raise KeyError
        except KeyError:
            log.exception("z")
    finally:
        root.removeHandler(other)
    found = [fields_of(record) for record in flush_records(server)]
    assert found[:2] == [{"a": 1}, {}]
    assert set(found[2]) == {"exception.type", "exception.message", "exception.stacktrace"}


class AddField(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = "r-1"
        return True


class Redact(logging.Filter):
    """Returns another record, which the standard library allows from 3.12 on."""

    def filter(self, record: logging.LogRecord) -> Any:
        other = copy.copy(record)
        other.msg, other.args = "redacted", None
        return other


class Refuse(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return False


class Raising(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        raise ValueError("broken filter")


def test_a_filter_on_the_logger_can_add_fields(server: OTLPServer) -> None:
    adding = AddField()
    log.addFilter(adding)
    try:
        log.info("x", extra={"a": 1})
        log.info("y")
    finally:
        log.removeFilter(adding)
    found = [fields_of(record) for record in flush_records(server)]
    assert found == [{"a": 1, "request_id": "r-1"}, {"request_id": "r-1"}]


def test_a_filter_on_the_handler_can_add_and_refuse(server: OTLPServer, handler: otelog.LoggingHandler) -> None:
    handler.addFilter(AddField())
    log.info("one")
    handler.addFilter(Refuse())
    log.info("two")
    (one,) = flush_records(server)
    assert (to_python(one.body), fields_of(one)) == ("one", {"request_id": "r-1"})
    assert otelog.stats().created == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the standard library does not let a filter do that before 3.12")
def test_a_filter_on_the_handler_can_replace_the_record(server: OTLPServer, handler: otelog.LoggingHandler) -> None:
    handler.addFilter(Redact())
    log.info("two %s", "secret")
    assert to_python(flush_record(server).body) == "redacted"


def test_a_filter_that_raises_does_not_reach_the_application(
    server: OTLPServer, handler: otelog.LoggingHandler, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = Raising()
    handler.addFilter(broken)
    log.info("lost or kept, but counted")
    handler.removeFilter(broken)
    log.info("after")
    assert "after" in bodies(flush_records(server))
    stats = otelog.stats()
    assert stats.created == stats.exported + stats.lost == 2


class FieldFirst(logging.LogRecord):
    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self.tenant = "t-1"
        super().__init__(*arguments, **keywords)


class FieldLast(logging.LogRecord):
    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.tenant = "t-1"


class FieldForAnother(logging.LogRecord):
    """As many attributes as a standard record has, but not the same."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self.tenant = "t-1"
        super().__init__(*arguments, **keywords)
        del self.processName


class BraceStyle(logging.LogRecord):
    def getMessage(self) -> str:
        return str(self.msg).format(*(self.args or ()))


@pytest.mark.parametrize("factory", [FieldFirst, FieldLast, FieldForAnother])
@pytest.mark.parametrize("extra", [{}, {"a": 1}])
def test_fields_of_a_record_factory_are_found(
    server: OTLPServer, alone: logging.Logger, factory: Any, extra: dict[str, Any]
) -> None:
    logging.setLogRecordFactory(factory)
    try:
        alone.info("x", extra=extra)
    finally:
        logging.setLogRecordFactory(logging.LogRecord)
    assert fields_of(flush_record(server)) == {"tenant": "t-1", **extra}


def test_a_record_that_makes_its_own_message_is_asked_for_it(server: OTLPServer) -> None:
    logging.setLogRecordFactory(BraceStyle)
    try:
        log.info("{} paid {:.2f}", "ada", 12.5)  # noqa: PLE1205
    finally:
        logging.setLogRecordFactory(logging.LogRecord)
    assert to_python(flush_record(server).body) == "ada paid 12.50"


def test_a_made_record_keeps_what_it_says_of_itself(server: OTLPServer) -> None:
    record = logging.makeLogRecord(
        {"name": "remote", "levelno": 30, "levelname": "WARNING", "msg": "%s!", "args": ("hey",), "user": "ada"}
    )
    logging.getLogger().handle(record)
    got = flush_record(server)
    assert (got.severity_number, got.severity_text, to_python(got.body)) == (13, "WARNING", "hey!")
    assert fields_of(got) == {"user": "ada"}


@pytest.mark.parametrize(
    "broken",
    [
        {"levelno": "x"},
        {"levelno": None},
        {"levelname": None},
        {"name": None},
        {"name": ["unhashable"]},
        {"created": None},
        {"created": float("nan")},
        {"created": -5.0},
        {"created": 1e300},
        {"lineno": "x", "pathname": None, "funcName": 7},
        {"thread": "main"},
        {"args": 5},
        {"args": [1, 2]},
        {"exc_info": 5},
        {"exc_info": ("a", "b", "c")},
        {"exc_text": 5},
        {"stack_info": 5},
        {"msg": "\ud800"},
    ],
    ids=str,
)
def test_a_broken_record_never_raises_and_is_counted(
    server: OTLPServer, broken: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    log.info("before")
    record = logging.makeLogRecord({"msg": "broken", "levelno": 20, "levelname": "INFO", "name": "x", **broken})
    for handler in root.handlers:
        if isinstance(handler, otelog.LoggingHandler):
            handler.handle(record)
    log.info("after")
    otelog.flush(10.0)
    found = bodies(server.records)
    assert "before" in found and "after" in found
    stats = otelog.stats()
    assert stats.created == 3
    assert stats.exported == len(found) == 3 - stats.lost


def test_a_record_without_its_standard_fields_never_raises(server: OTLPServer, handler: otelog.LoggingHandler) -> None:
    for name in list(logging.makeLogRecord({}).__dict__):
        record = logging.makeLogRecord({"msg": "x", "name": "broken", "levelno": 20, "levelname": "INFO"})
        del record.__dict__[name]
        handler.handle(record)
    log.info("after")
    otelog.flush(10.0)
    stats = otelog.stats()
    assert stats.created == stats.exported + stats.lost
    assert bodies(server.records)[-1] == "after" or "after" in bodies(server.records)


def test_fields_are_found_wherever_they_stand() -> None:
    standard = logging.makeLogRecord({}).__dict__
    assert find_fields(dict(standard)) is None
    assert find_fields({**standard, "message": "m", "asctime": "t"}) is None
    assert find_fields({**standard, "a": 1, "message": "m", "b": 2}) == {"a": 1, "b": 2}
    assert find_fields({"a": 1, **standard}) == {"a": 1}
    assert find_fields({**standard, "taskName": "Task-1"}) is None
    assert find_fields({"a": 1}) == {"a": 1}
    without = dict(standard)
    del without["threadName"]
    assert find_fields({**without, "a": 1}) == {"a": 1}


# Records from elsewhere.


def test_records_replayed_by_a_queue_listener_keep_time_place_thread_and_text(server: OTLPServer) -> None:
    waiting: queue.Queue[Any] = queue.Queue()
    logger = logging.getLogger("queued")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    sender = logging.handlers.QueueHandler(waiting)
    logger.addHandler(sender)
    try:
        try:
            raise KeyError("sku")
        except KeyError:
            logger.exception("order %d", 7, extra={"a": 1})
            expected = line() - 1
        created = waiting.queue[0].created
        listener = logging.handlers.QueueListener(waiting, *logging.getLogger().handlers)
        listener.start()
        listener.stop()
    finally:
        logger.removeHandler(sender)
    record = flush_record(server)
    attributes = attributes_of(record)
    assert record.time_unix_nano == int(created * 1_000_000_000)
    assert to_python(record.body).startswith("order 7")
    assert (attributes["code.line.number"], attributes["a"]) == (expected, 1)
    assert "KeyError" in str(attributes) or "KeyError" in to_python(record.body)


@pytest.mark.parametrize("age", [5.0, 0.5, 3600.0])
def test_a_record_from_another_process_keeps_its_time(server: OTLPServer, age: float) -> None:
    log.info("now")
    record = logging.makeLogRecord({"msg": "%s", "args": ("old",), "levelno": 20, "levelname": "INFO", "name": "x"})
    record.created -= age
    record.process = os.getpid() + 1
    record = logging.makeLogRecord(pickle.loads(pickle.dumps(record.__dict__)))
    logging.getLogger().handle(record)
    log.info("now again")
    times = {to_python(one.body): one.time_unix_nano for one in flush_records(server)}
    assert times["old"] == int(record.created * 1_000_000_000)
    assert times["now"] < times["now again"]


def test_the_thread_is_the_one_that_logged() -> None:
    with configured(thread_attributes=True) as server:
        record = logging.makeLogRecord({"msg": "x", "levelno": 20, "levelname": "INFO", "name": "x"})
        record.thread = 12345
        logging.getLogger().handle(record)
        log.info("here")
        threads = {to_python(one.body): fields_of(one)["thread.id"] for one in flush_records(server)}
    assert threads == {"x": 12345, "here": threading.get_ident()}


# The handler as such.


def test_a_handler_can_have_a_processor_of_its_own() -> None:
    with OTLPServer() as server:
        processor = otelog.BatchLogRecordProcessor(otelog.OTLPLogExporter(endpoint=server.logs_endpoint))
        handler = otelog.LoggingHandler(logging.WARNING, processor=processor)
        logger = logging.getLogger("own")
        logger.addHandler(handler)
        try:
            logger.warning("yes")
            logger.info("no")
        finally:
            logger.removeHandler(handler)
        assert processor.shutdown()
        assert bodies(server.records) == ["yes"]
        assert processor.stats().created == 1


def test_the_handlers_level_counts(server: OTLPServer, handler: otelog.LoggingHandler) -> None:
    handler.setLevel("ERROR")
    log.warning("no")
    log.error("yes")
    assert bodies(flush_records(server)) == ["yes"]


def test_flush_and_close_wait_for_nothing_and_lose_nothing(server: OTLPServer, handler: otelog.LoggingHandler) -> None:
    log.info("one")
    handler.flush()
    handler.close()
    log.info("two")
    assert bodies(flush_records(server)) == ["one", "two"]


def test_logging_from_inside_a_str_is_kept_or_counted(server: OTLPServer, alone: logging.Logger) -> None:
    class Chatty:
        def __str__(self) -> str:
            alone.info("from inside")
            alone.info("odd from inside", extra={"l": [1]})
            return "chatty"

    alone.info("%s", Chatty())
    found = bodies(flush_records(server))
    assert "chatty" in found and "from inside" in found
    stats = otelog.stats()
    assert stats.created == 3
    assert stats.exported + stats.refused["reentrant"] == 3


def test_the_message_is_what_other_handlers_say_too(server: OTLPServer) -> None:
    stream = io.StringIO()
    other = logging.StreamHandler(stream)
    other.setFormatter(logging.Formatter('{"m": "%(message)s"}'))
    logging.getLogger().addHandler(other)
    try:
        log.info("%s %05.1f %x", "a", 2.25, 255)
    finally:
        logging.getLogger().removeHandler(other)
    assert to_python(flush_record(server).body) == json.loads(stream.getvalue())["m"]
