"""What the live stack says of records that are missing between two hops: nothing while none is, then exactly where."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drills import truth


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> truth.Seen:
    """The drill, five times faster than usual; `make soak` runs it at its own pace."""
    events = ("prometheus and collector", "application", "prometheus")
    return truth.run(Path(tmp_path_factory.mktemp("truth")), pace=5, seconds=12, events=events)


def test_nothing_seems_to_be_missing_whatever_is_restarted(seen: truth.Seen) -> None:
    assert seen.evaluations > 0
    assert seen.wrong == []


def test_where_nothing_can_be_said_a_reason_is(seen: truth.Seen) -> None:
    assert seen.silent == []
    assert "collector_restart" in seen.grey


@pytest.mark.parametrize("hop", truth.LOSSES)
def test_a_hundred_records_that_are_lost_are_shown_by_the_hop_that_lost_them_alone(seen: truth.Seen, hop: str) -> None:
    others = {"an output failed": truth.LOST} if hop == "Loki has discarded" else {}
    assert seen.hops[hop] == dict.fromkeys(truth.HOPS, 0) | others | {hop: truth.LOST}


def test_in_the_end_each_hop_shows_what_it_has_lost(seen: truth.Seen) -> None:
    assert seen.all == truth.EXPECTED


def test_the_boards_panels_show_the_same(seen: truth.Seen) -> None:
    assert seen.board == truth.ON_THE_BOARD
