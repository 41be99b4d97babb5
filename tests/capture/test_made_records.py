"""Records that others have made, changed or carried here: what they say of themselves arrives."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.instrumentation.logging import LoggingInstrumentor
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.sdk.trace import TracerProvider

import otelog
from otelog.testing import OTLPServer
from tests.arrivals import attributes_of, bodies, configured, fields_of, flush_record, flush_records, to_python


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with configured(level="DEBUG") as one:
        yield one


@pytest.fixture
def alone(server: OTLPServer) -> logging.Logger:
    """A logger below no other, with otelog's handler alone."""
    logger = logging.Logger("alone")
    logger.addHandler(otelog.LoggingHandler())
    return logger


def handler_of(logger: logging.Logger) -> logging.Handler:
    return logger.handlers[0]


class Own(logging.Filter):
    """Gives each record something of its own."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        self.attributes = attributes

    def filter(self, record: logging.LogRecord) -> bool:
        record.__dict__.update(self.attributes)
        return True


@contextmanager
def factory(make: Any) -> Iterator[None]:
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(make)
    try:
        yield
    finally:
        logging.setLogRecordFactory(before)


# Methods set on one record.


@pytest.mark.parametrize("formatted", [False, True])
def test_a_get_message_that_was_set_on_the_record_is_asked(
    alone: logging.Logger, server: OTLPServer, formatted: bool
) -> None:
    alone.addFilter(Own(getMessage=lambda: "masked", tenant="t-1"))
    if formatted:
        handler_of(alone).setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    alone.warning("secret %s", "hunter2")
    record = flush_record(server)
    assert to_python(record.body) == ("WARNING masked" if formatted else "masked")
    assert fields_of(record) == {"tenant": "t-1"}


def test_a_get_message_on_the_record_that_raises_costs_nothing_else(
    alone: logging.Logger, server: OTLPServer, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> str:
        raise ValueError("no message")

    alone.addFilter(Own(getMessage=fail, tenant="t-1"))
    alone.warning("as it is")
    record = flush_record(server)
    assert (to_python(record.body), record.severity_text) == ("as it is", "WARNING")
    assert fields_of(record) == {"tenant": "t-1"}


class Redacting(logging.LogRecord):
    def safe(self) -> str:
        return self.getMessage().replace("hunter2", "***")


def test_no_method_that_is_set_on_a_record_is_an_attribute(alone: logging.Logger, server: OTLPServer) -> None:
    with factory(Redacting):
        alone.addFilter(Own(safe=lambda: "***", getMessage=lambda: "m", hook=len))
        alone.info("x")
    # What is no method of the class was given as a field.
    assert list(fields_of(flush_record(server))) == ["hook"]


def test_a_field_that_only_has_the_name_is_a_field(alone: logging.Logger, server: OTLPServer) -> None:
    alone.info("x", extra={"safe": "a text", "format": print})
    assert sorted(fields_of(flush_record(server))) == ["format", "safe"]


# A formatter on our handler gets a true copy.


class NeedsName(logging.LogRecord):
    """As factories are written that look their logger up."""

    def __init__(self, name: str, *arguments: Any, **keywords: Any) -> None:
        self.team = name.partition(".")[0].upper()
        super().__init__(name, *arguments, **keywords)


class WithSlots(logging.LogRecord):
    __slots__ = ("tenant",)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.tenant = "t-1"


class Uncopied(logging.LogRecord):
    """Refuses to be copied."""

    tenant = "t-1"

    def __copy__(self) -> Any:
        raise TypeError("not this one")


class CopiesToItself(logging.LogRecord):
    tenant = "t-1"

    def __copy__(self) -> Any:
        return self


class NewNeedsName(logging.LogRecord):
    tenant = "t-1"

    def __new__(cls, name: str, *_: Any, **__: Any) -> Any:
        return super().__new__(cls)


class Formatting(logging.Formatter):
    """Uses what only the record's own class has, and changes the record."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        said = f"{getattr(record, 'tenant', '')}{getattr(record, 'team', '')} {text}"
        record.msg = record.levelname = "meddled"
        return said


