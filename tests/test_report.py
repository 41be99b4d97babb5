"""The ledger on standard error: the warning of a loss, and the receipt at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from otelog._ledger.counters import Ledger
from otelog._ledger.report import describe_losses, list_losses
from otelog.testing import OTLPServer, Reply

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 60.0


def run(code: str, endpoint: str = "http://127.0.0.1:9") -> tuple[str, list[str]]:
    """Run a program with a configured pipeline; returns what it printed, and the lines of its standard error."""
    prelude = """
        import os, sys, time
        import otelog
        from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult

        class Refuser(LogRecordExporter):
            def export(self, batch):
                return LogRecordExportResult.FAILURE
            def shutdown(self):
                pass
            def force_flush(self, timeout_millis=0):
                return True

        log = otelog.get_logger("x")
        def lose(count):
            for _ in range(count):
                log.info("y")
            otelog.flush()
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(prelude) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr.splitlines()


def split(lines: list[str]) -> tuple[list[str], list[dict[str, object]]]:
    """Warnings of lost log records, and receipts."""
    warnings = [line for line in lines if line.startswith("otelog: ") and "log records lost" in line]
    receipts = [json.loads(line) for line in lines if line.startswith("{")]
    assert len(warnings) + len(receipts) == len(lines), lines
    return warnings, receipts


def test_the_first_loss_is_told_at_once_and_further_ones_later() -> None:
    _, lines = run("""
        otelog.configure(exporter=Refuser(), handle_exit=False)
        lose(3)
        for _ in range(5):
            lose(2)
        os._exit(0)
    """)
    warnings, receipts = split(lines)
    assert receipts == []
    (warning,) = warnings
    assert warning.startswith("otelog: 3 log records lost, 3 in all (export_failed 3); queue 0 of 10000")


def test_what_was_kept_back_is_in_the_next_warning() -> None:
    _, lines = run("""
        import otelog._ledger.report as report
        report.INTERVAL = 0.0
        otelog.configure(exporter=Refuser(), handle_exit=False)
        lose(3)
        lose(2)
        lose(0)
        os._exit(0)
    """)
    warnings, _ = split(lines)
    assert [warning.partition(" (")[0] for warning in warnings] == [
        "otelog: 3 log records lost, 3 in all",
        "otelog: 2 log records lost, 5 in all",
    ]


def test_a_loss_leaves_a_receipt() -> None:
    printed, lines = run("""
        otelog.configure(exporter=Refuser())
        print(os.getpid())
        lose(3)
        lose(1)
    """)
    _, (receipt,) = split(lines)
    assert receipt["otelog"] == "receipt"
    assert receipt["pid"] == int(printed)
    assert (receipt["created"], receipt["exported"], receipt["lost"]) == (4, 0, 4)
    assert receipt["reasons"] == {"export_failed": 4}
    assert receipt["queued"] == receipt["in_flight"] == 0


def test_nothing_lost_nothing_said() -> None:
    with OTLPServer() as server:
        _, lines = run("otelog.configure()\nlog.info('y')", server.endpoint)
        assert len(server.records) == 1
    assert lines == []


def test_records_that_were_delivered_at_a_second_attempt_are_no_loss() -> None:
    with OTLPServer([Reply(status=503, headers={"Retry-After": "0"})]) as server:
        _, lines = run("otelog.configure()\nlog.info('y')\nassert otelog.flush()", server.endpoint)
        assert server.fired["503"] == 1
    assert lines == []


def test_the_receipt_comes_once_at_the_end_of_the_last_pipeline() -> None:
    _, lines = run("""
        otelog.configure(exporter=Refuser())
        lose(3)
        otelog.configure(exporter=Refuser(), max_queue_size=500)
        lose(1)
        otelog.shutdown()
        otelog.shutdown()
    """)
    warnings, (receipt,) = split(lines)
    assert len(warnings) == 1
    assert receipt["lost"] == 4


def test_a_pipeline_that_is_opened_again_leaves_another_receipt() -> None:
    _, lines = run("""
        otelog.configure(exporter=Refuser())
        lose(3)
        otelog.shutdown()
        otelog.configure(exporter=Refuser())
        lose(1)
    """)
    _, receipts = split(lines)
    assert [receipt["lost"] for receipt in receipts] == [3, 4]


def test_a_forked_child_tells_its_own_losses() -> None:
    printed, lines = run("""
        otelog.configure(exporter=Refuser())
        lose(2)
        pid = os.fork()
        if not pid:
            lose(5)
            otelog.shutdown()
            os._exit(0)
        os.waitpid(pid, 0)
        print(pid)
    """)
    warnings, receipts = split(lines)
    assert [warning.partition(",")[0] for warning in warnings] == [
        "otelog: 2 log records lost",
        "otelog: 5 log records lost",
    ]
    child, parent = receipts
    assert (child["pid"], child["created"], child["lost"]) == (int(printed), 5, 5)
    assert (parent["created"], parent["lost"]) == (2, 2)


def test_refusals_are_told_with_what_to_do() -> None:
    _, lines = run("""
        import threading
        going = threading.Event()
        class Slow(Refuser):
            def export(self, batch):
                going.wait(30)
                return LogRecordExportResult.SUCCESS
        otelog.configure(exporter=Slow(), max_queue_size=2, max_export_batch_size=1)
        for _ in range(10):
            log.info("y")
        going.set()
        otelog.shutdown()
    """)
    warnings, (receipt,) = split(lines)
    assert all("raise max_queue_size" in warning for warning in warnings)
    assert list(receipt["reasons"]) == ["queue_full"]  # type: ignore[call-overload]
    assert receipt["created"] == 10 == int(str(receipt["exported"])) + int(str(receipt["lost"]))


def test_what_is_too_large_for_the_queue_is_told_apart_from_what_is_for_a_request() -> None:
    _, lines = run("""
        otelog.configure(max_queue_size=10, max_queue_bytes=20_000, endpoint="http://127.0.0.1:9", timeout=0.1)
        log.info("x" * 100_000)
        log.info("x" * 100_000)
        otelog.shutdown(timeout=0.1)
        stats = otelog.stats()
        assert (stats.created, stats.refused["too_large"], stats.refused["queue_full"]) == (2, 2, 0), stats
    """)
    warnings, (receipt,) = split([line for line in lines if "answered" not in line])
    assert receipt["reasons"] == {"too_large": 2}
    assert receipt["truncated"] == 0
    assert all("max_queue_bytes" in line for line in warnings)


def test_a_reason_of_two_kinds_counts_both() -> None:
    ledger = Ledger()
    ledger.open_exporter("otlp")
    ledger.refuse("too_large", "info")
    ledger.begin_move()
    ledger.take(2, 2)
    ledger.accept(2)
    ledger.enter("otlp", 2)
    ledger.end_move()
    ledger.settle("otlp", 0, [("too_large", "info"), ("too_large", "info")])
    assert list_losses(ledger.read()) == {"too_large": 3}
    assert "max_request_bytes" in describe_losses(ledger.read(), 3)
    ledger.refuse("too_large", "info")
    ledger.refuse("too_large", "info")
    assert "max_queue_bytes" in describe_losses(ledger.read(), 2)
