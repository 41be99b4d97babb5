"""Which limits a running pipeline has hit, by its ledger."""

from __future__ import annotations

from collections.abc import Iterator

from otelog._ledger.counters import Stats
from otelog.doctor._findings import Area, Finding, make_area

NEARLY_FULL = 0.8
"""From this part of the queue on it is said that it was nearly full."""

_ADVICE = {
    "queue_full": "see the last error on standard error; if the exporter is only slow, raise max_queue_size, or let "
    "callers wait: when_full=block",
    "already_shutdown": "log before otelog.shutdown(), or call otelog.configure() again after it",
    "reentrant": "do not log from __str__ or __repr__ of what is logged",
    "invalid": "see standard error for what the callback raised",
    "too_large, refused": "raise max_queue_bytes, or log less in one record: this one alone is over it",
    "encode_error": "see standard error for the values that could not be encoded",
    "too_large": "raise max_request_bytes and the server's own limit (max_queue_bytes where there are several "
    "exporters), or log fewer fields in one record",
    "rejected": "see the endpoint's answer on standard error, or its own log",
    "retry_exhausted": "see the last error on standard error; if the exporter is only slow, raise "
    "export_timeout_millis",
    "export_failed": "the exporter that was given to otelog said so: see its own log",
    "handoff_full": "this exporter is slower than records come; raise its max_queue_size or its level",
    "shutdown_timeout": "see the last error on standard error; if there is none, raise shutdown_timeout, and the time "
    "that the server gives its workers to end",
    "worker_crash": "this is a fault of otelog's or of a foreign exporter: see standard error",
}


def check_limits(stats: Stats) -> Area:
    """Judge the counters of a running pipeline.

    Args:
        stats: `otelog.stats()`.
    """
    facts = [f"{stats.created} records made, {stats.exported} exported, {stats.lost} lost"]
    if stats.queue_capacity:
        facts.append(f"at most {stats.max_queued} of {stats.queue_capacity} places of the queue were taken")
    return make_area("limits", facts, [*_find_losses(stats), *_find_close_calls(stats)])


def _find_losses(stats: Stats) -> Iterator[Finding]:
    for reason, count in stats.refused.items():
        if count:
            advice = _ADVICE.get(f"{reason}, refused")
            yield _lost(reason, "queue", f"{count} records were refused", advice)
    if count := stats.removed["invalid"]:
        yield _lost("invalid", "queue", f"{count} records were removed")
    for name, exporter in stats.exporters.items():
        for reason, count in exporter.dropped.items():
            if count:
                yield _lost(reason, name, f"{count} records were dropped")


def _lost(reason: str, subject: str, what: str, advice: str | None = None) -> Finding:
    return Finding("error", f"limits.{reason}", subject, f"{what} ({reason})", advice or _ADVICE[reason])


def _find_close_calls(stats: Stats) -> Iterator[Finding]:
    full = stats.queue_capacity and stats.max_queued >= NEARLY_FULL * stats.queue_capacity
    if full and not stats.refused["queue_full"]:
        yield Finding(
            "warning",
            "limits.queue_nearly_full",
            "queue",
            f"up to {stats.max_queued} of {stats.queue_capacity} places were taken",
            "raise max_queue_size before records are lost",
        )
    for name in stats.missing_threads:
        yield Finding(
            "error",
            "limits.thread_missing",
            name,
            "the thread cannot be started: what it delivers waits for otelog.flush()",
            "raise the limit of processes and threads (ulimit -u, pids.max), or start fewer; it is tried again",
        )
    if stats.worker_restarts:
        yield Finding(
            "warning",
            "limits.worker_restarted",
            "worker",
            f"the worker's thread was started again {stats.worker_restarts} times",
            "see standard error for what ended it",
        )
    for name, exporter in stats.exporters.items():
        if exporter.truncated:
            yield Finding(
                "note",
                "limits.truncated",
                name,
                f"{exporter.truncated} records were cut to fit into a request; otelog.truncated in them says what",
                "raise max_request_bytes (and the server's own limit), or log less in one record",
            )
        if exporter.outcome_unknown:
            yield Finding(
                "note",
                "limits.outcome_unknown",
                name,
                f"{exporter.outcome_unknown} records were sent without an answer: they may have arrived, even twice",
                "raise timeout, if the endpoint is only slow",
            )
