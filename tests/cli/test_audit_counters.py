"""Counters past resets, and the text that they are read from."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from otelog.audit.counters import History, Numbers, Series, add_up_increase
from otelog.audit.exposition import parse

# Each life of a process is what it counted between two scrapes; between two lives the counter begins again.
lives = st.lists(st.lists(st.integers(1, 1000), min_size=1, max_size=6), min_size=1, max_size=4)


def scrape(several: list[list[int]]) -> list[tuple[float, float]]:
    """The samples of a process that is scraped after each step, and ends right after a scrape."""
    samples, at = [], 0.0
    for steps in several:
        value = 0
        for step in steps:
            value += step
            at += 1.0
            samples.append((at, float(value)))
    return samples


def seen(several: list[list[int]]) -> bool:
    """Whether every reset shows: that is, the first sample after it is below the last one before."""
    return all(sum(one) > other[0] for one, other in itertools.pairwise(several))


@given(lives.filter(seen))
def test_all_that_was_counted_in_every_life_is_added_up(several: list[list[int]]) -> None:
    *samples, (_, live) = scrape(several)
    increase = add_up_increase(History(samples), live)
    assert increase.value == sum(sum(steps) for steps in several)
    assert len(increase.resets) == len(several) - 1


@given(lives.filter(seen), st.data())
def test_what_came_before_the_window_does_not_count(several: list[list[int]], data: st.DataObject) -> None:
    samples = scrape(several)
    cut = data.draw(st.integers(1, len(samples)))
    steps = [step for life in several for step in life]
    before, inside = samples[:cut], samples[cut:]
    assert add_up_increase(History(inside, before[-1][1]), None).value == sum(steps[cut:])


def test_a_reset_is_known_by_the_last_scrape_before_it() -> None:
    increase = add_up_increase(History([(10.0, 5.0), (11.0, 7.0), (12.0, 1.0)]), 0.0)
    assert (increase.value, increase.resets) == (8.0, (11.0, 12.0))


def test_what_came_between_the_scrapes_around_the_beginning_may_belong_to_either_side() -> None:
    increase = add_up_increase(History([(10.0, 9.0), (11.0, 12.0)], before=4.0), 15.0)
    assert (increase.value, increase.border) == (11.0, 5.0)


def test_a_series_that_ended_before_the_window_adds_nothing() -> None:
    assert add_up_increase(History([], before=4.0), None).value == 0.0
    assert add_up_increase(History([], before=4.0), 6.0).value == 2.0


def test_the_live_value_goes_on_from_the_address_that_was_scraped_last() -> None:
    series = Series([History([(20.0, 7.0)]), History([(10.0, 100.0)])], live=9.0)
    increase = series.add_up()
    assert (increase.value, increase.resets) == (109.0, ())


def test_resets_are_those_of_one_process_not_of_each_of_its_counters() -> None:
    one = add_up_increase(History([(1.0, 5.0), (2.0, 1.0)]), None)
    numbers = Numbers({("a", ()): one, ("b", ()): one}, {})
    assert (numbers.resets(), numbers.reset_times()) == (1, [1.0])


def test_samples_are_read_with_their_labels() -> None:
    text = r"""
# HELP wanted_total A metric.
# TYPE wanted_total counter
wanted_total{job="a \"b\" \\ c",empty="",line="one\ntwo"} 5
wanted_total{job="}, 3"} 1e+06 1795603660000
wanted_total 7
wanted_total NaN
wanted_total{ broken
wanted_total_more 9
wanted_total{job=x} none
"""
    assert [(sample.labels, sample.value) for sample in parse(text, ["wanted_total"])] == [
        ({"job": 'a "b" \\ c', "line": "one\ntwo"}, 5.0),
        ({"job": "}, 3"}, 1e6),
        ({}, 7.0),
    ]
