"""The fourth outlet of the ledger: standard error, which works when every pipe is broken."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections import Counter

from otelog._ledger.counters import BESIDE_COUNTS, REMOVED_LOSSES, Ledger, Stats
from otelog._runtime.diagnostics import INTERVAL, warn, write_line


class LossReport:
    """Warns when records are lost, and leaves a receipt at the end if any were.

    The warning comes at the first loss, then at most every `INTERVAL` seconds; a forked child's first loss is another
    first one. Called by one thread at a time.
    """

    def __init__(self) -> None:
        self._number = next(_numbers)
        self._pid = os.getpid()
        self._told = 0
        self._receipt_given = False

    def __call__(self, ledger: Ledger, last: bool) -> None:
        """Look at the counters, and say what there is to say."""
        pid = os.getpid()
        if pid != self._pid:
            self._pid, self._told, self._receipt_given = pid, 0, False
        stats = ledger.read()
        lost = stats.lost
        if lost < self._told:
            # Another ledger.
            self._told = 0
        if last:
            if lost and not self._receipt_given:
                self._receipt_given = True
                write_line(json.dumps(make_receipt(stats)))
            return
        self._receipt_given = False
        key = f"loss:{pid}:{self._number}"
        if lost > self._told and warn(key, describe_losses(stats, lost - self._told), interval=INTERVAL):
            self._told = lost


_numbers = itertools.count()


def list_losses(stats: Stats) -> dict[str, int]:
    """Returns the reasons for which records were lost, with their counts, the largest first."""
    # A reason may be in two of them.
    reasons = Counter(stats.refused)
    reasons.update({reason: stats.removed[reason] for reason in REMOVED_LOSSES})
    reasons.update(stats.dropped)
    return dict((+reasons).most_common())


def describe_losses(stats: Stats, new: int) -> str:
    """Returns the warning's line: how many, why, and what to do about the commonest reason."""
    losses = list_losses(stats)
    reasons = ", ".join(f"{reason} {count}" for reason, count in losses.items())
    line = f"{new} log records lost, {stats.lost} in all ({reasons}); queue {stats.queued} of {stats.queue_capacity}"
    commonest = next(iter(losses), "")
    hint = _HINTS.get(commonest)
    if commonest == "too_large" and stats.refused[commonest] > stats.dropped[commonest]:
        hint = _TOO_LARGE_FOR_QUEUE
    return f"{line}. {hint}" if hint else line


_HINTS = {
    "queue_full": "Records come faster than they are exported: is the Collector reachable? Else raise max_queue_size.",
    "retry_exhausted": "The endpoint did not answer in time: is the Collector running there?",
    "shutdown_timeout": "The process ended before everything was delivered: raise shutdown_timeout.",
    "too_large": "Single records are over max_request_bytes, even if cut, or over file_max_total_bytes or what an "
    "exporter of several may hold of max_queue_bytes: raise it.",
    "handoff_full": "One of several exporters is slower than records come; otelog.stats().exporters says which.",
    "rejected": "The endpoint refused them: see its answer above, or its own log.",
}


_TOO_LARGE_FOR_QUEUE = "Single records are over max_queue_bytes: raise it, or log less in one record."


def make_receipt(stats: Stats) -> dict[str, object]:
    """Returns the receipt: the final counters of a process that has lost records, as plain data."""
    receipt: dict[str, object] = {
        "otelog": "receipt",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "pid": os.getpid(),
        "created": stats.created,
        "exported": stats.exported,
        "lost": stats.lost,
        "reasons": list_losses(stats),
        "queued": stats.queued,
        "in_flight": stats.in_flight,
        **{name: getattr(stats, name) for name in BESIDE_COUNTS},
    }
    if len(stats.exporters) > 1:
        receipt["exporters"] = {
            name: {"exported": one.exported, "lost": sum(one.dropped.values())} for name, one in stats.exporters.items()
        }
    return receipt
