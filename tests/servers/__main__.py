"""Every server and mode, many lives each; ``python -m tests.servers``.

A dated row for each is appended to ``benchmarks/results/servers.md``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmarks.machine import machine_facts
from tests.servers.cycle import END_SECONDS, Outcome
from tests.servers.rows import ROWS, Row, run_cycle

CYCLES = 200
RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "servers.md"
COLUMNS = (
    "date | system | Python | server | cycles | failed | processes | made | delivered | counted | killed | held | end"
)
HEAD = f"""# Records under application servers

Written by `make soak`. Each cycle is one life of a server under `otelog run`: it is started, 24 requests of five
records each are answered by two workers (one, where the server has no more), and it is ended as its name says, or by
SIGTERM. Nothing is sent before a process ends, so that all hangs on its end. Every cycle is reconciled for each
process: what its ledger says it has made = what has arrived under its `service.instance.id` + what it has counted as
lost; every record of the application has arrived exactly once. Of a worker that is killed, what it held is lost, and
no more. Failed are the cycles in which anything else has happened, or the end has taken more than {END_SECONDS:g} s;
`end` is the longest, in seconds.

| {COLUMNS} |
|---|---|---|---|{"--:|" * 9}
"""


def main() -> int:
    """Run them, and return 1 if a cycle has failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=CYCLES, help="lives of each server (default %(default)s)")
    parser.add_argument("--only", choices=[row.name for row in ROWS], action="append", help="may be repeated")
    parser.add_argument("--jobs", type=int, default=2, help="how many servers live at once (default %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the file to append to")
    arguments = parser.parse_args()
    for name in [name for name in os.environ if name.startswith(("OTEL_", "OTELOG_"))]:
        # A developer's own settings are about something else.
        del os.environ[name]
    rows = [row for row in ROWS if not arguments.only or row.name in arguments.only]
    failed_in_all = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress, ThreadPoolExecutor(arguments.jobs) as pool:
        tasks = [progress.add_task(row.name, total=arguments.cycles, start=False) for row in rows]

        def run(row: Row, task: TaskID) -> tuple[int, Outcome]:
            progress.start_task(task)
            return run_row(row, arguments.cycles, lambda: progress.advance(task))

        for row, (failed, total) in zip(rows, pool.map(run, rows, tasks), strict=True):
            failed_in_all += failed
            write_row(arguments.output, row, arguments.cycles, failed, total)
    return int(failed_in_all > 0)


def run_row(row: Row, cycles: int, report: Callable[[], None]) -> tuple[int, Outcome]:
    """Return how many cycles have failed, and the sum of the others' figures; the end is the longest."""
    failed, total = 0, Outcome()
    began = time.monotonic()
    for number in range(cycles):
        report()
        with tempfile.TemporaryDirectory(prefix="otelog-servers-") as folder:
            try:
                one = run_cycle(row, Path(folder))
            except Exception as error:
                failed += 1
                print(f"{row.name}, cycle {number}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                continue
        for name in ("made", "delivered", "counted", "killed", "held", "processes"):
            setattr(total, name, getattr(total, name) + getattr(one, name))
        total.seconds_to_end = max(total.seconds_to_end, one.seconds_to_end)
    print(f"{row.name}: {cycles - failed} of {cycles} in {time.monotonic() - began:.0f} s", flush=True)
    return failed, total


def write_row(output: Path, row: Row, cycles: int, failed: int, total: Outcome) -> None:
    """Append one row to the table."""
    if not output.exists():
        output.write_text(HEAD, encoding="utf-8")
    facts = machine_facts()
    counts = (cycles, failed, total.processes, total.made, total.delivered, total.counted, total.killed, total.held)
    cells = [
        f"{datetime.now(timezone.utc):%Y-%m-%d}",
        f"{facts['system']}, {facts['cores']} cores",
        str(facts["python"]),
        row.name,
        *(f"{count:,}" for count in counts),
        f"{total.seconds_to_end:.1f}",
    ]
    with output.open("a", encoding="utf-8") as file:
        file.write(f"| {' | '.join(cells)} |\n")


if __name__ == "__main__":
    sys.exit(main())
