"""The order of the runs: every set-up once before any again, each in a fresh server, and no loss let through."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.peers import Conditions
from benchmarks.requests.application import BEGIN_PATH, END_PATH, SETUPS, TRACED, Setup
from benchmarks.requests.client import Load
from benchmarks.requests.server import ROOT, Gunicorn, pin
from benchmarks.rounds import SETTLE_SECONDS, Receiver, Run, verdict

CLIENT_SECONDS = 300.0


@dataclass(frozen=True)
class Plan:
    """The size of the benchmark; equal for all set-ups.

    ``requests`` go out as fast as ``connections`` get their answers (the load "closed"), then ``paced_requests`` at
    ``rate`` a second (the load "paced"); ``warm_up`` requests before them are not measured.
    """

    setups: tuple[str, ...] = tuple(SETUPS)
    rounds: int = 5
    requests: int = 10_000
    paced_requests: int = 5_000
    rate: float = 500.0
    connections: int = 8
    warm_up: int = 500
    queue_size: int = 100_000
    batch_size: int = 2_048
    schedule_delay_millis: int = 1_000

    def __post_init__(self) -> None:
        unknown = set(self.setups) - set(SETUPS)
        if unknown:
            raise ValueError(f"no such set-up: {', '.join(sorted(unknown))}; there are {', '.join(SETUPS)}")
        if TRACED not in self.setups:
            # What logging adds is what is there above it.
            object.__setattr__(self, "setups", (TRACED, *self.setups))

    def trials(self) -> Iterator[tuple[int, str]]:
        """Yield round and set-up in the order they run; they change places from round to round."""
        for number in range(self.rounds):
            shift = number * 3 % len(self.setups)
            for name in self.setups[shift:] + self.setups[:shift]:
                yield number, name

    def conditions(self, endpoint: str) -> Conditions:
        """Say what is the same for all. Returns: the conditions of the peers that the set-ups are made of."""
        return Conditions(
            endpoint=endpoint,
            grpc_endpoint="",
            file="",
            queue_size=self.queue_size,
            batch_size=self.batch_size,
            schedule_delay_millis=self.schedule_delay_millis,
        )


def run_rounds(plan: Plan, receiver: Receiver, *, report: Callable[[str], None] = lambda line: None) -> list[Run]:
    """Run every trial of the plan, one at a time.

    Args: report: called with a line before each trial.
    Returns: one dict for each trial and load: ``round``, ``setup``, ``load``, ``error`` (None, or why the figures are
    void), and the figures: ``cpu_us`` a request, of it
    ``behind_us`` in threads that serve none, and the client's.
    """
    runs: list[Run] = []
    for number, name in plan.trials():
        report(f"round {number + 1}/{plan.rounds} · {name}")
        setup = SETUPS[name]
        missing = setup.missing()
        if missing is not None:
            runs.append({"round": number, "setup": name, "load": "closed", "error": f"not run: no {missing}"})
            continue
        runs += [{"round": number, "setup": name, **run} for run in run_setup(plan, setup, receiver)]
    return runs


def run_setup(plan: Plan, setup: Setup, receiver: Receiver) -> Iterator[Run]:
    """Run one set-up's loads in a fresh server. Yields: one dict a load, as in `run_rounds`."""
    with Gunicorn(setup.name, plan.conditions(receiver.endpoint)) as server:
        loads = {
            "closed": Load(server.port, plan.requests, plan.connections),
            "paced": Load(server.port, plan.paced_requests, plan.connections, plan.rate),
        }
        try:
            # Connections, caches and late imports belong to no request.
            server.ask(BEGIN_PATH)
            _send(Load(server.port, plan.warm_up, plan.connections))
            for name, load in loads.items():
                yield {"load": name, **_measure(server, setup, load, receiver)}
        except RuntimeError as error:
            yield {"load": "closed", "error": f"failed: {error}"}


def _measure(server: Gunicorn, setup: Setup, load: Load, receiver: Receiver) -> Run:
    server.ask(BEGIN_PATH)
    already = receiver.accepted("logs")
    figures: Run = _send(load)
    own = server.ask(END_PATH)
    sent = load.requests * setup.records
    # What is lost need not be waited for.
    arrived = _await_count(receiver, already, sent - (own["lost"] or 0))
    error = verdict(sent, arrived, own["lost"])
    cpu = {f"{name}_us": own[f"{name}_s"] / load.requests * 1e6 for name in ("cpu", "behind")}
    return {"error": error, **cpu, **figures}


def _await_count(receiver: Receiver, already: int, sent: int) -> int:
    deadline = time.monotonic() + SETTLE_SECONDS
    while (arrived := receiver.accepted("logs") - already) < sent and time.monotonic() < deadline:
        time.sleep(0.05)
    return arrived


def _send(load: Load) -> dict[str, float]:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.requests.client", load.dumps()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as client:
        pin(client, server=False)
        try:
            output, errors = client.communicate(timeout=CLIENT_SECONDS)
        except subprocess.TimeoutExpired:
            client.kill()
            raise RuntimeError(f"the client was not done after {CLIENT_SECONDS:g} s") from None
    if client.returncode != 0:
        raise RuntimeError(f"the client says: {(errors.strip().splitlines() or ['nothing'])[-1][:200]}")
    figures: dict[str, float] = json.loads(output)
    return figures
