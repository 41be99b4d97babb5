"""Runs the whole suite again and again, some runs beside a load on every core, and adds a dated row for each.

    python tools/repeat_tests.py                         ten runs, the last three of them beside a load
    python tools/repeat_tests.py --times 2 --only unit   two runs of one step

Stops at the first run that fails: a test that fails once in ten runs is a fault, of the test or of otelog.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "test_runs.md"
HEAD = """# The whole suite, again and again

By `python tools/repeat_tests.py`; the newest run is the last row.

| date (UTC) | commit | steps | beside a load | passed | failed | minutes |
|---|---|---|---|--:|--:|--:|
"""
BUSY = "while True: pass"


@contextmanager
def load_on_every_core(wanted: bool) -> Iterator[None]:
    """Keep every core busy meanwhile, if that is wanted."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range((os.cpu_count() or 1) if wanted else 0)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def run_once(steps: list[str], loaded: bool) -> bool:
    """Run the suite, add its row, and return whether it passed."""
    started, began = time.strftime("%Y-%m-%d %H:%M", time.gmtime()), time.monotonic()
    only = [word for step in steps for word in ("--only", step)]
    with load_on_every_core(loaded):
        done = subprocess.run(
            [sys.executable, "tools/run_tests.py", *only], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
        )
    minutes = (time.monotonic() - began) / 60
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    found = re.fullmatch(r"(\d+) passed, (\d+) failed", last)
    passed, failed = found.groups() if found else ("?", "?")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    if not RESULTS.exists():
        RESULTS.write_text(HEAD, encoding="utf-8")
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(
            f"| {started} | {commit.stdout.strip()} | {' '.join(steps) or 'all'} | {'yes' if loaded else 'no'} "
            f"| {passed} | {failed} | {minutes:.1f} |\n"
        )
    if done.returncode != 0:
        print(done.stdout)
    print(f"{started}: {last or 'no result'} in {minutes:.1f} min{' beside a load' if loaded else ''}", flush=True)
    return done.returncode == 0


def main() -> int:
    """Run the suite as often as asked, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10, help="how many runs")
    parser.add_argument("--loaded", type=int, default=3, help="how many of them, the last ones, beside a load")
    parser.add_argument("--only", action="append", default=[], help="this step only; may be repeated")
    asked = parser.parse_args()
    return int(not all(run_once(asked.only, number >= asked.times - asked.loaded) for number in range(asked.times)))


if __name__ == "__main__":
    sys.exit(main())
