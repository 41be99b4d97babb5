"""The facade: what a call becomes on the wire."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import otelog
from otelog.testing import OTLPServer
from tests.arrivals import attributes_of, bodies, configured, fields_of, flush_record, flush_records, to_python

log = otelog.get_logger(__name__)


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with configured(level="DEBUG") as one:
        yield one


def line() -> int:
    """The caller's line."""
    return sys._getframe(1).f_lineno


# Levels and messages.


@pytest.mark.parametrize(
    ("name", "number", "text"),
    [
        ("debug", 5, "DEBUG"),
        ("info", 9, "INFO"),
        ("warning", 13, "WARNING"),
        ("warn", 13, "WARNING"),
        ("error", 17, "ERROR"),
        ("critical", 21, "CRITICAL"),
        ("fatal", 21, "CRITICAL"),
    ],
)
def test_a_level_method_sets_number_and_text(server: OTLPServer, name: str, number: int, text: str) -> None:
    getattr(log, name)("x")
    record = flush_record(server)
    assert (record.severity_number, record.severity_text) == (number, text)


@pytest.mark.parametrize(
    ("level", "number", "text"),
    [(20, 9, "INFO"), ("info", 9, "INFO"), (25, 11, "Level 25"), (60, 24, "Level 60"), ("ERROR", 17, "ERROR")],
)
def test_log_takes_any_level(server: OTLPServer, level: int | str, number: int, text: str) -> None:
    log.log(level, "x")
    record = flush_record(server)
    assert (record.severity_number, record.severity_text) == (number, text)


def test_a_level_that_does_not_exist_counts_as_info(server: OTLPServer, capfd: pytest.CaptureFixture[str]) -> None:
    log.log("no such level", "kept")
    assert flush_record(server).severity_number == 9


def test_calls_below_the_level_make_no_record() -> None:
    with configured(level="WARNING") as server:
        log.info("no")
        log.log(29, "no")
        log.event("no", level=20)
        assert not log.is_enabled_for("INFO") and not log.isEnabledFor(29)
        assert log.is_enabled_for(30)
        log.warning("yes")
        assert bodies(flush_records(server)) == ["yes"]
        assert otelog.stats().created == 1


@pytest.mark.parametrize(
    ("message", "arguments", "body"),
    [
        ("plain %", (), "plain %"),
        ("%s and %d", ("a", 5), "a and 5"),
        ("%(user)s paid %(amount).2f", ({"user": "ada", "amount": 12.5},), "ada paid 12.50"),
        ("%s", ({"a": 1},), "{'a': 1}"),
        ("%s %s", ("one",), "%s %s ('one',)"),
        ("none", ("surplus",), "none ('surplus',)"),
        ("%d", ("text",), "%d ('text',)"),
        ("%s", (None,), "None"),
        ("%s", (True,), "True"),
        ("%5.1f|%-4s|%r", (1.25, "ab", "c"), "  1.2|ab  |'c'"),
        ("%s", ([1, 2],), "[1, 2]"),
        ("", (), ""),
    ],
)
def test_a_template_is_filled_in_as_the_standard_library_would(
    server: OTLPServer, message: str, arguments: tuple[Any, ...], body: str
) -> None:
    log.info(message, *arguments)
    assert to_python(flush_record(server).body) == body


@pytest.mark.parametrize("message", [{"a": [1, None]}, ["x", 2.5], b"\x00\xff"])
def test_a_structured_message_stays_structured(server: OTLPServer, message: object) -> None:
    log.info(message)
    assert to_python(flush_record(server).body) == message


def test_the_scope_is_the_loggers_name(server: OTLPServer) -> None:
    log.info("x")
    otelog.get_logger("other").info("y")
    otelog.get_logger().info("z")
    flush_records(server)
    (request,) = server.requests
    scopes = [scope for resource in request.decode().resource_logs for scope in resource.scope_logs]
    assert {scope.scope.name: len(scope.log_records) for scope in scopes} == {__name__: 2, "other": 1}


def test_any_name_can_be_a_field(server: OTLPServer) -> None:
    log.info("x", self=1, msg=2, args=3, level=4, name=5, fields=6)
    assert fields_of(flush_record(server)) == {"self": 1, "msg": 2, "args": 3, "level": 4, "name": 5, "fields": 6}


def test_fields_keep_their_kinds(server: OTLPServer) -> None:
    fields = {"s": "é", "i": -5, "big": 2**63 - 1, "f": 2.5, "t": True, "n": None, "b": b"\xff", "l": [1, {"a": "b"}]}
    log.info("x", **fields)
    assert fields_of(flush_record(server)) == fields


