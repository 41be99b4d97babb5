"""Every query of every board against a real Prometheus and a real Loki that hold a run with some loss."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.grafana import ALL, BOARDS, FOLDER, STEP, Target, Value, fill_in, panels_of, targets, variables_of
from tests.stack import sender_dash
from tests.stack.servers_dash import Servers, get_json, run_application, run_servers, write_targets
from tools.waiting import wait_until

pytest.importorskip("grafana_foundation_sdk", reason="needs Python 3.11")

from tools.dashboards.__main__ import render

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60.0
ODD = "odd.v2+(eu)|[x]^$*?{1}"
"""A service whose name is full of what regular expressions mean something by."""
WAYS = {"checkout": "otlp", "desk": "scrape", ODD: "shop"}

LEDGER = BOARDS["otelog-ledger"]
TARGETS = {target.name: target for target in targets()}
CHOICES: dict[str, Value] = {"all": ALL, "one": [ODD], "two": ["checkout", ODD]}

BARE = {
    "otelog-ledger: Refused and failed A": "the Collector has had memory enough",
    "otelog-ledger: Refused and failed B": "the Collector has had no error of its own",
    "otelog-ledger: Refused and failed D": "the Collector's queue is not full here",
    "otelog-ledger: Resent, outcome unknown A": "every request was answered at once",
    "otelog-ledger: Resent, outcome unknown B": "every request was answered at once",
    "otelog-ledger: Cut to fit A": "nothing was cut",
    "otelog-backend: Refused and failed A": "the Collector has had memory enough",
    "otelog-backend: Refused and failed B": "the Collector has had no error of its own",
    "otelog-backend: Refused and failed D": "the Collector's queue is not full here",
    "otelog-errors: Same time yesterday A": "there was no yesterday; see test_dashboard_expressions.py",
    "otelog-errors: Times yesterday's A": "there was no yesterday; see test_dashboard_expressions.py",
    "otelog-errors: Today and yesterday B": "there was no yesterday; see test_dashboard_expressions.py",
}
ABSENT = {
    "otelog_log_queue_peak": ("otelog/_ledger/otel_metrics.py", "otelog.log.queue.peak"),
    "otelog_log_records_queue_peak": ("otelog/prometheus.py", "queue_peak"),
    "otelog_log_records_queue_peak_ratio": ("otelog/prometheus.py", "queue_peak"),
    "otelog_log_start_time_seconds": ("otelog/_ledger/otel_metrics.py", "otelog.log.start.time"),
    "otelog_log_end_time_seconds": ("otelog/_ledger/otel_metrics.py", "otelog.log.end.time"),
    "otelog:missing_in_collector:records": ("collector/rules", "record: otelog:missing_in_collector:records"),
    "otelog:missing_in_output:records": ("collector/rules", "record: otelog:missing_in_output:records"),
    "otelog:missing_in_loki:records": ("collector/rules", "record: otelog:missing_in_loki:records"),
    "otelog:incomparable": ("collector/rules", "record: otelog:incomparable"),
}
"""Which file makes a metric; only while it does not, the metric may be absent."""
BESIDE = {"otelog_log_start_time_seconds"}
"""Of these, those that have something in their place while they are absent."""
MOMENT = "comparable or not is a matter of the moment, or there is no rule yet"


@dataclass(frozen=True)
class Run:
    """What was sent, by three applications: `books` by service."""

    servers: Servers
    books: dict[str, dict[str, Any]]

    def total(self, what: str, *services: str) -> int:
        return sum(self.books[service][what] for service in services or self.books)


def ask(servers: Servers, target: Target, values: Mapping[str, Value] | None = None, window: str = "1h") -> list[Any]:
    """What the real server answers to a panel's query."""
    expression = target.fill_in(values, window)
    base = f"{servers.loki}/loki/api/v1" if target.of_loki else f"{servers.prometheus}/api/v1"
    if target.instant:
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
    """Four servers, and three applications that have lost records; desk has a /metrics, the others send theirs."""
    with ExitStack() as stack:
        servers = stack.enter_context(run_servers(tmp_path_factory.mktemp("dashboard")))
        detectors = {"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "process,host"}
        books = {
            name: stack.enter_context(run_application(way, name, servers, **detectors)) for name, way in WAYS.items()
        }
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
        # A rate needs two samples.
        'count(rate(loki_request_duration_seconds_count{route="otlp_v1_logs"}[20s])) > bool 0': 1,
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


def test_the_committed_files_are_what_the_generator_makes() -> None:
    assert render() == {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert render() == render()


def is_made(metric: str) -> bool:
    """Whether this tree has what makes a metric of ABSENT."""
    place, sign = ABSENT[metric]
    path = ROOT / place
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    return any(sign in file.read_text(encoding="utf-8") for file in files if file.is_file())


def why_bare(target: Target) -> str:
    """Why a query may be answered without data; empty: it may not."""
    if target.name in BARE:
        return BARE[target.name]
    named = [metric for metric in ABSENT if metric in target.expression and metric not in BESIDE]
    if "otelog:missing_in_(collector|output|loki):records" in target.expression:
        named = ["otelog:missing_in_collector:records"]
    if any(metric.startswith("otelog:") for metric in named):
        return MOMENT
    if named and not any(is_made(metric) for metric in named):
        return f"nothing exports {named} yet"
    return ""


@pytest.mark.parametrize("name", TARGETS)
def test_a_panels_query_is_answered_with_data(run: Run, name: str) -> None:
    target = TARGETS[name]
    bare = why_bare(target)
    for choice, value in CHOICES.items():
        values = {"service": value} if "service" in variables_of(BOARDS[target.board]) else {}
        result = ask(run.servers, target, values)
        assert bare == MOMENT or bool(result) == (not bare), f"{choice}: {bare or 'no data'}"


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if "${service" in target.expression])
def test_a_service_that_is_not_there_has_no_data(run: Run, name: str) -> None:
    # Parts of other services' names, which are regular expressions that fit them.
    assert ask(run.servers, TARGETS[name], {"service": ["nobody", "check.ut", "."]}) == []


