"""Python's levels become OpenTelemetry's severity numbers, and those a closed set of names."""

from __future__ import annotations

import enum
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelog._record.severity import SEVERITY_RANGES, level_number, severity_number, severity_range
from otelog.exceptions import ConfigurationError


@pytest.mark.parametrize(
    ("levelno", "number"),
    [
        (10, 5),
        (20, 9),
        (30, 13),
        (40, 17),
        (50, 21),
        (0, 0),
        (1, 2),
        (5, 3),
        (9, 4),
        (11, 6),
        (19, 8),
        (25, 11),
        (60, 24),
    ],
)
def test_levels_map_as_usual_and_interpolate_between(levelno: int, number: int) -> None:
    assert severity_number(levelno) == number


@given(st.integers(min_value=-100, max_value=200), st.integers(min_value=-100, max_value=200))
def test_a_higher_level_never_has_a_lower_number(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert 0 <= severity_number(low) <= severity_number(high) <= 24


@given(st.integers(min_value=1, max_value=59))
def test_a_level_stays_in_the_range_of_the_named_level_below_it(levelno: int) -> None:
    expected = SEVERITY_RANGES[1:][levelno // 10]
    assert severity_range(severity_number(levelno)) == expected


@pytest.mark.parametrize("levelno", [None, "INFO", 20.5, object(), float("nan"), -5])
def test_what_is_no_level_is_unspecified(levelno: object) -> None:
    assert severity_number(levelno) == 0


def test_an_absurd_level_is_the_most_severe() -> None:
    assert severity_number(10**100) == 24


@pytest.mark.parametrize("number", range(-3, 30))
def test_every_number_has_a_range_of_the_closed_set(number: int) -> None:
    expected = "unspecified" if not 1 <= number <= 24 else SEVERITY_RANGES[1 + (number - 1) // 4]
    assert severity_range(number) == expected


@pytest.mark.parametrize("level", ["info", "INFO", " Info ", "20", 20, logging.INFO])
def test_a_level_may_be_written_in_several_ways(level: int | str) -> None:
    assert level_number(level) == 20


def test_other_names_of_logging_are_levels_too() -> None:
    assert level_number("warn") == level_number("warning") == 30
    assert level_number("fatal") == 50
    assert level_number("notset") == level_number(0) == 0


def test_a_level_that_the_application_added_is_known() -> None:
    logging.addLevelName(25, "Success")
    try:
        assert level_number("Success") == 25
    finally:
        logging._levelToName.pop(25)
        logging._nameToLevel.pop("Success")


def test_an_int_enum_is_a_plain_number_afterwards() -> None:
    level = enum.IntEnum("Level", {"LOUD": 35}).LOUD
    assert type(level_number(level)) is int


@pytest.mark.parametrize("level", ["infos", "", "-1", -1, "1.5", 1.5, None, True, "Level 7", "9" * 5000])
def test_anything_else_is_refused_with_what_is_allowed(level: object) -> None:
    with pytest.raises(ConfigurationError, match="level must be DEBUG, INFO"):
        level_number(level)