def test_a_later_change_of_a_field_never_shows(server: OTLPServer) -> None:
    cart = {"items": [1]}
    log.info("%s", cart, cart=cart)
    cart["items"].append(2)
    record = flush_record(server)
    assert (to_python(record.body), fields_of(record)) == ("{'items': [1]}", {"cart": {"items": [1]}})


# Where in the code.


def test_code_attributes_name_the_call(server: OTLPServer) -> None:
    log.info("x")
    expected = line() - 1
    attributes = attributes_of(flush_record(server))
    assert attributes["code.file.path"] == __file__
    assert attributes["code.line.number"] == expected
    assert attributes["code.function.name"].endswith("test_code_attributes_name_the_call")


def test_the_line_of_a_call_over_several_lines_is_in_it(server: OTLPServer) -> None:
    first = line()
    log.info(
        "x",
        a=1,
    )
    assert first < attributes_of(flush_record(server))["code.line.number"] < line()


def decorate(function: Callable[[], None]) -> Callable[[], None]:
    @functools.wraps(function)
    def wrapper() -> None:
        function()

    return wrapper


@decorate
def logs_when_decorated() -> None:
    log.info("x")


def logs_in_a_generator() -> Iterator[None]:
    log.info("x")
    yield


class Shop:
    def sell(self) -> None:
        log.info("x")


EXECUTED: dict[str, Any] = {"log": log}
exec(compile("def made():\n    log.info('x')\n", "<made at run time>", "exec"), EXECUTED)


@pytest.mark.parametrize(
    ("call", "function"),
    [
        (logs_when_decorated, "logs_when_decorated"),
        (lambda: log.info("x"), "<lambda>"),
        (lambda: [log.info("x") for _ in range(1)], None),
        (lambda: list(logs_in_a_generator()), "logs_in_a_generator"),
        (lambda: Shop().sell(), "sell"),
        (EXECUTED["made"], "made"),
        (functools.partial(log.info, "x"), None),
    ],
)
def test_the_function_is_the_one_that_logs(
    server: OTLPServer, call: Callable[[], object], function: str | None
) -> None:
    call()
    attributes = attributes_of(flush_record(server))
    if function is not None:
        assert attributes["code.function.name"].rpartition(".")[2] == function
    assert attributes["code.line.number"] > 0


def test_code_made_at_run_time_has_its_own_file_name(server: OTLPServer) -> None:
    EXECUTED["made"]()
    attributes = attributes_of(flush_record(server))
    assert (attributes["code.file.path"], attributes["code.line.number"]) == ("<made at run time>", 2)


@pytest.mark.parametrize("method", ["info", "exception", "log"])
def test_stacklevel_moves_the_call_to_a_caller(server: OTLPServer, method: str) -> None:
    def helper(level: int) -> None:
        if method == "log":
            log.log(20, "x", stacklevel=level)
        else:
            getattr(log, method)("x", stacklevel=level, exc_info=None)

    helper(2)
    expected = line() - 1
    assert attributes_of(flush_record(server))["code.line.number"] == expected


def test_a_stacklevel_beyond_the_stack_is_the_outermost_frame(server: OTLPServer) -> None:
    log.info("x", stacklevel=10_000)
    assert attributes_of(flush_record(server))["code.file.path"] != __file__


def test_code_attributes_can_be_left_out() -> None:
    with configured(code_attributes=False) as server:
        log.info("x", a=1)
        assert attributes_of(flush_record(server)) == {"a": 1}


# Exceptions and stacks.


class PaymentError(Exception):
    pass


@pytest.mark.parametrize("form", ["true", "error", "tuple", "method", "one"])
def test_an_exception_becomes_attributes_in_all_forms(server: OTLPServer, form: str) -> None:
    try:
        raise PaymentError("no money")
    except PaymentError as error:
        if form == "method":
            log.exception("failed")
        else:
            given: Any = {"true": True, "error": error, "tuple": sys.exc_info(), "one": 1}[form]
            log.error("failed", exc_info=given)
    record = flush_record(server)
    attributes = attributes_of(record)
    assert record.severity_number == 17
    assert attributes["exception.type"].endswith("test_logger.PaymentError")
    assert attributes["exception.message"] == "no money"
    assert attributes["exception.stacktrace"].startswith("Traceback (most recent call last):")
    assert 'raise PaymentError("no money")' in attributes["exception.stacktrace"]


@pytest.mark.parametrize("form", [None, False, 0, (), (None, None, None)])
def test_no_exception_no_attributes(server: OTLPServer, form: Any) -> None:
    log.error("fine", exc_info=form)
    log.exception("nothing is being handled")
    for record in flush_records(server):
        assert not any(key.startswith("exception.") for key in attributes_of(record))


