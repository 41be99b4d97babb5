"""Chaos: ``python -m tests.chaos --seeds A-B``.

A seed is a whole program: threads, forks, signals that raise, shortages, `configure` anew, servers that fail in every
way. What its servers have kept is held against what each of its processes says of it. A seed that fails is run again by
its number: ``--seeds N --verbose`` prints its plan, ``--repeat`` runs it several times, since its threads interleave
otherwise each time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.machine import machine_facts
from tests.chaos.plan import FEATURES, make_plan
from tests.chaos.sabotage import KINDS
from tests.chaos.seed import DEADLINE, Outcome, run_seed

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "chaos.md"
COLUMNS = "date | system | Python | which | seeds | failed | processes | calls | arrived | lost | faults | minutes"
HEAD = f"""# Random programs

Written by `make soak`. Each seed is a program of its own: threads, forks, signals that raise, shortages of memory,
threads, descriptors and disk, `configure()` anew, a second pipeline, servers that fail in every way, gevent. A seed has
passed if nothing hung or got out of a log call, every identity of every process's ledger held at its end, all that a
ledger says was exported was kept by its receiver (a process apart), nothing came that was not made or came again unless
it was counted as resent, and everything that was planned has happened. `lost` are counted by the ledgers, by reason.

| {COLUMNS} |
|---|---|---|---|{"--:|" * 8}
"""


def main(arguments: list[str] | None = None) -> int:
    """Run seeds; returns 1 if one has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--seeds", default="1-60", help="as 3,7-9 (default %(default)s)")
    parser.add_argument("--fresh", type=int, metavar="N", help="instead, so many that begin with today's date")
    parser.add_argument("--without", default="", metavar="A,B", help=f"of {', '.join(FEATURES)}")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run each seed so often")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (default %(default)s)")
    parser.add_argument("--deadline", type=float, default=DEADLINE, help="seconds for each (default %(default)g)")
    parser.add_argument("--verbose", action="store_true", help="print plans, what has happened, and standard error")
    parser.add_argument("--keep", action="store_true", help="leave the folder of a seed that failed")
    parser.add_argument("--break", dest="fault", choices=KINDS, default="", help="break otelog: the runner must see it")
    parser.add_argument("--output", type=Path, metavar="FILE", help="append a row to this table")
    options = parser.parse_args(arguments)
    without = [*(name for name in options.without.split(",") if name), *_find_missing()]
    if options.fresh:
        first = int(f"{datetime.now(timezone.utc):%Y%m%d}0000")
        options.seeds = f"{first}-{first + options.fresh - 1}"
    seeds = list(_read_ranges(options.seeds)) * options.repeat
    if options.verbose:
        for seed in dict.fromkeys(seeds):
            print(json.dumps(make_plan(seed, without).to_dict(), indent=1))
    began = time.monotonic()
    total: Counter[str] = Counter()
    failed = 0
    for outcome in _run_all(seeds, without, options):
        total.update(processes=outcome.processes, calls=outcome.calls, arrived=outcome.arrived, lost=outcome.lost)
        total["faults"] += sum(outcome.fired.values())
        failed += bool(outcome.problems)
        _tell(outcome, verbose=options.verbose)
    if options.output:
        _write_row(options.output, options.seeds, len(seeds), failed, total, time.monotonic() - began)
    print(f"{len(seeds) - failed} passed, {failed} failed", flush=True)
    return int(failed > 0)


def _find_missing() -> list[str]:
    """Return the features that what is installed here does not allow, and say so."""
    needs = {"grpc": "grpc", "gevent": "gevent", "memory": "_testcapi"}
    missing = [feature for feature, module in needs.items() if importlib.util.find_spec(module) is None]
    if missing:
        print(f"without {', '.join(missing)}: not installed", file=sys.stderr)
    return missing


def _read_ranges(text: str) -> Iterator[int]:
    for one in text.split(","):
        first, _, last = one.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _run_all(seeds: list[int], without: list[str], options: argparse.Namespace) -> Iterator[Outcome]:
    """Run the seeds, several at once, with a bar on a terminal."""
    columns = (TextColumn("seeds"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]} failed"))
    console = Console(stderr=True)
    spawn = multiprocessing.get_context("spawn")
    with (
        Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal) as progress,
        ProcessPoolExecutor(options.jobs, mp_context=spawn) as pool,
    ):
        task = progress.add_task("seeds", total=len(seeds), failed=0)
        failed = 0
        running = [
            pool.submit(run_seed, seed, without, fault=options.fault, deadline=options.deadline, keep=options.keep)
            for seed in seeds
        ]
        for future in as_completed(running):
            outcome = future.result()
            failed += bool(outcome.problems)
            progress.update(task, advance=1, failed=failed)
            yield outcome


def _tell(outcome: Outcome, *, verbose: bool) -> None:
    if outcome.problems or verbose:
        word = "failed" if outcome.problems else "passed"
        print(f"seed {outcome.seed} {word} in {outcome.seconds:.1f} s {outcome.folder}", flush=True)
    for problem in outcome.problems:
        print(f"  {problem}")
    if verbose:
        print(f"  {outcome.processes} processes, {outcome.calls} calls, {outcome.arrived} arrived, {outcome.lost} lost")
        print(f"  happened: {', '.join(f'{name} {count}' for name, count in sorted(outcome.fired.items()))}")
        if outcome.stderr:
            print("  standard error:")
            print("\n".join(f"    {line}" for line in outcome.stderr.splitlines()))


def _write_row(output: Path, which: str, seeds: int, failed: int, total: Counter[str], seconds: float) -> None:
    if not output.exists():
        output.write_text(HEAD, encoding="utf-8")
    facts = machine_facts()
    counts = (seeds, failed, *(total[name] for name in ("processes", "calls", "arrived", "lost", "faults")))
    cells = [
        f"{datetime.now(timezone.utc):%Y-%m-%d}",
        f"{facts['system']}, {facts['cores']} cores",
        str(facts["python"]),
        which,
        *(f"{count:,}" for count in counts),
        f"{seconds / 60:.0f}",
    ]
    with output.open("a", encoding="utf-8") as file:
        file.write(f"| {' | '.join(cells)} |\n")


if __name__ == "__main__":
    sys.exit(main())