def test_what_is_missing_or_incomparable(run: Run) -> None:
    """Every service is either compared, or listed with a reason."""
    if not is_made("otelog:incomparable"):
        assert not run.servers.instant("otelog:incomparable")
        return
    wait_until(
        lambda: run.servers.instant('{__name__=~"otelog:(missing_in_.+:records|incomparable)"}') != [],
        SECONDS,
        what="a rule's result",
    )


TEXTS: dict[str, Value] = {
    "text": sender_dash.TEXT,
    "level": ["info", "error"],
    "environment": [sender_dash.ENVIRONMENT],
    "service": [ODD],
}


def test_a_text_with_quotes_and_backslashes_finds_its_records(run: Run) -> None:
    lines = [
        line for stream in ask(run.servers, TARGETS["otelog-logs: Lines A"], TEXTS) for _, line in stream["values"]
    ]
    assert lines == [f"answered {sender_dash.TEXT}"] * 2
    shouted = {**TEXTS, "text": sender_dash.TEXT.upper()}
    assert ask(run.servers, TARGETS["otelog-logs: Lines A"], shouted) != []


@pytest.mark.parametrize(
    "other",
    [
        {"text": "5.% of"},
        {"text": r"50\d"},
        {"environment": ["test .eu.|1"]},
        {"level": ["warn"]},
        {"logger": "sen.er"},
        {"trace": "0000"},
        {"request": "0000"},
        {"instance_id": "0000"},
    ],
    ids=str,
)
def test_another_choice_does_not_find_them(run: Run, other: dict[str, Value]) -> None:
    assert ask(run.servers, TARGETS["otelog-logs: Lines A"], {**TEXTS, **other}) == []


