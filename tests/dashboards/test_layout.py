"""Where panels stand, and whether what they say has room: at 1,500 pixels, and on a phone, where each has a line."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tests.dashboards.grafana import BOARDS, panels_of

PANELS = {f"{uid}: {panel['title']}": panel for uid, board in BOARDS.items() for panel in panels_of(board)}
WIDTH, COLUMNS = 1450, 24
PHONE = 360
CHARACTER = 8
"""Pixels of a heading's letter, roughly."""
MARGIN = 24
"""Of a panel, with its sign for the description."""


@pytest.mark.parametrize("uid", BOARDS)
def test_no_panel_stands_on_another(uid: str) -> None:
    board = BOARDS[uid]
    assert board["uid"] == uid
    assert "id" not in board
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < COLUMNS, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("uid", BOARDS)
def test_panels_come_in_the_order_in_which_a_phone_stacks_them(uid: str) -> None:
    places = [(panel["gridPos"]["y"], panel["gridPos"]["x"]) for panel in BOARDS[uid]["panels"]]
    assert all(first < second for first, second in pairwise(places))


@pytest.mark.parametrize("name", PANELS)
def test_a_heading_has_room(name: str) -> None:
    panel = PANELS[name]
    room = WIDTH * panel["gridPos"]["w"] / COLUMNS - MARGIN
    assert len(panel["title"]) * CHARACTER <= min(room, PHONE - MARGIN)


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_is_wide_enough_for_what_it_shows(name: str) -> None:
    panel = PANELS[name]
    least = {"stat": 4, "timeseries": 8, "table": 12, "bargauge": 12, "logs": 24}[panel["type"]]
    assert panel["gridPos"]["w"] >= least


def columns_of(panel: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        override["matcher"]["options"]: {one["id"]: one["value"] for one in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    }


@pytest.mark.parametrize("name", [name for name, panel in PANELS.items() if panel["type"] == "table"])
def test_a_tables_columns_are_few_and_have_room(name: str) -> None:
    panel = PANELS[name]
    columns = columns_of(panel)
    assert 2 <= len(columns) <= 10
    for heading, properties in columns.items():
        assert len(heading) * CHARACTER <= properties["custom.minWidth"]
    assert sum(one["custom.minWidth"] for one in columns.values()) <= WIDTH * panel["gridPos"]["w"] / COLUMNS
    for sort in panel["options"].get("sortBy") or []:
        assert sort["displayName"] in columns


def test_targets_and_alerts_stand_first_on_the_ledger_and_the_reasons_right_below_the_figures() -> None:
    panels = [panel for panel in BOARDS["otelog-ledger"]["panels"] if panel["type"] != "row"]
    titles = [panel["title"] for panel in panels]
    assert titles[:2] == ["Targets down", "Alerts firing"]
    kinds = [panel["type"] for panel in panels]
    assert titles[kinds.count("stat")] == "Lost, by reason"
    assert list(columns_of(panels[kinds.count("stat")])) == ["service", "instance", "reason", "records", "last seen"]


def test_the_ledgers_table_of_reasons_is_above_the_fold() -> None:
    (table,) = [panel for panel in PANELS.values() if panel["title"] == "Lost, by reason" and panel["type"] == "table"]
    # A unit of height is 38 pixels with its gap, and a screen has 800 below Grafana's bars.
    assert (table["gridPos"]["y"] + 3) * 38 <= 800


def test_what_is_missing_comes_from_the_rules_and_no_board_subtracts_two_counts() -> None:
    """Two counts that are read at different times differ by what came between: a difference of theirs cries wolf."""
    service = "job=~`(.+/)?(${service:regex})`"
    rules = {
        "Not in Collector": ("otelog:missing_in_collector:records", "collector", service),
        "Not in outputs": ("otelog:missing_in_output:records", "output", ""),
        "Not in Loki": ("otelog:missing_in_loki:records", "loki", ""),
    }
    for title, (rule, hop, matcher) in rules.items():
        (panel,) = [panel for panel in panels_of(BOARDS["otelog-ledger"]) if panel["title"] == title]
        known = f"sum({rule}{{{matcher}}})"
        unknown = "otelog:incomparable{" + ",".join(filter(None, (f'hop=~"{hop}"', matcher))) + "}"
        # A 0 only if it is known of all.
        assert panel["targets"][0]["expr"] == f"({known} > 0 or ({known} unless on () {unknown}))"
    for panel in PANELS.values():
        assert all(one["id"] != "calculateField" for one in panel.get("transformations") or [])


def test_what_cannot_be_compared_has_a_table_of_reasons() -> None:
    (panel,) = [panel for panel in PANELS.values() if panel["title"] == "Why something is grey"]
    assert panel["targets"][0]["expr"] == "max by (job, hop, reason) (otelog:incomparable)"
    assert list(columns_of(panel)) == ["job", "hop", "reason"]


def test_the_queues_peak_stands_beside_what_it_held_at_a_report() -> None:
    (panel,) = [panel for panel in PANELS.values() if panel["title"] == "Queue, share in use"]
    peak, now = (target["expr"] for target in panel["targets"])
    assert "otelog_log_queue_peak|otelog_log_records_queue_peak" in peak
    assert "queue_peak" not in now
