"""Loki takes less than comes: it answers 429 to most of what it is asked."""

from __future__ import annotations

from tests.drills.drill import OWN, PATIENT, Figures, finish, sending, wait_for_traffic
from tests.stack.running import RunningStack
from tools.waiting import wait_until

LIMITS = {
    "OTELOG_LOKI_RATE_MB": "1",
    # More than one request can hold (4 MiB, and what Loki adds), or it would never be taken.
    "OTELOG_LOKI_BURST_MB": "8",
}
"""For the environment of the stack."""


def run(stack: RunningStack, *, records: int, rate: float = 8000) -> tuple[Figures, int]:
    """Returns the figures, and how many records Loki said 429 to."""
    stack.up()
    with sending(stack, rate, {**PATIENT, "max_queue_size": 200_000}) as senders:
        wait_for_traffic(stack, records)
        wait_until(lambda: _refused(stack) > 0, 60, what="a request that Loki refused for its rate")
        most = stack.sum(OWN, "otelcol_exporter_queue_size")
        for sender in senders:
            sender.stop()
        wait_until(lambda: stack.queued() == 0, 300, what="the Collector's queue to Loki")
        refused = _refused(stack)
        figures, _ = finish(stack, senders, most)
    return figures, refused


def _refused(stack: RunningStack) -> int:
    metric = "loki_discarded_samples_total"
    return stack.sum("loki", metric, reason="rate_limited") + stack.sum("loki", metric, reason="per_stream_rate_limit")
