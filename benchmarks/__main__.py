"""``python -m benchmarks``: run the peers side by side, write ``latest.json``, ``table.md`` and ``plot.svg``."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.catalog import OTLP_TABLE, PEERS, SINK_TABLE
from benchmarks.collector import NopCollector
from benchmarks.machine import machine_facts
from benchmarks.plot import write_plot
from benchmarks.probes import IMPORTS, PROBES, run_probes
from benchmarks.report import Goal, Row, judge, judge_sinks, plain, summarize, write_table
from benchmarks.requests.__main__ import main as measure_requests
from benchmarks.rounds import Plan, run_rounds
from benchmarks.sink_peers import SINK_PEERS
from tools.collector import find_collector

RESULTS = Path(__file__).resolve().parent / "results"
# Fewer say nothing about the spread.
ENOUGH_ROUNDS = 5
# Few records and one round: whether everything works, not what it costs.
_QUICK = {"rounds": 1, "records": 20_000, "paced_seconds": 1.5}
_DISTRIBUTIONS = (
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-logging",
    "logfire",
    "structlog",
    "loguru",
    "python-json-logger",
    "picologging",
    "urllib3",
    "isal",
    "grpcio",
)


def _versions(collector: NopCollector | None) -> dict[str, str]:
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if collector is not None:
        found["Collector"] = collector.version().rpartition(" ")[2]
    return found


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of few records, in about two minutes")
    parser.add_argument("--only", metavar="PEER,PEER", help=f"some of: {', '.join(PEERS)} (the floor always runs)")
    parser.add_argument("--sinks", action="store_true", help="the sinks in the process and their peers, in a burst")
    parser.add_argument("--requests", action="store_true", help="what logging costs a Flask request, under gunicorn")
    parser.add_argument("--rounds", type=int, help="how often every peer runs (default 5)")
    parser.add_argument("--collector", metavar="FILE", help="the Collector (default $OTELOG_COLLECTOR, else the cache)")
    where = "folder for the results (default benchmarks/results, for less than all of it benchmarks/results/partial)"
    parser.add_argument("--output", type=Path, metavar="DIR", help=where)
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run the benchmark.

    Returns: 0 if every peer that is installed delivered everything, 1 if a run was void or failed, 2 if there is
    nothing to run against.
    """
    words = sys.argv[1:] if words is None else words
    if "--requests" in words:
        return measure_requests([word for word in words if word != "--requests"])
    options = _arguments(words)
    console = Console(stderr=True)
    try:
        plan = _plan(options)
    except ValueError as error:
        console.print(f"[red]{error}")
        return 2
    if importlib.util.find_spec("matplotlib") is None:
        console.print("[red]no matplotlib for the plot: install the extra 'bench' (make bench does)")
        return 2
    binary = find_collector(options.collector)
    if binary is None and _needs_collector(plan):
        console.print("[red]no Collector: build it (make test does), or name it with --collector or OTELOG_COLLECTOR")
        return 2
    table = SINK_TABLE if options.sinks else OTLP_TABLE
    whole = set(plan.peers) == set(table) and plan.rounds >= ENOUGH_ROUNDS and not options.quick
    home = RESULTS / "sinks" if options.sinks else RESULTS
    output = options.output or (home if whole else RESULTS / "partial")
    results, runs, probes = _measure(plan, binary, output, console, sinks=options.sinks)
    rows = summarize(runs)
    print(write_results(output, results, runs, probes))
    write_plot(rows, output / "plot.svg", caption(results, rows))
    broken = [run for run in [*runs, *probes] if run["error"] and not run["error"].startswith("not run")]
    for run in broken:
        console.print(f"[red]{run.get('peer') or run['probe']} {run.get('load', '')}: {run['error']}", highlight=False)
    console.print(f"results in {os.path.relpath(output)}", highlight=False)
    return 1 if broken else 0


def _plan(options: argparse.Namespace) -> Plan:
    sizes: dict[str, Any] = dict(_QUICK) if options.quick else {}
    if options.rounds:
        sizes["rounds"] = options.rounds
    if options.sinks:
        sizes.update(peers=SINK_TABLE, loads=("burst",))
    if options.only:
        sizes["peers"] = tuple(name.strip() for name in options.only.split(","))
    return Plan(**sizes)


def _needs_collector(plan: Plan) -> bool:
    return any(PEERS[name].delivers in ("logs", "spans") for name in plan.peers)


def _measure(
    plan: Plan, binary: Path | None, output: Path, console: Console, *, sinks: bool
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    with ExitStack() as stack:
        collector = stack.enter_context(NopCollector(binary)) if binary and _needs_collector(plan) else None
        columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
        progress = stack.enter_context(Progress(*columns, console=console))
        probed = 0 if sinks else len(PROBES) + 3 * len(IMPORTS)
        total = len(list(plan.trials())) + plan.rounds * probed
        task = progress.add_task("starting", total=total)

        def report(line: str) -> None:
            progress.update(task, description=line)
            progress.advance(task)

        results: dict[str, Any] = {
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
            "machine": machine_facts(),
            "versions": _versions(collector),
            "plan": asdict(plan),
        }
        probes = [] if sinks else run_probes(plan.rounds, report=report)

        def keep(runs: list[dict[str, Any]]) -> None:
            # A run that is cut short leaves its whole rounds beside the results of the last one that was not.
            write_results(output / "unfinished", results, runs, probes)
            write_plot(summarize(runs), output / "unfinished" / "plot.svg", caption(results, summarize(runs)))

        runs = run_rounds(plan, collector, report=report, keep=keep)
    shutil.rmtree(output / "unfinished", ignore_errors=True)
    return results, runs, probes


def write_results(
    output: Path, results: dict[str, Any], runs: list[dict[str, Any]], probes: list[dict[str, Any]]
) -> str:
    """Write ``latest.json`` and ``table.md`` into a folder, which is made if it is missing.

    Args: results: date, machine, versions and plan.
    Returns: the table's text. Raises: OSError if the folder cannot be written.
    """
    output.mkdir(parents=True, exist_ok=True)
    rows = summarize(runs)
    sinks = any(row.peer in SINK_PEERS for row in rows)
    goals: list[Goal] = judge_sinks(runs) if sinks else judge(runs, rows, probes)
    table = write_table(results, rows, goals)
    everything = {**results, "summary": plain(rows), "goals": plain(goals), "runs": runs, "probes": probes}
    (output / "latest.json").write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    (output / "table.md").write_text(table, encoding="utf-8")
    return table


def caption(results: dict[str, Any], rows: Sequence[Row]) -> str:
    """Say under the plot how its figures came about, and who is missing. Returns: one line or two."""
    machine, plan = results["machine"], results["plan"]
    text = (
        f"median, lowest and highest of {plan['rounds']} rounds · {machine['cores']} cores, {machine['python']} · "
        f"burst of {plan['records']:,} calls, paced {plan['rate']:,.0f}/s · {results['date']}"
    )
    absent = [row.peer for row in rows if row.error and row.load == "burst"]
    return f"{text}\nnot shown, no valid figures: {', '.join(absent)}" if absent else text


if __name__ == "__main__":
    sys.exit(main())
