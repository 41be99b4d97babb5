"""One seed: receivers are opened, the program is run and watched, and everything is reconciled."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.oracle import read_calls
from tests.chaos.plan import Plan, make_plan
from tests.chaos.receivers import open_receivers
from tests.chaos.reconciliation import count_fired, reconcile

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 40.0
"""Seconds after which a program is said to hang; on a quiet machine it takes two."""
STACKS_SECONDS = 1.0
MOST_LINES = 3

EXPECTED = re.compile(r"otelog: [^\n]*\n|\{\"otelog\": \"receipt\"[^\n]*\n")
"""Lines of standard error that may be there; each is one write, perhaps between those of a traceback."""
_TRACEBACK = r"(?:[ \t][^\n]*\n|\n|Traceback [^\n]*\n)*"
OWN_IGNORED = re.compile(
    rf"Exception ignored [^\n]*\n{_TRACEBACK}(?:\S*Own(?:Error|Stop)|KeyboardInterrupt|MemoryError)[^\n]*\n"
)
"""Python itself puts an exception aside that comes in a finalizer or a callback of a weak reference."""
GEVENTS_OWN = re.compile(
    r"Exception ignored in: <bound method _ForkHooks\.after_fork_in_child "
    r".*?_set_done\(\) takes no keyword arguments\n",
    re.DOTALL,
)
SDKS_OWN = re.compile(
    r"Exception ignored in: <function \w+Provider\.__init__\.<locals>\._after_in_child [^\n]*\n"
    rf"{_TRACEBACK}RuntimeError: can't start new thread\n"
)
"""OpenTelemetry's providers find out their resource in threads, in a forked child, too."""


@dataclass
class Outcome:
    """How a seed went."""

    seed: int
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    processes: int = 0
    calls: int = 0
    arrived: int = 0
    lost: int = 0
    fired: dict[str, int] = field(default_factory=dict)
    stderr: str = ""
    folder: str = ""


def run_seed(
    seed: int, without: Collection[str] = (), *, fault: str = "", deadline: float = DEADLINE, keep: bool = False
) -> Outcome:
    """Run a seed.

    Args:
        seed: Its number.
        without: Features that are left out.
        fault: What is broken on purpose, of `sabotage.KINDS`.
        deadline: Seconds for the program.
        keep: Leave the folder of a seed that failed.
    """
    plan = make_plan(seed, without)
    folder = Path(tempfile.mkdtemp(prefix=f"otelog-chaos-{seed}-"))
    outcome = Outcome(seed, folder=str(folder))
    try:
        _run(plan, folder, outcome, fault, deadline)
    except Exception as error:
        outcome.problems.append(f"the runner itself failed: {type(error).__name__}: {error}")
    finally:
        if not (keep and outcome.problems):
            shutil.rmtree(folder, ignore_errors=True)
            outcome.folder = ""
    return outcome


def _run(plan: Plan, folder: Path, outcome: Outcome, fault: str, deadline: float) -> None:
    receivers = open_receivers(plan, folder)
    given = {
        "plan": plan.to_dict(),
        "endpoints": {name: receiver.endpoint for name, receiver in receivers.items()},
        "fault": fault,
    }
    (folder / "plan.json").write_text(json.dumps(given), encoding="utf-8")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTELOG_"))}
    environ |= {"OTEL_METRICS_EXPORTER": "none", "PYTHONUNBUFFERED": "1"}
    began = time.monotonic()
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        program = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.program", str(folder)],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            status = program.wait(deadline)
            if status:
                outcome.problems.append(f"the program ended with {status}")
        except subprocess.TimeoutExpired:
            outcome.problems.append(f"the program hangs after {deadline:g} s; its stacks are on standard error")
        if left := _end_session(program.pid):
            program.wait()
            outcome.problems.append(f"{left} of its processes were still there")
    outcome.seconds = time.monotonic() - began
    arrivals = {name: receiver.collect() for name, receiver in receivers.items()}
    calls = read_calls(folder)
    made = {path.stem: path.read_text(encoding="ascii") for path in sorted(folder.glob("*.made"))}
    reports = {path.stem: json.loads(path.read_bytes()) for path in folder.glob("*.report")}
    errors = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.glob("stderr*"))]
    outcome.stderr = "".join(errors)
    outcome.problems += reconcile(plan, made, reports, calls, arrivals)
    outcome.problems += [f"standard error: {line}" for one in errors for line in find_unexpected(one)[:MOST_LINES]]
    outcome.processes = 1 + len(made)
    outcome.calls = sum(len(ids) for one in calls.values() for ids in one.begun.values())
    outcome.arrived = sum(len(one.ids) for one in arrivals.values())
    outcome.lost = sum(_lost(stats) for report in reports.values() for stats in report["stats"].values())
    outcome.fired = dict(count_fired(reports, arrivals))


def _lost(stats: dict[str, dict[str, int]]) -> int:
    return sum(stats["refused"].values()) + sum(stats["dropped"].values())


def find_unexpected(stderr: str) -> list[str]:
    """Return the lines of standard error that neither otelog nor Python's own rules explain."""
    text = stderr
    for known in (EXPECTED, OWN_IGNORED, GEVENTS_OWN, SDKS_OWN):
        text = known.sub("", text)
    return [line for line in text.splitlines() if line.strip()]


def _end_session(leader: int) -> int:
    """End what is left of a session, after each process has written its stacks; returns how many there were."""
    left = _find_session(leader)
    for number in (signal.SIGABRT, signal.SIGKILL):
        for pid in _find_session(leader):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        until = time.monotonic() + STACKS_SECONDS
        while _find_session(leader) and time.monotonic() < until:
            time.sleep(0.02)
    return len(left)


def _find_session(leader: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] not in "ZX":
            found.append(int(entry.name))
    return found
