# ruff: noqa: RUF001 - the table's own signs
"""The benchmark itself: it makes its table from a tiny load, and a single lost record voids a run."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, Literal

import pytest

pytest.importorskip("rich", reason="the benchmark's own dependencies are not installed")

from benchmarks.__main__ import caption, main, write_results
from benchmarks.peers import FLOOR
from benchmarks.plot import write_plot
from benchmarks.report import Goal, Spread, judge, ratios, summarize
from benchmarks.requests.__main__ import write_results as write_requests
from benchmarks.requests.application import SETUPS
from benchmarks.requests.report import judge as judge_requests
from benchmarks.requests.report import shares
from benchmarks.requests.rounds import Plan as RequestPlan
from benchmarks.requests.rounds import run_rounds as run_requests
from benchmarks.requests.rounds import run_setup
from benchmarks.rounds import Plan, run_rounds, verdict
from benchmarks.trial import percentile
from otelog.testing import OTLPServer

REPOSITORY = Path(__file__).resolve().parents[2]
TINY: dict[str, Any] = {"rounds": 1, "records": 2_000, "paced_seconds": 0.05, "warm_up": 100, "queue_size": 4_000}
FACTS = {
    "date": "2026-01-01",
    "machine": {"cores": 2, "processor": "a processor", "system": "Linux 6", "python": "CPython 3.11"},
    "versions": {"structlog": "1.0"},
    "plan": {"rounds": 2, "records": 1_000, "rate": 5_000.0, "paced_seconds": 1.0},
}


class ScriptedReceiver:
    """The far end of the OTLP peers, without a Collector."""

    def __init__(self, server: OTLPServer) -> None:
        self._server = server
        self.endpoint = server.endpoint
        self.grpc_endpoint = ""

    def accepted(self, kind: Literal["logs", "spans"]) -> int:
        return len(self._server.records)


def _run(peer: str, number: int, measure: str, load: str = "burst", **figures: float) -> dict[str, Any]:
    return {"round": number, "peer": peer, "load": load, "measure": measure, "error": None, "lost": None, **figures}


def _calls(peer: str, number: int, p999_us: float, load: str = "burst") -> dict[str, Any]:
    return _run(peer, number, "calls", load, p50_us=1.0, p99_us=2.0, p999_us=p999_us, max_us=900.0, timer_us=0.05)


def _cpu(peer: str, number: int, cpu_us: float, load: str = "burst") -> dict[str, Any]:
    return _run(peer, number, "cpu", load, cpu_us=cpu_us, delivered_per_s=200_000.0, memory_mb=1.0)


def _two_rounds() -> list[dict[str, Any]]:
    runs = []
    for load in ("burst", "paced"):
        for number, floor, facade in ((0, 5.0, 4.0), (1, 10.0, 7.0)):
            runs += [_cpu(FLOOR, number, floor, load), _calls(FLOOR, number, 50.0, load)]
            runs += [_cpu("otelog-facade", number, facade, load), _calls("otelog-facade", number, 60.0, load)]
    return runs


def test_floor_and_queue_listener_fill_their_rows_from_a_tiny_load() -> None:
    runs = run_rounds(Plan(peers=("queue-listener",), **TINY), None)

    assert all(run["error"] is None for run in runs)
    rows = summarize(runs)
    assert [(row.peer, row.load) for row in rows] == [
        (FLOOR, "burst"),
        ("queue-listener", "burst"),
        (FLOOR, "paced"),
        ("queue-listener", "paced"),
    ]
    listener = rows[1].figures
    assert listener["cpu_ratio"].median > 0
    assert 0 < listener["p50_us"].median <= listener["p99_us"].median <= listener["max_us"].median


def test_facade_delivers_every_record_of_a_tiny_load() -> None:
    with OTLPServer() as server:
        runs = run_rounds(Plan(peers=("otelog-facade",), **TINY), ScriptedReceiver(server))

    assert all(run["error"] is None for run in runs)
    assert {run["lost"] for run in runs if run["peer"] == "otelog-facade"} == {0}


def test_queue_that_cannot_hold_the_burst_voids_the_run() -> None:
    runs = run_rounds(Plan(peers=("queue-listener",), **{**TINY, "queue_size": 1}, loads=("burst",)), None)

    (row,) = [row for row in summarize(runs) if row.peer == "queue-listener"]
    assert row.error is not None
    assert row.error.startswith("void: ")
    assert row.figures == {}


def test_record_that_the_facade_refuses_voids_the_run() -> None:
    sizes = {**TINY, "queue_size": 10, "batch_size": 10}
    with OTLPServer() as server:
        plan = Plan(peers=("otelog-facade",), **sizes, loads=("burst",), measures=("cpu",))
        runs = run_rounds(plan, ScriptedReceiver(server))

    assert runs[1]["error"] is not None
    assert runs[1]["error"].startswith("void: the peer counts ")


def test_otlp_peer_is_not_run_without_a_collector() -> None:
    runs = run_rounds(Plan(peers=("sdk-http",), **TINY, loads=("burst",), measures=("cpu",)), None)

    assert runs[1]["error"] is not None
    assert runs[1]["error"].startswith("not run: ")


@pytest.mark.parametrize(
    ("arrived", "lost", "says"),
    [
        (1_000, None, None),
        (1_000, 0, None),
        (999, None, "1 of 1,000 records did not arrive"),
        (999, 0, "1 of 1,000 records did not arrive"),
        (1_000, 1, "the peer counts 1 of 1,000 records as lost"),
        (1_001, 0, "1 records too many arrived"),
    ],
)
def test_verdict_needs_every_count_to_agree(arrived: int, lost: int | None, says: str | None) -> None:
    assert verdict(1_000, arrived, lost) == (says and f"void: {says}")


def test_one_void_run_voids_the_row_and_its_goals() -> None:
    runs = _two_rounds()
    (broken,) = [
        run
        for run in runs
        if (run["peer"], run["load"], run["measure"], run["round"]) == ("otelog-facade", "burst", "cpu", 1)
    ]
    broken["error"] = "void: 1 of 1,000 records did not arrive"

    rows = summarize(runs)

    (row,) = [row for row in rows if (row.peer, row.load) == ("otelog-facade", "burst")]
    assert row.error == "void: 1 of 1,000 records did not arrive (1 of 4 runs)"
    assert row.figures == {}
    assert judge(runs, rows, [])[0].verdict == "not measured"
    assert ratios(runs, "cpu_us", "burst", "otelog-facade", FLOOR) == []


def test_ratio_is_taken_within_its_round() -> None:
    assert ratios(_two_rounds(), "cpu_us", "burst", "otelog-facade", FLOOR) == [0.8, 0.7]


def test_results_hold_the_table_and_the_figures(tmp_path: Path) -> None:
    table = write_results(tmp_path, FACTS, _two_rounds(), [])

    assert "| otelog facade | 5.50 <sub>4.00–7.00</sub> | 0.75 <sub>0.70–0.80</sub> |" in table
    assert "| CPU of the facade, delivered | ≤ 0.8 × floor | 0.75 <sub>0.70–0.80</sub> | met |" in table
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == table
    assert len(json.loads((tmp_path / "latest.json").read_text(encoding="utf-8"))["runs"]) == 16


def test_plot_shows_the_peers_with_figures_and_names_those_without(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    runs = _two_rounds()
    runs.append({"round": 0, "peer": "loguru", "load": "burst", "measure": "cpu", "error": "not run: no loguru"})
    rows = summarize(runs)

    write_plot(rows, tmp_path / "plot.svg", caption(FACTS, rows))

    plot = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    ET.fromstring(plot)
    assert "otelog facade" in plot
    assert "0.75 ×" in plot
    assert "not shown, no valid figures: loguru" in plot


def test_void_row_says_so_in_the_table(tmp_path: Path) -> None:
    runs = _two_rounds()
    for run in runs:
        if run["peer"] == "otelog-facade" and run["load"] == "burst":
            run["error"] = "void: 7 of 1,000 records did not arrive"

    table = write_results(tmp_path, FACTS, runs, [])

    assert "| otelog facade | **void: 7 of 1,000 records did not arrive** |" in table


@pytest.mark.parametrize(
    ("at_least", "measured", "says"), [(False, 80.0, "met"), (False, 100.1, "missed"), (True, 80.0, "missed")]
)
def test_goal_is_judged_by_the_median(at_least: bool, measured: float, says: str) -> None:
    goal = Goal("a goal", 100.0, "µs", at_least, Spread(measured, 0.0, 1_000.0))

    assert goal.verdict == says


@pytest.mark.parametrize(("share", "found"), [(0.5, 501.0), (0.99, 991.0), (0.999, 1_000.0), (1.0, 1_001.0)])
def test_percentile_is_the_nearest_rank(share: float, found: float) -> None:
    assert percentile(range(1, 1_002), share) == found


def test_unknown_peer_is_told_and_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "no-such-peer"]) == 2
    assert "no such peer: no-such-peer" in capsys.readouterr().err


def test_peers_change_places_from_round_to_round() -> None:
    trials = Plan(rounds=2, loads=("burst",), measures=("cpu",)).trials()

    first_in_round = {number: peer for number, peer, _, _ in reversed(list(trials))}
    assert first_in_round[0] != first_in_round[1]


def test_requests_of_a_tiny_load_are_answered_and_their_records_delivered(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    setups = ("traced", "otelog")
    sizes: dict[str, Any] = {"rounds": 1, "requests": 60, "paced_requests": 30, "warm_up": 10, "connections": 2}
    with OTLPServer() as server:
        runs = run_requests(RequestPlan(setups=setups, **sizes), ScriptedReceiver(server))
        sent = len(server.records)

    assert [(run["setup"], run["load"], run["error"]) for run in runs] == [
        (setup, load, None) for setup in setups for load in ("closed", "paced")
    ]
    assert sent == 5 * (10 + 60 + 30)
    assert all(0 < run["p50_ms"] <= run["p99_ms"] <= run["max_ms"] and run["cpu_us"] > 0 for run in runs)
    table = write_requests(tmp_path, {**FACTS, "plan": {**sizes, "rate": 500.0}}, runs)
    assert "| traced, otelog.configure() | " in table
    assert (tmp_path / "requests.md").read_text(encoding="utf-8") == table
    assert len(json.loads((tmp_path / "requests.json").read_text(encoding="utf-8"))["runs"]) == 4


def _request(setup: str, number: int, cpu_us: float, error: str | None = None) -> dict[str, Any]:
    return {"round": number, "setup": setup, "load": "closed", "error": error, "cpu_us": cpu_us}


def test_what_logging_adds_to_a_request_is_counted_from_the_base_of_its_round() -> None:
    runs = [
        *(_request("traced", 0, 500.0), _request("stock", 0, 900.0), _request("otelog", 0, 540.0)),
        *(_request("traced", 1, 600.0), _request("stock", 1, 800.0), _request("otelog", 1, 660.0)),
    ]

    assert shares(runs, "otelog") == [0.1, 0.3]
    assert judge_requests(runs)[0].verdict == "met"
    assert shares([*runs, _request("otelog", 2, 0.0, "void: a record is missing")], "otelog") == []


def test_requests_are_void_if_a_record_is_lost() -> None:
    pytest.importorskip("gunicorn")
    # A request makes more records than the queue holds.
    plan = RequestPlan(queue_size=2, batch_size=2, requests=20, paced_requests=1, warm_up=1, connections=2)
    with OTLPServer() as server:
        closed, _ = run_setup(plan, SETUPS["otelog"], ScriptedReceiver(server))

    assert closed["error"].startswith("void: the peer counts ")


def test_soak_appends_a_dated_row(tmp_path: Path) -> None:
    table = tmp_path / "soak.md"

    for _ in range(2):
        # A process of its own, as the soak changes the global pipeline and looks at the whole process's memory.
        words = ["--records", "25000", "--output", str(table)]
        subprocess.run([sys.executable, "-m", "benchmarks.soak", *words], cwd=REPOSITORY, check=True, timeout=60)

    rows = [line for line in table.read_text(encoding="utf-8").splitlines() if "| exact | passed |" in line]
    assert len(rows) == 2
