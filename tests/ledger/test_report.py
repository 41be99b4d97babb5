"""The ledger on standard error: the warning of a loss, and the receipt at the end."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from otelog._ledger.counters import Ledger
from otelog._ledger.report import describe_losses, find_causes, list_losses
from otelog._ledger.tally import BatchTally
from otelog.testing import OTLPServer, Reply

ROOT = Path(__file__).resolve().parents[2]
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
    assert "max_request_bytes" in describe_losses(ledger, ledger.read(), 3)
    ledger.refuse("too_large", "info")
    ledger.refuse("too_large", "info")
    assert "max_queue_bytes" in describe_losses(ledger, ledger.read(), 2)


REFUSED = "http://127.0.0.1:9"


def find_words(lines: list[str]) -> str:
    """The warning of the loss; what is said before it is the exporter's own line."""
    (line,) = [line for line in lines if "log records lost, " in line]
    return line


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_the_end_of_a_short_script_with_nobody_listening_says_so(protocol: str) -> None:
    if protocol == "grpc":
        pytest.importorskip("grpc")
    _, lines = run(f"otelog.configure(protocol={protocol!r})\nlog.info('y')", REFUSED)
    said = find_words(lines)
    assert "Last error: http://127.0.0.1:9" in said
    assert "Connection refused" in said
    assert "is the Collector running there?" in said
    assert "raise shutdown_timeout" not in said
    receipt = json.loads(lines[-1])
    assert receipt["reasons"] == {"shutdown_timeout": 1}
    assert "Connection refused" in receipt["causes"]["shutdown_timeout"]
    assert len(lines) == 3


def test_the_end_with_a_server_that_answers_nothing_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        _, lines = run("otelog.configure(shutdown_timeout=4.0)\nlog.info('y')", endpoint)
    # On a busy machine the time may be over before there is a connection.
    assert re.search(f"Last error: {re.escape(endpoint)}/v1/logs: no [a-z ]+ in time", find_words(lines))


def test_the_end_with_a_server_that_is_not_ready_says_what_it_answers() -> None:
    with OTLPServer([Reply(status=503)] * 5) as server:
        _, lines = run("otelog.configure()\nlog.info('y')", server.endpoint)
    assert f"Last error: {server.endpoint}/v1/logs answered 503" in find_words(lines)


@pytest.mark.parametrize(("status", "advice"), [(401, "check the credentials"), (404, "check the endpoint's path")])
def test_a_refusal_is_told_with_what_was_answered(status: int, advice: str) -> None:
    with OTLPServer([Reply(status=status)]) as server:
        _, lines = run("otelog.configure()\nlog.info('y')", server.endpoint)
    said = find_words(lines)
    assert f"answered {status}" in said
    assert advice in said
    assert list(json.loads(lines[-1])["causes"]) == ["rejected"]


def test_a_server_without_tls_is_told_as_that() -> None:
    with OTLPServer() as server:
        _, lines = run("otelog.configure()\nlog.info('y')", server.endpoint.replace("http://", "https://"))
    assert "does not speak TLS here" in find_words(lines)


def test_files_that_cannot_be_written_are_no_endpoint_that_does_not_answer(tmp_path: Path) -> None:
    # A folder where the file should be: nobody may write that, not even root.
    (tmp_path / "app.log").mkdir()
    _, lines = run(f"otelog.configure(exporters=['file'], file_folder={str(tmp_path)!r})\nlog.info('y')")
    said = find_words(lines)
    assert "app.log cannot be written: Is a directory" in said
    assert "Collector" not in said


def test_an_exporter_of_several_is_named_with_its_error(tmp_path: Path) -> None:
    _, lines = run(
        f"otelog.configure(exporters=['otlp', 'file'], file_folder={str(tmp_path)!r})\nlog.info('y')", REFUSED
    )
    assert "Last error of otlp: http://127.0.0.1:9/v1/logs: [Errno 111] Connection refused" in find_words(lines)
    assert json.loads(lines[-1])["exporters"]["file"] == {"exported": 1, "lost": 0}


def test_an_exporter_that_raises_is_told_with_what_it_raised() -> None:
    _, lines = run("""
        class Raiser(Refuser):
            def export(self, batch):
                raise ValueError("the shelf is full")
        otelog.configure(exporter=Raiser())
        log.info("y")
    """)
    assert "Last error: Raiser.export failed: ValueError: the shelf is full" in find_words(lines)


def test_an_error_that_is_over_is_no_cause() -> None:
    ledger = make_ledger(3)
    tally = BatchTally(ledger, "otlp", 3, lambda start, stop: ["info"] * (stop - start))
    tally.explain("http://x: Connection refused")
    tally.settle(0, 1, None)
    tally.close("shutdown_timeout")
    said = describe_losses(ledger, ledger.read(), 2)
    assert "refused" not in said
    assert "raise shutdown_timeout" in said


def test_a_cause_of_one_reason_is_not_that_of_another() -> None:
    ledger = make_ledger(3)
    tally = BatchTally(ledger, "otlp", 3, lambda start, stop: ["info"] * (stop - start))
    tally.explain("a record alone is over max_request_bytes (5)", "too_large")
    tally.settle(0, 1, "too_large")
    tally.explain("http://x: [Errno -2] Name or service not known")
    tally.close("shutdown_timeout")
    assert find_causes(ledger) == {
        "shutdown_timeout": "http://x: [Errno -2] Name or service not known",
        "too_large": "a record alone is over max_request_bytes (5)",
    }
    said = describe_losses(ledger, ledger.read(), 3)
    assert "Last error: http://x: [Errno -2] Name or service not known" in said
    assert "correct the host's name in endpoint" in said


def make_ledger(in_flight: int) -> Ledger:
    """One whose only exporter has so many records in flight."""
    ledger = Ledger()
    ledger.open_exporter("otlp")
    ledger.begin_move()
    ledger.take(in_flight, in_flight)
    ledger.accept(in_flight)
    ledger.enter("otlp", in_flight)
    ledger.end_move()
    return ledger
