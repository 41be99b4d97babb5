"""The fourth outlet of the ledger: standard error, which works when every pipe is broken."""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from collections import Counter

from otelog._ledger.counters import BESIDE_COUNTS, REMOVED_LOSSES, Ledger, Stats
from otelog._runtime.diagnostics import INTERVAL, warn, write_line
from otelog._runtime.shown_text import hide_secrets


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
        key = f"loss:{pid}:{self._number}"
        if last:
            if lost and not self._receipt_given:
                self._receipt_given = True
                if not self._told and warn(key, describe_losses(ledger, stats, lost)):
                    # In words at least once.
                    self._told = lost
                write_line(json.dumps(make_receipt(stats, find_causes(ledger))))
            return
        self._receipt_given = False
        if lost > self._told and warn(key, describe_losses(ledger, stats, lost - self._told), interval=INTERVAL):
            self._told = lost


_numbers = itertools.count()


def list_losses(stats: Stats) -> dict[str, int]:
    """Returns the reasons for which records were lost, with their counts, the largest first."""
    # A reason may be in two of them.
    reasons = Counter(stats.refused)
    reasons.update({reason: stats.removed[reason] for reason in REMOVED_LOSSES})
    reasons.update(stats.dropped)
    return dict((+reasons).most_common())


def find_causes(ledger: Ledger) -> dict[str, str]:
    """Returns why records were lost, in words, by the reason; where an exporter has said so. Of several the last."""
    causes = {}
    for name, counts in ledger.exporters.items():
        of = f"{name}: " if len(ledger.exporters) > 1 else ""
        for reason, count in counts.dropped.items():
            cause = counts.causes.get(reason) or (counts.failure if reason in _WAITED else "")
            if count and cause:
                causes[reason] = f"{of}{cause}"
    return causes


def describe_losses(ledger: Ledger, stats: Stats, new: int) -> str:
    """Returns the warning's line: how many, why, and what to do about the commonest reason."""
    losses = list_losses(stats)
    reasons = ", ".join(f"{reason} {count}" for reason, count in losses.items())
    line = f"{new} log records lost, {stats.lost} in all ({reasons}); queue {stats.queued} of {stats.queue_capacity}"
    commonest = next(iter(losses), "")
    if cause := _find_cause(ledger, commonest):
        return f"{line}. Last error{cause}{_advise(cause)}"
    hint = _HINTS.get(commonest)
    if commonest == "too_large" and stats.refused[commonest] > stats.dropped[commonest]:
        hint = _TOO_LARGE_FOR_QUEUE
    return f"{line}. {hint}" if hint else line


def _find_cause(ledger: Ledger, reason: str) -> str:
    """Returns what an exporter has failed with that has lost records for this reason, or that has filled the queue."""
    for name, counts in ledger.exporters.items():
        cause = counts.causes.get(reason, "")
        if not cause and (reason == "queue_full" or (reason in _WAITED and counts.dropped[reason])):
            cause = counts.failure
        if cause:
            return f" of {name}: {cause}" if len(ledger.exporters) > 1 else f": {cause}"
    return ""


def _advise(cause: str) -> str:
    return next((f"; {advice}" for pattern, advice in _ADVICE if re.search(pattern, cause)), "")


_WAITED = frozenset({"retry_exhausted", "shutdown_timeout", "handoff_full"})
"""Reasons for which records are lost because they had to wait: what the last attempt has failed with is the cause."""

# What the transports say that does not say itself what to do; by a proxy it is the proxy's.
_ADVICE = (
    (r"by the proxy ", "is the proxy there, and may it reach the endpoint?"),
    (r"Connection refused", "is the Collector running there?"),
    (
        r"name resolution|DNS resolution|not known|No address associated|getaddrinfo",
        "correct the host's name in endpoint",
    ),
    (r"in time\b|Deadline Exceeded", "is the server overloaded, or a firewall in between?"),
)

_HINTS = {
    "queue_full": "Records come faster than they are exported: is the Collector reachable? Else raise max_queue_size.",
    "already_shutdown": "They came after otelog.shutdown(): log before it, or call otelog.configure() again.",
    "reentrant": "Do not log from __str__ or __repr__ of what is logged.",
    "retry_exhausted": "The exporter did not deliver in time: raise export_timeout_millis if it is only slow.",
    "shutdown_timeout": "The process ended before everything was delivered: raise shutdown_timeout.",
    "too_large": "Single records are over max_request_bytes, even if cut, or over file_max_total_bytes or what an "
    "exporter of several may hold of max_queue_bytes: raise it.",
    "handoff_full": "One of several exporters is slower than records come; otelog.stats().exporters says which.",
    "rejected": "The endpoint refused them: see its answer above, or its own log.",
    "export_failed": "The exporter that was given to otelog said so: see its own log.",
}


_TOO_LARGE_FOR_QUEUE = "Single records are over max_queue_bytes: raise it, or log less in one record."


def make_receipt(stats: Stats, causes: dict[str, str]) -> dict[str, object]:
    """Returns the receipt: the final counters of a process that has lost records, as plain data.

    Args:
        stats: The counters.
        causes: Why, in words, by the reason.
    """
    receipt: dict[str, object] = {
        "otelog": "receipt",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "pid": os.getpid(),
        "created": stats.created,
        "exported": stats.exported,
        "lost": stats.lost,
        "reasons": list_losses(stats),
        "causes": {reason: hide_secrets(cause) for reason, cause in causes.items()},
        "queued": stats.queued,
        "in_flight": stats.in_flight,
        **{name: getattr(stats, name) for name in BESIDE_COUNTS},
    }
    if len(stats.exporters) > 1:
        receipt["exporters"] = {
            name: {"exported": one.exported, "lost": sum(one.dropped.values())} for name, one in stats.exporters.items()
        }
    return receipt
