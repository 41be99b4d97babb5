"""A record as one line of JSON: what is in it, and that nothing in it can break it."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import otelog
from otelog import BatchLogRecordProcessor, LoggingHandler
from otelog._record.attributes import MOST_CACHED_KEYS, PAUSE_EVERY
from otelog._record.row import COLUMNS, Source, SpanIds, Special
from otelog._record.values import Limits, to_any_value
from otelog._runtime.shown_text import HIDDEN
from otelog.sinks._line import LINE_KEYS, LineRenderer, build_line
from tests.arrivals import attributes_of, configured, to_python
from tests.capture.test_hostile import AS_TEXT, ENDLESS_FOR_SDK, ENDLESS_TEXT, WAYS, NotTakenError
from tests.corpus import HOSTILE
from tests.pipelines import make_logger
from tests.sinks.lines import (
    UNSAFE,
    RowKeeper,
    as_json,
    context_of,
    encode_otlp,
    fields_of,
    json_fields,
    keep_rows,
    parse,
    render,
)
from tests.sizes import sized

HERE = "test_line"
SPAN = SpanContext(0x1234, 0xABC, True, TraceFlags(1))
SOURCE = Source("shop", 9, "INFO")
NOW = 1_800_000_000_123_456_789


def row(message: Any = "m", fields: Any = None, *, time_ns: int = NOW, source: Any = SOURCE, **rest: Any) -> Any:
    return (
        time_ns,
        source,
        rest.get("span"),
        message,
        rest.get("arguments"),
        fields,
        rest.get("code"),
        rest.get("offset", 0),
        rest.get("thread", threading.get_ident()),
    )


def line_of(message: Any = "m", fields: Any = None, *, options: Any = None, **rest: Any) -> dict[str, Any]:
    (line,) = render([row(message, fields, **rest)], **(options or {}))
    return parse(line)


def log_and_parse(write: Callable[[BatchLogRecordProcessor], None], **options: Any) -> dict[str, Any]:
    (line,) = render(keep_rows(write), **options)
    return parse(line)


# What a line says.


def test_a_line_has_the_keys_in_their_order_then_the_fields_in_theirs() -> None:
    (line,) = render([row("order %s", {"b": 1, "a": "x"}, arguments=(5,), span=SPAN)])
    assert list(parse(line)) == [*LINE_KEYS, "b", "a"]
    assert line.startswith(b'{"timestamp":"') and line.endswith(b'"b":1,"a":"x"}\n')


def test_a_facade_call_tells_message_place_thread_process_and_span() -> None:
    def write(processor: BatchLogRecordProcessor) -> None:
        with trace.use_span(NonRecordingSpan(SPAN)):
            make_logger(processor, "shop").warning("order %s paid by %s", 5, "mary", amount=1.5)

    values = log_and_parse(write)
    line = write.__code__.co_firstlineno + 2
    function = "test_a_facade_call_tells_message_place_thread_process_and_span.<locals>.write"
    assert datetime.fromisoformat(values.pop("timestamp"))
    assert values == {
        "level": "WARNING",
        "logger": "shop",
        "message": "order 5 paid by mary",
        "module": HERE,
        "function": function if sys.version_info >= (3, 11) else "write",
        "line": line,
        "thread": threading.current_thread().name,
        "process": os.getpid(),
        "trace_id": "00000000000000000000000000001234",
        "span_id": "0000000000000abc",
        "amount": 1.5,
    }


def test_a_standard_call_tells_its_place_too() -> None:
    def write(processor: BatchLogRecordProcessor) -> None:
        log = logging.Logger("standard")
        log.addHandler(LoggingHandler(processor=processor))
        log.info("hello %s", "world", extra={"a": 1})

    values = log_and_parse(write)
    assert (values["message"], values["module"], values["function"]) == ("hello world", HERE, "write")
    assert values["line"] == write.__code__.co_firstlineno + 3
    assert fields_of(values) == {"a": 1}


@pytest.mark.parametrize("code_attributes", [True, False])
@pytest.mark.parametrize("thread_names", [None, lambda thread: "renamed"])
@pytest.mark.parametrize("event_name", [None, "order.paid"])
def test_the_place_and_thread_are_there_whatever_the_attributes_are_and_never_twice(
    code_attributes: bool, thread_names: Any, event_name: str | None
) -> None:
    source = SOURCE if event_name is None else Special(SOURCE, event_name=event_name)
    code = line_of.__code__
    values = line_of(
        source=source,
        code=code,
        offset=-1,
        options={"code_attributes": code_attributes, "thread_names": thread_names},
    )
    assert (values["module"], values["function"], values["line"]) == (HERE, "line_of", code.co_firstlineno)
    assert values["thread"] == threading.current_thread().name
    assert fields_of(values) == ({} if event_name is None else {"event_name": event_name})


def test_what_is_unknown_is_null() -> None:
    values = line_of(source=Source("", 0, None))
    assert {key for key, value in values.items() if value is None} == {
        "logger",
        "module",
        "function",
        "line",
        "trace_id",
        "span_id",
    }
    assert values["level"] == "UNSPECIFIED"


def test_a_level_without_text_is_named_after_its_range() -> None:
    assert line_of(source=Source("shop", 14, None))["level"] == "WARN"


def test_a_body_that_is_no_text_stays_nested() -> None:
    assert line_of({"a": [1, None, {"b": b"\x00\xff"}]})["message"] == {"a": [1, None, {"b": "AP8="}]}
    assert line_of(None)["message"] is None


def test_arguments_that_do_not_fit_are_shown_beside_the_template() -> None:
    assert line_of("%d", arguments=("x",))["message"] == "%d ('x',)"


def test_values_keep_their_kinds_and_what_json_lacks_is_text() -> None:
    fields = {
        "int": 2**63 - 1,
        "negative": -5,
        "float": 0.1,
        "zero": -0.0,
        "true": True,
        "none": None,
        "nan": math.nan,
        "inf": math.inf,
        "-inf": -math.inf,
        "bytes": b"\x00\x01",
        "list": [1, 2.5, "x", [math.nan]],
        "dict": {"a": {"b": b""}},
        "empty": "",
    }
    found = fields_of(line_of(fields=fields))
    assert found == {
        **fields,
        "nan": "NaN",
        "inf": "Infinity",
        "-inf": "-Infinity",
        "bytes": "AAE=",
        "list": [1, 2.5, "x", ["NaN"]],
        "dict": {"a": {"b": ""}},
    }
    assert found["true"] is True and type(found["float"]) is float and math.copysign(1, found["zero"]) == -1


def test_a_span_without_an_id_of_its_own_has_none() -> None:
    values = line_of(span=SpanIds(5, 0, 0))
    assert (values["trace_id"], values["span_id"]) == (f"{5:032x}", None)
    values = line_of(span=SpanIds(0, 5, 0))
    assert (values["trace_id"], values["span_id"]) == (None, None)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_process_is_the_one_that_renders() -> None:
    renderer = LineRenderer(context_of())
    assert parse(render([row()], renderer)[0])["process"] == os.getpid()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, render([row()], renderer)[0])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with open(reader, "rb") as lines:
        assert parse(lines.read())["process"] == child


def test_a_thread_that_has_ended_is_told_by_its_id() -> None:
    name: list[str] = []
    rows: list[Any] = []
    renderer = LineRenderer(context_of())

    def run() -> None:
        rows.append(row())
        name.append(parse(render(rows, renderer)[0])["thread"])

    thread = threading.Thread(target=run, name="checkout-7")
    thread.start()
    thread.join()
    assert name == ["checkout-7"]
    assert parse(render(rows, renderer)[0])["thread"] == str(rows[0][8])


# Times.


def test_the_time_has_microseconds_and_the_local_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        monkeypatch.setenv("TZ", "Asia/Shanghai")
        time.tzset()
        assert line_of()["timestamp"] == "2027-01-15T16:00:00.123456+08:00"
        assert line_of(source=Special(SOURCE, event_name="e"))["timestamp"] == "2027-01-15T16:00:00.123456+08:00"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_times_are_exact_over_the_change_of_a_second() -> None:
    times = [NOW, 1_800_000_000_999_999_999, 1_800_000_001_000_000_000, 1_800_000_001_000_001_000, NOW + 10**15]
    found = [parse(line)["timestamp"] for line in render([row(time_ns=one) for one in times])]
    assert [text[20:26] for text in found] == ["123456", "999999", "000000", "000001", "123456"]
    begin = datetime.fromisoformat("2027-01-15T08:00:00+00:00")
    expected = [begin + timedelta(microseconds=(one - 1_800_000_000_000_000_000) // 1000) for one in times]
    assert [datetime.fromisoformat(text) for text in found] == expected


def test_equal_times_are_moved_apart() -> None:
    edge = 1_800_000_000_000_000_999
    usual, unusual = row(time_ns=edge), row(time_ns=edge, source=Special(SOURCE, event_name="e"))
    for rows in ([usual, usual], [unusual, unusual], [usual, unusual], [unusual, usual]):
        assert [parse(line)["timestamp"][20:26] for line in render(rows)] == ["000000", "000001"]


def test_a_clock_that_is_set_back_is_believed() -> None:
    lines = render([row(time_ns=NOW), row(time_ns=NOW - 10**10)])
    assert parse(lines[1])["timestamp"] < parse(lines[0])["timestamp"]


def test_a_record_without_a_time_has_that_of_its_line() -> None:
    before = datetime.now(timezone.utc)
    assert datetime.fromisoformat(line_of(time_ns=0)["timestamp"]) >= before


# Names of fields.


def test_a_field_with_the_name_of_a_key_is_put_behind_a_prefix() -> None:
    for name in LINE_KEYS:
        values = line_of("m", {name: "mine", "other": 1})
        assert fields_of(values) == {f"attributes.{name}": "mine", "other": 1}
        assert values["message"] == "m"


def test_the_prefix_is_repeated_until_the_name_is_free() -> None:
    fields = {"level": 1, "attributes.level": 2, "attributes.attributes.level": 3}
    assert fields_of(line_of(fields=fields)) == {
        "attributes.attributes.attributes.level": 1,
        "attributes.level": 2,
        "attributes.attributes.level": 3,
    }


def test_a_field_of_the_users_that_is_named_like_otelogs_own_is_a_field() -> None:
    fields = {"code.line.number": "mine", "thread.id": 5, "exception.type": "E"}
    values = line_of(fields=fields, code=line_of.__code__)
    assert fields_of(values) == fields
    assert values["function"] == "line_of"


def test_an_events_name_comes_first_and_beats_a_field_of_that_name() -> None:
    values = line_of(None, {"a": 1, "event_name": "mine"}, source=Special(SOURCE, event_name="order.paid"))
    assert list(values)[len(LINE_KEYS) :] == ["event_name", "a", "attributes.event_name"]
    assert (values["event_name"], values["message"]) == ("order.paid", None)
    assert fields_of(line_of(fields={"event_name": "mine"})) == {"event_name": "mine"}


def test_a_requests_trace_id_stands_in_where_there_is_no_trace() -> None:
    fields = {"request.trace_id": "req-7", "a": 1}
    for source in (SOURCE, Special(SOURCE, event_name="e")):
        values = line_of(fields=dict(fields), source=source)
        assert (values["trace_id"], values["span_id"], values["a"]) == ("req-7", None, 1)
        assert "request.trace_id" not in values
        values = line_of(fields=dict(fields), source=source, span=SPAN)
        assert (values["trace_id"], values["request.trace_id"]) == (f"{0x1234:032x}", "req-7")


@pytest.mark.parametrize("value", ["", 5, None, ["x"]])
def test_a_requests_trace_id_that_is_no_text_stays_a_field(value: Any) -> None:
    values = line_of(fields={"request.trace_id": value})
    assert (values["trace_id"], values["request.trace_id"]) == (None, value)


# Exceptions and limits.


def test_an_exception_is_told_with_its_stack_trace() -> None:
    def write(processor: BatchLogRecordProcessor) -> None:
        try:
            raise ValueError("bo\x1bom")
        except ValueError:
            make_logger(processor).exception("failed", stack_info=True)

    values = log_and_parse(write)
    assert (values["exception.type"], values["exception.message"]) == ("ValueError", "bo\x1bom")
    assert values["exception.stacktrace"].startswith("Traceback (most recent call last):\n")
    assert values["code.stacktrace"].startswith("Stack (most recent call last):\n")
    assert values["function"].endswith("write")


def test_attributes_over_the_limit_are_counted_at_the_end() -> None:
    fields = {f"k{n}": n for n in range(40)}
    values = line_of(fields=fields, source=Special(SOURCE), options={"limits": Limits(38)})
    assert list(values)[-2:] == ["k37", "dropped_attributes_count"]
    assert values["dropped_attributes_count"] == 2
    values = line_of(fields={"dropped_attributes_count": "mine"}, source=Special(SOURCE, discarded=3))
    assert fields_of(values) == {"attributes.dropped_attributes_count": "mine", "dropped_attributes_count": 3}


def test_long_values_are_cut_and_messages_are_not() -> None:
    values = line_of("m" * 50, {"a": "x" * 50, "b": b"x" * 6, "c": ["y" * 6]}, options={"limits": Limits(4, 3)})
    assert values["message"] == "m" * 50
    assert fields_of(values) == {"a": "xxx", "b": "eHh4", "c": ["yyy"], "otelog.truncated": ["a", "b", "c"]}


def test_the_template_and_its_arguments_are_fields_if_they_are_asked_for() -> None:
    values = line_of("a %s", arguments=(1,), options={"message_template": True})
    assert fields_of(values) == {"message_template.text": "a %s", "message_template.args": [1]}


# Records of the SDK's Logger.


def test_a_record_of_the_sdks_logger_tells_its_place_by_its_attributes() -> None:
    def write(processor: BatchLogRecordProcessor) -> None:
        provider = LoggerProvider(resource=Resource({"service.name": "s"}), shutdown_on_exit=False)
        provider.add_log_record_processor(processor)
        provider.get_logger("sdk.scope").emit(
            body="hello",
            timestamp=NOW,
            severity_number=SeverityNumber.WARN,
            attributes={
                "code.file.path": "/srv/app/views.py",
                "code.function.name": "View.get",
                "code.line.number": 12,
                "thread.name": "theirs",
                "a": 1,
            },
        )

    values = log_and_parse(write)
    assert (values["module"], values["function"], values["line"]) == ("views", "View.get", 12)
    assert (values["logger"], values["level"], values["message"]) == ("sdk.scope", "WARN", "hello")
    assert datetime.fromisoformat(values["timestamp"]).timestamp() == pytest.approx(NOW / 1e9, abs=1e-6)
    assert fields_of(values) == {"thread.name": "theirs", "a": 1}


def test_a_place_of_another_kind_stays_a_field() -> None:
    def write(processor: BatchLogRecordProcessor) -> None:
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(processor)
        provider.get_logger("sdk").emit(body="m", attributes={"code.file.path": 5, "code.line.number": True})

    values = log_and_parse(write)
    assert (values["module"], values["line"]) == (None, None)
    assert fields_of(values) == {"code.file.path": 5, "code.line.number": True}


# One line, whatever is in it.


def test_the_hidden_characters_are_the_contracts() -> None:
    import re

    beyond_json = {code for code in UNSAFE if code >= 0x20}
    assert {code for code in range(0x20, 0x11000) if re.match(f"[{HIDDEN}]", chr(code))} == beyond_json


@pytest.mark.parametrize("code", sorted(UNSAFE))
def test_a_character_that_steers_is_escaped_wherever_it_stands(code: int) -> None:
    text = f"a{chr(code)}b"
    source = Source(text, 9, text)
    values = line_of(text, {text: text, "list": [text]}, source=source)
    assert values["level"] == values["logger"] == values["message"] == text
    assert fields_of(values) == {text: text, "list": [text]}
    event = Special(source, event_name=text)
    assert line_of(None, {text: {text: text}}, source=event)["event_name"] == text


def test_text_is_not_made_ascii() -> None:
    (line,) = render([row("订单已支付 “ok” £5 🙂", {"货币": "人民币"})])
    assert "订单已支付 “ok” £5 🙂".encode() in line and '"货币":"人民币"'.encode() in line


def test_what_utf8_lacks_becomes_an_escape_as_in_otlp() -> None:
    values = line_of("a\ud800", {"k": "b\udfff"}, source=Source("l\ud800", 9, "INFO"))
    assert (values["message"], values["k"], values["logger"]) == ("a\\ud800", "b\\udfff", "l\\ud800")


def test_one_that_cannot_be_rendered_is_none_and_spoils_itself_alone() -> None:
    rows = [row("first"), row("bad", span=SpanIds("no number", 1, 0)), row("last")]  # type: ignore[arg-type]
    lines = LineRenderer(context_of()).render([value for one in rows for value in one], lambda: None)
    assert [None if line is None else parse(line)["message"] for line in lines] == ["first", None, "last"]


def test_the_pause_comes_after_every_hundred_records() -> None:
    renderer = LineRenderer(context_of())
    pauses: list[int] = []
    renderer.render(list(row()) * (2 * PAUSE_EVERY + 1), lambda: pauses.append(1))
    assert len(pauses) == 3


def test_more_keys_and_places_than_are_kept_change_nothing() -> None:
    renderer = LineRenderer(context_of())
    count = MOST_CACHED_KEYS + 50
    rows = [row(str(number), {f"k{number}": number}, source=Source(f"s{number}", 9, "INFO")) for number in range(count)]
    for _ in range(2):
        for number, line in enumerate(render(rows, renderer)):
            values = json.loads(line)
            assert (values["logger"], values[f"k{number}"]) == (f"s{number}", number)


def test_a_place_is_named_as_its_source_asks_for_it() -> None:
    code = RowKeeper.export.__code__
    short = Source("shop", 9, "INFO", short_names=True)
    rows = [row(source=source, code=code, offset=-1) for source in (SOURCE, short, SOURCE)]
    qualified = "RowKeeper.export" if sys.version_info >= (3, 11) else "export"
    assert [parse(line)["function"] for line in render(rows)] == [qualified, "export", qualified]


def test_a_name_that_is_too_long_is_cut_each_time() -> None:
    renderer = LineRenderer(context_of())
    for _ in range(2):
        assert fields_of(parse(render([row(fields={"k" * 2000: 1})], renderer)[0])) == {"k" * 1024: 1}


# The fast way and the slow one, and OTLP.


TEXT = st.text(max_size=20) | st.sampled_from(["\x85", "\u202e\u2066", "\ud800", '"\\\n', "订单", "\x7f", ""])
KEYS = TEXT | st.sampled_from([*LINE_KEYS, "request.trace_id", "attributes.level", "code.file.path", "thread.name"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | TEXT | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
SPANS = st.none() | st.builds(SpanIds, st.integers(0, 2**128 - 1), st.integers(0, 2**64 - 1), st.integers(0, 255))
SOURCES = [SOURCE, Source("l\u2028", 17, "ERR\ud800OR"), Source("", 0, None), Source("短", 24, None, short_names=True)]
ROWS = st.lists(
    st.builds(
        row,
        TEXT | VALUES.filter(lambda value: type(value) is not str).map(to_any_value),
        st.none() | st.dictionaries(KEYS, VALUES, max_size=4),
        time_ns=st.integers(0, 2**62) | st.integers(NOW, NOW + 3000),
        source=st.sampled_from(SOURCES),
        span=SPANS,
        code=st.sampled_from([None, row.__code__, RowKeeper.export.__code__]),
        offset=st.integers(-1, 40),
        thread=st.sampled_from([threading.get_ident(), 1]),
    ),
    max_size=5,
)
OPTIONS = st.fixed_dictionaries(
    {
        "limits": st.builds(Limits, st.sampled_from([2, 128]), st.sampled_from([None, 0, 3])),
        "code_attributes": st.booleans(),
        "message_template": st.booleans(),
    }
)


@settings(max_examples=sized(100, full=300))
@given(rows=ROWS, options=OPTIONS)
def test_the_fast_way_says_what_the_slow_way_says(rows: list[Any], options: dict[str, Any]) -> None:
    # Given as a record that has discarded nothing, but has a stack, each goes the slow way.
    slow = [(one[0], Special(one[1], stack=""), *one[2:]) for one in rows]
    options["limits"] = Limits(max(options["limits"].max_attributes, 3), options["limits"].max_value_length)
    for one, fast, slowly in zip(rows, render(rows, **options), render(slow, **options), strict=True):
        values, expected = parse(fast), parse(slowly)
        if not one[0]:
            # Each line has its own time then.
            del values["timestamp"], expected["timestamp"]
        if values.get("dropped_attributes_count") is None and expected.get("dropped_attributes_count") is None:
            del expected["code.stacktrace"]
            assert json.dumps(values) == json.dumps(expected)


@settings(max_examples=sized(100, full=300), suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, options=OPTIONS)
def test_the_fields_are_what_otlp_decodes_to(rows: list[Any], options: dict[str, Any]) -> None:
    options["code_attributes"] = False
    for one, line in zip(rows, render(rows, **options), strict=True):
        check_against_otlp(parse(line), one, **options)


def check_against_otlp(values: dict[str, Any], one: tuple[Any, ...], **options: Any) -> None:
    """Compare a line with the record that OTLP has for the same row."""
    record = encode_otlp(one, **options)
    attributes = attributes_of(record)
    trace_id = record.trace_id.hex() or None
    stand_in = attributes.get("request.trace_id")
    if trace_id is None and isinstance(stand_in, str) and stand_in:
        trace_id = stand_in
        del attributes["request.trace_id"]
    source = one[1].source if one[1].special else one[1]
    if source.sdk is not None:
        for key, kind in (("code.file.path", str), ("code.function.name", str), ("code.line.number", int)):
            if type(attributes.get(key)) is kind:
                del attributes[key]
    expected = json_fields(attributes)
    if record.event_name:
        expected["event_name"] = record.event_name
    if record.dropped_attributes_count:
        expected["dropped_attributes_count"] = record.dropped_attributes_count
    assert json.dumps(fields_of(values), sort_keys=True) == json.dumps(expected, sort_keys=True)
    assert json.dumps(values["message"]) == json.dumps(as_json(to_python(record.body)))
    assert (values["trace_id"], values["span_id"]) == (trace_id, record.span_id.hex() or None)
    assert record.severity_text in ("", values["level"])


@pytest.fixture(scope="module")
def keeper() -> Iterator[RowKeeper]:
    kept = RowKeeper()
    options = {"schedule_delay_millis": 60_000, "max_queue_bytes": 512 * 1024 * 1024, "install_handler": False}
    with configured(exporter=kept, level="DEBUG", **options):
        yield kept


@pytest.mark.parametrize(("name", "factory"), HOSTILE, ids=[name for name, _ in HOSTILE])
def test_a_hostile_value_is_one_safe_line_that_says_what_otlp_says(
    keeper: RowKeeper, name: str, factory: Callable[[], Any], capfd: pytest.CaptureFixture[str]
) -> None:
    keeper.rows.clear()
    taken = 0
    for way, send_value in WAYS.items():
        if (name == ENDLESS_TEXT and way in AS_TEXT) or (name in ENDLESS_FOR_SDK and way == "SDK attribute"):
            continue
        try:
            send_value(factory())
            taken += 1
        except NotTakenError:
            pass
    assert otelog.flush(30.0)
    assert len(keeper.rows) >= taken > 0
    options = {"code_attributes": False}
    for one, line in zip(keeper.rows, render(keeper.rows, **options), strict=True):
        check_against_otlp(parse(line), one, **options)


# Plain values.


def test_a_line_can_be_built_of_plain_values() -> None:
    text = build_line(
        time_ns=0,
        level="INFO",
        logger="",
        message="m\u2028",
        module=None,
        function=None,
        line=None,
        thread=None,
        process=None,
        trace_id=None,
        span_id=None,
        fields={"request.trace_id": "r", "x": math.inf},
    )
    assert text == (
        '{"timestamp":null,"level":"INFO","logger":null,"message":"m\\u2028","module":null,"function":null,"line":null,'
        '"thread":null,"process":null,"trace_id":"r","span_id":null,"x":"Infinity"}'
    )


def test_rows_have_as_many_values_as_the_test_says() -> None:
    assert len(row()) == COLUMNS