class EmptyError(Exception):
    def __len__(self) -> int:
        return 0


class NoBoolError(Exception):
    def __bool__(self) -> bool:
        raise ValueError("no bool")


@pytest.mark.parametrize("kind", [EmptyError, NoBoolError])
def test_an_exception_without_a_truth_value_is_still_an_exception(server: OTLPServer, kind: type[Exception]) -> None:
    log.error("failed", exc_info=kind("x"))
    log.log(40, "failed", exc_info=kind("x"))
    for record in flush_records(server):
        assert attributes_of(record)["exception.type"].endswith(kind.__name__)


def test_a_chain_of_exceptions_is_whole(server: OTLPServer) -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as first:
            raise PaymentError("second") from first
    except PaymentError:
        log.exception("failed")
    stacktrace = attributes_of(flush_record(server))["exception.stacktrace"]
    assert "KeyError: 'first'" in stacktrace and "direct cause" in stacktrace and "second" in stacktrace


def test_the_users_own_exception_attribute_wins(server: OTLPServer) -> None:
    log.error("failed", exc_info=PaymentError("x"), **{"exception.type": "mine"})
    assert attributes_of(flush_record(server))["exception.type"] == "mine"


def test_stack_info_is_the_callers_stack(server: OTLPServer) -> None:
    log.info("x", stack_info=True)
    stack = attributes_of(flush_record(server))["code.stacktrace"]
    assert 'log.info("x", stack_info=True)' in stack and "otelog/_capture/facade.py" not in stack


# Fields from further away.


def test_a_bound_loggers_fields_come_with_every_record(server: OTLPServer) -> None:
    tenant = log.bind(tenant="t-1", a=1)
    tenant.bind(a=2).info("x", b=3)
    tenant.info("y")
    tenant.log(25, "z", a=5)
    log.info("unbound")
    assert [fields_of(record) for record in flush_records(server)] == [
        {"tenant": "t-1", "a": 2, "b": 3},
        {"tenant": "t-1", "a": 1},
        {"tenant": "t-1", "a": 5},
        {},
    ]


@pytest.mark.parametrize("level", [20, 25])
def test_a_call_beats_its_logger_beats_inner_block_beats_outer_block(server: OTLPServer, level: int) -> None:
    bound = log.bind(b="bind", c="bind")
    call = bound.info if level == 20 else functools.partial(bound.log, level)
    with otelog.bound(a="outer", b="outer", c="outer", d="outer"), otelog.bound(a="inner", b="inner", c="inner"):
        call("x", c="call")
    assert fields_of(flush_record(server)) == {"a": "inner", "b": "bind", "c": "call", "d": "outer"}


def test_bound_ends_with_its_block_even_by_an_exception(server: OTLPServer) -> None:
    with pytest.raises(KeyError), otelog.bound(a=1):
        raise KeyError
    log.info("x")
    assert fields_of(flush_record(server)) == {}


def test_each_task_has_its_own_bound_fields_and_those_of_where_it_was_started(server: OTLPServer) -> None:
    async def serve(number: int) -> None:
        with otelog.bound(request=number):
            await asyncio.sleep(0)
            log.info("x", number=number)
            await asyncio.gather(asyncio.create_task(deeper(number)))

    async def deeper(number: int) -> None:
        await asyncio.sleep(0)
        log.info("x", number=number, deep=True)

    async def main() -> None:
        with otelog.bound(server="s"):
            await asyncio.gather(*(serve(number) for number in range(20)))

    asyncio.run(main())
    # asyncio itself says something at DEBUG.
    found = [fields for fields in map(fields_of, flush_records(server)) if "number" in fields]
    assert len(found) == 40
    assert all(fields["request"] == fields["number"] and fields["server"] == "s" for fields in found)


def test_another_thread_does_not_see_bound_fields(server: OTLPServer) -> None:
    with otelog.bound(a=1):
        thread = threading.Thread(target=log.info, args=("x",))
        thread.start()
        thread.join()
    assert fields_of(flush_record(server)) == {}


def test_ids_are_those_of_the_current_span(server: OTLPServer) -> None:
    span = NonRecordingSpan(SpanContext(0xABC << 64, 0xDEF, is_remote=False, trace_flags=TraceFlags(1)))
    with trace.use_span(span):
        log.info("inside")
        log.info("inside, odd", a=[1])
    log.info("outside")
    *inside, outside = flush_records(server)
    for record in inside:
        assert record.trace_id == (0xABC << 64).to_bytes(16, "big")
        assert record.span_id == (0xDEF).to_bytes(8, "big")
        assert record.flags == 1
    assert (outside.trace_id, outside.span_id, outside.flags) == (b"", b"", 0)


