"""The Collector is killed with SIGKILL under load, again and again, and started again."""

from __future__ import annotations

from tests.drills.drill import Figures, finish, sending, wait_for_traffic
from tests.stack.running import RunningStack


def run(stack: RunningStack, *, kills: int, rate: float = 6_000) -> Figures:
    """Returns the figures."""
    stack.up()
    with sending(stack, rate) as senders:
        for _ in range(kills):
            wait_for_traffic(stack, int(rate / 2))
            stack.kill("collector")
            stack.up()
        wait_for_traffic(stack, int(rate))
        figures, _ = finish(stack, senders)
    return figures
