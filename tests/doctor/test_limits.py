"""Limits that a pipeline has hit are told by the reasons of its ledger."""

from __future__ import annotations

import pytest

from otelog._ledger.counters import DROPPED_REASONS, REFUSED_REASONS, Ledger, Stats
from otelog.doctor._limits import check_limits


def codes(stats: Stats) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.code, finding.subject) for finding in check_limits(stats).findings]


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    ledger.open_exporter("otlp")
    ledger.open_queue(lambda: (0, 0), 100)
    return ledger


def deliver(ledger: Ledger, count: int, *, queued: int, dropped: tuple[str, ...] = ()) -> None:
    ledger.begin_move()
    ledger.take(count, queued)
    ledger.accept(count)
    ledger.enter("otlp", count)
    ledger.end_move()
    ledger.settle("otlp", count - len(dropped), [(reason, "info") for reason in dropped])


def test_a_pipeline_with_room_is_well(ledger: Ledger) -> None:
    deliver(ledger, 70, queued=70)
    assert codes(ledger.read()) == []
    assert check_limits(ledger.read()).facts == (
        "70 records made, 70 exported, 0 lost",
        "at most 70 of 100 places of the queue were taken",
    )


@pytest.mark.parametrize("reason", REFUSED_REASONS)
def test_a_refused_record_is_an_error(ledger: Ledger, reason: str) -> None:
    ledger.refuse(reason, "info")
    assert codes(ledger.read()) == [("error", f"limits.{reason}", "queue")]


@pytest.mark.parametrize("reason", DROPPED_REASONS)
def test_a_dropped_record_is_an_error_of_its_exporter(ledger: Ledger, reason: str) -> None:
    deliver(ledger, 2, queued=2, dropped=(reason,))
    assert codes(ledger.read()) == [("error", f"limits.{reason}", "otlp")]


def test_a_record_that_a_callback_spoiled_is_an_error(ledger: Ledger) -> None:
    ledger.begin_move()
    ledger.take(1, 1)
    ledger.remove("invalid", 1)
    ledger.end_move()
    assert codes(ledger.read()) == [("error", "limits.invalid", "queue")]


def test_a_queue_that_was_nearly_full_is_a_warning(ledger: Ledger) -> None:
    deliver(ledger, 80, queued=80)
    assert codes(ledger.read()) == [("warning", "limits.queue_nearly_full", "queue")]


def test_a_queue_that_was_full_is_told_once(ledger: Ledger) -> None:
    deliver(ledger, 100, queued=100)
    ledger.refuse("queue_full", "info")
    assert codes(ledger.read()) == [("error", "limits.queue_full", "queue")]


def test_a_worker_that_was_started_again_is_a_warning(ledger: Ledger) -> None:
    ledger.worker_restarts = 1
    assert codes(ledger.read()) == [("warning", "limits.worker_restarted", "worker")]


def test_what_is_too_large_for_the_queue_and_for_a_request_have_advice_of_their_own(ledger: Ledger) -> None:
    ledger.refuse("too_large", "info")
    deliver(ledger, 1, queued=1, dropped=("too_large",))
    queue, exporter = check_limits(ledger.read()).findings
    assert (queue.subject, exporter.subject) == ("queue", "otlp")
    assert "max_queue_bytes" in (queue.advice or "") and "max_request_bytes" in (exporter.advice or "")


def test_a_record_that_was_cut_is_a_note(ledger: Ledger) -> None:
    ledger.exporters["otlp"].truncated = 3
    assert codes(ledger.read()) == [("note", "limits.truncated", "otlp")]


def test_an_unknown_outcome_is_a_note(ledger: Ledger) -> None:
    ledger.exporters["otlp"].outcome_unknown = 3
    assert codes(ledger.read()) == [("note", "limits.outcome_unknown", "otlp")]
