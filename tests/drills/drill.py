"""What every drill does: senders at a rate, and the figures of all hops when it is over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.stack.running import RunningStack, Sender
from tools.waiting import wait_until

SENDERS = 2
DRAIN_SECONDS = 300
# Rather late than lost: what a sender cannot deliver it tries again for so long.
PATIENT = {"export_timeout_millis": 120_000, "max_queue_size": 100_000, "shutdown_timeout": 60.0}
OWN = "collector-metrics"

_NUMBER = re.compile(rb'"key":"number","value":\{"intValue":"(\d+)"\}')


@dataclass(frozen=True)
class Figures:
    """What the hops counted, over all senders.

    Args:
        created: By the applications.
        exported: Acknowledged by the Collector, by the applications' ledgers.
        lost: Counted as lost by the applications.
        resent: Records in requests that the applications sent again.
        outcome_unknown: Records in requests that were never answered.
        held: Different records in Loki.
        twice_held: Records that Loki counts once more: it drops an equal line of one nanosecond only while it fills the
            same block.
        in_file: Different records in app.jsonl.
        twice_in_file: Records that are there once more.
        most_queued: The most that waited in the Collector for Loki, as far as it was looked at.
    """

    created: int
    exported: int
    lost: int
    resent: int
    outcome_unknown: int
    held: int
    twice_held: int
    in_file: int
    twice_in_file: int
    most_queued: int


@contextmanager
def sending(stack: RunningStack, rate: float, options: dict[str, Any] | None = None) -> Iterator[list[Sender]]:
    """Several processes that log at `rate` records a second together, until they are finished."""
    senders = [
        Sender(stack.endpoint, f"drill-{number}", 0, PATIENT if options is None else options, rate / SENDERS)
        for number in range(SENDERS)
    ]
    try:
        yield senders
    finally:
        for sender in senders:
            sender.kill()


def accepted(stack: RunningStack) -> int:
    """What the running Collector has accepted."""
    return stack.sum(OWN, "otelcol_receiver_accepted_log_records_total")


def wait_for_traffic(stack: RunningStack, records: int) -> None:
    """Wait until the Collector has accepted so many more than now."""
    before = accepted(stack)
    wait_until(lambda: accepted(stack) >= before + records, 60, what=f"{records} more records")


def finish(stack: RunningStack, senders: list[Sender], most_queued: int = 0) -> tuple[Figures, list[dict[str, Any]]]:
    """End the senders, wait until all is where it belongs, and add up."""
    books = [sender.finish(stop=True) for sender in senders]
    wait_until(lambda: stack.queued() == 0, DRAIN_SECONDS, what="the Collector's queue to Loki")
    # What the Collector has in its batches for the files is written when it ends.
    held, counted = sum(stack.different().values()), sum(stack.held().values())
    stack.down()
    different, all_of_them = set[tuple[bytes, bytes]](), 0
    for path in (stack.folder / "collector" / "data" / "logs").glob("app*.jsonl"):
        for record in read_numbers(path):
            different.add(record)
            all_of_them += 1
    return (
        Figures(
            created=sum(book["created"] for book in books),
            exported=sum(book["exported"] for book in books),
            lost=sum(book["lost"] for book in books),
            resent=sum(book["resent"] for book in books),
            outcome_unknown=sum(book["outcome_unknown"] for book in books),
            held=held,
            twice_held=counted - held,
            in_file=len(different),
            twice_in_file=all_of_them - len(different),
            most_queued=most_queued,
        ),
        books,
    )


def read_numbers(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The service and the number of every record in a file of the Collector; a torn last line has none."""
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"}\n"):
                continue
            for part in line.split(b'{"resource":{')[1:]:
                found = re.search(rb'"service\.name","value":\{"stringValue":"([^"]*)"', part)
                assert found is not None
                for number in _NUMBER.findall(part):
                    yield found[1], number
