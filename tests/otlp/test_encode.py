"""The encoder, decoded by the official protobuf classes."""

from __future__ import annotations

import math
import struct
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otelog._otlp.encode import MOST_KNOWN_VALUES, Encoder, encode_value, varint
from otelog._record.attributes import MOST_CACHED_KEYS, PAUSE_EVERY, AttributeBuilder
from otelog._record.row import CodeSite, Source, SpanIds, Special
from otelog._record.values import Limits


def find_frame() -> Any:
    return sys._getframe()


FRAME = find_frame()
SOURCE = Source("shop", 9, "INFO")


def row(
    message: Any = "hello",
    *,
    time_ns: int = 1_000,
    source: Any = SOURCE,
    context: Any = None,
    arguments: tuple[Any, ...] | None = None,
    fields: dict[str, Any] | None = None,
    code: Any = FRAME.f_code,
    offset: int = FRAME.f_lasti,
    thread: int = 1,
) -> list[Any]:
    return [time_ns, source, context, message, arguments, fields, code, offset, thread]


def decode(payload: bytes) -> list[LogRecord]:
    request = ExportLogsServiceRequest.FromString(payload)
    return [
        record for resource in request.resource_logs for scope in resource.scope_logs for record in scope.log_records
    ]


def encode(*rows: list[Any], encoder: Encoder | None = None) -> list[LogRecord]:
    encoder = encoder or Encoder({})
    batch, failed = encoder.encode([value for columns in rows for value in columns], lambda: None)
    assert not failed
    return decode(batch.payload(0, len(batch)))


def python_value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [python_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: python_value(item.value) for item in value.kvlist_value.values}
    return getattr(value, kind)


def attributes_of(record: LogRecord) -> dict[str, Any]:
    keys = [item.key for item in record.attributes]
    assert len(keys) == len(set(keys))
    return {item.key: python_value(item.value) for item in record.attributes}


scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(st.characters(codec="utf-8"))
)
any_values = st.recursive(
    scalars | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return struct.pack("<d", one) == struct.pack("<d", other) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and bool(one == other)


@given(any_values)
def test_any_value_decodes_to_what_it_was(value: Any) -> None:
    assert same(python_value(AnyValue.FromString(encode_value(value))), value)


@given(st.integers(0, 2**64 - 1))
def test_a_varint_decodes_to_what_it_was(number: int) -> None:
    value, shift = 0, 0
    for byte in varint(number):
        value |= (byte & 127) << shift
        shift += 7
    assert value == number


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8")),
            st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), scalars, max_size=6),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_records_decode_to_what_they_were_first_and_later_times(records: list[tuple[str, dict[str, Any]]]) -> None:
    # Twice: keys and texts are learnt by the first, and come from the tables in the second.
    encoder = Encoder({}, "", AttributeBuilder(code_attributes=False))
    rows = [row(message, fields=fields) for message, fields in records]
    for _ in range(2):
        decoded = encode(*rows, encoder=encoder)
        assert [record.body.string_value for record in decoded] == [message for message, _ in records]
        for record, (_, fields) in zip(decoded, records, strict=True):
            assert same(attributes_of(record), fields)


def test_a_record_has_time_severity_ids_and_place() -> None:
    source = Source("shop.checkout", 17, "ERROR")
    context = SpanIds(0x1234, 0x56, 1)
    (record,) = encode(row("paid %s by %s", source=source, arguments=(7, "bob"), context=context, time_ns=5_000))
    assert record.time_unix_nano == record.observed_time_unix_nano == 5_000
    assert (record.severity_number, record.severity_text) == (17, "ERROR")
    assert record.body.string_value == "paid 7 by bob"
    assert record.trace_id == (0x1234).to_bytes(16, "big")
    assert record.span_id == (0x56).to_bytes(8, "big")
    assert record.flags == 1
    attributes = attributes_of(record)
    assert attributes["code.file.path"] == __file__
    assert attributes["code.function.name"] == "find_frame"
    assert attributes["code.line.number"] == FRAME.f_code.co_firstlineno + 1


def test_a_record_outside_a_span_has_no_ids() -> None:
    (record,) = encode(row())
    assert (record.trace_id, record.span_id, record.flags) == (b"", b"", 0)


def test_context_thread_and_place_of_one_record_do_not_stick_to_the_next() -> None:
    encoder = Encoder({}, "", AttributeBuilder(thread_names=lambda thread: f"thread-{thread}"))
    elsewhere = Source("shop", 9, "INFO", CodeSite("b.py", "g", 2))
    first, second, third = encode(
        row(context=SpanIds(1, 2, 1), thread=5),
        row(thread=6, code=None, source=elsewhere),
        row(context=SpanIds(3, 4, 0), thread=5),
        encoder=encoder,
    )
    assert first.trace_id and not second.trace_id and third.trace_id != first.trace_id
    assert [attributes_of(one)["thread.name"] for one in (first, second, third)] == ["thread-5", "thread-6", "thread-5"]
    assert [attributes_of(one)["code.file.path"] for one in (first, second, third)] == [__file__, "b.py", __file__]


def test_times_are_strictly_increasing_but_for_a_clock_that_was_set_back() -> None:
    second = 1_000_000_000
    times = [10 * second, 10 * second, 10 * second - 5, 20 * second, 5 * second, 5 * second]
    decoded = encode(*[row(time_ns=time_ns) for time_ns in times])
    assert [record.time_unix_nano for record in decoded] == [
        10 * second,
        10 * second + 1,
        10 * second + 2,
        20 * second,
        5 * second,
        5 * second + 1,
    ]