@pytest.mark.parametrize(
    ("make", "body"),
    [
        (logging.LogRecord, " order 7"),
        (NeedsName, "ALONE order 7"),
        (WithSlots, "t-1 order 7"),
        (Uncopied, "t-1 order 7"),
        (CopiesToItself, "t-1 order 7"),
        (NewNeedsName, "t-1 order 7"),
    ],
)
def test_a_formatter_gets_a_copy_of_the_records_own_class(
    alone: logging.Logger, server: OTLPServer, make: Any, body: str
) -> None:
    handler_of(alone).setFormatter(Formatting("%(message)s"))
    seen: list[logging.LogRecord] = []
    after = logging.NullHandler()
    after.handle = seen.append  # type: ignore[assignment]
    alone.addHandler(after)
    with factory(make):
        try:
            raise KeyError("sku")
        except KeyError:
            alone.exception("order %d", 7, extra={"a": 1})
    record = flush_record(server)
    attributes = attributes_of(record)
    assert (to_python(record.body), record.severity_text, record.severity_number) == (body, "ERROR", 17)
    assert (attributes["a"], attributes["exception.type"]) == (1, "KeyError")
    assert attributes["code.function.name"] == "test_a_formatter_gets_a_copy_of_the_records_own_class"
    # Others see it as it was.
    (original,) = seen
    assert type(original) is make
    assert (original.msg, original.levelname, original.exc_text) == ("order %d", "ERROR", None)
    assert original.exc_info is not None
    assert "message" not in original.__dict__


def test_a_record_class_redacts_through_the_formatter(alone: logging.Logger, server: OTLPServer) -> None:
    class Safely(logging.Formatter):
        def format(self, record: Any) -> str:
            return str(record.safe())

    handler_of(alone).setFormatter(Safely())
    with factory(Redacting):
        alone.info("password %s", "hunter2")
    assert bodies(flush_records(server)) == ["password ***"]


def test_a_formatter_that_raises_costs_the_format_alone(
    alone: logging.Logger, server: OTLPServer, capfd: pytest.CaptureFixture[str]
) -> None:
    handler_of(alone).setFormatter(logging.Formatter("%(request_id)s %(message)s"))

    class Braces(logging.LogRecord):
        def getMessage(self) -> str:
            return str(self.msg).format(*(self.args or ()))

    with factory(Braces):
        alone.error("{} paid", "ada", extra={"a": 1})
        alone.error("{} {} paid", "ada", extra={"a": 2})
    first, second = flush_records(server)
    assert (to_python(first.body), fields_of(first), first.severity_number) == ("ada paid", {"a": 1}, 17)
    assert (to_python(second.body), fields_of(second), second.severity_number) == ("{} {} paid", {"a": 2}, 17)


class Unreadable(logging.LogRecord):
    @property
    def msg(self) -> Any:
        raise RuntimeError("not to be read")

    @msg.setter
    def msg(self, value: Any) -> None:
        """Forget it."""


class BadStr:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def test_a_record_that_cannot_be_read_never_raises(alone: logging.Logger, server: OTLPServer) -> None:
    handler = handler_of(alone)
    record = logging.makeLogRecord({"msg": "x", "levelno": 20, "levelname": "INFO"})
    record.name = BadStr()  # type: ignore[assignment]
    record.lineno = []  # type: ignore[assignment]
    handler.handle(record)
    with factory(Unreadable):
        alone.info("x")
    handler.handle(object())  # type: ignore[arg-type]
    handler.handle(None)  # type: ignore[arg-type]
    otelog.flush(10.0)
    stats = otelog.stats()
    assert stats.created == stats.exported + stats.lost == 4
    assert len(server.records) == 4


# Ids of opentelemetry-instrumentation-logging.

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STOCK = {"otelTraceID": TRACE, "otelSpanID": SPAN, "otelServiceName": "shop", "otelTraceSampled": True}


@pytest.fixture
def instrumented() -> Iterator[None]:
    instrumentor = LoggingInstrumentor()
    instrumentor.instrument(inject_trace_context=True, enable_log_auto_instrumentation=False)
    try:
        yield
    finally:
        instrumentor.uninstrument()


def ids_of(record: LogRecord) -> tuple[str, str, int]:
    return record.trace_id.hex(), record.span_id.hex(), record.flags