class BrokenSpan(NonRecordingSpan):
    def get_span_context(self) -> SpanContext:
        raise ValueError("no context")


@pytest.mark.parametrize("fields", [{}, {"a": [1]}])
def test_a_broken_span_costs_the_ids_and_not_the_record(server: OTLPServer, fields: dict[str, Any]) -> None:
    with trace.use_span(BrokenSpan(SpanContext(1, 1, is_remote=False))):
        log.info("x", **fields)
    assert flush_record(server).trace_id == b""


# Events and options.


def test_an_event_has_a_name_and_a_body_only_if_given_one(server: OTLPServer) -> None:
    log.event("order.paid", order_id=7)
    expected = line() - 1
    log.event("order.lost", "order %d", 8, level="ERROR", order_id=8)
    paid, lost = flush_records(server)
    assert (paid.event_name, paid.HasField("body"), paid.severity_number) == ("order.paid", False, 9)
    assert attributes_of(paid)["code.line.number"] == expected
    assert fields_of(paid) == {"order_id": 7}
    assert (lost.event_name, to_python(lost.body), lost.severity_number) == ("order.lost", "order 8", 17)


class NoStr:
    def __str__(self) -> str:
        raise ValueError("no str")


def test_a_hostile_event_name_never_raises(server: OTLPServer) -> None:
    log.event(NoStr(), a=1)  # type: ignore[arg-type]
    assert fields_of(flush_record(server)) == {"a": 1}


def test_the_template_and_its_arguments_are_there_on_request() -> None:
    with configured(message_template=True) as server:
        log.info("%s paid %d", "ada", 5, a=1)
        log.info("plain")
        logging.getLogger("std").info("%s left", "bob")
        filled, plain, standard = flush_records(server)
    assert fields_of(filled) == {
        "message_template.text": "%s paid %d",
        "message_template.args": ["ada", 5],
        "a": 1,
    }
    assert fields_of(plain) == {"message_template.text": "plain"}
    assert fields_of(standard) == {"message_template.text": "%s left", "message_template.args": ["bob"]}
    assert to_python(filled.body) == "ada paid 5"


def test_thread_attributes_are_there_on_request() -> None:
    with configured(thread_attributes=True) as server:
        log.info("main")
        idents = []

        def work() -> None:
            idents.append(threading.get_ident())
            log.info("thread")
            assert otelog.flush(10.0)  # so that its name is looked up while it lives

        thread = threading.Thread(target=work, name="worker-7")
        thread.start()
        thread.join()
        main, other = flush_records(server)
    assert fields_of(main) == {"thread.id": threading.get_ident(), "thread.name": threading.current_thread().name}
    assert fields_of(other) == {"thread.id": idents[0], "thread.name": "worker-7"}


def test_attributes_beyond_the_limit_are_counted_in_the_record() -> None:
    with configured(max_attributes=5) as server:
        log.info("x", **{f"k{number}": number for number in range(20)})
        log.info("neighbour", a=1)
        long, neighbour = flush_records(server)
    assert fields_of(long) == {f"k{number}": number for number in range(5)}
    # The three that say where in the code come on top.
    assert long.dropped_attributes_count == 18
    assert fields_of(neighbour) == {"a": 1}


@pytest.mark.parametrize("value", ["x" * 50, "é" * 50])
def test_values_are_cut_at_the_length(value: str) -> None:
    with configured(max_attribute_length=10) as server:
        log.info("y" * 50, s=value, l=[value], short="z")
        record = flush_record(server)
    fields = fields_of(record)
    assert fields == {"s": value[:10], "l": [value[:10]], "short": "z", "otelog.truncated": ["s", "l"]}
    assert to_python(record.body) == "y" * 50


def test_timestamps_increase_strictly_over_threads_and_loggers(server: OTLPServer) -> None:
    standard = logging.getLogger("standard")

    def work() -> None:
        for _ in range(300):
            log.info("x")
            standard.info("y")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = [record.time_unix_nano for record in flush_records(server)]
    assert len(times) == 2400
    assert len(set(times)) == 2400
    # Within a scope records are in the order of the queue.
    for request in server.requests:
        for resource in request.decode().resource_logs:
            for scope in resource.scope_logs:
                order = [record.time_unix_nano for record in scope.log_records]
                assert order == sorted(order)


def test_before_configure_there_is_nothing_to_wait_for() -> None:
    assert otelog.stats().created == 0
    assert otelog.flush() and otelog.shutdown()
