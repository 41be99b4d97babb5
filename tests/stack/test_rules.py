"""The alert rules: by promtool's unit tests, and once through a real Prometheus and a real Alertmanager."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stack.binaries_dash import find_binary
from tests.stack.sender_dash import NAMESPACE
from tests.stack.servers_dash import ROOT, get_json, run_application, run_servers
from tools.dashboards import promql
from tools.rules.__main__ import render_all
from tools.rules.alert import Times
from tools.waiting import wait_until

RULES = ROOT / "collector" / "rules" / "otelog.yaml"
CONTENTS = ROOT / "collector" / "loki-rules" / "fake" / "otelog.yaml"
UNIT_TESTS = [path for path in sorted((ROOT / "tests" / "rules").glob("*.yaml")) if path.stem != "recording"]
BOARDS = {path.stem for path in (ROOT / "dashboards").glob("*.json")}
SECONDS = 40.0
TARGETS = 5


def read_alerts(path: Path) -> dict[str, dict[str, Any]]:
    """The alerts of a rules file, by name."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {rule["alert"]: rule for group in document["groups"] for rule in group["rules"]}


ALERTS = read_alerts(RULES)
EVERY = ALERTS | read_alerts(CONTENTS)
WITHOUT_FIGURE = {
    "OtelogApplicationSilent",
    "OtelogTargetDown",
    "OtelogTargetMissing",
    "OtelogTracesAway",
    "OtelogWatchdog",
}
"""What they tell of is there, or not."""

COUNTERS = {
    "OtelogRecordsLost": [promql.select(promql.LOST, promql.A_LOSS)],
    "OtelogCollectorRefuses": [f"otelcol_receiver_{outcome}_log_records_total" for outcome in ("refused", "failed")],
    "OtelogCollectorLoses": [f"otelcol_exporter_{verb}_failed_log_records_total" for verb in ("send", "enqueue")],
    "OtelogLokiDiscards": ["loki_discarded_samples_total"],
}


