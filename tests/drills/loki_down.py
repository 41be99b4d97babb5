"""Loki is killed under load, is away for a while, and comes back."""

from __future__ import annotations

import time
from collections import Counter

from tests.drills.drill import OWN, Figures, finish, sending, wait_for_traffic
from tests.stack.running import RunningStack

QUEUE = "otelcol_exporter_queue_size"


def run(stack: RunningStack, *, seconds: float, rate: float = 1000) -> tuple[Figures, int, dict[str, Counter[str]]]:
    """Returns the figures, the longest queue that Prometheus has seen, and what was in the files without Loki."""
    stack.up()
    with sending(stack, rate) as senders:
        wait_for_traffic(stack, int(2 * rate))
        stack.kill("loki")
        most = 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            wait_for_traffic(stack, int(rate / 4))
            most = max(most, stack.sum(OWN, QUEUE))
        meanwhile = stack.written()
        stack.up()
        wait_for_traffic(stack, int(2 * rate))
        (sample,) = stack.query(f"max_over_time({QUEUE}[1h])")
        figures, _ = finish(stack, senders, most)
    return figures, int(float(sample["value"][1])), meanwhile
