"""Servers that are killed, away or refusing, under load: every record is where it belongs, or counted as lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.drills import collector_absent, collector_killed, loki_down, loki_refuses
from tests.stack.running import RunningStack

WARNING_SECONDS = 30
QUEUE_BYTES = 64 * 1024 * 1024


@pytest.fixture
def environ() -> Mapping[str, str]:
    return {}


@pytest.fixture
def stack(tmp_path: Path, environ: Mapping[str, str]) -> Iterator[RunningStack]:
    one = RunningStack(tmp_path / "stack", environ)
    yield one
    one.run("down", "--volumes", check=False)


def test_a_while_without_loki_loses_nothing_and_is_seen(stack: RunningStack) -> None:
    # Two minutes of twice as much, in `make soak`.
    seconds = 30
    figures, seen_by_prometheus, meanwhile = loki_down.run(stack, seconds=seconds, rate=1000)
    assert figures.created > seconds * 900
    assert (figures.exported, figures.lost, figures.resent) == (figures.created, 0, 0)
    assert figures.held == figures.created
    assert (figures.in_file, figures.twice_in_file) == (figures.created, 0), "the files do not wait for Loki"
    # A file's batch, the last scrape, and the look before the end come a little later than the records.
    assert sum(meanwhile["app"].values()) > (seconds - 10) * 900
    assert figures.most_queued > (seconds - 10) * 900
    assert seen_by_prometheus > (seconds - 10) * 900


@pytest.mark.parametrize("environ", [loki_refuses.LIMITS])
def test_a_loki_that_says_429_gets_everything_in_the_end(stack: RunningStack) -> None:
    figures, refused = loki_refuses.run(stack, records=30_000)
    assert refused > 0
    assert figures.most_queued > 0
    assert (figures.exported, figures.lost) == (figures.created, 0)
    assert figures.held == figures.in_file == figures.created
    assert figures.twice_in_file == 0


def test_a_collector_killed_five_times_has_lost_nothing_that_it_acknowledged(stack: RunningStack) -> None:
    figures = collector_killed.run(stack, kills=5)
    assert figures.resent > 0, "no request was disturbed: the drill has shown nothing"
    assert figures.lost == 0
    assert figures.exported == figures.created == figures.held
    # A file has what was written before the kill, and Loki may have batches twice: see docs/explanation/losses.md.
    assert figures.created - 5 * 6_000 < figures.in_file <= figures.created
    assert figures.twice_in_file <= figures.resent


def test_without_a_collector_the_application_goes_on_counts_its_losses_and_recovers(stack: RunningStack) -> None:
    seen = collector_absent.run(stack, losses=1)
    figures = seen.figures
    assert figures.lost > 0
    assert figures.created == figures.exported + figures.lost
    assert figures.exported > 0, "it recovers by itself"
    # What was given up without an answer, on a busy machine, may have been taken all the same.
    assert figures.exported <= figures.held == figures.in_file <= figures.exported + figures.outcome_unknown
    assert all(book["max_queued"] <= 10_000 for book in seen.books)
    assert seen.grown < QUEUE_BYTES
    for book, errors in zip(seen.books, seen.errors, strict=True):
        warnings = [line for line in errors.splitlines() if "log records lost" in line]
        assert 1 <= len(warnings) <= 1 + book["seconds"] / WARNING_SECONDS
        (receipt,) = [line for line in errors.splitlines() if '"receipt"' in line]
        assert f'"lost": {book["lost"]}' in receipt