@pytest.mark.parametrize("slow", [{}, {"list": [1]}], ids=["fast", "slow"])
@pytest.mark.parametrize("direct", [True, False])
def test_the_instrumentations_fields_are_the_records_ids(
    instrumented: None, slow: dict[str, Any], direct: bool
) -> None:
    log = logging.getLogger("shop")
    with configured(direct_logging=direct) as server:
        tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
        with tracer.start_as_current_span("request") as span:
            log.warning("in", extra={"a": 1, **slow})
        log.warning("out", extra=slow)
        inside, outside = flush_records(server)
    context = span.get_span_context()
    assert fields_of(inside) == {"a": 1, **slow}
    assert fields_of(outside) == slow
    assert ids_of(inside) == (f"{context.trace_id:032x}", f"{context.span_id:016x}", int(context.trace_flags))
    assert ids_of(outside) == ("", "", 0)


@pytest.mark.parametrize("slow", [{}, {"list": [1]}], ids=["fast", "slow"])
def test_a_record_that_another_thread_handles_keeps_its_ids(
    instrumented: None, alone: logging.Logger, server: OTLPServer, slow: dict[str, Any]
) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    with tracer.start_as_current_span("request") as span:
        record = alone.makeRecord("alone", 30, __file__, 1, "x", (), None, extra=slow)
    with tracer.start_as_current_span("another's"):
        thread = threading.Thread(target=handler_of(alone).handle, args=(record,))
        thread.start()
        thread.join()
        handler_of(alone).handle(logging.makeLogRecord(pickle.loads(pickle.dumps(record.__dict__))))
    context = span.get_span_context()
    for got in flush_records(server):
        # Of the flags, the instrumentation tells this one.
        assert ids_of(got) == (f"{context.trace_id:032x}", f"{context.span_id:016x}", 1)
        assert fields_of(got) == slow


@pytest.mark.parametrize(
    ("fields", "kept", "ids"),
    [
        (STOCK, [], (TRACE, SPAN, 1)),
        ({**STOCK, "otelTraceSampled": False}, [], (TRACE, SPAN, 0)),
        ({key: STOCK[key] for key in list(STOCK)[:3]}, [], (TRACE, SPAN, 0)),
        ({**STOCK, "otelTraceID": "0", "otelSpanID": "0"}, [], ("", "", 0)),
        ({**STOCK, "otelTraceID": "0" * 32, "otelSpanID": "0" * 16}, [], ("", "", 0)),
        # The application's own, of the same name.
        ({**STOCK, "otelTraceID": "request 17"}, list(STOCK), ("", "", 0)),
        ({**STOCK, "otelTraceID": "z" * 32}, list(STOCK), ("", "", 0)),
        ({**STOCK, "otelSpanID": 5}, list(STOCK), ("", "", 0)),
        ({"otelTraceID": TRACE}, ["otelTraceID"], ("", "", 0)),
        ({"otelTraceID": TRACE, "a": 1, "b": 2}, ["otelTraceID", "a", "b"], ("", "", 0)),
    ],
)
@pytest.mark.parametrize("slow", [{}, {"list": [1]}], ids=["fast", "slow"])
@pytest.mark.parametrize("direct", [True, False])
def test_only_what_is_the_instrumentations_is_taken_for_it(
    fields: dict[str, Any], kept: list[str], ids: tuple[str, str, int], slow: dict[str, Any], direct: bool
) -> None:
    with configured(direct_logging=direct) as server:
        logging.getLogger("shop").warning("x", extra={**fields, **slow})
        record = flush_record(server)
    assert ids_of(record) == ids
    assert sorted(fields_of(record)) == sorted([*kept, *slow])


def test_bound_fields_of_such_names_are_left_alone(server: OTLPServer) -> None:
    with otelog.bound(**STOCK):
        logging.getLogger("shop").warning("one", extra={"a": 1, "b": 2, "c": 3})
        logging.getLogger("shop").warning("two")
    assert [sorted(fields_of(one)) for one in flush_records(server)] == [
        sorted([*STOCK, "a", "b", "c"]),
        sorted(STOCK),
    ]


def test_before_configure_ids_and_methods_do_no_harm() -> None:
    handler = otelog.LoggingHandler()
    handler.handle(logging.makeLogRecord({"msg": "x", "levelno": 20, "levelname": "INFO", **STOCK, "list": [1]}))
    assert otelog.stats().created == 0
