"""All drills, longer than the tests have time for, and what the stack costs; ``python -m tests.drills``.

Dated rows are appended to ``benchmarks/results/drills.md``; the costs replace ``benchmarks/results/stack.md``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import astuple
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.machine import machine_facts
from tests.drills import collector_absent, collector_killed, cost, loki_down, loki_refuses, truth
from tests.drills.drill import Figures
from tests.stack.running import RunningStack

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
HEAD = """# Fault drills on the real servers

Written by `make soak`. Records, over all senders: created and lost by the applications' ledgers, acknowledged by the
Collector, resent by the applications, different ones held by Loki and how many it counts once more, different ones in
app.jsonl and how many stand there once more, and the most that waited in the Collector for Loki.

| date | drill | created | acknowledged | lost | resent | unknown | in Loki | twice | in files | twice | queued |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
"""
DRILLS: dict[str, Callable[[RunningStack], Figures]] = {
    "Loki killed, away for two minutes": lambda stack: loki_down.run(stack, seconds=120, rate=2000)[0],
    "Loki answers 429": lambda stack: loki_refuses.run(stack, records=100_000)[0],
    "Collector killed 5 times": lambda stack: collector_killed.run(stack, kills=5),
    "Collector killed 20 times": lambda stack: collector_killed.run(stack, kills=20),
    "no Collector at first": lambda stack: collector_absent.run(stack, losses=2).figures,
}


TRUTH_HEAD = """# Comparisons between hops on the real servers

Written by `make soak`: 15 minutes of traffic in which an application, the Collector and Prometheus are restarted or
killed (false: evaluations at which something seemed to be missing; silent: services that were neither compared nor said
to be incomparable), then 100 records lost at each hop in turn, and what each hop showed for them. What Loki discards it
has answered with an error, so that both of its hops show it.

| date | created | compared | grey | false | silent | lost | shown |
|---|--:|--:|--:|--:|--:|---|---|
"""


def tell_the_truth(today: str) -> int:
    """Run the drill of the comparisons at their full length, and return 1 if one of them was wrong."""
    with tempfile.TemporaryDirectory(prefix="otelog-drill-") as folder:
        seen = truth.run(Path(folder), pace=1, seconds=900)
    rows = RESULTS / "truth.md"
    if not rows.exists():
        rows.write_text(TRUTH_HEAD, encoding="utf-8")
    shown = "; ".join(f"{hop}: {count}" for hop, count in seen.all.items() if count)
    figures = (seen.created, seen.evaluations, sum(seen.grey.values()), len(seen.wrong), len(seen.silent))
    with rows.open("a", encoding="utf-8") as file:
        row = [today, *figures, f"{truth.LOST} at each of {len(seen.hops)} hops", shown or "nothing"]
        file.write(f"| {' | '.join(str(one) for one in row)} |\n")
    print(seen)
    return int(bool(seen.wrong or seen.silent or seen.all != truth.EXPECTED))


def main() -> int:
    """Run them, and return 1 if one of them lost what it had acknowledged."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [*DRILLS, "cost", "truth"]
    parser.add_argument("--only", choices=names, action="append", help="this one only; may be repeated")
    wanted = parser.parse_args().only or names
    today = f"{datetime.now(timezone.utc):%Y-%m-%d}"
    rows, status = RESULTS / "drills.md", 0
    for name in wanted:
        print(f"{name} ...", flush=True)
        if name == "truth":
            status |= tell_the_truth(today)
            continue
        environ = loki_refuses.LIMITS if name == "Loki answers 429" else {}
        with tempfile.TemporaryDirectory(prefix="otelog-drill-") as folder:
            stack = RunningStack(Path(folder) / "stack", environ)
            try:
                if name == "cost":
                    facts = machine_facts()
                    where = f"{facts['cores']} cores ({facts['processor']}), {facts['system']}, {facts['python']}"
                    text = cost.table(*cost.run(stack), cost.compare_callers(stack))
                    (RESULTS / "stack.md").write_text(f"{today}: {where}. {text}", encoding="utf-8")
                    print(text)
                    continue
                figures = DRILLS[name](stack)
            finally:
                stack.run("down", "--volumes", check=False)
        if not rows.exists():
            rows.write_text(HEAD, encoding="utf-8")
        row = f"| {today} | {name} | " + " | ".join(f"{value:,}" for value in astuple(figures)) + " |\n"
        with rows.open("a", encoding="utf-8") as file:
            file.write(row)
        print(row, end="")
        status |= figures.held < figures.exported or figures.created != figures.exported + figures.lost
    return status


if __name__ == "__main__":
    sys.exit(main())
