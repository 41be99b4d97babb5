"""`otelog dev` as a process of its own, with a real sender in another one: the tail, the files, the sender's ledger."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from otelog.cli.commands import otelog
from tests.cli.test_receiver import PROTOBUF, make_request

if TYPE_CHECKING:
    from collections.abc import Iterator

SENDER = """
import sys, otelog
otelog.configure(service_name="shop", endpoint=sys.argv[1])
log = otelog.get_logger("shop.web")
for number in range(60):
    log.info("order %s", number, order_id=number)
for number in range(3):
    log.error("charge failed", order_id=number)
otelog.get_logger("shop.ai").info("the lamp is in stock")
otelog.shutdown()
"""


class Dev:
    """One `otelog dev` on a free port, and what it says."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "otelog.cli", "dev", "--port", "0", "--folder", str(folder), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        first = self.read_line()
        match = re.search(r"listening on (http://127\.0\.0\.1:\d+)", first)
        assert match, first
        self.url = match[1]

    def read_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        connection.request(method, path, body, {"Content-Type": PROTOBUF})
        answer = connection.getresponse()
        said = answer.status, answer.read()
        connection.close()
        return said

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = json.loads(self.ask("GET", "/stats")[1])
        return stats

    def send(self, code: str = SENDER, **environment: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", code, self.url],
            env={**os.environ, "OTEL_METRICS_EXPORTER": "otlp", **environment},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")

    def records(self, stream: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / f"{stream}.log").read_text(encoding="utf-8").splitlines()]

    def end(self) -> str:
        self.process.send_signal(signal.SIGINT)
        output = self.process.communicate(timeout=20)[0]
        assert self.process.returncode == 0, output
        return output


@pytest.fixture
def devs() -> Iterator[list[Dev]]:
    started: list[Dev] = []
    yield started
    for dev in started:
        if dev.process.poll() is None:
            dev.process.kill()
        dev.process.communicate()


def start(devs: list[Dev], folder: Path, *arguments: str) -> Dev:
    devs.append(Dev(folder, *arguments))
    return devs[-1]


def test_a_senders_records_are_in_the_three_files(tmp_path: Path, devs: list[Dev]) -> None:
    dev = start(devs, tmp_path, "--ai-logger", "shop.ai")
    dev.send()
    assert "64 records written" in dev.end()
    assert [len(dev.records(stream)) for stream in ("app", "errors", "ai_responses")] == [64, 3, 1]
    found = CliRunner().invoke(
        otelog, ["query", str(tmp_path), "--group-by", "service", "--group-by", "level", "--json"]
    )
    assert [json.loads(row) for row in found.output.splitlines()] == [
        {"service": "shop", "level": "INFO", "count": 61},
        {"service": "shop", "level": "ERROR", "count": 3},
    ]
    record = dev.records("errors")[0]
    assert (record["level"], record["function"], record["service.name"]) == ("ERROR", "<module>", "shop")
    assert not {"code.function.name", "process.pid", "severity_number"} & set(record)


@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
def test_the_senders_ledger_stands_beside_what_arrived(tmp_path: Path, devs: list[Dev], temporality: str) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    dev = start(devs, tmp_path)
    dev.send(OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=temporality)
    stats = dev.stats()
    [ledger] = stats["ledgers"]
    assert ledger.pop("instance") == stats["instances"][0]["instance"]
    assert ledger == {
        "service": "shop",
        "created": 64,
        "exported": 64,
        "lost": {},
        "queued": 0,
        "in_flight": 0,
        "received": 64,
        "difference": 0,
    }
    assert stats["services"] == [{"service": "shop", "records": 64, "severities": {"INFO": 61, "ERROR": 3}}]


def test_a_sender_without_metrics_shows_what_arrived(tmp_path: Path, devs: list[Dev]) -> None:
    dev = start(devs, tmp_path)
    dev.send(OTEL_METRICS_EXPORTER="none")
    stats = dev.stats()
    assert (stats["ledgers"], stats["records"]) == ([], 64)


def test_the_tail_prints_what_the_filters_choose_and_nothing_less_is_written(tmp_path: Path, devs: list[Dev]) -> None:
    dev = start(devs, tmp_path, "--tail", "--logger", "shop.web", "--level", "error", "--where", "order_id=1")
    dev.send()
    assert re.search(r"ERROR +shop\.web charge failed .*order_id=1$", dev.read_line().rstrip())
    assert dev.end().splitlines() == [f"64 records written to {tmp_path}"]
    assert len(dev.records("app")) == 64


def test_the_tail_shows_what_came_last_and_says_what_it_missed(tmp_path: Path, devs: list[Dev]) -> None:
    dev = start(devs, tmp_path, "--tail")
    assert dev.ask("POST", "/v1/logs", make_request(5000))[0] == 200
    output = dev.end()
    assert "... 3,000 records came too fast to be shown" in output
    assert output.count(" message ") == 2000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--level", "loud"], "level must be DEBUG"),
        (["--where", "x"], "'x' is not field=value"),
        (["--ai-logger", ""], "allowed is a list of loggers' names"),
        (["--host", "192.0.2.1"], "192.0.2.1:0 cannot be listened on"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "otelog.cli", "dev", "--port", "0", "--folder", str(tmp_path), *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
