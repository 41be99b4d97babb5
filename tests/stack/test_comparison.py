"""The rules that compare the hops, held against made-up histories of which the truth is known.

``python -m tests.stack.test_comparison 100 200`` tries those of other seeds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stack.binaries_dash import find_binary
from tests.stack.histories import SCRAPE, History, make_polite_history, make_rude_history
from tests.stack.servers_dash import ROOT

RULES = ROOT / "collector" / "rules" / "recording.yaml"
UNIT_TESTS = ROOT / "tests" / "rules" / "recording.yaml"
RUDE = (11, 52, 101)
"""In these a scraped application ended, or was the only one, while the Collector was restarted: rules that
were wrong said that thousands of records are missing."""
POLITE = (9,)
JOBS = ("shop", "mail", "old", "desk")
TOO_MUCH = """
label_replace(
  otelog:missing_in_collector:records > on (job) (truth or on (job) otelog:missing_in_collector:records * 0),
  "hop", "collector", "", ""
)
or
label_replace(
  otelog:missing_in_output:records
  > on (exporter)
  (truth_in_output or on (exporter) otelog:missing_in_output:records * 0),
  "hop", "output", "", ""
)
or
label_replace(otelog:missing_in_loki:records > (truth_in_loki or vector(0)), "hop", "loki", "", "")
"""
COMPARED = """
label_replace(count(otelog:missing_in_collector:records), "hop", "collector", "", "")
or
label_replace(count(otelog:missing_in_output:records), "hop", "output", "", "")
or
label_replace(count(otelog:missing_in_loki:records), "hop", "loki", "", "")
"""


def ask(folder: Path, history: History, questions: list[tuple[str, int, list[dict[str, Any]]]]) -> str:
    """What promtool objects to: questions, when, and the answers that are expected."""
    judge = {
        "groups": [
            {"name": "judge", "rules": [{"record": "judge:too_much", "expr": TOO_MUCH}]},
            {"name": "witness", "rules": [{"record": "judge:compared", "expr": COMPARED}]},
        ]
    }
    (folder / "judge.yaml").write_text(json.dumps(judge), encoding="utf-8")
    test = {
        "rule_files": [str(RULES), "judge.yaml"],
        "evaluation_interval": f"{SCRAPE}s",
        "tests": [
            {
                "interval": f"{SCRAPE}s",
                "input_series": history.input_series(),
                "promql_expr_test": [
                    {"expr": expression, "eval_time": f"{when}s", "exp_samples": expected}
                    for expression, when, expected in questions
                ],
            }
        ],
    }
    (folder / "test.yaml").write_text(json.dumps(test), encoding="utf-8")
    done = subprocess.run(
        [str(find_binary("promtool")), "test", "rules", str(folder / "test.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr if done.returncode else ""


def ask_rudely(folder: Path, seed: int) -> str:
    """Whether any evaluation of a history said more than the truth, and whether there were any."""
    history = make_rude_history(seed)
    hops = [{"labels": f'{{hop="{hop}"}}', "value": 1} for hop in ("collector", "output", "loki")]
    return ask(
        folder,
        history,
        [
            ("max_over_time(judge:too_much[1d])", history.now, []),
            ("count_over_time(judge:compared[1d]) > bool 20", history.now, hops),
        ],
    )


@pytest.mark.parametrize("seed", RUDE)
def test_no_evaluation_says_more_than_is_really_missing_whatever_happens(tmp_path: Path, seed: int) -> None:
    assert ask_rudely(tmp_path, seed) == ""


@pytest.mark.parametrize("seed", POLITE)
def test_what_is_missing_is_said_exactly_once_nobody_has_logged_for_a_while(tmp_path: Path, seed: int) -> None:
    history = make_polite_history(seed)
    questions: list[tuple[str, int, list[dict[str, Any]]]] = [("max_over_time(judge:too_much[1d])", history.now, [])]
    for when, lost in history.quiet:
        by_job = [{"labels": f'{{job="{job}"}}', "value": lost.get(f'truth{{job="{job}"}}', 0)} for job in JOBS]
        questions.append(("sum by (job) (otelog:missing_in_collector:records)", when, by_job))
        for hop in ("output", "loki"):
            total = sum(count for name, count in lost.items() if name.startswith(f"truth_in_{hop}"))
            questions.append((f"sum(otelog:missing_in_{hop}:records)", when, [{"labels": "{}", "value": total}]))
        questions.append(("otelog:incomparable", when, []))
    assert ask(tmp_path, history, questions) == ""


def test_promtool_finds_nothing_wrong_in_the_rules() -> None:
    run_promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))


def test_the_rules_say_what_they_must() -> None:
    run_promtool("test", "rules", str(UNIT_TESTS))


def run_promtool(*arguments: str) -> None:
    done = subprocess.run([str(find_binary("promtool")), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_is_tested() -> None:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    tests = yaml.safe_load(UNIT_TESTS.read_text(encoding="utf-8"))["tests"]
    answered = {question["expr"] for test in tests for question in test["promql_expr_test"] if question["exp_samples"]}
    assert [rule["record"] for rule in group["rules"] if rule["record"] not in answered] == []


def main(first: str, last: str) -> int:
    """Try other seeds; returns how many were wrong."""
    wrong = 0
    for seed in range(int(first), int(last)):
        with tempfile.TemporaryDirectory() as folder:
            objection = ask_rudely(Path(folder), seed)
        wrong += bool(objection)
        print(seed, objection or "right", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
