"""The form of records for Loki itself; tests/stack/test_loki_form.py compares it with the Collector's."""

from __future__ import annotations

import random
import re
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otelog._otlp.encode import Encoder
from otelog._otlp.exporter import is_loki
from otelog._otlp.loki_form import (
    MOST_BYTES,
    MOST_ENTRIES,
    build_line,
    fit_record,
    fit_resource,
    fit_scope,
    loki_name,
    odd_name,
    surround,
    value_text,
)
from otelog._record.row import SdkPart, Source, SpanIds, Special
from tests.stack.odd_sender import NAMES, VALUES

ALONE = surround({}, {})
NAME = st.one_of(st.text(), st.text("a.-_ключ1", max_size=3), st.sampled_from(NAMES))
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(), st.binary())
VALUE = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAME, inner, max_size=3))
FRAME = sys._getframe()


def names_in_loki(attributes: dict[str, Any], prefix: str = "") -> list[str]:
    """The names that Loki makes, of what is inside of objects too."""
    found = []
    for name, value in attributes.items():
        made = loki_name(f"{prefix}_{name}" if prefix else name)
        found += names_in_loki(value, made) if type(value) is dict else [made]
    return found


@given(
    st.dictionaries(NAME, VALUE, max_size=8),
    st.dictionaries(NAME, SCALAR, max_size=4),
    st.dictionaries(NAME, SCALAR, max_size=2),
    st.booleans(),
)
@example({"": None}, {"": None}, {"": None}, False)
@example({}, {"severity.text": None, "trace_id": None}, {"event:name": None}, False)
@example({"A": {"": None, ":": [None]}}, {}, {}, False)
@example({"": {"b": 1}, "a": {}, "a.b": [], "a_b": 1}, {"1a": 1, "key_1a": 2}, {}, True)
def test_every_value_has_a_name_of_its_own_that_loki_can_have(
    attributes: dict[str, Any], resource: dict[str, Any], scope: dict[str, Any], traced: bool
) -> None:
    resource, scope = fit_resource(resource), fit_scope(scope)
    fitted, left_out = fit_record(attributes, surround(resource, scope), traced=traced, flags=traced, event_name="e")
    names = names_in_loki(fitted)
    around = {*map(loki_name, (*resource, *scope)), "severity_text", "scope_name", "observed_timestamp"}
    assert left_out == 0
    assert max(Counter(names).values()) == 1
    assert not {*names} & (around | ({"trace_id", "span_id", "flags"} if traced else set()))
    for name in {*names, *around}:
        assert re.fullmatch(r"[A-Za-z_][0-9A-Za-z_]*", name)
        assert re.search(r"[0-9A-Za-z]", name)
        assert not re.fullmatch(r"__.*__", name)


def test_usual_records_are_left_as_they_are() -> None:
    usual = {"order_id": 7, "user.name": "x", "http.request.header.content-type": "y", "_private": 1, "in": {"side": 1}}
    assert fit_record(usual, ALONE, traced=True, flags=True) == (usual, 0)
    assert fit_record({"trace_id": "x", "flags": 1}, ALONE, traced=False, flags=False)[0] == {
        "trace_id": "x",
        "flags": 1,
    }


def test_odd_names_are_hashed_and_told() -> None:
    fitted, _ = fit_record({"ключ": 1, "a": {"b": 2}}, ALONE, traced=False, flags=False)
    named = '{"' + odd_name("ключ") + '":"ключ"}'
    assert fitted == {odd_name("ключ"): "1", "a": '{"b":2}', "otelog.names": named}
    assert re.fullmatch("odd_[0-9a-f]{16}", odd_name("ключ"))
    fitted, _ = fit_record({"a.b": 1, "a_b": 2, "c.d": 3}, ALONE, traced=False, flags=False)
    assert {**fitted, "otelog.names": None} == {
        odd_name("a.b"): "1",
        odd_name("a_b"): "2",
        "c.d": "3",
        "otelog.names": None,
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12.5, "12.5"),
        (1.0, "1"),
        (1e20, "100000000000000000000"),
        (1.2345678901234568e20, "123456789012345680000"),
        (1e21, "1e+21"),
        (1e-6, "0.000001"),
        (-1.5e-7, "-1.5e-7"),
        (5e-324, "5e-324"),
        (-0.0, "-0"),
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        (True, "true"),
        (None, ""),
        (b"\xff\x00", "/wA="),
        ({"b": [1, None, "é<>&\u2028\x01"], "a": b"x"}, '{"a":"eA==","b":[1,null,"é<>&\\u2028\\u0001"]}'),
        ([float("nan")], ""),
    ],
)
def test_values_have_the_texts_that_loki_makes(value: Any, text: str) -> None:
    assert value_text(value) == text


