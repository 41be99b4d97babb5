"""The comparison at the end of the demo: pure, for every way in which figures can differ."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from otelog.cli.demo.reconciliation import Figures, FileCount, Reconciliation

GOOD = Figures(
    created=110,
    accepted=107,
    exported=100,
    refused={"queue_full": 2, "reentrant": 0},
    removed={"sampled": 1, "invalid": 0},
    dropped={"rejected": 7},
)


def test_figures_that_agree_have_no_differences() -> None:
    assert Reconciliation(GOOD, 100, 100).differences == []


def test_a_record_lost_on_the_wire_is_told_with_its_hop() -> None:
    assert Reconciliation(GOOD, 99, 99).differences == [
        "shop -> receiver: 1 record missing (100 exported, 99 received)"
    ]


def test_a_record_lost_before_the_file_is_told_with_its_hop() -> None:
    assert Reconciliation(GOOD, 100, 97).differences == [
        "receiver -> file: 3 records missing (100 received, 97 in the file)"
    ]


def test_each_hop_is_compared_with_the_one_before() -> None:
    assert [difference.partition(":")[0] for difference in Reconciliation(GOOD, 99, 98).differences] == [
        "shop -> receiver",
        "receiver -> file",
    ]


def test_duplicates_are_told_with_the_answers_that_never_came() -> None:
    [difference] = Reconciliation(replace(GOOD, outcome_unknown=5), 105, 105).differences
    assert difference == (
        "shop -> receiver: 5 records too many (100 exported, 105 received); "
        "the answer for 5 records never came, so they may have arrived all the same"
    )


def test_a_ledger_that_does_not_add_up_is_told() -> None:
    assert Reconciliation(replace(GOOD, created=112), 100, 100).differences == [
        "inside the shop: 2 records created but not accounted for"
    ]


@pytest.mark.parametrize("where", ["queued", "waiting", "in_flight"])
def test_a_record_that_is_still_on_its_way_at_the_end_is_told(where: str) -> None:
    figures = replace(GOOD, created=111, **{where: 1})
    assert Reconciliation(figures, 100, 100).differences == [
        "inside the shop: 1 record neither delivered nor counted as lost"
    ]


def test_without_a_final_ledger_nothing_is_said_of_what_was_sent() -> None:
    assert Reconciliation(GOOD, 300, 299, final=False).differences == [
        "inside the shop: it left no final ledger, so what it sent is not known",
        "receiver -> file: 1 record missing (300 received, 299 in the file)",
    ]


def test_what_nobody_can_know_is_not_compared() -> None:
    assert Reconciliation(GOOD, None, None).differences == []
    assert Reconciliation(replace(GOOD, created=111), None, None).differences != []


def test_losses_leave_out_what_was_removed_on_request() -> None:
    figures = replace(GOOD, removed={"sampled": 4, "filtered": 1, "deduplicated": 0, "invalid": 3})
    assert figures.losses == {"queue_full": 2, "rejected": 7, "invalid": 3}
    assert figures.removals == {"sampled": 4, "filtered": 1}


def test_figures_travel_as_json() -> None:
    assert Figures.read(json.loads(json.dumps(GOOD.write()))) == GOOD


def test_a_file_is_counted_by_instance_stretch_by_stretch(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    count = FileCount(path)
    assert count.read_on() == {}
    whose = '{"service.instance.id": "'
    path.write_text(f'{whose}a"}}\n{whose}b"}}\nnot JSON\n\n[1]\n{whose}a"}}\n{whose}a"')
    assert count.read_on() == {"a": 2, "b": 1}
    assert count.read_on() == {"a": 2, "b": 1}
    with path.open("a") as file:
        file.write("}\n")
    assert count.read_on() == {"a": 3, "b": 1}
