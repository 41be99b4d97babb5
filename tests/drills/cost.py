"""What the stack costs at a steady rate: processor time, memory and disk of each server, and of the applications."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.drills.drill import OWN, PATIENT, SENDERS, accepted, finish, sending, wait_for_traffic
from tests.stack.running import RunningStack, Sender


@dataclass(frozen=True)
class Cost:
    """One process, or the applications together.

    Args:
        name: Whose it is.
        cores: Processor time a second of wall clock, for 10,000 records a second.
        memory: The most bytes that were resident.
        disk: Bytes a record that it keeps; 0 for what keeps none.
    """

    name: str
    cores: float
    memory: int
    disk: float


def run(stack: RunningStack, *, rate: float = 10_000, seconds: float = 60) -> tuple[float, list[Cost]]:
    """Returns how many records a second there were, and the costs."""
    stack.up()
    with sending(stack, rate, PATIENT) as senders:
        wait_for_traffic(stack, int(2 * rate))
        servers = {name: [psutil.Process(server["pid"])] for name, server in stack.statuses().items()}
        watched = {"applications": [psutil.Process(sender.pid) for sender in senders], **servers}
        before = {name: _used(processes) for name, processes in watched.items()}
        counted, began = accepted(stack), time.monotonic()
        most = dict.fromkeys(watched, 0)
        while time.monotonic() < began + seconds:
            wait_for_traffic(stack, int(rate / 2))
            for name, processes in watched.items():
                most[name] = max(most[name], sum(process.memory_info().rss for process in processes))
        records, took = accepted(stack) - counted, time.monotonic() - began
        used = {name: _used(processes) - before[name] for name, processes in watched.items()}
        sent = stack.sum(OWN, "otelcol_exporter_sent_log_records_total", exporter="otlp_http/loki")
        figures, _ = finish(stack, senders)
    assert figures.held == figures.created >= sent
    folders = {"collector": stack.folder / "collector" / "data" / "logs", "loki": stack.folder / "loki" / "data"}
    # Loki writes its chunks when it ends.
    kept = {name: _size(folder) / figures.created for name, folder in folders.items()}
    return records / took, [
        Cost(name, used[name] / records * 10_000, most[name], kept.get(name, 0.0)) for name in watched
    ]


def compare_callers(stack: RunningStack, *, records: int = 100_000, rate: float = 10_000) -> tuple[float, float]:
    """Returns the processor time of one call in microseconds, with a Collector and without one, the pacing included."""
    stack.up()
    with_collector = Sender(stack.endpoint, "caller", records, rate=rate).finish()
    stack.kill("collector")
    without = Sender(stack.endpoint, "caller", records, {"shutdown_timeout": 1.0}, rate).finish()
    assert with_collector["lost"] == 0 < without["lost"]
    return with_collector["caller_cpu"] / records * 1e6, without["caller_cpu"] / records * 1e6


def table(rate: float, costs: list[Cost], callers: tuple[float, float]) -> str:
    """The costs in Markdown."""
    lines = [
        f"At {rate:,.0f} records a second of {SENDERS} processes, all outputs on:",
        "",
        "| process | cores for 10,000 records/s | memory MB, at most | disk bytes a record |",
        "|---|--:|--:|--:|",
    ]
    for cost in costs:
        disk = f"{cost.disk:,.0f}" if cost.disk else ""
        lines.append(f"| {cost.name} | {cost.cores:.2f} | {cost.memory / 1e6:,.0f} | {disk} |")
    there, absent = callers
    said = (
        f"A call at 10,000 a second takes {there:.1f} µs of its thread's processor time with the Collector there, and "
        f"{absent:.1f} µs without one ({absent / there:.2f} of it), with what the test's own pacing takes."
    )
    lines += ["", said]
    return "\n".join(lines) + "\n"


def _used(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
