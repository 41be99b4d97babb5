"""``python -m benchmarks.requests``: what logging costs a Flask request; writes ``requests.md`` and its figures."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.collector import NopCollector
from benchmarks.machine import machine_facts
from benchmarks.report import Runs
from benchmarks.requests.application import SETUPS
from benchmarks.requests.report import write_table
from benchmarks.requests.rounds import Plan, run_rounds
from tools.collector import find_collector

RESULTS = Path(__file__).resolve().parent.parent / "results"
# Fewer say nothing about the spread.
ENOUGH_ROUNDS = 5
# Few requests and one round: whether everything works, not what it costs.
_QUICK = {"rounds": 1, "requests": 1_000, "paced_requests": 500}
_DISTRIBUTIONS = (
    "flask",
    "gunicorn",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-flask",
    "opentelemetry-instrumentation-logging",
)


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.requests", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of few requests, in less than a minute")
    parser.add_argument("--only", metavar="SETUP,SETUP", help=f"some of: {', '.join(SETUPS)} (the base always runs)")
    parser.add_argument("--rounds", type=int, help="how often every set-up runs (default 5)")
    parser.add_argument("--collector", metavar="FILE", help="the Collector (default $OTELOG_COLLECTOR, else the cache)")
    where = "folder for the results (default benchmarks/results, for less than all of it benchmarks/results/partial)"
    parser.add_argument("--output", type=Path, metavar="DIR", help=where)
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run the benchmark.

    Returns: 0 if every set-up that can run delivered everything, 1 if a run was void or failed, 2 if there is nothing
    to run against.
    """
    options = _arguments(words)
    console = Console(stderr=True)
    sizes: dict[str, Any] = dict(_QUICK) if options.quick else {}
    if options.rounds:
        sizes["rounds"] = options.rounds
    if options.only:
        sizes["setups"] = tuple(name.strip() for name in options.only.split(","))
    try:
        plan = Plan(**sizes)
    except ValueError as error:
        console.print(f"[red]{error}")
        return 2
    binary = find_collector(options.collector)
    if binary is None:
        console.print("[red]no Collector: build it (make test does), or name it with --collector or OTELOG_COLLECTOR")
        return 2
    whole = set(plan.setups) == set(SETUPS) and plan.rounds >= ENOUGH_ROUNDS and not options.quick
    output = options.output or (RESULTS if whole else RESULTS / "partial")
    with NopCollector(binary) as collector:
        results = describe(plan, collector.version().rpartition(" ")[2])
        runs = run_rounds(plan, collector, report=lambda line: console.print(line, highlight=False))
    print(write_results(output, results, runs))
    broken = [run for run in runs if run["error"] and not run["error"].startswith("not run")]
    for run in broken:
        console.print(f"[red]{run['setup']} {run['load']}: {run['error']}", highlight=False)
    console.print(f"results in {os.path.relpath(output)}", highlight=False)
    return 1 if broken else 0


def describe(plan: Plan, collector_version: str) -> dict[str, Any]:
    """Say what the figures depend on. Returns: ``date``, ``machine``, ``versions`` and ``plan``."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": machine_facts(),
        "versions": {**{name: metadata.version(name) for name in _DISTRIBUTIONS}, "Collector": collector_version},
        "plan": asdict(plan),
    }


def write_results(output: Path, results: dict[str, Any], runs: Runs) -> str:
    """Write ``requests.json`` and ``requests.md`` into a folder, which is made if it is missing.

    Returns: the table's text. Raises: OSError if the folder cannot be written.
    """
    output.mkdir(parents=True, exist_ok=True)
    table = write_table(results, runs)
    (output / "requests.json").write_text(json.dumps({**results, "runs": runs}, indent=1) + "\n", encoding="utf-8")
    (output / "requests.md").write_text(table, encoding="utf-8")
    return table


if __name__ == "__main__":
    sys.exit(main())
