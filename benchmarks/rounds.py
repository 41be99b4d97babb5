"""The order of the trials: every peer once before any peer again, each in a fresh process, and no loss let through."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from benchmarks.catalog import OTLP_TABLE, PEERS
from benchmarks.peers import DRAIN_SECONDS, FLOOR, Conditions, Peer
from benchmarks.trial import Load, Measure, Trial

# How long the far end's own counter may lag behind its answers.
SETTLE_SECONDS = 5.0

Run = dict[str, Any]


class Receiver(Protocol):
    """The far end of the OTLP peers."""

    endpoint: str
    grpc_endpoint: str

    def accepted(self, kind: Literal["logs", "spans"]) -> int:
        """Count what was accepted since the receiver started."""


@dataclass(frozen=True)
class Plan:
    """The size of the benchmark; equal for all peers. Durations in seconds."""

    peers: tuple[str, ...] = OTLP_TABLE
    rounds: int = 5
    records: int = 300_000
    call_records: int = 50_000
    rate: float = 5_000.0
    paced_seconds: float = 4.0
    warm_up: int = 2_000
    queue_size: int = 400_000
    batch_size: int = 2_048
    schedule_delay_millis: int = 1_000
    timeout: float = DRAIN_SECONDS * 1.5
    loads: tuple[Load, ...] = ("burst", "paced")
    measures: tuple[Measure, ...] = ("cpu", "calls")

    def __post_init__(self) -> None:
        unknown = set(self.peers) - set(PEERS)
        if unknown:
            raise ValueError(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
        if FLOOR not in self.peers:
            # Every figure is a ratio to the floor of the same round.
            object.__setattr__(self, "peers", (FLOOR, *self.peers))

    def trials(self) -> Iterator[tuple[int, str, Load, Measure]]:
        """Yield round, peer, load and measure in the order they run.

        Peers change places from round to round, so that none always runs on a warm or a cold machine.
        """
        for number in range(self.rounds):
            shift = number * 3 % len(self.peers)
            for load in self.loads:
                # Paced, one run gives both.
                measures = [measure for measure in self.measures if load == "burst" or measure == "calls"]
                for measure in measures or self.measures:
                    for peer in self.peers[shift:] + self.peers[:shift]:
                        yield number, peer, load, measure


def run_rounds(
    plan: Plan,
    receiver: Receiver | None,
    *,
    report: Callable[[str], None] = lambda line: None,
    keep: Callable[[list[Run]], None] = lambda runs: None,
) -> list[Run]:
    """Run every trial of the plan, one at a time.

    Args: receiver: the far end of the OTLP peers, None to skip them; report: called with a line before each trial;
    keep: called with the runs so far when a round is done.
    Returns: one dict a trial: ``round``, ``peer``, ``load``, ``measure``, ``error`` (None, or why the figures are void)
    and the figures of `benchmarks.trial.run`.
    """
    runs: list[Run] = []
    last = 0
    for number, name, load, measure in plan.trials():
        if number != last:
            keep(runs)
            last = number
        report(f"round {number + 1}/{plan.rounds} · {load} · {measure} · {name}")
        run: Run = {"round": number, "peer": name, "load": load, "measure": measure}
        run.update(_run_one(plan, PEERS[name], load, measure, receiver))
        runs.append(run)
    return runs


def _run_one(plan: Plan, peer: Peer, load: Load, measure: Measure, receiver: Receiver | None) -> Run:
    missing = peer.missing()
    if missing is not None:
        return {"error": f"not run: {missing} is not installed"}
    if peer.delivers in ("logs", "spans") and receiver is None:
        return {"error": "not run: no Collector"}
    burst = plan.records if measure == "cpu" else min(plan.records, plan.call_records)
    records = burst if load == "burst" else round(plan.rate * plan.paced_seconds)
    with tempfile.TemporaryDirectory(prefix="otelog-bench-") as folder:
        file, result, errors = (Path(folder) / name for name in (peer.file_name, "result.json", "stderr"))
        trial = Trial(
            peer=peer.name,
            load=load,
            measure=measure,
            records=records,
            warm_up=plan.warm_up,
            rate=plan.rate if load == "paced" else 0.0,
            conditions=Conditions(
                endpoint=receiver.endpoint if receiver else "",
                grpc_endpoint=receiver.grpc_endpoint if receiver else "",
                file=str(file),
                queue_size=plan.queue_size,
                batch_size=plan.batch_size,
                schedule_delay_millis=plan.schedule_delay_millis,
            ),
        )
        already = _count(peer, receiver, file)
        failure = _spawn([trial.dumps(), str(result)], errors, plan.timeout)
        if failure is not None:
            return {"error": failure}
        figures: Run = json.loads(result.read_text())
        sent = records + plan.warm_up
        arrived = _await_count(peer, receiver, file, already, sent)
        return {"error": verdict(sent, arrived, figures["lost"]), **figures}


def _spawn(arguments: list[str], errors: Path, timeout: float) -> str | None:
    with errors.open("wb") as sink:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.trial", *arguments],
                stdout=sink,
                stderr=sink,
                timeout=timeout,
                cwd=Path(__file__).resolve().parent.parent,
                env=clean_environment(),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"failed: not done after {timeout:g} s"
    if done.returncode == 0:
        return None
    lines = errors.read_text(errors="replace").strip().splitlines() or ["no output"]
    return f"failed: exit status {done.returncode}: {lines[-1][:200]}"


def clean_environment() -> dict[str, str]:
    """Copy the environment without what would configure a peer. Returns: the variables for a trial's process."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OTELOG_", "LOGFIRE_"))}


def _count(peer: Peer, receiver: Receiver | None, file: Path) -> int:
    if peer.delivers == "file":
        try:
            with file.open("rb") as lines:
                return sum(1 for _ in lines)
        except FileNotFoundError:
            return 0
    if peer.delivers != "nothing" and receiver is not None:
        return receiver.accepted(peer.delivers)
    return 0


def _await_count(peer: Peer, receiver: Receiver | None, file: Path, already: int, sent: int) -> int:
    if peer.delivers == "nothing":
        return sent
    # A file is complete when its writer has ended.
    deadline = time.monotonic() + (0.0 if peer.delivers == "file" else SETTLE_SECONDS)
    while True:
        arrived = _count(peer, receiver, file) - already
        if arrived >= sent or time.monotonic() > deadline:
            return arrived
        time.sleep(0.05)


def verdict(sent: int, arrived: int, lost: int | None) -> str | None:
    """Compare what was logged with what arrived and with what the peer itself says is lost.

    Returns: None if they agree to the record, else why the run is void.
    """
    if lost:
        return f"void: the peer counts {lost:,} of {sent:,} records as lost"
    if arrived < sent:
        return f"void: {sent - arrived:,} of {sent:,} records did not arrive"
    if arrived > sent:
        return f"void: {arrived - sent:,} records too many arrived"
    return None