def test_from_a_line_to_all_records_of_its_trace_its_request_and_its_instance(run: Run) -> None:
    target = TARGETS["otelog-logs: Follow a record A"]
    failed, _ = [
        stream["stream"] for stream in ask(run.servers, target, {"service": [ODD], "text": "/orders/<int:number> 500"})
    ]
    for variable, label in (("trace", "trace_id"), ("request", "request_id"), ("instance_id", "service_instance_id")):
        found = ask(run.servers, target, {variable: failed[label]})
        assert {stream["stream"][label] for stream in found} == {failed[label]}
        # The exception's record, too.
        assert any("exception_type" in stream["stream"] for stream in found)


def columns_in_the_data(panel: dict[str, Any]) -> set[str]:
    """The labels that a table takes from the data."""
    (order,) = [one["options"]["indexByName"] for one in panel["transformations"] if one["id"] == "organize"]
    return {name for name in order if not name.startswith("Value")} - {"Time", "Line"}


@pytest.mark.parametrize(
    "name", [name for name, target in TARGETS.items() if target.panel["type"] == "table" and not why_bare(target)]
)
def test_a_tables_columns_are_labels_of_the_data(run: Run, name: str) -> None:
    target = TARGETS[name]
    labels: set[str] = set()
    for series in ask(run.servers, target):
        labels |= {key for key, value in (series.get("metric") or series["stream"]).items() if value}
    missing = columns_in_the_data(target.panel) - labels
    if target.board == "otelog-backend":
        # An alert has a job or an exporter or a reason.
        missing -= {"job", "exporter", "reason"}
    assert not missing


def metrics_in(expression: str) -> set[str]:
    """The names of metrics in a PromQL expression; those that are a regular expression, as one."""
    bare = re.sub(r'"[^"]*"|`[^`]*`', '""', expression)
    words = {
        found[1]
        for found in re.finditer(r"(?<![\w:.$])([a-z_][\w:]*[\w:])(?![\w:]*\s*(?:\(|=~|!~|=|!=\"))", bare)
        if "_" in found[1] or ":" in found[1]
    }
    grouped = {
        word for group in re.findall(r"(?:by|on|group_left) \(([^)]*)\)", bare) for word in re.findall(r"\w+", group)
    }
    patterns = set(re.findall(r'__name__=~"([^"]*)"', expression))
    return (words - grouped - {"group_left"} | patterns) | set(re.findall(r"\b(?:up|ALERTS)\b", bare))


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if not target.of_loki])
def test_a_metric_is_exported_by_something_that_runs(run: Run, name: str) -> None:
    known = get_json(f"{run.servers.prometheus}/api/v1/label/__name__/values")["data"]
    asked = metrics_in(TARGETS[name].expression)
    assert asked
    for pattern in asked:
        if any(re.fullmatch(pattern, metric) for metric in known):
            continue
        absent = [metric for metric in ABSENT if re.fullmatch(pattern, metric)]
        assert absent or name in BARE, f"nothing exports {pattern}"
        assert not any(is_made(metric) and not metric.startswith("otelog:") for metric in absent)


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.of_loki])
def test_a_field_is_in_records_that_are_held(run: Run, name: str) -> None:
    """Names in a LogQL query against the structured metadata and labels that Loki has."""
    series = ask(run.servers, TARGETS["otelog-logs: Lines A"])
    series += ask(run.servers, TARGETS["otelog-requests: Slow requests A"])
    series += ask(run.servers, TARGETS["otelog-ai: Calls, the latest A"])
    known = {key for one in series for key in one["stream"]}
    bare = re.sub(r"label_format \w+=|\(\?i\)", "", TARGETS[name].expression)
    templates = " ".join(re.findall(r"\{\{[^{}]*\}\}", bare))
    outside = re.sub(r'"[^"]*"|`[^`]*`', "", bare)
    asked = set(re.findall(r"\.([a-z]\w*_\w+)", templates)) | set(
        re.findall(r"(?<![$\w])[a-z]\w*_\w+(?!\w*\()", outside)
    )
    functions = {
        "count_over_time",
        "sum_over_time",
        "bytes_over_time",
        "quantile_over_time",
        "label_format",
        "line_format",
    }
    assert asked - functions - known - {"__error__"} == set()


