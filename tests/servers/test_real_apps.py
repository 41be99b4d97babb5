"""Applications as others build them, unchanged, under gunicorn with `otelog run`: every record of every request.

The checker is that of tools/real_apps, which is run on applications that nobody here wrote.
"""

from __future__ import annotations

from pathlib import Path

from tools.real_apps.checking import check_made, check_own_log
from tools.real_apps.running import Plan, run
from tools.real_apps.traffic import Target, Visit

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
            environ={"SHOP_DATABASE": str(tmp_path / "shop.sqlite")},
            requests=60,
        ),
        tmp_path,
    )
    check_made(outcome.report, outcome.visits, outcome.records, count_made)
    assert outcome.report.differences == []
    assert {visit.status for visit in outcome.visits} == {200, 404, 500}
    # Connection and result each, and two more where it breaks: 12 rounds of both phases.
    assert sum(outcome.report.in_requests.values()) == 2 * 12 * (2 + 2 + 2 + 2 + 3)
    assert outcome.report.by_logger["tests.servers.shop_blueprints"] > 0
    assert outcome.report.marked >= 120


def test_every_record_of_an_application_with_logging_of_its_own_has_its_requests_trace(tmp_path: Path) -> None:
    outcome = run(
        Plan(
            app="tests.servers.shop_own_logging:create_app()",
            checkout=ROOT,
            targets=[Target("/pay?amount=3"), Target("/look")],
            environ={"SHOP_PAYMENTS": str(tmp_path / "payments.log")},
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
