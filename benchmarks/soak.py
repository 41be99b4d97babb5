"""A million records into a dead endpoint: memory may grow by the queue, no more; ``python -m benchmarks.soak``.

One dated row is appended to ``benchmarks/results/soak.md``.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.machine import machine_facts
from benchmarks.trial import peak_rss_bytes, reset_peak_rss, rss_bytes

RESULTS = Path(__file__).resolve().parent / "results" / "soak.md"
QUEUE_RECORDS = 10_000
# A full queue's own bound, and the batch that the exporter holds while it tries again.
QUEUE_MB = 20.0
WAIT_SECONDS = 30.0

_HEAD = """# A million records into a dead endpoint

Written by `make soak`. Resident memory in MB: before the first measured record, when the queue was first full, at its
peak, and after the shutdown. The endpoint refuses connections, so nothing is delivered and every record has to be
counted: created = refused + queued + removed + accepted, and accepted = exported + dropped + waiting + in flight.

| date | system | Python | records | before | full | peak | after | growth | bound | refused | dropped | ledger | |
|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|---|
"""


@dataclass(frozen=True)
class Soak:
    """What one soak saw: memory in bytes, records by outcome, and whether every record was accounted for."""

    records: int
    before_bytes: int
    full_bytes: int
    peak_bytes: int
    after_bytes: int
    refused: int
    dropped: int
    exact: bool

    @property
    def growth_mb(self) -> float:
        """The peak above what was there before, in MB."""
        return (self.peak_bytes - self.before_bytes) / 1e6

    @property
    def passed(self) -> bool:
        """Whether memory kept to the queue's bound and the ledger to every record."""
        return self.exact and self.growth_mb <= QUEUE_MB

    def row(self) -> str:
        """Format the dated row of the table. Returns: one line with its line feed."""
        facts = machine_facts()
        memory = (self.before_bytes, self.full_bytes, self.peak_bytes, self.after_bytes)
        cells = [
            datetime.now(timezone.utc).strftime("%Y-%m-%d"),
            f"{facts['system']}, {facts['cores']} cores",
            facts["python"],
            f"{self.records:,}",
            *(f"{size / 1e6:.1f}" for size in memory),
            f"{self.growth_mb:.1f}",
            f"{QUEUE_MB:g}",
            f"{self.refused:,}",
            f"{self.dropped:,}",
            "exact" if self.exact else "wrong",
            "passed" if self.passed else "**failed**",
        ]
        return "| " + " | ".join(cells) + " |\n"


def soak(records: int) -> Soak:
    """Log records as fast as one thread can while nothing is delivered.

    Args: records: how many, more than the queue holds.
    Returns: what was seen, after the shutdown. Raises: TimeoutError if otelog never tries to send.
    """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    import otelog

    trace.set_tracer_provider(TracerProvider())
    with socket.socket() as unheard:
        # Bound and not listening: every connection is refused, and nobody else can take the port.
        unheard.bind(("127.0.0.1", 0))
        otelog.configure(
            service_name="soak",
            endpoint=f"http://127.0.0.1:{unheard.getsockname()[1]}",
            max_queue_size=QUEUE_RECORDS,
            install_handler=False,
        )
        log = otelog.get_logger("soak")
        tracer = trace.get_tracer("soak")

        def record(i: int) -> None:
            with tracer.start_as_current_span("order"):
                log.info("order %s paid by %s", i, "alice", amount=12.5, currency="EUR")

        # The first attempt imports the transport, which is no part of the queue.
        record(0)
        _wait_for(lambda: otelog.stats().resent + sum(otelog.stats().dropped.values()) > 0)
        before = rss_bytes()
        reset_peak_rss()
        full = 0
        for i in range(1, records):
            record(i)
            if not full and i >= 2 * QUEUE_RECORDS:
                full = rss_bytes()
        peak = peak_rss_bytes()
        otelog.shutdown(timeout=1.0)
        stats = otelog.stats()
    refused, dropped = sum(stats.refused.values()), sum(stats.dropped.values())
    removed = sum(stats.removed.values())
    exact = (
        stats.created == records
        and stats.created == refused + stats.queued + removed + stats.accepted
        and stats.accepted == stats.exported + dropped + stats.waiting + stats.in_flight
        and stats.exported == 0
    )
    return Soak(records, before, full or peak, peak, rss_bytes(), refused, dropped, exact)


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("otelog did not try to send")
        time.sleep(0.01)


def main(words: list[str] | None = None) -> int:
    """Run the soak and append its row.

    Returns: 0 if memory and ledger kept their bounds, 1 if not.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FILE", help="the table to append to")
    options = parser.parse_args(words)
    seen = soak(options.records)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    if not options.output.exists():
        options.output.write_text(_HEAD, encoding="utf-8")
    with options.output.open("a", encoding="utf-8") as table:
        table.write(seen.row())
    print(seen.row(), end="")
    return 0 if seen.passed else 1


if __name__ == "__main__":
    sys.exit(main())
