"""When to send again, and how long to wait."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelog._runtime.retry import Backoff, is_retryable_status, parse_http_date, parse_retry_after

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_the_statuses_that_otlp_names_are_retried(status: int) -> None:
    assert is_retryable_status(status)


def test_no_other_status_is_retried() -> None:
    assert [status for status in range(100, 600) if is_retryable_status(status)] == [429, 502, 503, 504]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("1.5", 1.5),
        ("9" * 400, float("inf")),
        ("Sun, 01 Mar 2026 12:00:09 GMT", 9.0),
        ("Sunday, 01-Mar-26 12:00:09 GMT", 9.0),
        ("Sun Mar  1 12:00:09 2026", 9.0),
        ("Sun, 01 Mar 2026 14:00:09 +0200", 9.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str, seconds: float) -> None:
    assert parse_retry_after(value, now=NOW) == seconds


@pytest.mark.parametrize(
    "value", [None, "", "-1", "soon", "1e3", "٣", "nan", "inf", "Sun, 99 Mar 2026 12:00:09 GMT", "0x10", "1 2"]
)
def test_a_retry_after_that_says_nothing_usable_is_none(value: str | None) -> None:
    assert parse_retry_after(value, now=NOW) is None


@given(st.text())
def test_no_retry_after_raises(value: str) -> None:
    seconds = parse_retry_after(value, now=NOW)
    assert seconds is None or seconds >= 0.0


def test_an_http_date_is_in_utc() -> None:
    moment = parse_http_date("Sun, 01 Mar 2026 14:00:00 +0200")
    assert moment == NOW
    assert moment is not None
    assert moment.utcoffset() == timedelta(0)


def test_waits_grow_up_to_their_bound() -> None:
    backoff = Backoff(initial=1.0, maximum=5.0, multiplier=2.0, jitter=0.0)
    assert [backoff.delay(attempt, 0.5) for attempt in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]


@given(attempt=st.integers(0, 10**9), chance=st.floats(0.0, 1.0, exclude_max=True))
def test_no_wait_leaves_its_bounds(attempt: int, chance: float) -> None:
    assert 0.8 <= Backoff().delay(attempt, chance) <= 5.0


def test_chance_spreads_the_waits_around_the_plan() -> None:
    backoff = Backoff(initial=1.0, maximum=5.0, multiplier=1.5, jitter=0.2)
    assert backoff.delay(0, 0.0) == pytest.approx(0.8)
    assert backoff.delay(0, 0.5) == pytest.approx(1.0)
    assert backoff.delay(0, 0.9999) == pytest.approx(1.2, abs=0.001)