def test_a_users_field_replaces_otelogs_own_attribute() -> None:
    for _ in range(2):
        (record,) = encode(row(fields={"code.line.number": "mine"}))
        assert attributes_of(record)["code.line.number"] == "mine"


def test_a_template_that_does_not_fit_its_arguments_keeps_both() -> None:
    (record,) = encode(row("%d of %d", arguments=("x",)))
    assert record.body.string_value == "%d of %d ('x',)"


def test_template_and_arguments_become_attributes_by_option() -> None:
    encoder = Encoder({}, "", AttributeBuilder(message_template=True))
    (record,) = encode(row("paid %s", arguments=(7,)), encoder=encoder)
    assert record.body.string_value == "paid 7"
    assert attributes_of(record)["message_template.text"] == "paid %s"
    assert attributes_of(record)["message_template.args"] == [7]


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 128, 16_000, 20_000])
def test_texts_of_every_length_arrive_whole(length: int) -> None:
    text = "é" * (length // 2) + "x" * (length % 2)
    encoder = Encoder({})
    for _ in range(2):
        (record,) = encode(row(text, fields={"text": text}), encoder=encoder)
        assert record.body.string_value == text
        assert attributes_of(record)["text"] == text


@pytest.mark.parametrize("limit", [0, 3, 100, 200])
def test_attribute_texts_are_cut_at_the_limit_in_characters(limit: int) -> None:
    encoder = Encoder({}, "", AttributeBuilder(Limits(max_value_length=limit), code_attributes=False))
    for _ in range(2):
        (record,) = encode(row("the body is whole", fields={"text": "é" * 150}), encoder=encoder)
        assert attributes_of(record)["text"] == "é" * min(limit, 150)
        assert record.body.string_value == "the body is whole"


def test_attributes_over_the_limit_are_counted_in_the_record() -> None:
    encoder = Encoder({}, "", AttributeBuilder(Limits(max_attributes=4), code_attributes=False))
    for _ in range(2):
        (record,) = encode(row(fields={f"key-{number}": number for number in range(6)}), encoder=encoder)
        assert len(record.attributes) == 4
        assert record.dropped_attributes_count == 2


@pytest.mark.parametrize("text", ["\udc80", "a\ud800b"])
def test_lone_surrogates_cost_neither_the_record_nor_its_neighbours(text: str) -> None:
    decoded = encode(row("before"), row(text, fields={"text": text, text: 1}), row("after"))
    assert [record.body.string_value for record in decoded][::2] == ["before", "after"]
    assert "\\ud" in decoded[1].body.string_value


def test_integers_beyond_64_bits_become_text() -> None:
    encoder = Encoder({}, "", AttributeBuilder(code_attributes=False))
    for number in (2**63, -(2**63) - 1, 2**70):
        special = Special(SOURCE)
        (record,) = encode(row(source=special, fields={"number": number}), encoder=encoder)
        assert attributes_of(record)["number"] == str(number)


def test_records_are_grouped_by_scope_and_any_part_of_a_batch_is_a_request() -> None:
    other = Source("other", 13, "WARNING")
    rows = [row(str(number), source=other if number % 3 == 0 else SOURCE) for number in range(10)]
    batch, _ = Encoder({"service.name": "s"}).encode([value for columns in rows for value in columns], lambda: None)
    whole = [record.body.string_value for record in decode(batch.payload(0, 10))]
    assert sorted(whole) == [str(number) for number in range(10)]
    for start in range(10):
        for stop in range(start + 1, 11):
            payload = batch.payload(start, stop)
            assert [record.body.string_value for record in decode(payload)] == whole[start:stop]
            assert len(payload) <= batch.size_bytes(start, stop)
            request = ExportLogsServiceRequest.FromString(payload)
            assert [resource.resource.attributes[0].value.string_value for resource in request.resource_logs] == ["s"]
    assert batch.severity_ranges(0, 10) == ["warn"] * 4 + ["info"] * 6


def test_a_record_that_cannot_be_encoded_is_told_and_its_neighbours_are_there() -> None:
    class Hostile:
        trace_id = "not a number"

    encoder = Encoder({})
    columns = [*row("before"), *row("bad", context=Hostile()), *row("after")]
    batch, failed = encoder.encode(columns, lambda: None)
    assert failed == ["info"]
    assert [record.body.string_value for record in decode(batch.payload(0, len(batch)))] == ["before", "after"]


def test_the_worker_pauses_after_every_hundred_records_or_fewer() -> None:
    pauses = []
    Encoder({}).encode(row() * (PAUSE_EVERY * 3), lambda: pauses.append(None))
    assert len(pauses) == 3
    assert PAUSE_EVERY <= 100


@pytest.mark.no_cover
def test_caches_are_bounded() -> None:
    encoder = Encoder({}, "", AttributeBuilder(code_attributes=False))
    rows = [row(fields={f"key-{number}": "x", "same": f"value-{number}"}) for number in range(MOST_CACHED_KEYS + 50)]
    decoded = encode(*rows, encoder=encoder)
    assert len(decoded) == len(rows)
    assert len(encoder._keys) <= MOST_CACHED_KEYS
    assert len(encoder._keys["same"].texts) <= MOST_KNOWN_VALUES
    assert attributes_of(decoded[-1]) == {f"key-{MOST_CACHED_KEYS + 49}": "x", "same": f"value-{MOST_CACHED_KEYS + 49}"}