def promtool(*arguments: str) -> None:
    """Run promtool; it has to be content."""
    done = subprocess.run([str(find_binary("promtool")), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_nothing_wrong_in_the_rules() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_each_alert_fires_when_it_must_and_is_silent_when_it_must(path: Path) -> None:
    promtool("test", "rules", str(path))


def test_the_rules_are_those_that_the_generator_makes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.rules", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_shorter_windows_are_the_same_rules() -> None:
    short = render_all(Times(scale=1 / 30, least=10))["rules/otelog.yaml"]
    wanted, found = yaml.safe_load(RULES.read_text(encoding="utf-8")), yaml.safe_load(short)

    def strip(document: Any) -> str:
        return re.sub(r"\b\d+[smhd]\b", "TIME", json.dumps(document))

    assert strip(wanted) == strip(found)
    assert "[10m]" not in short


@cache
def list_groups() -> list[Any]:
    documents = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in UNIT_TESTS)
    return [one for document in documents for one in document["tests"]]


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_tested_both_ways(name: str) -> None:
    seen = set()
    for group in list_groups():
        seen |= {bool(one.get("exp_alerts")) for one in group.get("alert_rule_test", []) if one["alertname"] == name}
        for one in group.get("promql_expr_test", []):
            if f'"{name}"' in one["expr"]:
                seen.add(bool(one.get("exp_samples")))
    assert seen == ({True} if name == "OtelogWatchdog" else {True, False})


@pytest.mark.parametrize("name", EVERY)
def test_an_alert_says_how_bad_it_is_and_what_to_do(name: str) -> None:
    notes = EVERY[name]["annotations"]
    assert EVERY[name]["labels"]["severity"] in ({"none"} if name == "OtelogWatchdog" else {"critical", "warning"})
    assert set(notes) == {"summary", "description", "runbook", "dashboard"}
    assert len(notes["description"]) > 100
    assert ("$value" in notes["summary"]) == (name not in WITHOUT_FIGURE)


@pytest.mark.parametrize("name", EVERY)
def test_the_runbook_and_the_board_of_an_alert_exist(name: str) -> None:
    page, _, anchor = EVERY[name]["annotations"]["runbook"].partition("#")
    text = (ROOT / page).read_text(encoding="utf-8")
    section = re.search(rf"(?ms)^## {name}\n(.*?)(?=^## |\Z)", text)
    assert section is not None
    assert anchor == name.lower()
    for part in ("**Cause.**", "**See it.**", "**Do.**"):
        assert part in section[1]
    board = EVERY[name]["annotations"]["dashboard"]
    assert board.removeprefix("/d/") in BOARDS
    assert f"({board})" in section[1] or f"`{board}`" in section[1]


def test_each_runbook_is_of_an_alert() -> None:
    text = (ROOT / "docs" / "how-to" / "alerts.md").read_text(encoding="utf-8")
    assert set(re.findall(r"(?m)^## (Otelog\w+)$", text)) == set(EVERY)


@pytest.mark.parametrize("name", COUNTERS)
def test_an_alert_counts_as_the_dashboard_does(name: str) -> None:
    def squeeze(text: str) -> str:
        return re.sub(r"\s+", "", text)

    for counter in COUNTERS[name]:
        assert squeeze(promql.count(counter, "10m")) in squeeze(ALERTS[name]["expr"])


def test_what_the_panels_count_is_exact(tmp_path: Path) -> None:
    """Each way that a counter may go, and what `count` makes of its last ten minutes."""
    ways = {
        "grown": ("100x80 103x20", 3),
        "standing": ("100x120", 0),
        "new": ("_x81 5x20", 5),
        "ended": ("_x80 5x2 stale", 5),
        "ended, grown": ("100x60 103x10 stale", 3),
        "restarted": ("7x80 0x20", 0),
        "restarted just behind the window's beginning": ("7x60 2x40", 2),
    }
    text = {
        "evaluation_interval": "15s",
        "tests": [
            {
                "name": "count",
                "interval": "15s",
                "input_series": [
                    {"series": f'counter_total{{way="{way}"}}', "values": values} for way, (values, _) in ways.items()
                ],
                "promql_expr_test": [
                    {
                        # 100 steps: the window begins with step 60, which is not in it.
                        "expr": promql.count("counter_total", "10m"),
                        "eval_time": "25m",
                        "exp_samples": [
                            {"labels": f'{{way="{way}"}}', "value": value} for way, (_, value) in ways.items()
                        ],
                    }
                ],
            }
        ],
    }
    path = tmp_path / "count.json"
    path.write_text(json.dumps(text), encoding="utf-8")
    promtool("test", "rules", str(path))


def test_what_a_dead_instance_has_left_is_told_apart_from_what_waits(tmp_path: Path) -> None:
    """The Collector shows the last report of an instance for a day: `dead` has 9 in its queue, and reports no more."""
    job = 'job="shop/checkout"'
    series = {
        f'otelog_collector_reports_total{{{job},instance="collector:8889",service_instance_id="dead"}}': "1+1x5 6x20",
        f'otelog_collector_reports_total{{{job},instance="collector:8889",service_instance_id="alive"}}': "1+1x25",
        f'otelog_collector_reports_total{{{job},instance="collector:8889",service_instance_id="new"}}': "_x19 1",
        f'otel_sdk_processor_log_queue_size{{{job},instance="dead"}}': "9x25",
        f'otel_sdk_processor_log_queue_size{{{job},instance="alive"}}': "2x25",
        f'otel_sdk_processor_log_queue_size{{{job},instance="new"}}': "_x19 1",
        'otelog_log_records_queue_size{job="desk",instance="desk:8000"}': "4x25",
    }
    by_otlp, by_scrape = promql.select(promql.WAITING_BY_OTLP), promql.select(promql.WAITING_BY_SCRAPE)
    questions = (
        ("5m", promql.waiting(by_otlp, by_scrape), 9 + 2 + 4),
        ("19m", promql.waiting(by_otlp, by_scrape), 2 + 1 + 4),
        ("19m", promql.left_behind(by_otlp), 9),
    )
    text = {
        "evaluation_interval": "1m",
        "tests": [
            {
                "name": "waiting",
                "interval": "1m",
                "input_series": [{"series": one, "values": values} for one, values in series.items()],
                "promql_expr_test": [
                    {"expr": f"sum({expr})", "eval_time": time, "exp_samples": [{"labels": "{}", "value": value}]}
                    for time, expr, value in questions
                ]
                + [{"expr": f"sum({promql.left_behind(by_otlp)})", "eval_time": "5m"}],
            }
        ],
    }
    path = tmp_path / "waiting.json"
    path.write_text(json.dumps(text), encoding="utf-8")
    promtool("test", "rules", str(path))


@contextmanager
def listening() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook: its URL, and the alerts that it was sent."""
    alerts: list[dict[str, Any]] = []

    class Webhook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            alerts.extend(json.loads(body)["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", alerts
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_instance_that_appears_loses_and_ends_is_told_to_the_webhook(tmp_path: Path) -> None:
    with listening() as (url, received), run_servers(tmp_path, url) as servers:
        wait_until(lambda: servers.value("sum(up)") == TARGETS, SECONDS, what="Prometheus to see its targets")

        def alerts() -> list[Any]:
            found: list[Any] = get_json(f"{servers.prometheus}/api/v1/alerts")["data"]["alerts"]
            return found

        # Before the first scrapes a target is missing; that is pending, and gone with the next evaluation.
        wait_until(
            lambda: [one["labels"]["alertname"] for one in alerts()] == ["OtelogWatchdog"],
            SECONDS,
            what="all rules but the watchdog to be silent",
        )

        # It reports once, when it ends: nobody has seen its counters at zero.
        with run_application("otlp", "checkout", servers, OTEL_METRIC_EXPORT_INTERVAL="600000") as books:
            pass
        lost = f"{NAMESPACE}/checkout has lost {{}} log records: {{}}".format
        wanted = {
            ("OtelogRecordsLost", "queue_full"): lost(books["reasons"]["queue_full"], "queue_full"),
            ("OtelogRecordsLost", "too_large"): lost(1, "too_large"),
            ("OtelogLokiDiscards", "line_too_long"): "Loki has discarded 1 log lines: line_too_long",
        }

        def told() -> dict[tuple[str, str], str]:
            return {
                (alert["labels"]["alertname"], alert["labels"].get("reason", "")): alert["annotations"]["summary"]
                for alert in received
            }

        wait_until(lambda: wanted.keys() <= told().keys(), SECONDS, what=f"the webhook to be told {list(wanted)}")
        assert {key: told()[key] for key in wanted} == wanted
        assert {alert["status"] for alert in received} == {"firing"}
        assert servers.value("sum(prometheus_rule_evaluation_failures_total)") == 0
        assert {name for name, _ in told()} <= {"OtelogRecordsLost", "OtelogLokiDiscards", "OtelogCollectorLoses"}