def read_stat(run: Run, title: str, values: Mapping[str, Value] | None = None, window: str = "1h") -> float | None:
    result = ask(run.servers, TARGETS[f"otelog-ledger: {title} A"], values, window)
    return float(result[0]["value"][1]) if result else None


@pytest.mark.parametrize("services", [("checkout",), ("desk",), ("checkout", "desk"), (ODD,), (ODD, "desk")], ids=len)
def test_the_numbers_at_a_glance_are_the_senders_own_ledger(run: Run, services: tuple[str, ...]) -> None:
    assert run.total("lost", *services) > len(services)
    variables = {"service": list(services)}
    seen = {title: read_stat(run, title, variables) for title in ("Created", "Delivered", "Lost", "Waiting now")}
    assert seen == {
        "Created": run.total("created", *services),
        "Delivered": run.total("delivered", *services),
        "Lost": run.total("lost", *services),
        "Waiting now": 0,
    }
    assert read_stat(run, "Loki queue now") == 0
    assert read_stat(run, "Left by the dead") == 0
    assert read_stat(run, "Targets down") == 0
    assert (read_stat(run, "Alerts firing") or 0) > 0


def test_where_nobody_reports_there_is_no_figure_that_could_be_green(run: Run) -> None:
    titles = [panel["title"] for panel in panels_of(LEDGER) if panel["type"] == "stat"]
    of_services = [title for title in titles if "${service" in TARGETS[f"otelog-ledger: {title} A"].expression]
    assert {title: read_stat(run, title, {"service": ["nobody"]}) for title in of_services} == dict.fromkeys(
        of_services
    )
    assert {"Lost", "Left by the dead", "Waiting now"} < set(of_services)


def test_the_numbers_are_of_the_time_range_only(run: Run) -> None:
    wait_until(lambda: read_stat(run, "Created", window="2s") == 0, SECONDS, what="two seconds in which nobody logged")
    assert read_stat(run, "Lost", window="2s") == 0
    assert read_stat(run, "Delivered", window="2s") == 0


def test_the_table_has_every_loss_with_its_instance_and_the_time(run: Run) -> None:
    records = ask(run.servers, TARGETS["otelog-ledger: Lost, by reason A"])
    found = {
        (one["metric"]["service"], one["metric"]["reason"]): int(one["value"][1]) for one in records if one["metric"]
    }
    lost = {name: books["reasons"] for name, books in run.books.items()}
    # No line for what was not lost.
    assert found == {(name, reason): count for name, reasons in lost.items() for reason, count in reasons.items()}
    assert lost["checkout"].keys() == {"queue_full", "too_large"}
    times = ask(run.servers, TARGETS["otelog-ledger: Lost, by reason B"])
    assert {tuple(sorted(one["metric"].items())) for one in times} == {
        tuple(sorted(one["metric"].items())) for one in records
    }
    assert all(0 <= time.time() - float(one["value"][1]) / 1000 < 600 for one in times)


def test_an_instance_has_host_and_process_beside_its_id(run: Run) -> None:
    rows = [one["metric"] for one in ask(run.servers, TARGETS["otelog-ledger: Instances A"])]
    by_job = {row["job"]: row for row in rows}
    assert by_job.keys() == {f"{sender_dash.NAMESPACE}/checkout", f"{sender_dash.NAMESPACE}/desk", ODD}
    for job in (f"{sender_dash.NAMESPACE}/checkout", ODD):
        assert by_job[job]["process_pid"].isdecimal()
        assert by_job[job]["host_name"]
    # By its own /metrics there is no resource; its instance is its address.
    assert by_job[f"{sender_dash.NAMESPACE}/desk"]["instance"].startswith("127.0.0.1:")


def test_the_bars_add_up_to_what_was_lost_for_each_reason(run: Run) -> None:
    result = ask(run.servers, TARGETS["otelog-ledger: Lost over time A"])
    sums = {
        (one["metric"]["service"], one["metric"]["reason"]): sum(int(float(value)) for _, value in one["values"])
        for one in result
    }
    lost = {name: books["reasons"] for name, books in run.books.items()}
    expected = {(name, reason): count for name, reasons in lost.items() for reason, count in reasons.items()}
    assert {key: value for key, value in sums.items() if value} == expected