def test_a_line_is_made_of_the_events_name_and_its_first_fields() -> None:
    assert build_line("order.paid", {"amount": 12.5, "currency": "EUR"}) == "order.paid amount=12.5 currency=EUR"
    assert build_line("order.paid", {"code.line.number": 5, "exception.stacktrace": "x"}) == "order.paid"
    assert build_line("", {"a b": 'say "no"'}) == '"a b"="say \\"no\\""'
    line = build_line("e", {f"field{number}": "é" * 1000 for number in range(100)})
    assert line.count("…") == line.count("field") == 16


@pytest.mark.parametrize("length", [*range(59_000, 64_000, 499), 100_000, 10_000_000])
def test_a_record_is_never_larger_than_loki_takes(length: int) -> None:
    for count in (1, 2, 90, 500):
        attributes = {f"f{number}": "x" * (length // count) for number in range(count)}
        fitted, left_out = fit_record({**attributes, "ключ": "я"}, ALONE, traced=True, flags=True, event_name="e")
        assert len(fitted) <= MOST_ENTRIES - 8
        assert sum(len(name) + len(str(value).encode()) for name, value in fitted.items()) < MOST_BYTES - 512
        # The names of odd ones are an attribute, too.
        assert left_out == max(0, count + 2 - (MOST_ENTRIES - 16))
        short = [name for name, value in fitted.items() if str(value).endswith("…[cut]")]
        assert ("otelog.truncated" in fitted) == (left_out > 0 or bool(short))


def records_of(encoder: Encoder, *rows: list[Any]) -> list[Any]:
    batch, failed = encoder.encode([value for columns in rows for value in columns], lambda: None)
    assert not failed
    request = ExportLogsServiceRequest.FromString(batch.payload(0, len(batch)))
    return [
        (one.body, sorted(one.attributes, key=lambda pair: pair.key), one.event_name, one.dropped_attributes_count)
        for group in request.resource_logs
        for scope in group.scope_logs
        for one in scope.log_records
    ]


@pytest.mark.no_cover
@pytest.mark.parametrize("sdk", [False, True])
def test_what_is_known_of_names_changes_no_record(sdk: bool) -> None:
    resource = {"service.name": "s", "region": "eu"}
    chance = random.Random(5)
    part = SdkPart(Resource(resource), InstrumentationScope("s"), None) if sdk else None
    source = Source("s", 9, "INFO", sdk=part)
    code, offset = (None, 1) if sdk else (FRAME.f_code, FRAME.f_lasti)
    context = SpanIds(1, 2, 1)
    rows = []
    names = [
        "a.b",
        "a_b",
        "a-b",
        "order_id",
        "user.name",
        "user_name",
        "region",
        "trace_id",
        "code_file_path",
        "ключ",
        "x",
    ]
    for number in range(600):
        fields = {name: chance.choice([1, 2.5, True, None, "text", *VALUES]) for name in chance.sample(names, 3)}
        rows.append([1000 + number, source, context, "hello", None, fields, code, offset, 1])
    shared = records_of(Encoder(resource, loki=True), *rows, *rows)
    for number, row in enumerate(rows):
        (alone,) = records_of(Encoder(resource, loki=True), row)
        assert shared[number] == alone == shared[number + len(rows)]


def test_an_event_has_its_line_and_its_name() -> None:
    row = [1, Special(Source("s", 9, "INFO"), event_name="order.paid"), None, None, None, {"amount": 12.5}, None, 0, 1]
    (usual,) = records_of(Encoder({}), row)
    assert (usual[0].WhichOneof("value"), [pair.key for pair in usual[1]]) == (None, ["amount"])
    ((body, attributes, name, _),) = records_of(Encoder({}, loki=True), row)
    assert (body.string_value, [pair.key for pair in attributes], name) == (
        "order.paid amount=12.5",
        ["amount", "event_name"],
        "order.paid",
    )


@pytest.mark.parametrize(
    ("endpoint", "loki"),
    [
        ("http://localhost:3100/otlp/v1/logs", True),
        ("https://logs.example/loki/otlp/v1/logs", True),
        ("http://localhost:4318/v1/logs", False),
        ("https://abc.example/api/v2/otlp/v1/logs", False),
        ("http://localhost:4317", False),
    ],
)
def test_loki_is_known_by_its_path(endpoint: str, loki: bool) -> None:
    assert is_loki(endpoint) is loki
