"""There is no Collector when the application starts; it comes later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil

from tests.drills.drill import Figures, finish, sending, wait_for_traffic
from tests.stack.running import RunningStack
from tools.waiting import wait_until


@dataclass(frozen=True)
class Absent:
    """What was seen.

    Args:
        figures: Of all hops, at the end.
        books: The senders' own.
        errors: What each sender wrote to standard error.
        grown: By how many bytes the memory of the senders had grown at most when records were lost already.
    """

    figures: Figures
    books: list[dict[str, Any]]
    errors: list[str]
    grown: int


def run(stack: RunningStack, *, losses: int, rate: float = 40_000) -> Absent:
    """Wait until each sender has lost so many times its queue, then let the Collector come.

    Args:
        stack: The stack.
        losses: How often the senders' warning of a loss is waited for; it comes at most once in 30 s.
        rate: Records a second of all senders.
    """
    stack.up()
    stack.kill("collector")
    with sending(stack, rate, {"export_timeout_millis": 5_000}) as senders:
        before = [psutil.Process(sender.pid).memory_info().rss for sender in senders]
        wait_until(lambda: all(sender.said().count("lost") >= losses for sender in senders), 60 * losses, what="losses")
        after = [psutil.Process(sender.pid).memory_info().rss for sender in senders]
        stack.up()
        wait_for_traffic(stack, int(rate / 10))
        figures, books = finish(stack, senders)
    grown = max(now - then for now, then in zip(after, before, strict=True))
    return Absent(figures, books, [sender.errors for sender in senders], grown)
