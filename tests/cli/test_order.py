"""The order in which records are shown and written: that in which they happened, whatever OTLP has grouped them by."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelog.cli.commands import otelog
from otelog.cli.dev.journal import Journal
from otelog.cli.search.beside import MOST_BESIDE
from otelog.cli.search.file_tail import FileTail
from otelog.cli.search.log_files import find_files, read_otlp
from otelog.cli.search.search import Search
from otelog.cli.show.filters import Filters, sort_by_time
from otelog.cli.show.lines import render_lines
from otelog.loki import Entry
from tests.cli.test_dev import Dev, devs, start
from tests.cli.test_tail import Tail
from tests.loki_double import LokiDouble
from tools.waiting import wait_until

__all__ = ["devs"]

T = 1_700_000_000_000_000_000


def make_request(*records: tuple[str, str, int, int, str]) -> ExportLogsServiceRequest:
    """A request of records (service, scope, time, observed time, message), grouped as every SDK groups them."""
    request = ExportLogsServiceRequest()
    resources: dict[str, Any] = {}
    scopes: dict[tuple[str, str], Any] = {}
    for service, scope, time_ns, observed_ns, message in records:
        if service not in resources:
            resources[service] = request.resource_logs.add()
            resources[service].resource.attributes.add(key="service.name").value.string_value = service
        if (service, scope) not in scopes:
            scopes[service, scope] = resources[service].scope_logs.add()
            scopes[service, scope].scope.name = scope
        record = scopes[service, scope].log_records.add(time_unix_nano=time_ns, observed_time_unix_nano=observed_ns)
        record.body.string_value = message
    return request


def messages(request: ExportLogsServiceRequest) -> list[str]:
    return [json.loads(line.text)["message"] for line in render_lines(request)]


MIXED = make_request(
    ("a", "web", T + 1, 0, "1"),
    ("a", "db", T + 2, 0, "2"),
    ("b", "web", T + 3, 0, "3"),
    ("a", "web", T + 4, T + 9, "4"),
    ("b", "db", 0, T + 5, "5"),
    ("a", "db", T + 6, T + 6, "6"),
)


def test_the_records_of_a_request_are_in_the_order_of_their_time() -> None:
    assert messages(MIXED) == ["1", "2", "3", "4", "5", "6"]


def test_records_of_the_same_time_stay_in_their_order_and_one_without_a_time_stays_behind_its_neighbour() -> None:
    request = make_request(
        ("a", "web", T, 0, "first"),
        ("a", "web", 0, 0, "no time"),
        ("a", "web", T + 5, 0, "last"),
        ("a", "db", T, 0, "same time"),
        ("a", "db", T + 1, 0, "between"),
    )
    assert messages(request) == ["first", "no time", "same time", "between", "last"]
    assert messages(make_request(("a", "x", 0, 0, "none"), ("a", "x", T, 0, "some"))) == ["none", "some"]


def test_a_collectors_document_is_read_in_the_same_order() -> None:
    from google.protobuf.json_format import MessageToDict

    assert [record["message"] for record in read_otlp(MessageToDict(MIXED))] == ["1", "2", "3", "4", "5", "6"]


def test_the_journal_and_its_latest_lines_have_that_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(render_lines(MIXED))
    latest = journal.after(0)[1]
    journal.close()
    assert (tmp_path / "app.log").read_text().splitlines() == latest
    assert [json.loads(line)["message"] for line in latest] == ["1", "2", "3", "4", "5", "6"]


def test_records_of_several_requests_are_sorted_and_those_without_a_time_stay_behind_their_neighbours() -> None:
    records = [
        {"timestamp": "2026-11-24T20:00:02.000000+00:00", "message": 2},
        {"timestamp": None, "message": 3},
        {"timestamp": "2026-11-24T21:00:01.000000+01:00", "message": 1},
        {"timestamp": "2026-11-24T20:00:02.000000+00:00", "message": 4},
    ]
    assert [record["message"] for record in sort_by_time(records)] == [1, 2, 3, 4]


SENDER = """
import sys, otelog
otelog.configure(service_name="shop", endpoint=sys.argv[1])
logs = [otelog.get_logger(name) for name in ("shop.web", "shop.db", "shop.cart")]
for number in range(30):
    logs[number % 3].info("step %s", number)
