"""A record whose time is none is delivered all the same, and no neighbour pays for it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber, get_logger
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs

import otelog
from otelog._record.row import MOST_TIME_NS, find_times
from otelog._setup import configure
from otelog.testing import OTLPServer
from tests.pipelines import ExporterForTests

NOW = 1_800_000_000_000_000_000
BAD = (-1, -5 * 10**18, 2**63, 2**64, 2**70, float("inf"), float("nan"), "soon", None)
LATEST = 20.0


@pytest.mark.parametrize("bad", BAD)
def test_a_time_that_is_none_is_unknown(bad: Any) -> None:
    assert find_times(bad, None, lambda: NOW) == (0, NOW)
    assert find_times(bad, 7, lambda: NOW) == (0, 7)
    assert find_times(7, bad, lambda: NOW) == (7, 0)
    assert find_times(bad, bad, lambda: -NOW) == (0, 0)


def test_other_times_are_as_they_were() -> None:
    assert find_times(1, None, lambda: NOW) == (1, 0)
    assert find_times(MOST_TIME_NS - 1, 3, lambda: NOW) == (MOST_TIME_NS - 1, 3)
    assert find_times(1.9e18, None, lambda: NOW) == (1_900_000_000_000_000_000, 0)


@pytest.fixture(autouse=True)
def reset() -> Iterator[None]:
    yield
    configure.reset()


def log_record(created: Any, message: str) -> logging.LogRecord:
    record = logging.LogRecord("shop", logging.ERROR, __file__, 7, message, (), None, "here")
    record.created = created
    record.order = 9
    return record


def test_records_of_standard_logging_with_odd_times_arrive_whole(tmp_path: Path) -> None:
    exporter = ExporterForTests()
    with OTLPServer() as server:
        otelog.configure(
            endpoint=server.endpoint,
            exporters=["otlp", {"type": "file", "folder": str(tmp_path)}, exporter],
        )
        before = time.time_ns()
        for number, created in enumerate([-5.0, float("inf"), float("nan"), 1e30, -1e30, None, "soon", 1e10, 5.0]):
            logging.getLogger("shop").handle(log_record(created, f"odd {number}"))
        logging.getLogger("shop").error("neighbour", extra={"order": 9})
        assert otelog.flush(LATEST)
        after = time.time_ns()
        stats = otelog.stats()
        assert (stats.lost, stats.exporters["otlp"].exported, stats.exporters["file"].exported) == (0, 10, 10)
        arrived = {record.body.string_value: record for record in server.records}
    assert set(arrived) == {"neighbour", *(f"odd {number}" for number in range(9))}
    for name, record in arrived.items():
        assert "order" in {pair.key for pair in record.attributes}, name
        assert record.severity_text == "ERROR"
        stored = record.time_unix_nano or record.observed_time_unix_nano
        if name not in ("odd 7", "odd 8"):
            assert before <= stored <= after + 1_000, name
    assert arrived["odd 8"].time_unix_nano == 5_000_000_000
    lines = [json.loads(line) for line in (tmp_path / "app.log").read_text().splitlines()]
    assert {line["message"] for line in lines} == set(arrived)
    assert all(line["timestamp"] and line["order"] == 9 for line in lines)
    # Another exporter encodes a batch as a whole: one time that it cannot encode would be the end of all.
    assert len(encode_logs(exporter.records).resource_logs[0].scope_logs[0].log_records) == 10


@pytest.mark.parametrize("bad", [-1, 2**63, 2**64, 2**70, 1.5e18, "soon"])
@pytest.mark.parametrize("observed", [None, 1_700_000_000_000_000_000, -1, 2**70])
def test_records_of_the_sdk_with_odd_times_arrive(bad: Any, observed: Any, tmp_path: Path) -> None:
    with OTLPServer() as server:
        otelog.configure(endpoint=server.endpoint, exporters=["otlp", {"type": "file", "folder": str(tmp_path)}])
        logger = get_logger("shop")
        for body, given in (("one", bad), ("two", 1_700_000_000_000_000_001)):
            logger.emit(
                LogRecord(
                    timestamp=given,
                    observed_timestamp=observed,
                    severity_number=SeverityNumber.INFO,
                    body=body,
                    attributes={"a": 1},
                )
            )
        assert otelog.flush(LATEST)
        assert otelog.stats().lost == 0
        one, two = sorted(server.records, key=lambda record: record.body.string_value)
    assert two.time_unix_nano == 1_700_000_000_000_000_001
    assert one.time_unix_nano == (1_500_000_000_000_000_000 if bad == 1.5e18 else 0)
    assert one.time_unix_nano or one.observed_time_unix_nano > 1_600_000_000_000_000_000
    lines = [json.loads(line) for line in (tmp_path / "app.log").read_text().splitlines()]
    assert len(lines) == 2
    assert all(line["timestamp"] for line in lines)


BEFORE_1970 = """
import logging, sys, time
real = time.time_ns
time.time_ns = lambda: real() - 2_000_000_000_000_000_000
time.time = lambda: real() / 1e9 - 2e9
import otelog
otelog.configure(endpoint=sys.argv[1], exporters=["otlp", {"type": "file", "folder": sys.argv[2]}, "console"],
                 console_format=sys.argv[3])
log = otelog.get_logger("shop")
log.info("facade", n=1)
logging.getLogger("shop").warning("handler", extra={"n": 1})
try:
    1 / 0
except ZeroDivisionError:
    log.exception("slow", n=[1])
assert otelog.flush(20.0)
assert otelog.stats().lost == 0, otelog.stats()
otelog.shutdown()
"""


@pytest.mark.parametrize("console_format", ["json", "readable"])
def test_with_a_clock_before_1970_everything_is_delivered(tmp_path: Path, console_format: str) -> None:
    with OTLPServer() as server:
        done = subprocess.run(
            [sys.executable, "-c", BEFORE_1970, server.endpoint, str(tmp_path), console_format],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        )
        assert done.returncode == 0, done.stderr
        # With neither time, a store takes that of the arrival.
        assert {record.body.string_value for record in server.records} == {"facade", "handler", "slow"}
        assert {(record.time_unix_nano, record.observed_time_unix_nano) for record in server.records} == {(0, 0)}
    lines = [json.loads(line) for line in (tmp_path / "app.log").read_text().splitlines()]
    assert sorted(line["message"] for line in lines) == ["facade", "handler", "slow"]
    assert all(name in done.stderr for name in ("facade", "handler", "slow"))