def test_the_steps_go_from_created_to_held(run: Run) -> None:
    (panel,) = [panel for panel in panels_of(LEDGER) if panel["type"] == "bargauge"]
    steps = [(query["legendFormat"], Target("otelog-ledger", panel, query)) for query in panel["targets"]]
    seen: dict[str, int] = {}
    for name, target in steps:
        for series in ask(run.servers, target):
            seen[re.sub(r"\{\{(\w+)\}\}", lambda found: series["metric"][found[1]], name)] = int(series["value"][1])  # noqa: B023
    delivered, created = run.total("delivered"), run.total("created")
    assert list(seen)[:3] == ["created", "exported", "accepted by the Collector"]
    assert (seen["created"], seen["exported"], seen["accepted by the Collector"]) == (created, delivered, delivered)
    assert seen["sent to file/app"] == delivered
    # All but the lines that are too long for it.
    assert seen["held by Loki"] == delivered - len(run.books)


def test_the_table_says_which_hop_has_how_many(run: Run) -> None:
    (panel,) = [panel for panel in panels_of(LEDGER) if panel["title"] == "By service"]
    (renamed,) = [one["options"]["renameByName"] for one in panel["transformations"] if one["id"] == "organize"]
    table: dict[str, dict[str, int]] = {service: {} for service in run.books}
    for query in panel["targets"]:
        column = renamed[f"Value #{query['refId']}"]
        if column == "missing":
            continue
        for series in ask(run.servers, Target("otelog-ledger", panel, query)):
            # The panel joins its queries by this label, and by no other.
            assert list(series["metric"]) == ["service"]
            table[series["metric"]["service"]][column] = int(series["value"][1])
    assert table == {
        service: {
            "created": books["created"],
            "lost": books["lost_on_the_way"],
            "removed": sender_dash.UNWANTED,
            "waiting": 0,
            "delivered": books["delivered"],
            "counted": books["delivered"],
            # All but the line that is too long for it.
            "held": books["delivered"] - 1,
        }
        for service, books in run.books.items()
    }
    for row in table.values():
        assert row["created"] == row["lost"] + row["removed"] + row["waiting"] + row["delivered"]


def test_the_last_errors_begin_with_their_trace_id(run: Run) -> None:
    streams = ask(run.servers, TARGETS["otelog-ledger: Last errors A"], {"service": ["checkout", "desk"]})
    lines = [line for stream in streams for _, line in stream["values"]]
    assert len(lines) == sender_dash.ERRORS * 2
    assert all(re.fullmatch(r"[0-9a-f]{32} (checkout|desk) failure \d", line) for line in lines), lines


def test_requests_are_counted_by_route_and_by_duration(run: Run) -> None:
    def read(title: str, letter: str, **values: Value) -> dict[str, float]:
        found = ask(run.servers, TARGETS[f"otelog-requests: {title} {letter}"], values)
        return {
            str(one["metric"].get("http_route") or one["metric"].get("slower")): float(one["value"][1]) for one in found
        }

    route = "/orders/<int:number>"
    assert read("Routes", "A") == {route: 4, "/answer": 1}
    assert read("Routes", "B") == {route: 2, "/answer": 0}
    # Between the longest and the one before.
    assert 0.25 <= read("Routes", "E")[route] < 30
    assert read("By duration", "A")["0.25"] >= 1
    assert sum(read("By duration", "A").values()) == 5
    slow = ask(run.servers, TARGETS["otelog-requests: Slow requests A"], {"slower": "0.25"})
    assert [float(one["stream"]["http_server_request_duration"]) >= 0.25 for one in slow].count(False) == 0
    assert slow
    assert read("Routes", "A", route="/orders/<int") == {route: 4}
    assert read("Routes", "A", route="/orders/.int") == {}


