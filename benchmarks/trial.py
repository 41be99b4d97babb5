"""One peer, one load, one measure, in a process of its own: ``python -m benchmarks.trial '<json>'``."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import resource
import sys
import time
from array import array
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.catalog import PEERS
from benchmarks.peers import Conditions

Load = Literal["burst", "paced"]
Measure = Literal["cpu", "calls"]


@dataclass(frozen=True)
class Trial:
    """What one process has to do: ``warm_up`` calls that are not measured, then ``records`` calls.

    ``rate`` (calls per second) paces the calls; 0 is a burst. The measure "cpu" takes no time stamps around the calls,
    so that the timer's cost is not in the CPU figure; "calls" takes two around each. Paced, the CPU figure holds the
    pacing loop anyway, and "calls" gives both.
    """

    peer: str
    load: Load
    measure: Measure
    records: int
    warm_up: int
    rate: float
    conditions: Conditions

    def dumps(self) -> str:
        """Write the trial as JSON. Returns: one line."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Trial:
        """Read a trial that `dumps` wrote. Returns: the trial. Raises: ValueError, TypeError on other text."""
        fields = json.loads(text)
        return cls(**{**fields, "conditions": Conditions(**fields["conditions"])})


def percentile(ordered: Any, share: float) -> float:
    """Pick the nearest-rank percentile.

    Args: ordered: a sequence in rising order, not empty; share: 0..1.
    Returns: the element at that rank.
    """
    return float(ordered[max(0, math.ceil(share * len(ordered)) - 1)])


def rss_bytes() -> int:
    """Read this process's resident memory now. Returns: bytes; the peak so far where /proc is missing."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_rss_bytes()


def reset_peak_rss() -> None:
    """Let the peak start anew from here, where the kernel offers it (otherwise set-up counts towards the peak)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_rss_bytes() -> int:
    """Read the highest resident memory since `reset_peak_rss`. Returns: bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def cpu_seconds() -> float:
    """Sum the CPU time of all threads of this process and of its finished children. Returns: seconds."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def timer_cost_ns() -> int:
    """Measure what two adjacent `perf_counter_ns` calls show when nothing is between. Returns: the median, ns."""
    clock = time.perf_counter_ns
    gaps = []
    for _ in range(10_000):
        begin = clock()
        gaps.append(clock() - begin)
    return sorted(gaps)[len(gaps) // 2]


def _make_calls(call: Callable[[int], object], records: int) -> None:
    for i in range(records):
        call(i)


def _time_calls(call: Callable[[int], object], records: int, samples: array[int]) -> None:
    clock = time.perf_counter_ns
    for i in range(records):
        begin = clock()
        call(i)
        samples[i] = clock() - begin


def _pace_calls(call: Callable[[int], object], records: int, rate: float, samples: array[int] | None) -> None:
    clock = time.perf_counter_ns
    interval = 1e9 / rate
    start = clock()
    for i in range(records):
        ahead = start + i * interval - clock()
        if ahead > 0:
            time.sleep(ahead / 1e9)
        if samples is None:
            call(i)
        else:
            begin = clock()
            call(i)
            samples[i] = clock() - begin


def run(trial: Trial) -> dict[str, float | int | None]:
    """Set up the peer, warm it up, load it, drain it and measure.

    Returns: figures by name; the unit ends each name. ``lost`` is the peer's own count, None if it keeps none.
    """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider())
    session = PEERS[trial.peer].open(trial.conditions)
    samples = array("q", bytes(8 * trial.records)) if trial.measure == "calls" else None
    figures: dict[str, float | int | None] = {}
    with trace.get_tracer("benchmarks").start_as_current_span("benchmark"):
        # Connections, caches and late imports belong to no record.
        _make_calls(session.call, trial.warm_up)
        session.drain()
        gc.collect()
        before = rss_bytes()
        reset_peak_rss()
        cpu = cpu_seconds()
        begin = time.perf_counter()
        if trial.rate:
            _pace_calls(session.call, trial.records, trial.rate, samples)
        elif samples is None:
            _make_calls(session.call, trial.records)
        else:
            _time_calls(session.call, trial.records, samples)
        called = time.perf_counter() - begin
        session.close()
        delivered = time.perf_counter() - begin
        cpu = cpu_seconds() - cpu
        figures["lost"] = session.lost() if session.lost else None
        if samples is None or trial.rate:
            figures["cpu_us"] = cpu / trial.records * 1e6
            figures["calls_s"] = called
            figures["delivered_per_s"] = trial.records / delivered
            figures["memory_mb"] = max(0, peak_rss_bytes() - before) / 1e6
        if samples is not None:
            ordered = sorted(samples)
            for name, share in (("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999), ("max_us", 1.0)):
                figures[name] = percentile(ordered, share) / 1000
            figures["timer_us"] = timer_cost_ns() / 1000
    return figures


def main(arguments: list[str]) -> None:
    """Run the trial given as JSON in ``arguments[0]``, write its figures as JSON to the file ``arguments[1]``."""
    Path(arguments[1]).write_text(json.dumps(run(Trial.loads(arguments[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])
