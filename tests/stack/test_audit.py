"""`otelog audit` over a real stack: what it says when records are lost on purpose, at hops that are known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack.load import expected_in_files
from tests.stack.running import ROOT, RunningStack, Sender
from tools.waiting import wait_until

COUNT = 10_000
LINE_BYTES = 2048
PATIENT = {"when_full": "block", "block_timeout": 60.0, "export_timeout_millis": 60_000}
TINY_QUEUE = {"max_queue_size": 100, "max_export_batch_size": 100, "when_full": "drop_newest"}
# One record that Loki does not take, in a batch with others that it does.
LONG_LINE = """
import sys, otelog
otelog.configure(service_name="long", endpoint=sys.argv[1])
log = otelog.get_logger("long")
for number in range(50):
    log.info("x" * int(sys.argv[2]) if number == 25 else "short %s", number)
otelog.shutdown(timeout=30)
"""


def audit(stack: RunningStack, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code of `otelog audit --json`, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "otelog.cli", "audit", "--data-dir", str(stack.folder), "--json", *arguments],
        env=stack.environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def hops_of(body: dict[str, Any], verdict: str) -> list[str]:
    return [hop["hop"] for hop in body["hops"] if hop["verdict"] == verdict]


def sentences_of(body: dict[str, Any]) -> list[str]:
    return [hop["sentence"] for hop in body["hops"] if hop["sentence"]]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[RunningStack]:
    one = RunningStack(tmp_path / "stack", {"OTELOG_LOKI_LINE": f"{LINE_BYTES}B"})
    one.up()
    yield one
    one.down("--volumes")


def send(stack: RunningStack, name: str, options: dict[str, Any], count: int = COUNT) -> dict[str, Any]:
    return Sender(stack.endpoint, name, count, options).finish()


def wait_for_scrape(stack: RunningStack, total: int) -> None:
    """Until Prometheus knows that the Collector has taken so many, from both of its endpoints."""

    def scraped(metric: str) -> int:
        found = stack.query(f"sum({metric})")
        return int(float(found[0]["value"][1])) if found else 0

    for metric in ("otelcol_receiver_accepted_log_records_total", "otelog_collector_log_records_total"):
        wait_until(lambda: scraped(metric) == total, 30, what=f"Prometheus' scrape of {metric}")  # noqa: B023


def test_it_names_what_was_lost_where_and_what_nobody_can_explain(stack: RunningStack) -> None:
    whole, lossy = (Sender(stack.endpoint, n, COUNT, o) for n, o in (("whole", PATIENT), ("lossy", TINY_QUEUE)))
    books = {one["name"]: one for one in (whole.finish(), lossy.finish())}
    refused = books["lossy"]["refused"]["queue_full"]
    assert refused > 0
    subprocess.run(
        [sys.executable, "-c", LONG_LINE, stack.endpoint, str(2 * LINE_BYTES)],
        env={name: value for name, value in os.environ.items() if name != "OTEL_METRICS_EXPORTER"},
        cwd=ROOT,
        check=True,
        stderr=subprocess.PIPE,
    )

    # Every difference has its reason.
    code, body = audit(stack)
    assert (code, body["verdict"]) == (0, "explained"), body
    assert sentences_of(body) == [
        f"in the application lossy: refused, queue_full: {refused:,} records lost",
        "in Loki: discarded, line_too_long: 1 record lost",
    ]
    assert body["missing"] == {}
    delivered = COUNT - refused
    files = expected_in_files(COUNT)
    assert body["services"]["whole"] == {
        "created": COUNT,
        "lost": 0,
        "truncated": 0,
        "exported": COUNT,
        "counted": COUNT,
        "held": COUNT,
        "app.jsonl": COUNT,
        "errors": files["errors"],
        "errors.jsonl": files["errors"],
        "ai": files["ai_responses"],
        "ai file": files["ai_responses"],
    }
    lossy_figures = body["services"]["lossy"]
    assert [lossy_figures[name] for name in ("created", "lost", "exported", "counted", "held", "app.jsonl")] == [
        COUNT,
        refused,
        *[delivered] * 4,
    ]
    long_figures = body["services"]["long"]
    assert [long_figures[name] for name in ("created", "counted", "held", "app.jsonl")] == [50, 50, 49, 50]

    # A Collector that was killed begins to count at zero; Prometheus knows what it had.
    wait_for_scrape(stack, COUNT + delivered + 50)
    stack.kill("collector")
    stack.up()
    assert send(stack, "after", PATIENT, 500)["exported"] == 500
    code, body = audit(stack)
    assert (code, body["services"]["after"]["held"], body["services"]["whole"]["counted"]) == (0, 500, COUNT), body
    assert any("began again 1 time" in note for note in body["notes"])

    # What nobody can explain: somebody has put a record into a file.
    with (stack.folder / "collector" / "data" / "logs" / "errors.jsonl").open("a") as file:
        file.write('{"resourceLogs":[{"resource":{},"scopeLogs":[{"scope":{},"logRecords":[{"body":{}}]}]}]}\n')
    code, body = audit(stack, "--wait", "0")
    assert code == 1
    [sentence] = [said for said in sentences_of(body) if said.startswith("errors.jsonl")]
    assert "1 record too many" in sentence
    assert "of unknown_service" in sentence

    # A source that does not answer is said, and may be required.
    stack.kill("loki")
    code, body = audit(stack, "--wait", "0", "--service", "whole", "--require", "loki")
    assert code == 2
    assert body["exit_code"] == 2
    assert "in Loki" in body["not_seen"]
    assert "does not answer" in body["missing"]["loki"]
