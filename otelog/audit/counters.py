"""Counters over a window, past resets: pure.

Nothing is extrapolated, as PromQL's ``increase`` would: the samples themselves are added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]
"""A series: the metric's name and its labels, sorted."""


@dataclass(frozen=True, slots=True)
class History:
    """What Prometheus has of one series in the window.

    Attributes:
        samples: Pairs of a time in seconds since 1970 and a value, oldest first.
        before: The last value before the window, or None if the series began in it.
    """

    samples: Sequence[tuple[float, float]] = ()
    before: float | None = None


@dataclass(frozen=True, slots=True)
class Increase:
    """By how much a counter went up.

    Attributes:
        value: In the window.
        resets: Times of the last samples before it began again, in seconds since 1970.
        border: How much came between the scrapes around the beginning of the window: it may belong to either side.
    """

    value: float = 0.0
    resets: tuple[float, ...] = ()
    border: float = 0.0

    def __add__(self, other: Increase) -> Increase:
        return Increase(self.value + other.value, (*self.resets, *other.resets), self.border + other.border)


def add_up_increase(history: History, live: float | None) -> Increase:
    """Add up a counter's samples, a live one last; it begins at zero wherever it falls.

    A series without one before the window began in it, from zero.
    """
    samples = list(history.samples)
    total = last = border = 0.0
    resets: list[float] = []
    last_time = samples[0][0] if samples else 0.0
    if history.before is not None:
        last = history.before
    for at, value in samples:
        if value < last:
            resets.append(last_time)
            last = 0.0
        if history.before is not None and at == samples[0][0]:
            border = value - last
        total += value - last
        last, last_time = value, at
    if live is not None:
        if live < last:
            resets.append(last_time)
            last = 0.0
        total += live - last
    return Increase(total, tuple(resets), border)


@dataclass(slots=True)
class Series:
    """One counter's histories, several if it was scraped from several addresses, with its live value."""

    histories: list[History] = field(default_factory=list)
    live: float | None = None

    def add_up(self) -> Increase:
        """Returns the sum of the increases."""
        ordered = sorted(self.histories, key=lambda history: history.samples[-1][0] if history.samples else 0.0)
        total = Increase()
        for history in ordered[:-1]:
            total += add_up_increase(history, None)
        return total + add_up_increase(ordered[-1] if ordered else History(), self.live)


@dataclass(frozen=True, slots=True)
class Numbers:
    """The counters and levels of one endpoint over the window."""

    counters: Mapping[Key, Increase]
    levels: Mapping[Key, float]

    def find(self, name: str) -> list[tuple[Mapping[str, str], int]]:
        """Returns a counter's increases with their labels."""
        return [(dict(labels), round(one.value)) for (found, labels), one in self.counters.items() if found == name]

    def find_levels(self, name: str) -> list[tuple[Mapping[str, str], int]]:
        """Returns the levels of a metric that goes up and down, with their labels."""
        return [(dict(labels), round(value)) for (found, labels), value in self.levels.items() if found == name]

    def resets(self) -> int:
        """Returns how often the endpoint's process has begun again, as far as one counter shows it."""
        return max((len(one.resets) for one in self.counters.values()), default=0)

    def reset_times(self) -> list[float]:
        """Returns when the counters that began again were last scraped before, in seconds since 1970."""
        longest = max(self.counters.values(), key=lambda one: len(one.resets), default=Increase())
        return list(longest.resets)

    def border(self) -> int:
        """Returns the most that any counter got between the scrapes around the beginning of the window."""
        return round(max((one.border for one in self.counters.values()), default=0.0))


def sort_labels(labels: Mapping[str, str]) -> Labels:
    """Returns labels as they are in a key."""
    return tuple(sorted(labels.items()))
