"""What `stats()` gives: it can be read, compared, copied and pickled."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter

import otelog
from otelog._ledger.counters import ExporterStats, Stats
from otelog._setup import configure


@pytest.fixture
def stats() -> Any:
    try:
        otelog.configure(exporter=InMemoryLogRecordExporter())
        for number in range(3):
            otelog.get_logger("shop").warning("paid %d", number)
        assert otelog.flush(10.0)
        yield otelog.stats()
    finally:
        configure.reset()


def test_its_text_has_the_figures_that_are_not_zero(stats: Stats) -> None:
    text = repr(stats)
    [name] = stats.exporters
    assert text.startswith("Stats(created=3, accepted=3, exported=3, exporters={")
    assert f"{name!r}: ExporterStats(accepted=3, exported=3)" in text
    assert "=0" not in text.replace("created=0", "")
    assert "mappingproxy" not in text
    assert len(text) < 250


def test_losses_are_shown_by_their_reasons(stats: Stats) -> None:
    [one] = stats.exporters.values()
    lost = {**one.dropped, "rejected": 2}
    figures = {name: getattr(one, name) for name in ExporterStats.__dataclass_fields__}
    assert repr(ExporterStats(**{**figures, "dropped": lost})) == (
        "ExporterStats(accepted=3, exported=3, dropped={'rejected': 2})"
    )


def test_with_nothing_logged_it_says_so() -> None:
    assert repr(otelog.stats()).startswith("Stats(created=0")


@pytest.mark.parametrize(
    "make",
    [copy.copy, copy.deepcopy, *(lambda one, at=at: pickle.loads(pickle.dumps(one, at)) for at in range(6))],
)
def test_a_copy_is_equal(make: Callable[[Any], Any], stats: Stats) -> None:
    made = make(stats)
    assert made == stats
    assert repr(made) == repr(stats)
    assert made.lost == 0
