"""Many records through the whole stack, a million in `make soak`: the same number at every hop, to the record."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sizes import sized
from tests.stack.load import expected, expected_in_files
from tests.stack.running import ROOT, RunningStack, Sender
from tools.waiting import wait_until

PROCESSES, COUNT = 4, sized(10_000, full=250_000)
NAMES = [f"service-{number}" for number in range(PROCESSES)]
PATIENT = {"when_full": "block", "block_timeout": 60.0, "export_timeout_millis": 60_000}
"""Options of a sender that is to be slowed down rather than to lose anything."""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[RunningStack]:
    one = RunningStack(tmp_path / "stack")
    one.up()
    yield one
    one.down("--volumes")


def test_an_event_keeps_its_name_in_loki(stack: RunningStack) -> None:
    code = "import otelog, sys; otelog.configure(service_name='shop', endpoint=sys.argv[1]); "
    code += "otelog.get_logger('shop').event('order.paid', order_id=7); sys.exit(not otelog.shutdown())"
    subprocess.run([sys.executable, "-c", code, stack.endpoint], cwd=ROOT, check=True)
    wait_until(lambda: stack.held() == {"shop": 1}, 30)
    assert stack.held(by="event_name") == {"order.paid": 1}


def test_the_records_of_four_processes_are_the_same_number_at_every_hop(stack: RunningStack) -> None:
    senders = [Sender(stack.endpoint, name, COUNT, PATIENT) for name in NAMES]
    books = {sender["name"]: sender for sender in [sender.finish() for sender in senders]}
    everybody = dict.fromkeys(NAMES, COUNT)
    in_files = {stream: dict.fromkeys(NAMES, count) for stream, count in expected_in_files(COUNT).items()}
    severities = dict.fromkeys(NAMES, expected(COUNT))

    # The applications' ledgers, by themselves and as they sent them as metrics.
    assert {name: book["created"] for name, book in books.items()} == everybody
    assert {name: book["exported"] for name, book in books.items()} == everybody
    assert {name: book["resent"] for name, book in books.items()} == dict.fromkeys(NAMES, 0)
    for metric in ("otel_sdk_log_created_total", "otel_sdk_exporter_log_exported_total"):
        assert {name: stack.sum("applications", metric, job=name) for name in NAMES} == everybody

    # The Collector.
    wait_until(lambda: stack.queued() == 0, 120, what="the Collector's queue to Loki")
    total = PROCESSES * COUNT
    own = "collector-metrics"
    assert stack.sum(own, "otelcol_receiver_accepted_log_records_total") == total
    assert stack.sum(own, "otelcol_exporter_sent_log_records_total", exporter="otlp_http/loki") == total
    assert stack.sum(own, "otelcol_exporter_send_failed_log_records_total") == 0
    assert stack.counted() == severities

    # Loki.
    held = stack.held()
    if held != everybody and "Will retry" in stack.run("logs", "--lines", "100000", "collector").stdout:
        # A request that the Collector had to send again stands in Loki twice, where it had begun another block.
        held = stack.different()
    assert held == everybody
    assert stack.sum("loki", "loki_discarded_samples_total") == 0

    # Prometheus has scraped the counts, by service and severity.
    def scraped() -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for sample in stack.query("otelog_collector_log_records_total"):
            labels = sample["metric"]
            found.setdefault(labels["job"], {})[labels["severity"]] = int(float(sample["value"][1]))
        return found

    wait_until(lambda: scraped() == severities, 30, what="Prometheus' scrape of the counts")

    # The files, when all is written.
    wait_until(lambda: sum(stack.written()["app"].values()) == total, 30, what="the files' batches")
    assert {stream: dict(counts) for stream, counts in stack.written().items()} == in_files
    errors = stack.folder / "collector" / "data" / "logs" / "errors.jsonl"
    numbers = [
        record["severityNumber"]
        for resource in json.loads(errors.read_text().splitlines()[0])["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]
    assert min(numbers) >= 17
