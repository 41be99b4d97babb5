"""Many threads log into a small queue with a slow exporter, while snapshots of the books are held against an oracle.

``python -m tests.ledger_load`` runs the whole matrix at full size and appends it to the table of `make soak`;
`tests/ledger/test_ledger.py` runs a part of it.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.machine import machine_facts
from otelog import BatchLogRecordProcessor, Stats
from tests.pipelines import ExporterForTests, check_identity, make_logger

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "ledger.md"
_HEAD = """# The ledger under load

Written by `make soak`. Threads log into a queue of 1,000 records before an exporter that takes 2 ms for each batch of
200, while snapshots of the books are held against the test's own counts: calls returned <= created <= calls begun,
exported <= what the exporter saw, every identity of the ledger in every snapshot, no counter ever falling. A row is a
run that has passed; at its end, exported is what the exporter itself has counted.

| date | system | Python | when_full | switches | created | exported | refused | snapshots | seconds |
|---|---|---|---|---|--:|--:|--:|--:|--:|
"""

QUEUE_SIZE = 1_000
BATCH_SIZE = 200
QUICK_SWITCHES = 1e-5


@dataclass
class Result:
    """What a run has shown."""

    seconds: float
    snapshots: int
    stats: Stats


class Callers:
    """Threads that log, each with its own counts of the calls it has begun and of those that have returned.

    Each makes `calls` calls, and more of them until `enough` is set: the machine decides how fast snapshots come.
    """

    def __init__(self, processor: BatchLogRecordProcessor, threads: int, calls: int) -> None:
        self.enough = threading.Event()
        self.begun = [0] * threads
        self.returned = [0] * threads
        self._logger = make_logger(processor)
        self._calls = calls
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]

    def _run(self, number: int) -> None:
        begun, returned, logger = self.begun, self.returned, self._logger
        call = 0
        while call < self._calls or not self.enough.is_set():
            call += 1
            begun[number] = call
            if call % 50:
                logger.info("call %d", call, thread=number)
            else:
                logger.error("call %d", call, thread=number, parts=["one", "two"])
            returned[number] = call

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def are_running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


@contextmanager
def switch_interval(seconds: float | None) -> Iterator[None]:
    """Have the interpreter switch threads at this interval."""
    before = sys.getswitchinterval()
    if seconds is not None:
        sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def check_growth(before: Stats, after: Stats) -> None:
    """Assert that no counter fell from one snapshot to the next."""
    for name in ("created", "accepted", "exported", "resent", "outcome_unknown", "max_queued", "worker_restarts"):
        assert getattr(after, name) >= getattr(before, name), (name, before, after)
    for name in ("refused", "removed", "dropped"):
        for reason, count in getattr(before, name).items():
            assert getattr(after, name)[reason] >= count, (name, reason, before, after)


def watch_books(
    processor: BatchLogRecordProcessor, exporter: ExporterForTests, callers: Callers, snapshots: int
) -> tuple[int, Stats]:
    """Hold snapshots against the oracle until the callers have ended; returns how many, and the last one.

    Raises:
        AssertionError: An identity or the oracle does not hold.
    """
    taken = 0
    last = processor.stats()
    running = True
    while running:
        running = callers.are_running()
        returned = sum(callers.returned)
        stats = processor.stats()
        seen = exporter.count
        begun = sum(callers.begun)
        check_identity(stats)
        check_growth(last, stats)
        assert returned <= stats.created <= begun, (returned, begun, stats)
        # The exporter counts before it answers, and only its answer is counted.
        assert stats.exported <= seen, (seen, stats)
        assert stats.max_queued <= QUEUE_SIZE, stats
        last = stats
        taken += running
        if taken >= snapshots:
            callers.enough.set()
            # The rest of the run is for the callers.
            time.sleep(0.002)
    return taken, last


def run_load(
    when_full: str, *, quick_switches: bool, threads: int, calls: int, snapshots: int, pause: float = 0.002
) -> Result:
    """Run one combination, and hold its books against the oracle while it runs and at its end.

    Args:
        when_full: The queue's policy.
        quick_switches: Whether the interpreter switches threads every 10 µs.
        threads: Threads that log at once.
        calls: Calls of each, at least.
        snapshots: How many snapshots must at least be taken while the callers run.
        pause: Seconds of each export.

    Raises:
        AssertionError: An identity or the oracle does not hold.
    """
    exporter = ExporterForTests(pause=pause, keep=False)
    processor = BatchLogRecordProcessor(
        exporter, 20, BATCH_SIZE, None, QUEUE_SIZE, when_full=when_full, block_timeout=60.0, reserve_for_errors=0.1
    )
    callers = Callers(processor, threads, calls)
    began = time.monotonic()
    with switch_interval(QUICK_SWITCHES if quick_switches else None):
        callers.start()
        try:
            taken, last = watch_books(processor, exporter, callers, snapshots)
        finally:
            callers.enough.set()
            callers.join()
    assert processor.shutdown(60_000)
    stats = processor.stats()
    check_identity(stats)
    check_growth(last, stats)
    created = sum(callers.returned)
    assert stats.created == created >= threads * calls
    assert stats.exported == stats.accepted == exporter.count
    assert stats.queued == stats.in_flight == stats.waiting == 0
    assert stats.exported + sum(stats.refused.values()) == created
    if when_full == "block":
        assert stats.exported == created
    else:
        assert stats.refused["queue_full"] > 0, "the queue was never full"
    return Result(time.monotonic() - began, taken, stats)


def run_matrix(threads: int, calls: int, snapshots: int) -> Iterator[str]:
    """Run every policy with and without quick switches; yields a row of the table for each that has passed."""
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    facts = machine_facts()
    for when_full in ("drop_newest", "drop_oldest", "block"):
        for quick in (False, True):
            result = run_load(when_full, quick_switches=quick, threads=threads, calls=calls, snapshots=snapshots)
            stats = result.stats
            refused = sum(stats.refused.values())
            yield (
                f"| {date} | {facts['system']}, {facts['cores']} cores | {facts['python']} | {when_full} "
                f"| {'10 µs' if quick else '5 ms'} | {stats.created:,} | {stats.exported:,} | {refused:,} "
                f"| {result.snapshots:,} | {result.seconds:.0f} |"
            )


def main() -> None:
    """Run the matrix; an AssertionError ends it at the combination that does not hold."""
    parser = argparse.ArgumentParser(description="Hold the ledger against an oracle under load.")
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--calls", type=int, default=100_000, help="calls of each thread")
    parser.add_argument("--snapshots", type=int, default=1_000, help="snapshots while they run, at least")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FILE", help="the table to append to")
    options = parser.parse_args()
    if not options.output.exists():
        options.output.write_text(_HEAD, encoding="utf-8")
    for row in run_matrix(options.threads, options.calls, options.snapshots):
        print(row, flush=True)
        with options.output.open("a", encoding="utf-8") as table:
            table.write(f"{row}\n")


if __name__ == "__main__":
    main()
