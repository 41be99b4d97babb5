"""The hostile corpus through a real stack: each record in Loki and in the files, or named, and no neighbour lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelog.loki import LokiClient
from tests.corpus import HOSTILE
from tests.stack.running import ROOT, RunningStack
from tests.stack.test_audit import audit, sentences_of
from tools.waiting import wait_until

SECOND = 1_000_000_000
LINE_BYTES = 262_144
"""What a line may have in collector/loki.yaml."""

UNREADABLE = "a log record could not be converted"
"""What stands for a record whose argument is so hostile that its fields are gone, too; its number among them."""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[RunningStack]:
    one = RunningStack(tmp_path / "stack")
    one.up()
    yield one
    one.down("--volumes")


def read_lines(stack: RunningStack) -> tuple[dict[int, int], int]:
    """The bytes of the line of each record in the files, by its number; and how many are unreadable."""
    found: Counter[int] = Counter()
    lines = {}
    unreadable = 0
    for path in (stack.folder / "collector" / "data" / "logs").glob("app*.jsonl"):
        with path.open(encoding="utf-8") as file:
            documents = [json.loads(line) for line in file]
        for record in [
            record
            for document in documents
            for resource in document["resourceLogs"]
            for scope in resource["scopeLogs"]
            for record in scope["logRecords"]
        ]:
            unreadable += record.get("body", {}).get("stringValue", "").startswith(UNREADABLE)
            for attribute in record.get("attributes", ()):
                if attribute["key"] == "number":
                    number = int(attribute["value"]["intValue"])
                    found[number] += 1
                    body = record.get("body", {})
                    lines[number] = len(body.get("stringValue", body.get("bytesValue", "")).encode())
    assert set(found.values()) == {1}
    return lines, unreadable


def test_every_hostile_record_arrives_or_is_named_and_no_neighbour_is_lost(stack: RunningStack) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.stack.odd_sender", stack.endpoint, "hostile", "hostile"],
        cwd=ROOT,
        # The tests' own environment turns the metrics off, and the audit reads them.
        env={name: value for name, value in os.environ.items() if name != "OTEL_METRICS_EXPORTER"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    books = json.loads(done.stdout)
    numbered = range(10 * len(HOSTILE) - 4)
    assert books["created"] >= len(numbered)
    assert (books["delivered"], books["exported"], books["lost"]) == (True, books["created"], 0), done.stderr

    def written() -> bool:
        return stack.written()["app"]["hostile"] == books["created"]

    wait_until(written, 60, what="all records in the files")
    lines, unreadable = read_lines(stack)
    assert len(lines) + unreadable == len(numbered)
    assert set(lines) >= {number for number in numbered if number % 2}
    assert unreadable == 0
    # A line that is too long is refused by Loki, and said to be.
    long = {number for number, size in lines.items() if size > LINE_BYTES}
    assert 0 < len(long) < 20
    assert {number % 2 for number in long} == {0}, "neighbours have short lines"

    def held() -> Counter[int]:
        now = time.time_ns()
        with LokiClient(f"http://127.0.0.1:{stack.ports['loki']}", timeout=60) as loki:
            entries = loki.query_range('{service_name="hostile"}', start=now - 3600 * SECOND, end=now + SECOND)
            return Counter(int(entry.metadata["number"]) for entry in entries if "number" in entry.metadata)

    expected = Counter(number for number in lines if number not in long)
    wait_until(lambda: held() == expected, 60, what="all records in Loki")
    code, body = audit(stack)
    assert (code, body["verdict"]) == (0, "explained"), body
    assert sentences_of(body) == [f"in Loki: discarded, line_too_long: {len(long)} records lost"]
    figures = body["services"]["hostile"]
    assert [figures[name] for name in ("created", "exported", "counted", "app.jsonl")] == [books["created"]] * 4
    assert figures["held"] == books["created"] - len(long)
