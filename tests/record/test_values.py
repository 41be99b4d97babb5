"""Any Python value becomes a legal attribute, and a bad one spoils itself alone."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import gc
import math
import pathlib
import sys
import threading
import uuid
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelog._record.values import (
    CYCLE,
    EMPTY_KEY,
    LEFT_OUT_KEY,
    MAX_DEPTH,
    MAX_HEX_BITS,
    MAX_KEY_LENGTH,
    SCALAR_TYPES,
    TOO_DEEP,
    UNREADABLE,
    AnyValue,
    Limits,
    clean_text,
    estimate_bytes,
    qualified_type_name,
    safe_str,
    to_any_value,
    to_attributes,
)
from otelog.exceptions import ConfigurationError
from tests import corpus
from tests.corpus import HOSTILE

hostile = pytest.mark.parametrize("make", [make for _, make in HOSTILE], ids=[name for name, _ in HOSTILE])

# What hypothesis compares or prints must bear it, and examples are kept small.
ODD_TO_HYPOTHESIS = {"metaclass", "huge"}

ODD_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.binary(max_size=20)
    | st.dates()
    | st.uuids()
    | st.decimals()
    | st.builds(
        lambda make: make(),
        st.sampled_from([make for name, make in HOSTILE if not ODD_TO_HYPOTHESIS & {*name.split()}]),
    ),
    lambda inside: (
        st.lists(inside, max_size=5)
        | st.tuples(inside, inside)
        | st.dictionaries(st.text(st.characters(), max_size=5) | st.integers() | st.none(), inside, max_size=5)
        | st.builds(corpus.Point, inside, inside)
        | inside.map(lambda value: collections.deque([value]))
    ),
    max_leaves=20,
)


def assert_legal(value: AnyValue, limits: Limits, depth: int = 0) -> int:
    """Asserts that a value is exactly what the encoder accepts; returns how many elements it holds."""
    kind = type(value)
    if kind is list:
        assert depth < limits.max_depth
        return sum(1 + assert_legal(item, limits, depth + 1) for item in value)
    if kind is dict:
        assert depth < limits.max_depth
        for key in value:
            assert type(key) is str
            key.encode()
            assert 0 < len(key) <= MAX_KEY_LENGTH
        return sum(1 + assert_legal(item, limits, depth + 1) for item in value.values())
    assert kind in SCALAR_TYPES
    if kind is str:
        value.encode()
    if kind is int:
        assert -(2**63) <= value < 2**63
    if limits.max_value_length is not None and kind in (str, bytes):
        assert len(value) <= limits.max_value_length
    return 0


def same(one: AnyValue, other: AnyValue) -> bool:
    """Equality that knows not-a-number and tells True from 1."""
    return repr(one) == repr(other)


@hostile
def test_every_hostile_value_becomes_a_legal_one(make: Callable[[], Any]) -> None:
    limits = Limits()
    assert assert_legal(to_any_value(make(), limits), limits) <= limits.max_items


@hostile
def test_a_hostile_value_leaves_its_neighbours_alone(make: Callable[[], Any]) -> None:
    attributes, discarded = to_attributes({"before": 1, "hostile": make(), "after": ["kept", make()]})
    assert discarded == 0
    assert list(attributes) == ["before", "hostile", "after"]
    assert attributes["before"] == 1
    assert attributes["after"][0] == "kept"


@hostile
def test_a_hostile_value_can_be_a_key(make: Callable[[], Any]) -> None:
    key = make()
    try:
        fields = {key: 1, "kept": 2}
    except BaseException:
        pytest.skip("cannot be hashed")
    attributes, discarded = to_attributes(fields)
    assert discarded == 0
    assert list(attributes.values()) == [1, 2]
    assert_legal(attributes, Limits())


@pytest.mark.parametrize("make", [make for name, make in HOSTILE if name != "list sharing its parts"])
def test_a_hostile_value_has_a_text(make: Callable[[], Any]) -> None:
    # The one left out has 2**40 elements when written out: Python's own `str` would not come back.
    text = safe_str(make())
    assert type(text) is str
    text.encode()


@hostile
def test_hostile_fields_do_not_raise(make: Callable[[], Any]) -> None:
    limits = Limits(max_attributes=3)
    attributes, discarded = to_attributes(make(), limits)
    assert len(attributes) <= 3
    assert discarded >= 0
    assert_legal(attributes, Limits(max_depth=17))  # the attributes themselves are a level more


@hostile
def test_small_limits_hold_for_every_hostile_value(make: Callable[[], Any]) -> None:
    limits = Limits(max_value_length=5, max_depth=2, max_items=3)
    value = to_any_value(make(), limits)
    markers = {TOO_DEEP, CYCLE, UNREADABLE}
    assert assert_legal_but_for(value, limits, markers) <= 3


def assert_legal_but_for(value: AnyValue, limits: Limits, markers: set[str]) -> int:
    """As `assert_legal`, where a marker may be longer than a text may be."""
    if type(value) is list:
        return sum(1 + assert_legal_but_for(item, limits, markers) for item in value)
    if type(value) is dict:
        return sum(1 + assert_legal_but_for(item, limits, markers) for item in value.values())
    if type(value) is str and (value in markers or value.endswith("left out")):
        return 0
    return assert_legal(value, limits)


@given(ODD_VALUES)
def test_any_combination_becomes_legal_and_stays_as_it_is_when_converted_again(value: object) -> None:
    limits = Limits()
    once = to_any_value(value, limits)
    assert assert_legal(once, limits) <= limits.max_items
    assert same(to_any_value(once, limits), once)
    assert estimate_bytes(once) > 0


@given(ODD_VALUES, st.integers(min_value=1, max_value=12), st.integers(min_value=1, max_value=4))
def test_converting_again_under_tight_limits_cuts_nothing_more(value: object, items: int, depth: int) -> None:
    limits = Limits(max_items=items, max_depth=depth)
    once = to_any_value(value, limits)
    assert assert_legal(once, limits) <= items
    assert same(to_any_value(once, limits), once)


@given(
    st.dictionaries(
        st.text(st.characters(), max_size=3) | st.integers() | st.binary(max_size=2), ODD_VALUES, max_size=8
    )
)
def test_any_fields_become_legal_attributes_and_none_is_lost(fields: dict[object, object]) -> None:
    attributes, discarded = to_attributes(fields)
    assert discarded == 0
    assert len(attributes) == len(fields)
    assert_legal(attributes, Limits(max_depth=17))


@given(st.text(st.characters()))
def test_clean_text_changes_only_what_cannot_be_encoded(text: str) -> None:
    clean = clean_text(text)
    clean.encode()
    assert clean == text or any("\ud800" <= character <= "\udfff" for character in text)


@pytest.mark.parametrize(
    ("value", "converted"),
    [
        (corpus.Color.RED, 1),
        (corpus.Color.SHAPES, ["round", "square"]),
        (corpus.Word.HELLO, "hello"),
        (corpus.Access.READ | corpus.Access.WRITE, 3),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (decimal.Decimal("1.50"), "1.50"),
        (decimal.Decimal("sNaN"), "sNaN"),
        (dt.datetime(2024, 2, 29, 12, tzinfo=dt.timezone.utc), "2024-02-29T12:00:00+00:00"),
        (dt.date(2024, 2, 29), "2024-02-29"),
        (dt.time(12, 30), "12:30:00"),
        (dt.timedelta(seconds=90), "0:01:30"),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (corpus.Point(1, corpus.Point(2, None)), {"x": 1, "y": {"x": 2, "y": None}}),
        (corpus.Pair(1, (2, 3)), {"left": 1, "right": [2, 3]}),
        (
            corpus.Model(a=[1], b={"c": uuid.UUID(int=1)}),
            {"a": [1], "b": {"c": "00000000-0000-0000-0000-000000000001"}},
        ),
        (corpus.AttrsLike(), {"a": 1, "c": UNREADABLE}),
        (corpus.ArrayScalar(7), 7),
        (corpus.ArrayScalar(7, "M"), "array scalar"),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[::2], b"ac"),
        (collections.deque([1, (2,)]), [1, [2]]),
        (frozenset({1}), [1]),
        ({"a": 1}.keys(), ["a"]),
        (collections.UserDict(a=1), {"a": 1}),
        (collections.UserList([1]), [1]),
        (collections.UserString("text"), "text"),
        (range(3), "range(0, 3)"),
        (ValueError("boom"), "ValueError: boom"),
        (corpus.Stop("boom"), "tests.corpus.Stop: boom"),
        (3 + 4j, "(3+4j)"),
        (2**63, "9223372036854775808"),
        (-(2**63), -(2**63)),
    ],
)
def test_conversions_are_readable(value: object, converted: AnyValue) -> None:
    assert same(to_any_value(value), converted)


def test_fields_kept_out_of_the_repr_are_left_out() -> None:
    assert to_any_value(corpus.Secretive()) == {"user": "ann"}


def test_numbers_that_are_none_stay_numbers() -> None:
    assert math.isnan(to_any_value(math.nan))
    assert to_any_value(-math.inf) == -math.inf
    assert math.copysign(1, to_any_value(-0.0)) == -1


def test_an_integer_beyond_the_limit_of_digits_is_hexadecimal() -> None:
    text = to_any_value(10**5000)
    assert type(text) is str
    assert int(text, 16) == 10**5000
    assert safe_str(10**5000) == text


def test_an_integer_of_any_size_costs_little() -> None:
    value = 1 << MAX_HEX_BITS
    assert to_any_value(value) == f"<int of {MAX_HEX_BITS + 1} bits>"
    assert len(to_any_value(value >> 1)) < 20_000


@pytest.mark.parametrize("make", [lambda: iter([1, 2]), lambda: (i for i in [1, 2]), lambda: map(abs, [1, 2])])
def test_iterators_are_not_consumed(make: Callable[[], Any]) -> None:
    iterator = make()
    to_any_value([iterator])
    to_attributes({"iterator": iterator})
    assert list(iterator) == [1, 2]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_stops_the_process_passes(error: type[BaseException]) -> None:
    class Stopping:
        def __str__(self) -> str:
            raise error

        __repr__ = __str__

    with pytest.raises(error):
        to_any_value({"a": [Stopping()]})
    with pytest.raises(error):
        to_attributes({"a": Stopping()})
    with pytest.raises(error):
        safe_str(Stopping())


def test_the_result_shares_nothing_mutable() -> None:
    inside = [1]
    value = {"a": inside}
    converted = to_any_value(value)
    inside.append(2)
    value["b"] = inside
    assert converted == {"a": [1]}


def test_the_result_keeps_nothing_alive() -> None:
    class Owner:
        def __init__(self) -> None:
            self.me = self

    owner = Owner()
    watch = weakref.ref(owner)
    converted = to_any_value([owner, {"owner": owner}, ValueError(owner)])
    del owner
    gc.collect()
    assert watch() is None
    assert converted


def test_cycles_are_cut_where_they_close() -> None:
    assert to_any_value(corpus.self_holding_dict()) == {"a": 1, "self": CYCLE}
    assert to_any_value(corpus.self_holding_list()) == [1, {"inside": CYCLE}]
    assert to_any_value(corpus.self_holding_dataclass()) == {"x": 1, "y": [CYCLE]}


def test_the_same_object_twice_is_no_cycle() -> None:
    shared = [1]
    assert to_any_value([shared, shared]) == [[1], [1]]


@pytest.mark.parametrize("make", [corpus.deep_list, corpus.deep_dict, corpus.deep_dataclass])
def test_depth_is_bounded(make: Callable[[], Any]) -> None:
    for depth in (1, 16, MAX_DEPTH):
        value: Any = to_any_value(make(), Limits(max_depth=depth))
        for _ in range(depth):
            value = list(value.values())[-1] if type(value) is dict else value[-1]
        assert value == TOO_DEEP


def test_the_number_of_elements_is_bounded_over_all_levels() -> None:
    limits = Limits(max_items=10)
    assert to_any_value(list(range(100)), limits) == [*range(9), "... 91 more left out"]
    assert to_any_value(list(range(10)), limits) == list(range(10))
    assert to_any_value([[1, 2, 3], [4, 5, 6], [7, 8]], limits) == [[1, 2, 3], [4, 5, 6], ["... 2 more left out"]]
    assert to_any_value({"a": list(range(50)), "b": 1}, limits) == {"a": [*range(7), "... 43 more left out"], "b": 1}
    assert to_any_value({"a": list(range(50)), "b": 1, "c": 2}, limits) == {
        "a": [*range(7), "... 43 more left out"],
        LEFT_OUT_KEY: "... 2 more left out",
    }


def test_an_endless_container_is_cut() -> None:
    value = to_any_value(corpus.EndlessSequence(), Limits(max_items=4))
    assert value == [0, 1, 2, "... more left out"]


def test_values_are_cut_to_the_length_that_was_asked_for() -> None:
    limits = Limits(max_value_length=3)
    fields = {"a": "abcdef", "b": b"abcdef", "c": ["abcdef"], "d": 10**30, "e": uuid.UUID(int=0), "f": "\ud800x"}
    attributes, _ = to_attributes(fields, limits)
    assert attributes == {"a": "abc", "b": b"abc", "c": ["abc"], "d": "100", "e": "000", "f": "\\ud"}


def test_attributes_over_the_limit_are_counted() -> None:
    attributes, discarded = to_attributes({str(number): number for number in range(200)})
    assert len(attributes) == 128
    assert discarded == 72
    assert to_attributes({"a": 1}, Limits(max_attributes=0)) == ({}, 1)


def test_keys_become_text_that_nothing_overwrites() -> None:
    attributes, discarded = to_attributes({1: "a", "1": "b", b"1": "c", "": "d", None: "e", corpus.Color.RED: "f"})
    assert attributes == {"1": "a", "1#2": "b", "1#3": "c", EMPTY_KEY: "d", "None": "e", "1#6": "f"}
    assert discarded == 0


def test_keys_are_bounded() -> None:
    attributes, _ = to_attributes({"k" * 5000: 1, "k" * 5001: 2})
    assert [len(key) for key in attributes] == [MAX_KEY_LENGTH, MAX_KEY_LENGTH]
    assert list(attributes.values()) == [1, 2]


def test_a_value_may_change_the_fields_while_they_are_converted() -> None:
    fields: dict[object, object] = {}

    class Meddling:
        def __str__(self) -> str:
            fields[len(fields)] = 1
            return "meddled"

    fields.update(a=Meddling(), b=2)
    assert to_attributes(fields) == ({"a": "meddled", "b": 2}, 0)


def test_containers_that_another_thread_changes_do_not_raise() -> None:
    shared: dict[Any, Any] = {"kept": 1}
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.is_set():
            shared[number % 50] = number
            shared.pop((number + 25) % 50, None)
            number += 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(500):
            converted = to_any_value(shared)
            assert type(converted) is dict
            assert converted["kept"] == 1
            attributes, _ = to_attributes(shared)
            assert attributes["kept"] == 1
    finally:
        stop.set()
        changer.join()
        sys.setswitchinterval(interval)


def test_a_caller_at_the_end_of_its_stack_gets_something_legal() -> None:
    found: list[AnyValue] = []

    def dig() -> None:
        try:
            dig()
        except RecursionError:
            # Where not even the call fits, the next frame outside tries again.
            if not found:
                found.append(to_any_value([[1], corpus.Point()]))

    dig()
    assert_legal(found[0], Limits())


def test_names_of_types_are_qualified() -> None:
    assert qualified_type_name(ValueError) == "ValueError"
    assert qualified_type_name(decimal.Decimal) == "decimal.Decimal"
    assert qualified_type_name(corpus.OfEvilMeta) == "<unknown>.<unknown>"


def test_an_estimate_grows_with_the_value() -> None:
    assert estimate_bytes("x" * 1000) >= 1000
    assert estimate_bytes({"key": ["x" * 1000, b"x" * 1000]}) >= 2000
    assert estimate_bytes(None) > 0


@pytest.mark.parametrize(
    "options",
    [
        {"max_attributes": -1},
        {"max_value_length": -1},
        {"max_depth": 0},
        {"max_depth": MAX_DEPTH + 1},
        {"max_items": 0},
    ],
)
def test_limits_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Limits(**options)


def test_limits_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().max_depth = 3