otelog.shutdown()
"""


def test_loggers_that_take_turns_are_shown_and_written_in_turns(tmp_path: Path, devs: list[Dev]) -> None:
    dev = start(devs, tmp_path, "--tail")
    dev.send(SENDER, OTEL_METRICS_EXPORTER="none")
    steps = [f"step {number}" for number in range(30)]
    wait_until(lambda: len(dev.records("app")) == 30, what="30 records")
    assert [record["message"] for record in dev.records("app")] == steps
    assert re.findall(r"step \d+", dev.end()) == steps


def test_the_collectors_files_are_shown_in_that_order(tmp_path: Path) -> None:
    from google.protobuf.json_format import MessageToJson

    path = tmp_path / "app.jsonl"
    path.write_text(MessageToJson(MIXED, indent=None) + "\n")
    shown = CliRunner().invoke(otelog, ["query", str(path), "--last", "3", "--json"]).stdout
    assert [json.loads(line)["message"] for line in shown.splitlines()] == ["4", "5", "6"]


def at(second: float, message: str) -> dict[str, Any]:
    moment = datetime(2026, 11, 24, 20, 0, tzinfo=timezone.utc) + timedelta(seconds=second)
    return {"timestamp": moment.isoformat(timespec="microseconds"), "level": "INFO", "message": message}


def write(path: Path, *records: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def ask(folder: Path, *words: str) -> list[str]:
    done = CliRunner().invoke(otelog, ["query", str(folder), "--json", *words])
    assert done.exit_code == 0, done.output
    return [json.loads(line)["message"] for line in done.stdout.splitlines()]


def test_files_of_several_processes_are_read_beside_each_other(tmp_path: Path) -> None:
    write(tmp_path / "app.20261124-200002-0001.log", at(1, "1"), at(3, "3"))
    write(tmp_path / "app.log", at(6, "6"))
    write(tmp_path / "app.77.20261124-200001-0001.log", at(0, "0"), at(2, "2"))
    write(tmp_path / "app.77.log", at(4, "4"), {"timestamp": None, "level": "INFO", "message": "no time"}, at(7, "7"))
    write(tmp_path / "app.78.log", at(5, "5"))
    assert ask(tmp_path) == ["0", "1", "2", "3", "4", "no time", "5", "6", "7"]
    assert ask(tmp_path, "--last", "2") == ["6", "7"]
    assert ask(tmp_path, "--text", "o time") == ["no time"]


def test_duckdb_finds_them_in_the_same_order(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    for owner, first in (("", 0), (".77", 1), (".78", 2)):
        write(tmp_path / f"app{owner}.log", *[at(n, f"{n}") for n in range(first, 600, 3)])
    paths = find_files([tmp_path])
    asked = Filters(level=1)
    for from_bytes in (0, None):
        found = [record["message"] for record in Search(paths, asked, duckdb_from_bytes=from_bytes).records()]
        assert found == [f"{n}" for n in range(600)]


def test_more_processes_than_files_may_be_open_are_read_one_after_the_other(tmp_path: Path) -> None:
    for number in range(MOST_BESIDE + 1):
        write(tmp_path / f"app.{number + 100}.log", at(-number, f"{number}"))
    assert ask(tmp_path) == [f"{number}" for number in range(MOST_BESIDE + 1)]


def test_a_tail_has_the_past_of_several_processes_and_what_comes_at_once_in_that_order(tmp_path: Path) -> None:
    write(tmp_path / "app.log", at(1, "1"), at(3, "3"))
    write(tmp_path / "app.77.log", at(0, "0"), at(2, "2"))
    tail = FileTail([tmp_path], Filters(), ("app",))
    try:
        assert [record["message"] for record in tail.read_past()] == ["0", "1", "2", "3"]
        for name, first in (("app.log", 4), ("app.77.log", 5)):
            with (tmp_path / name).open("a") as file:
                file.writelines(json.dumps(at(number, f"{number}")) + "\n" for number in (first, first + 2))
        assert [record["message"] for record in tail.read()] == ["4", "5", "6", "7"]
    finally:
        tail.close()


def test_the_streams_of_one_message_of_lokis_are_shown_in_that_order(tmp_path: Path) -> None:
    now = time.time_ns()
    entries = [Entry(now + number, f"{number}", {"service_name": f"{number % 2}"}) for number in (1, 3, 0, 2)]
    with LokiDouble() as double:
        tail = Tail(tmp_path, '{service_name=~".+"}', "--json", OTELOG_LOKI=double.url)
        try:
            wait_until(lambda: double.tails, 20.0, what="the tail")
            double.send(entries)
            wait_until(lambda: len(tail.lines()) == 4, 20.0, what="four lines")
        finally:
            tail.process.kill()
            tail.process.wait()
    assert tail.messages() == ["0", "1", "2", "3"]
