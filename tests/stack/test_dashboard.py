"""Every query of the dashboard against a real Prometheus and a real Loki that hold a run with some loss."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.stack import sender_dash
from tests.stack.servers_dash import Servers, get_json, run_application, run_servers, write_targets
from tools.waiting import wait_until

pytest.importorskip("grafana_foundation_sdk", reason="needs Python 3.11")

from tools.dashboards.__main__ import FOLDER, render

SECONDS = 40.0
STEP = 5
ALL = {"service": ".+", "instance": ".*"}

BOARD = json.loads((FOLDER / "otelog-ledger.json").read_text(encoding="utf-8"))
PANELS = {f"{panel['id']} {panel['title']}": panel for panel in BOARD["panels"] if panel["type"] != "row"}
TARGETS = {f"{name} {target['refId']}": target for name, panel in PANELS.items() for target in panel["targets"]}
BARE = {
    "6 Waiting in dead instances A": "nobody is dead for five minutes here; tests/rules has the expression",
    "20 Refused and failed D": "the Collector's queue is not full here",
}


@dataclass(frozen=True)
class Run:
    """What was sent, by two applications: `books` by service."""

    servers: Servers
    books: dict[str, dict[str, Any]]

    def total(self, what: str, *services: str) -> int:
        return sum(self.books[service][what] for service in services or self.books)


def fill_in(expression: str, variables: dict[str, str], window: str) -> str:
    """An expression as Grafana sends it."""
    step = f"{STEP}s"
    values = {"__range": window, "__interval": step, "__interval_ms": str(STEP * 1000), "__auto": step, **variables}
    # `$2` is none of Grafana's variables and stays.
    return re.sub(r"\$([a-z_]\w*)", lambda found: values[found[1]], expression)


def ask(servers: Servers, target: dict[str, Any], variables: dict[str, str], window: str = "1h") -> list[Any]:
    """What the real server answers to a panel's query."""
    expression = fill_in(target["expr"], variables, window)
    of_loki = target["datasource"]["type"] == "loki"
    instant = target.get("instant") or target.get("queryType") == "instant"
    base = f"{servers.loki}/loki/api/v1" if of_loki else f"{servers.prometheus}/api/v1"
    if instant:
        answer = get_json(f"{base}/query", query=expression)
    else:
        end = time.time()
        times = {"start": str(end - 120), "end": str(end), "step": str(STEP)}
        answer = get_json(f"{base}/query_range", query=expression, **times)
    assert answer["status"] == "success", answer
    result: list[Any] = answer["data"]["result"]
    return result


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Four servers, and two applications that have lost records: checkout tells by OTLP, desk by a /metrics."""
    with ExitStack() as stack:
        servers = stack.enter_context(run_servers(tmp_path_factory.mktemp("dashboard")))
        ways = {"checkout": "otlp", "desk": "scrape"}
        books = {name: stack.enter_context(run_application(way, name, servers)) for name, way in ways.items()}
        write_targets(servers.applications, books["desk"]["port"], job=f"{sender_dash.NAMESPACE}/desk")
        _wait_for(servers, books)
        yield Run(servers, books)


def _wait_for(servers: Servers, books: dict[str, dict[str, Any]]) -> None:
    """Until Prometheus has the last of every counter, and Loki every record that it takes."""
    created = sum(one["created"] for one in books.values())
    delivered = sum(one["delivered"] for one in books.values())
    awaited = {
        'sum({__name__=~"otel_sdk_log_created_total|otelog_log_records_created_total"})': created,
        "sum(otelog_collector_log_records_total)": delivered,
        "sum(otelcol_receiver_accepted_log_records_total)": delivered,
        "sum(loki_discarded_samples_total)": len(books),
        "count(otelcol_exporter_send_failed_log_records_total)": 1,
        "sum(otelcol_exporter_queue_size)": 0,
        'count(count by (job) (ALERTS{alertname="OtelogRecordsLost",alertstate="firing"}))': len(books),
    }

    def missing() -> list[str]:
        return [query for query, count in awaited.items() if servers.value(query) != count]

    wait_until(lambda: not missing(), SECONDS, what=f"Prometheus to hold {awaited}")
    query = 'sum(count_over_time({service_name=~".+"}[1h]))'
    url = f"{servers.loki}/loki/api/v1/query"

    def held() -> bool:
        result = get_json(url, query=query)["data"]["result"]
        return bool(result) and int(result[0]["value"][1]) == delivered - len(books)

    wait_until(held, SECONDS, what="Loki to hold all but the long lines")


def test_the_committed_file_is_what_the_generator_makes() -> None:
    assert render() == {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert render() == render()


def test_panels_have_names_and_places_of_their_own() -> None:
    assert BOARD["uid"] == "otelog-ledger"
    assert "id" not in BOARD
    numbers = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or len(panel["description"]) > 20, panel["title"]


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("service", [".+", "(checkout|desk)"])
def test_a_panels_query_is_answered_with_data(run: Run, name: str, service: str) -> None:
    result = ask(run.servers, TARGETS[name], {**ALL, "service": service})
    assert bool(result) == (name not in BARE), BARE.get(name, "no data")


@pytest.mark.parametrize("name", [name for name in TARGETS if "$service" in TARGETS[name]["expr"]])
def test_a_service_that_is_not_there_has_no_data(run: Run, name: str) -> None:
    assert ask(run.servers, TARGETS[name], {**ALL, "service": "nobody"}) == []


def read_stat(run: Run, title: str, variables: dict[str, str] | None = None, window: str = "1h") -> int | None:
    (panel,) = [panel for panel in PANELS.values() if panel["title"] == title and panel["type"] == "stat"]
    result = ask(run.servers, panel["targets"][0], variables or ALL, window)
    return int(result[0]["value"][1]) if result else None


@pytest.mark.parametrize("services", [("checkout",), ("desk",), ("checkout", "desk")])
def test_the_numbers_at_a_glance_are_the_senders_own_ledger(run: Run, services: tuple[str, ...]) -> None:
    assert run.total("lost", *services) > len(services)
    variables = {**ALL, "service": f"({'|'.join(services)})"}
    seen = {title: read_stat(run, title, variables) for title in ("Created", "Delivered", "Lost", "Waiting now")}
    assert seen == {
        "Created": run.total("created", *services),
        "Delivered": run.total("delivered", *services),
        "Lost": run.total("lost", *services),
        "Waiting now": 0,
    }
    assert read_stat(run, "Loki queue now") == 0
    assert read_stat(run, "Waiting in dead instances") is None


def test_the_numbers_are_of_the_time_range_only(run: Run) -> None:
    wait_until(lambda: read_stat(run, "Created", window="2s") == 0, SECONDS, what="two seconds in which nobody logged")
    assert read_stat(run, "Lost", window="2s") == 0
    assert read_stat(run, "Delivered", window="2s") == 0


def test_the_bars_add_up_to_what_was_lost_for_each_reason(run: Run) -> None:
    result = ask(run.servers, TARGETS["12 Lost, by reason A"], ALL)
    sums = {
        (one["metric"]["service"], one["metric"]["reason"]): sum(int(float(value)) for _, value in one["values"])
        for one in result
    }
    lost = {name: books["reasons"] for name, books in run.books.items()}
    expected = {(name, reason): count for name, reasons in lost.items() for reason, count in reasons.items()}
    assert {key: value for key, value in sums.items() if value} == expected
    assert lost["checkout"].keys() == {"queue_full", "too_large"}


def test_the_table_says_which_hop_has_how_many(run: Run) -> None:
    (panel,) = [panel for panel in PANELS.values() if panel["type"] == "table"]
    (renamed,) = [one["options"]["renameByName"] for one in panel["transformations"] if one["id"] == "organize"]
    table: dict[str, dict[str, int]] = {service: {} for service in run.books}
    for target in panel["targets"]:
        for series in ask(run.servers, target, ALL):
            # The panel joins its queries by this label, and by no other.
            assert list(series["metric"]) == ["service"]
            table[series["metric"]["service"]][renamed[f"Value #{target['refId']}"]] = int(series["value"][1])
    assert table == {
        service: {
            "created": books["created"],
            "lost": books["lost_on_the_way"],
            "removed on purpose": sender_dash.UNWANTED,
            "waiting now": 0,
            "delivered": books["delivered"],
            "counted by the Collector": books["delivered"],
            # All but the line that is too long for it.
            "held by Loki": books["delivered"] - 1,
        }
        for service, books in run.books.items()
    }
    for row in table.values():
        assert row["created"] == row["lost"] + row["removed on purpose"] + row["waiting now"] + row["delivered"]
    columns = {"service", *renamed.values()}
    for one in panel["transformations"]:
        if one["id"] == "calculateField":
            assert {one["options"]["binary"]["left"], one["options"]["binary"]["right"]} <= columns


def test_the_last_errors_begin_with_their_trace_id(run: Run) -> None:
    (name,) = [name for name in TARGETS if "Last errors" in name]
    lines = [line for stream in ask(run.servers, TARGETS[name], ALL) for _, line in stream["values"]]
    assert len(lines) == sender_dash.ERRORS * len(run.books)
    assert all(re.fullmatch(r"[0-9a-f]{32} (checkout|desk) failure \d", line) for line in lines), lines


@pytest.mark.parametrize("name", ["service", "instance"])
def test_a_variable_has_the_values_that_are_there(run: Run, name: str) -> None:
    (variable,) = [one for one in BOARD["templating"]["list"] if one["name"] == name]
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert found is not None
    url = f"{run.servers.prometheus}/api/v1/label/{found[2]}/values"
    values = get_json(url, **{"match[]": fill_in(found[1], ALL, "1h")})["data"]
    if name == "service":
        pattern = variable["regex"].strip("/").replace("\\/", "/")
        assert [re.fullmatch(pattern, value)[1] for value in values] == ["checkout", "desk"]  # type: ignore[index]
    else:
        assert len(values) == len(run.books)
        assert any(value == f"127.0.0.1:{run.books['desk']['port']}" for value in values)


def test_every_rule_can_be_evaluated_on_this_data(run: Run) -> None:
    assert run.servers.value("sum(prometheus_rule_evaluation_failures_total)") == 0


def test_alerts_are_drawn_into_the_panels(run: Run) -> None:
    (annotation,) = BOARD["annotations"]["list"]
    assert run.servers.instant(annotation["expr"]) != []
