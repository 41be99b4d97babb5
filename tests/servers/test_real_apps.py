"""Applications as others build them, unchanged, under gunicorn with `otelog run`: every record of every request.

The checker is that of tools/real_apps, which is run on applications that nobody here wrote.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from otelog.testing import OTLPServer
from tests.sizes import without_instrumentations
from tools.loopback import find_free_ports
from tools.real_apps.checking import check_ledgers, check_made, check_once, check_own_log, check_traces
from tools.real_apps.receiving import Record, read_records
from tools.real_apps.running import Plan, run
from tools.real_apps.traffic import Target, Visit, send
from tools.waiting import end_process, wait_until

ROOT = Path(__file__).resolve().parents[2]


def count_made(visit: Visit) -> int:
    """How many log calls the application says that it has made for a request."""
    return int(visit.headers["x-records"])


def test_every_record_of_blueprints_with_a_database_has_its_requests_trace(tmp_path: Path) -> None:
    targets = [
        Target("/items/1"),
        Target("/items/2"),
        Target("/items/77"),
        Target("/orders/", "POST", "item=2"),
        Target("/orders/broken"),
    ]
    outcome = run(
        Plan(
            app="tests.servers.shop_blueprints:create_app()",
            checkout=ROOT,
            targets=targets,
            environ={**without_instrumentations("flask"), "SHOP_DATABASE": str(tmp_path / "shop.sqlite")},
            requests=60,
            options=("--access-logfile", "-"),
        ),
        tmp_path,
    )
    # gunicorn's own line, too.
    check_made(outcome.report, outcome.visits, outcome.records, lambda visit: count_made(visit) + 1)
    assert outcome.report.differences == []
    assert {visit.status for visit in outcome.visits} == {200, 404, 500}
    # Connection, result, end and the server's line each, one more where it breaks: 12 rounds of both phases.
    assert sum(outcome.report.in_requests.values()) == 2 * 12 * (4 + 4 + 4 + 4 + 5)
    # The first and the last of them have the request's address in them.
    assert outcome.report.marked >= 2 * 120


def test_every_record_of_an_application_with_logging_of_its_own_has_its_requests_trace(tmp_path: Path) -> None:
    outcome = run(
        Plan(
            app="tests.servers.shop_own_logging:create_app()",
            checkout=ROOT,
            targets=[Target("/pay?amount=3"), Target("/look")],
            environ={**without_instrumentations("flask"), "SHOP_PAYMENTS": str(tmp_path / "payments.log")},
            requests=60,
        ),
        tmp_path,
    )
    check_made(outcome.report, outcome.visits, outcome.records, count_made)
    # The handlers of its own have had the same records as we.
    lines = [*outcome.output.read_text().splitlines(), *(tmp_path / "payments.log").read_text().splitlines()]
    for logger, count in (("payments", 60), ("late", 60 + 180)):
        assert check_own_log(outcome.report, lines, rf"^\[own\] {logger} ", logger) == count
    assert outcome.report.differences == []


def test_the_line_of_flasks_own_server_has_its_requests_trace(tmp_path: Path) -> None:
    (port,) = find_free_ports(1)
    command = ["run", "--", "python", "-m", "flask", "--app", "tests.servers.shop_blueprints:create_app", "run"]
    with OTLPServer() as server, (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "otelog.cli", *command, "--port", str(port)],
            cwd=ROOT,
            env={
                **os.environ,
                **without_instrumentations("flask"),
                "SHOP_DATABASE": str(tmp_path / "shop.sqlite"),
                "OTEL_EXPORTER_OTLP_ENDPOINT": server.endpoint,
                "OTEL_METRICS_EXPORTER": "none",
            },
            stdout=output,
            stderr=output,
        )
        try:
            # It says so when its own first lines are over, which are no request's.
            wait_until(lambda: b"CTRL+C" in (tmp_path / "output").read_bytes(), 30, what="flask run")
            visit = send("127.0.0.1", port, Target("/items/1"), "one at a time")
            server.wait_until(lambda: any(b"HTTP/1.1" in request.body for request in server.requests))
        finally:
            end_process(process, 20)
        # In a request they are by logger.
        records = sorted(read_records(request.decode() for request in server.requests), key=lambda one: one.time_ns)
    assert [record.logger for record in records if record.trace_id] == ["tests.servers.shop_blueprints"] * 3 + [
        "werkzeug"
    ]
    assert check_traces([visit], records).differences == []


VISITS = [
    Visit(Target("/a"), "a" * 32, "one at a time", 1_000_000, 2_000_000, 200),
    Visit(Target("/b"), "b" * 32, "at once", 3_000_000, 5_000_000, 200),
    Visit(Target("/c"), "c" * 32, "at once", 4_000_000, 6_000_000, 200),
]


def make_record(time_ns: int, trace: str, text: str = "", logger: str = "shop") -> Record:
    return Record("one", time_ns, trace * 32, logger, "INFO", text)


RIGHT = [
    make_record(500_000, "", "before"),
    make_record(1_500_000, "a", f"/a?otelog_trace={'a' * 32}"),
    make_record(4_500_000, "b"),
    make_record(4_600_000, "c"),
    make_record(4_700_000, "", logger="jobs.hourly"),
]


def check(records: list[Record], ledger: dict[str, Any]) -> list[str]:
    report = check_traces(VISITS, records, ["jobs"])
    check_once(report, records)
    check_ledgers(report, [ledger], records, len(records))
    return report.differences


def make_ledger(**changes: Any) -> dict[str, Any]:
    return {"instance": "one", "created": 5, "exported": 5, "queued": 0, "in_flight": 0, "lost": {}, **changes}


@pytest.mark.parametrize(
    ("place", "record", "said"),
    [
        (1, make_record(1_500_000, "", "alone"), "have no trace"),
        (0, make_record(500_000, "", f"for {'b' * 32}"), "have no trace"),
        (1, make_record(1_500_000, "d"), "the trace id of no request"),
        (1, make_record(1_500_000, "b"), "before or after the request"),
        (2, make_record(4_500_000, "b", f"for {'c' * 32}"), "another's in their text"),
        (3, make_record(4_500_000, "b"), "came twice"),
        (3, make_record(4_500_001, "b"), "were taken twice"),
        (3, Record("two", 4_600_000, "c" * 32, "shop", "INFO", ""), "no ledger"),
    ],
)
def test_the_checker_sees_a_record_that_is_wrong(place: int, record: Record, said: str) -> None:
    assert check(RIGHT, make_ledger()) == []
    wrong = [*RIGHT]
    wrong[place] = record
    assert any(said in difference for difference in check(wrong, make_ledger()))


@pytest.mark.parametrize("changes", [{"created": 6}, {"exported": 4}, {"lost": {"queue_full": 1}}])
def test_the_checker_sees_a_ledger_that_is_wrong(changes: dict[str, Any]) -> None:
    assert check(RIGHT, make_ledger(**changes)) != []


def test_the_checker_counts_messages_that_came_with_another_request() -> None:
    a, b = Target("/a"), Target("/b")
    visits = [
        Visit(a, "a" * 32, "one at a time", 1, 10, 200),
        Visit(b, "b" * 32, "one at a time", 11, 20, 200),
        Visit(a, "c" * 32, "at once", 21, 30, 200),
        Visit(b, "d" * 32, "at once", 21, 30, 200),
    ]
    right = [make_record(5, "a", "paid 1"), make_record(15, "b", "looked 1")]
    assert check_traces(visits, [*right, make_record(25, "c", "paid 2"), make_record(25, "d", "new")]).strangers == 0
    assert check_traces(visits, [*right, make_record(25, "c", "looked 2")]).strangers == 1


def test_the_checker_is_not_content_with_nothing() -> None:
    assert check([], make_ledger(created=0, exported=0)) != []
    assert check(RIGHT[:1] + RIGHT[4:], make_ledger(created=2, exported=2)) != []
    report = check_traces(VISITS, RIGHT)
    check_made(report, VISITS, RIGHT, lambda _: 1)
    assert check_own_log(report, ["shop: a", "shop: b"], "^shop", "shop") == 2
    assert len(report.differences) == 2