def test_calls_of_models_are_counted_with_their_tokens(run: Run) -> None:
    def read(letter: str) -> list[float]:
        return [
            float(one["value"][1]) for one in ask(run.servers, TARGETS[f"otelog-ai: Models and operations {letter}"])
        ]

    assert [read(letter) for letter in "ABCD"] == [[3], [1], [40], [14]]
    assert read("E") == [1.5]
    assert 20 < read("F")[0] <= 30


def test_an_exception_is_new_if_it_was_not_there_before(run: Run) -> None:
    kinds, new = (TARGETS[f"otelog-errors: {title} A"] for title in ("By exception", "New since yesterday"))
    assert [one["metric"]["exception_type"] for one in ask(run.servers, kinds)] == ["ZeroDivisionError"]
    assert [one["metric"] for one in ask(run.servers, new)] == [one["metric"] for one in ask(run.servers, kinds)]
    traces = ask(run.servers, TARGETS["otelog-errors: Stack traces A"])
    first, last = sorted(int(when) for stream in traces for when, _ in stream["values"])
    # The second alone is in this time, and the first alone in the time just before.
    window, now = f"{(last - first) * 3 // 4_000_000}ms", str(last + 1_000_000)

    def read(target: Target) -> list[Any]:
        query = target.fill_in(window=window)
        result: list[Any] = get_json(f"{run.servers.loki}/loki/api/v1/query", query=query, time=now)["data"]["result"]
        return result

    assert [one["value"][1] for one in read(kinds)] == ["1"]
    assert read(new) == []


def test_a_stack_trace_is_shown_whole(run: Run) -> None:
    streams = ask(run.servers, TARGETS["otelog-errors: Stack traces A"])
    line, _ = (line for stream in streams for _, line in stream["values"])
    first, *rest = line.splitlines()
    assert first == f"{ODD} ZeroDivisionError: {sender_dash.TEXT}"
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[-1] == f"ZeroDivisionError: {sender_dash.TEXT}"


OF_PROMETHEUS = [
    (uid, name)
    for uid, board in BOARDS.items()
    for name, variable in variables_of(board).items()
    if variable["type"] == "query" and variable["datasource"]["type"] == "prometheus"
]
OF_LOKI = [
    (uid, name)
    for uid, board in BOARDS.items()
    for name, variable in variables_of(board).items()
    if variable["type"] == "query" and variable["datasource"]["type"] == "loki"
]


@pytest.mark.parametrize(("uid", "name"), OF_PROMETHEUS)
@pytest.mark.parametrize("choice", CHOICES)
def test_a_variable_has_the_values_that_prometheus_has(run: Run, uid: str, name: str, choice: str) -> None:
    variable = variables_of(BOARDS[uid])[name]
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert found is not None
    url = f"{run.servers.prometheus}/api/v1/label/{found[2]}/values"
    values = get_json(url, **{"match[]": fill_in(found[1], BOARDS[uid], {"service": CHOICES[choice]})})["data"]
    if name == "service":
        pattern = variable["regex"].strip("/").replace("\\/", "/")
        assert sorted(re.fullmatch(pattern, value)[1] for value in values) == sorted(WAYS)  # type: ignore[index]
    else:
        assert len(values) == {"all": len(run.books), "one": 1, "two": 2}[choice]


@pytest.mark.parametrize(("uid", "name"), OF_LOKI)
def test_a_variable_has_the_values_that_loki_has(run: Run, uid: str, name: str) -> None:
    asked = variables_of(BOARDS[uid])[name]["query"]
    assert asked["stream"] == ""
    values = get_json(f"{run.servers.loki}/loki/api/v1/label/{asked['label']}/values")["data"]
    assert sorted(values) == (sorted(WAYS) if name == "service" else [sender_dash.ENVIRONMENT])


def test_every_rule_can_be_evaluated_on_this_data(run: Run) -> None:
    assert run.servers.value("sum(prometheus_rule_evaluation_failures_total)") == 0


@pytest.mark.parametrize("uid", BOARDS)
def test_alerts_are_drawn_into_the_panels(run: Run, uid: str) -> None:
    (annotation,) = BOARDS[uid]["annotations"]["list"]
    assert run.servers.instant(annotation["expr"]) != []
