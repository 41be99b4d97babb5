"""What otelog says it delivered against what a real Collector took and wrote."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from otelog.cli.commands import otelog
from tests.sizes import sized
from tests.stack.conftest import Collector, attribute
from tools.waiting import wait_until

SENDER = Path(__file__).with_name("sender.py")
SENDER_SECONDS = 600


def start_sender(
    endpoint: str, name: str, count: int, records_per_span: int, *more: str, **environ: str
) -> subprocess.Popen[str]:
    """Start a process that sends numbered records."""
    return subprocess.Popen(
        [sys.executable, str(SENDER), endpoint, name, str(count), str(records_per_span), *more],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(sender: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for the sender and return its books."""
    output, errors = sender.communicate(timeout=SENDER_SECONDS)
    assert sender.returncode == 0, errors
    assert errors == ""
    books: dict[str, Any] = json.loads(output)
    return books


def test_two_processes_agree_with_the_collector_to_the_record(collector: Collector) -> None:
    processes, count, records_per_span = 2, sized(10_000, full=50_000), 100
    names = [f"sender-{number}" for number in range(processes)]
    senders = [start_sender(collector.endpoint, name, count, records_per_span) for name in names]
    books = dict(zip(names, [finish(sender) for sender in senders], strict=True))
    accepted = collector.accepted()
    # A file's batch waits for 200 ms.
    wait_until(lambda: collector.metric("otelcol_exporter_sent_log_records_total", exporter="file/app") == accepted, 30)
    collector.stop()

    seen = {name: bytearray(count) for name in names}
    wrong_ids = 0
    for resource, record in collector.records():
        name = attribute(resource["attributes"], "service.name")
        number = int(attribute(record["attributes"], "number"))
        seen[name][number] += 1
        wrong_ids += [record["traceId"], record["spanId"]] != books[name]["spans"][number // records_per_span]

    assert [books[name]["resent"] for name in names] == [0] * processes, "a resent request may stand in the file twice"
    assert all(books[name]["delivered"] for name in names)
    assert sum(books[name]["exported"] for name in names) == accepted == processes * count
    assert {name: Counter(numbers) for name, numbers in seen.items()} == {name: Counter({1: count}) for name in names}
    assert wrong_ids == 0
    assert all(len({span_id for _, span_id in books[name]["spans"]}) == count // records_per_span for name in names)


def assert_ten_records_are_whole(collector: Collector, books: dict[str, Any]) -> None:
    """What `sender.py` sent in spans of five is in the Collector's file, each record once and complete."""
    assert (books["created"], books["exported"], collector.accepted()) == (10, 10, 10)
    collector.stop()
    records = list(collector.records())
    assert [record["body"]["stringValue"] for _, record in records] == [f"record {n} of shop" for n in range(10)]
    assert [[record["traceId"], record["spanId"]] for _, record in records] == [
        books["spans"][n // 5] for n in range(10)
    ]
    for resource, record in records:
        assert attribute(resource["attributes"], "service.name") == "shop"
        assert attribute(record["attributes"], "code.file.path") == str(SENDER)
        assert (record["severityText"], record["severityNumber"]) == ("INFO", 9)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_records_arrive_whatever_the_compression(collector: Collector, compression: str) -> None:
    sender = start_sender(collector.endpoint, "shop", 10, 5, OTEL_EXPORTER_OTLP_COMPRESSION=compression)
    assert_ten_records_are_whole(collector, finish(sender))


@pytest.mark.parametrize("exporter", ["official-grpc", "official-http"])
def test_records_arrive_through_the_official_exporters(collector: Collector, exporter: str) -> None:
    endpoint = collector.grpc_endpoint if exporter == "official-grpc" else collector.endpoint
    assert_ten_records_are_whole(collector, finish(start_sender(endpoint, "shop", 10, 5, exporter)))


def test_otelog_query_reads_what_a_collector_has_written(collector: Collector) -> None:
    books = finish(start_sender(collector.endpoint, "shop", 50, 5))
    collector.stop()
    found = CliRunner().invoke(otelog, ["query", str(collector.file), "--service", "shop", "--since", "10m", "--json"])
    assert found.exit_code == 0, found.output
    records = [json.loads(line) for line in found.stdout.splitlines()]
    assert [record["message"] for record in records] == [f"record {n} of shop" for n in range(50)]
    assert [[record["trace_id"], record["span_id"]] for record in records] == [
        books["spans"][n // 5] for n in range(50)
    ]
    assert {(record["level"], record["service.name"]) for record in records} == {("INFO", "shop")}
    assert records[7]["number"] == 7


def post_records(collector: Collector, instance: str, requests: int, **attributes: str) -> None:
    """Send one record a request, one request after another."""
    document = {
        "resourceLogs": [
            {
                "resource": {"attributes": as_attributes({"service.name": "shop", "service.instance.id": instance})},
                "scopeLogs": [{"logRecords": [{"severityNumber": 9, "attributes": as_attributes(attributes)}]}],
            }
        ]
    }
    connection = http.client.HTTPConnection(urlsplit(collector.endpoint).netloc, timeout=60)
    for _ in range(requests):
        connection.request("POST", "/v1/logs", json.dumps(document), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
    connection.close()


def as_attributes(values: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in values.items()]


def test_records_that_come_at_once_are_all_counted(collector: Collector) -> None:
    """Of one service, and of one instance: their counts are made from requests that overtake each other."""
    senders, requests = 8, sized(250, full=1_000)
    with ThreadPoolExecutor(senders) as pool:
        for done in [pool.submit(post_records, collector, "one", requests) for _ in range(senders)]:
            done.result()
    assert collector.accepted() == senders * requests
    for name in ("otelog_collector_log_records_total", "otelog_collector_instance_records_total"):
        wait_until(lambda: collector.counted(name) >= senders * requests, 10, what=f"{name}: all")  # noqa: B023
        assert collector.counted(name) == senders * requests


def test_a_record_is_counted_for_the_instance_that_sent_it_whatever_its_own_attributes_say(
    collector: Collector,
) -> None:
    name = "otelog_collector_instance_records_total"
    post_records(collector, "one", 3, **{"service.instance.id": "another"})
    wait_until(lambda: collector.counted(name) == 3, 10, what="three records counted")
    assert collector.counted(name, service_instance_id="one") == 3
