"""Whatever is logged: nothing raises, the neighbours arrive whole, and every record is exported and counted."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry._logs import LogRecord, get_logger_provider
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord as Decoded
from opentelemetry.sdk._logs import ReadWriteLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import otelog
from otelog._setup.state import CONFIGURED
from otelog.testing import OTLPServer
from tests.arrivals import attributes_of, configured, fields_of, to_python
from tests.corpus import HOSTILE
from tests.sizes import sized

log = otelog.get_logger("hostile")
# Below no other: pytest's own handlers raise where a record cannot be formatted.
std = logging.Logger("hostile.standard")
std.addHandler(otelog.LoggingHandler())


@pytest.fixture(scope="module")
def server() -> Iterator[OTLPServer]:
    options = {"schedule_delay_millis": 60_000, "max_queue_bytes": 512 * 1024 * 1024, "install_handler": False}
    with configured(level="DEBUG", **options) as one:
        log.info("the connection is there before the first test")
        assert otelog.flush(10.0)
        yield one


class Books:
    """What has arrived since the last look, decoded by the official classes, held against the ledger."""

    def __init__(self, server: OTLPServer) -> None:
        self._server = server
        self._seen = len(server.requests)
        self._before = otelog.stats()

    def close(self) -> list[Decoded]:
        assert otelog.flush(30.0)
        records = [record for request in self._server.requests[self._seen :] for record in request.records]
        stats = otelog.stats()
        assert stats.lost == self._before.lost
        assert stats.created - self._before.created == stats.exported - self._before.exported == len(records)
        return records


class NotTakenError(Exception):
    """A value that Python, or the SDK itself, does not take in this place."""


class HostileError(Exception):
    def __init__(self, value: object) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return self.value  # type: ignore[return-value]


def log_key(value: Any) -> None:
    try:
        message = {value: 1}
    except BaseException:
        raise NotTakenError from None
    log.info(message)


def log_bound(value: Any) -> None:
    with otelog.bound(value=value):
        log.info("hostile")


def log_exception(value: Any) -> None:
    log.error("hostile", exc_info=HostileError(value))


def log_extra(value: Any) -> None:
    std.info("hostile", extra={"value": value})


def emit_through_sdk(record: Callable[[], LogRecord]) -> None:
    processor = CONFIGURED.processor
    assert processor is not None
    try:
        whole = ReadWriteLogRecord(record(), Resource.get_empty(), InstrumentationScope("sdk"))
    except BaseException:
        raise NotTakenError from None
    processor.on_emit(whole)


WAYS: dict[str, Callable[[Any], None]] = {
    "field": lambda value: log.info("hostile", value=value),
    "argument": lambda value: log.info("%s", value),
    "argument of a number": lambda value: log.info("%5.1f", value),
    "arguments": lambda value: log.info("%s %r %s", "a", value, 5),
    "message": lambda value: log.info(value),
    "message with arguments": lambda value: log.info(value, 1),
    "key": log_key,
    "bound": log_bound,
    "bind": lambda value: log.bind(value=value).info("hostile"),
    "event": lambda value: log.event("hostile", value=value),
    "exception": log_exception,
    "exc_info": lambda value: log.error("hostile", exc_info=value),
    "standard message": lambda value: std.info(value),
    # Of a single argument the standard library itself asks whether it is a mapping, and true.
    "standard argument": lambda value: std.info("%s %s", 1, value),
    "standard extra": log_extra,
    "SDK body": lambda value: emit_through_sdk(lambda: LogRecord(body=value)),
    "SDK attribute": lambda value: emit_through_sdk(lambda: LogRecord(body="hostile", attributes={"value": value})),
}


# Its own str() has more characters than there are atoms: to ask for that text is to wait for it.
ENDLESS_TEXT = "list sharing its parts"
AS_TEXT = {
    "argument",
    "argument of a number",
    "arguments",
    "message with arguments",
    "exception",
    "standard argument",
}
# The SDK walks through all of these before a processor sees the record.
ENDLESS_FOR_SDK = (ENDLESS_TEXT, "range huge", "sequence without end", "mapping without end", "sequence of itself")


@pytest.mark.parametrize(("name", "factory"), HOSTILE, ids=[name for name, _ in HOSTILE])
def test_a_hostile_value_raises_nothing_and_spoils_itself_alone(
    server: OTLPServer, name: str, factory: Callable[[], Any], capfd: pytest.CaptureFixture[str]
) -> None:
    books = Books(server)
    wrong = {}
    taken = 0
    ways = dict(WAYS)
    if name == ENDLESS_TEXT:
        ways = {way: ways[way] for way in ways if way not in AS_TEXT}
    if name in ENDLESS_FOR_SDK:
        del ways["SDK attribute"]
    for way, send_value in ways.items():
        log.info("before %s", way, a=1)
        try:
            send_value(factory())
            taken += 1
        except NotTakenError:
            pass
        except BaseException as error:
            wrong[way] = repr(type(error))
        log.info("after %s", way, b=2)
        std.info("after that %s", way, extra={"c": 3})
    records = books.close()
    assert wrong == {}
    assert len(records) == 3 * len(ways) + taken
    neighbours = {to_python(record.body): record for record in records if is_text(record)}
    for way in ways:
        for text, fields in ((f"before {way}", {"a": 1}), (f"after {way}", {"b": 2}), (f"after that {way}", {"c": 3})):
            assert fields_of(neighbours[text]) == fields
            assert attributes_of(neighbours[text])["code.file.path"] == __file__


SIMPLE = [pair for pair in HOSTILE if pair[0].startswith(("none", "true", "int", "float", "str", "enum"))]


@pytest.mark.parametrize("factory", [factory for _, factory in SIMPLE], ids=[name for name, _ in SIMPLE])
def test_a_hostile_level_raises_nothing(
    server: OTLPServer, factory: Callable[[], Any], capfd: pytest.CaptureFixture[str]
) -> None:
    books = Books(server)
    log.log(factory(), "hostile")
    log.is_enabled_for(factory())
    # Zero and the like are below the level.
    assert len(books.close()) <= 1


def is_text(record: Decoded) -> bool:
    return record.body.WhichOneof("value") == "string_value"


def test_all_of_them_at_once_in_one_batch(server: OTLPServer, capfd: pytest.CaptureFixture[str]) -> None:
    books = Books(server)
    count = 0
    for name, factory in HOSTILE:
        if name.startswith(("str huge", "bytes huge", "list huge", "dict huge")):
            continue
        log.info("before %s", name)
        argument = factory() if name != ENDLESS_TEXT else None
        log.info("%s", argument, value=factory(), more=[factory(), {"x": factory()}])
        log.info("after %s", name)
        count += 3
    records = books.close()
    assert len(records) == count > 300
    texts = {to_python(record.body) for record in records if is_text(record)}
    for name, _ in HOSTILE:
        if not name.startswith(("str huge", "bytes huge", "list huge", "dict huge")):
            assert {f"before {name}", f"after {name}"} <= texts


# Random records come back as they were given.

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
# What is a parameter of the facade or said by otelog itself cannot be a field of another meaning.
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda key: key not in ("exc_info", "stack_info", "stacklevel") and not key.startswith("code.")
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    TEXT,
    st.binary(max_size=40),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
SPANS = st.none() | st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.builds(TraceFlags, st.integers(0, 255)),
)
RECORDS = st.fixed_dictionaries(
    {
        "message": TEXT,
        "fields": st.dictionaries(KEYS, VALUES, max_size=6),
        "bound": st.dictionaries(KEYS, VALUES, max_size=3),
        "level": st.integers(1, 60),
        "span": SPANS,
        "way": st.sampled_from(["facade", "log", "event", "standard", "sdk"]),
    }
)


def send(record: dict[str, Any]) -> None:
    span = NonRecordingSpan(record["span"]) if record["span"] is not None else trace.INVALID_SPAN
    fields = record["fields"]
    with otelog.bound(**record["bound"]), trace.use_span(span):
        if record["way"] == "facade":
            log.info(record["message"], **fields)
        elif record["way"] == "log":
            log.log(record["level"], record["message"], **fields)
        elif record["way"] == "event":
            log.event("random", record["message"], level=record["level"], **fields)
        elif record["way"] == "standard":
            made = logging.LogRecord("random", record["level"], __file__, 1, record["message"], None, None)
            for key, value in fields.items():
                made.__dict__.setdefault(key, value)
            std.handle(made)
        else:
            get_logger_provider().get_logger("sdk").emit(body=record["message"], attributes=fields)


STANDARD = frozenset({*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"})


@settings(
    max_examples=sized(30, full=60),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sent=st.lists(RECORDS, min_size=1, max_size=6))
def test_random_records_decode_to_what_was_given(server: OTLPServer, sent: list[dict[str, Any]]) -> None:
    books = Books(server)
    sent = [record for record in sent if record["way"] != "log" or record["level"] >= 10]
    sent = [record for record in sent if record["way"] != "event" or record["level"] >= 10]
    for number, record in enumerate(sent):
        # So that they can be told apart, whatever order the scopes come in.
        record["message"] = f"{number}:{record['message']}"
        send(record)
    found = {to_python(record.body): record for record in books.close()}
    assert len(found) == len(sent)
    for record in sent:
        got = found[record["message"]]
        expected = dict(record["fields"])
        if record["way"] == "standard":
            expected = {key: value for key, value in expected.items() if key not in STANDARD}
        if record["way"] != "sdk":
            expected = {**record["bound"], **expected}
        assert_same(fields_of(got), expected)
        span = record["span"]
        ids = (span.trace_id.to_bytes(16, "big"), span.span_id.to_bytes(8, "big")) if span is not None else (b"", b"")
        assert (got.trace_id, got.span_id) == ids
        assert got.flags == (0 if span is None else int(span.trace_flags))
        if record["way"] in ("log", "event", "standard"):
            assert got.severity_text == logging.getLevelName(record["level"])
            assert 1 <= got.severity_number <= 24
        assert got.event_name == ("random" if record["way"] == "event" else "")


def assert_same(got: Any, expected: Any) -> None:
    """Equal in value and kind; a tuple counts as a list."""
    if isinstance(expected, float):
        assert isinstance(got, float) and (got == expected and math.copysign(1, got) == math.copysign(1, expected))
    elif isinstance(expected, dict):
        assert isinstance(got, dict) and got.keys() == expected.keys()
        for key, value in expected.items():
            assert_same(got[key], value)
    elif isinstance(expected, (list, tuple)):
        assert isinstance(got, list) and len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
    else:
        assert type(got) is type(expected) and got == expected


@settings(max_examples=sized(30, full=60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    template=st.text(st.sampled_from("%sdrx()abc .5#-+{}é\ud800"), max_size=20),
    arguments=st.lists(SCALARS | st.text(max_size=5), max_size=4),
)
def test_random_templates_never_raise_and_say_what_percent_says(
    server: OTLPServer, template: str, arguments: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    books = Books(server)
    log.info(template, *arguments)
    std.handle(logging.LogRecord("random", 20, __file__, 1, template, tuple(arguments), None))
    log.info("after")
    texts = [to_python(record.body) for record in books.close()]
    assert len(texts) == 3 and "after" in texts
    try:
        expected = (template % tuple(arguments) if arguments else template).encode().decode()
    except (ValueError, TypeError, OverflowError, KeyError):
        return
    assert texts.count(expected) == 2 + (expected == "after")
