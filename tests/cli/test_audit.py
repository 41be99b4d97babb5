"""`otelog audit` against scripted servers: what it reads of them, what it says, and its exit code."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from otelog.audit.books import Application, Books, Collector, Exporter, FileRecords, Loki
from otelog.audit.checks import reconcile
from otelog.audit.reading import Reader, Sources
from otelog.cli.audit.command import find_sources, settle
from otelog.cli.audit.screen import list_services, show_audit
from otelog.cli.commands import otelog
from otelog.cli.stack.settings import PORTS, Settings, State
from tools.loopback import find_free_ports

OTLP = 'otel_component_name="otlp/0",otel_component_type="otlp_http_log_exporter",server_port="4318"'
# Another Collector, of which nothing is seen here.
OTHER = 'otel_component_name="otlp/1",otel_component_type="otlp_http_log_exporter",server_port="9999"'


class Server:
    """A server whose answers are in `pages`, by path; a query's by its text. Others are 404."""

    def __init__(self) -> None:
        self.pages: dict[str, Any] = {}
        self.asked: list[dict[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                server.asked.append(query)
                page = server.pages.get(parts.path)
                if callable(page):
                    page = page(query)
                body = (page if isinstance(page, str) else json.dumps(page)).encode()
                self.send_response(404 if page is None else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def result(*samples: tuple[Mapping[str, str], Any]) -> dict[str, Any]:
    return {"data": {"result": [{"metric": labels, "value": [1.0, str(value)]} for labels, value in samples]}}


def write_ledger(created: int = 10, exported: int = 9, queued: int = 0) -> str:
    own = 'job="shop",instance="i"'
    return f"""
otel_sdk_log_created_total{{{own}}} {created}
otel_sdk_processor_log_queue_size{{{own}}} {queued}
otelog_log_refused_total{{{own},reason="queue_full",otelog_severity="info"}} 1
otelog_log_removed_total{{{own},reason="sampled"}} 0
otel_sdk_exporter_log_exported_total{{{own},{OTLP}}} {exported}
otel_sdk_exporter_log_exported_total{{{own},{OTLP},error_type="rejected"}} 0
otel_sdk_exporter_log_exported_total{{{own},{OTHER}}} 100
otel_sdk_exporter_log_inflight{{{own},{OTLP}}} 0
otelog_collector_log_records_total{{job="shop",severity="error"}} 2
otelog_collector_log_records_total{{job="shop",severity="info"}} 7
"""


def write_own(accepted: int = 9, sent: int = 9, queued: int = 0) -> str:
    return f"""
otelcol_receiver_accepted_log_records_total{{receiver="otlp"}} {accepted}
otelcol_exporter_sent_log_records_total{{exporter="otlp_http/loki"}} {sent}
otelcol_exporter_queue_size{{exporter="otlp_http/loki"}} {queued}
otelcol_exporter_sent_log_records_total{{exporter="file/app"}} {accepted}
otelcol_exporter_sent_log_records_total{{exporter="file/errors"}} 2
otelcol_processor_outgoing_items_total{{processor="filter/errors",otel_signal="logs"}} 2
otelcol_processor_outgoing_items_total{{processor="filter/ai",otel_signal="logs"}} 0
"""


LOKI = """
loki_distributor_lines_received_total{tenant="fake",policy=""} 9
loki_discarded_samples_total{reason="line_too_long"} 1
"""


@pytest.fixture
def servers() -> Iterator[dict[str, Server]]:
    """A stack in which ten records were created, one was refused, and Loki did not take one of the rest."""
    several = {name: Server() for name in ("applications", "collector", "loki", "prometheus")}
    several["applications"].pages["/metrics"] = write_ledger()
    several["collector"].pages["/metrics"] = write_own()
    several["loki"].pages.update(
        {"/metrics": LOKI, "/loki/api/v1/query": result(({"service_name": "shop", "service_namespace": ""}, 8))}
    )
    several["prometheus"].pages["/api/v1/query"] = result()
    yield several
    for server in several.values():
        server.close()


def audit(servers: Mapping[str, Server], folder: Path, *arguments: str) -> Result:
    urls = [word for name, server in servers.items() for word in (f"--{name}", server.url)]
    options = ["--folder", str(folder), "--data-dir", str(folder / "none"), "--wait", "0"]
    return CliRunner().invoke(otelog, ["audit", *urls, *options, *arguments])


def write_files(folder: Path, *, errors: int = 2) -> None:
    def document(numbers: list[int]) -> str:
        logs = [{"timeUnixNano": str(10**18), "severityNumber": n, "body": {}} for n in numbers]
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
        scopes = [{"scope": {}, "logRecords": logs}]
        return json.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": scopes}]}, separators=(",", ":"))

    (folder / "app.jsonl").write_text(document([9] * 7 + [17] * 2) + "\n")
    (folder / "errors.jsonl").write_text(document([17] * errors) + "\n")


def test_a_run_whose_every_difference_has_a_reason_exits_with_0(servers: dict[str, Server], tmp_path: Path) -> None:
    write_files(tmp_path)
    done = audit(servers, tmp_path)
    assert done.exit_code == 0, done.output
    assert "in the application shop: refused, queue_full: 1 record lost" in done.stdout
    assert "in Loki: discarded, line_too_long: 1 record lost" in done.stdout
    assert "Every record is accounted for: 2 lost, each counted with its reason." in done.stdout


def test_a_difference_without_a_reason_exits_with_1_and_names_the_hop(
    servers: dict[str, Server], tmp_path: Path
) -> None:
    write_files(tmp_path, errors=1)
    done = audit(servers, tmp_path, "--json")
    body = json.loads(done.stdout)
    assert (done.exit_code, body["verdict"]) == (1, "unexplained")
    [hop] = [hop for hop in body["hops"] if hop["verdict"] == "unexplained"]
    assert (hop["hop"], hop["unexplained"], hop["services"]) == ("errors.jsonl", 1, {"shop": {"before": 2, "after": 1}})
    assert hop["sentence"].startswith("errors.jsonl: 1 record missing (2 written, 1 in the file), of shop")


def test_what_is_queued_is_on_the_way(servers: dict[str, Server], tmp_path: Path) -> None:
    write_files(tmp_path)
    servers["collector"].pages["/metrics"] = write_own(sent=8, queued=1)
    servers["loki"].pages["/metrics"] = LOKI.replace("} 9", "} 8")
    servers["loki"].pages["/loki/api/v1/query"] = result(({"service_name": "shop"}, 7))
    done = audit(servers, tmp_path)
    assert done.exit_code == 0, done.output
    assert "Loki's exporter: in its queue: 1 record on the way" in done.stdout


def test_it_waits_for_what_is_on_the_way_and_no_longer(servers: dict[str, Server]) -> None:
    answers = iter([write_own(sent=7, queued=2), write_own(sent=8, queued=1), write_own()])
    servers["collector"].pages["/metrics"] = lambda _: next(answers)
    reader = Reader(Sources(**{name: server.url for name, server in servers.items()}))
    slept: list[float] = []
    reading, _ = settle(reader, 60.0, clock=lambda: sum(slept), sleep=slept.append)
    reader.close()
    assert len(slept) == 2
    assert reading.books.collector is not None and reading.books.collector.exporters["otlp_http/loki"].queued == 0


def test_records_that_still_come_when_the_time_is_over_are_no_loss(servers: dict[str, Server]) -> None:
    taken = iter(range(9, 100))
    servers["collector"].pages["/metrics"] = lambda _: write_own(accepted=next(taken))
    reader = Reader(Sources(**{name: server.url for name, server in servers.items()}))
    slept: list[float] = []
    # The first look agrees by chance: the next one is needed.
    next(taken)
    reading, _ = settle(reader, 1.5, clock=lambda: sum(slept), sleep=slept.append)
    reader.close()
    assert reading.books.moving == 1
    assert any("still coming" in note for note in reading.notes)


def test_a_source_that_does_not_answer_is_said_and_spoils_nothing(servers: dict[str, Server], tmp_path: Path) -> None:
    write_files(tmp_path)
    [port] = find_free_ports(1)
    done = audit(servers, tmp_path, "--loki", f"127.0.0.1:{port}", "--json")
    body = json.loads(done.stdout)
    assert (done.exit_code, body["exit_code"], body["not_seen"]) == (3, 3, ["Loki's exporter -> Loki", "in Loki"])
    assert body["conclusion"] == (
        "Where it was seen, every record is accounted for: 1 lost, each counted with its reason. "
        "Not seen, 2 of 15 hops: Loki's exporter -> Loki; in Loki."
    )
    assert f"http://127.0.0.1:{port} does not answer" in body["missing"]["loki"]
    assert {hop["verdict"] for hop in body["hops"] if "Loki" in hop["hop"]} == {"equal", "not seen"}
    done = audit(servers, tmp_path, "--loki", f"127.0.0.1:{port}", "--require", "loki")
    assert (done.exit_code, "required, but not seen: loki" in done.stderr) == (2, True)


def test_where_nothing_answers_it_exits_with_2(tmp_path: Path) -> None:
    [port] = find_free_ports(1)
    nobody = [
        word for name in ("applications", "collector", "loki", "prometheus") for word in (f"--{name}", f":{port}")
    ]
    done = CliRunner().invoke(otelog, ["audit", *nobody, "--folder", str(tmp_path / "none"), "--wait", "0"])
    assert done.exit_code == 2
    assert "is the stack up?" in done.stderr


def test_what_counters_had_before_a_restart_comes_from_prometheus(servers: dict[str, Server], tmp_path: Path) -> None:
    """The Collector was killed after five records, and counts four since."""
    metric = {"receiver": "otlp", "job": "otelog-collector", "instance": "c:8888"}
    name = "otelcol_receiver_accepted_log_records_total"

    def answer(query: dict[str, str]) -> dict[str, Any]:
        text = query["query"]
        if text.startswith("last_over_time(up["):
            return result(({"job": "otelog-collector", "instance": "c:8888"}, 1))
        if text.startswith(f"resets({name}["):
            return result((metric, 1))
        if text.startswith((f"last_over_time({name}[", name)) and "{" not in text:
            return result((metric, 2))
        if text.startswith(f"{name}{{"):
            return {"data": {"result": [{"metric": metric, "values": [[1.0, "3"], [2.0, "5"], [3.0, "2"]]}]}}
        return result()

    servers["prometheus"].pages["/api/v1/query"] = answer
    servers["collector"].pages["/metrics"] = write_own(accepted=4)
    done = audit(servers, tmp_path, "--json")
    body = json.loads(done.stdout)
    [hop] = [hop for hop in body["hops"] if hop["hop"] == "application -> Collector"]
    assert hop["after"] == {"name": "accepted", "records": 9}
    assert "the Collector began again 1 time (last scraped before that at 00:00:02 UTC)" in " ".join(body["notes"])


def test_a_window_is_exact_at_its_beginning(servers: dict[str, Server], tmp_path: Path) -> None:
    since = "2026-11-25T10:00:00.000001+00:00"
    audit(servers, tmp_path, "--since", since)
    [asked] = [query for query in servers["loki"].asked if "count_over_time" in query.get("query", "")]
    window_ms = int(asked["query"].rpartition("[")[2].partition("ms")[0])
    assert int(asked["time"]) - window_ms * 10**6 == 1795600800_000001_000


def test_one_service_alone(servers: dict[str, Server], tmp_path: Path) -> None:
    write_files(tmp_path, errors=1)
    assert audit(servers, tmp_path, "--service", "shop").exit_code == 1
    assert audit(servers, tmp_path, "--service", "nobody").exit_code == 2


def test_an_endpoint_that_answers_nonsense_is_a_source_that_was_not_seen(
    servers: dict[str, Server], tmp_path: Path
) -> None:
    servers["loki"].pages["/loki/api/v1/query"] = "<html>"
    servers["prometheus"].pages["/api/v1/query"] = {"data": {"result": None}}
    write_files(tmp_path)
    done = audit(servers, tmp_path, "--json")
    body = json.loads(done.stdout)
    assert "no result of a query" in body["missing"]["loki"]
    assert "no list" in body["missing"]["prometheus"]
    assert (done.exit_code, body["not_seen"]) == (3, ["in Loki"]), done.output


def test_the_options_go_before_the_environment_and_that_before_a_running_stack(tmp_path: Path) -> None:
    ports = {**PORTS, "loki": 3111, "prometheus": 9111, "applications": 8811, "otlp-http": 4311}
    state = State("native", Settings(ports=ports))
    (tmp_path / "collector" / "data" / "logs").mkdir(parents=True)
    found = find_sources({"OTELOG_LOKI": "http://loki:3100/"}, state, tmp_path, prometheus="p:1")
    assert (found.loki, found.prometheus, found.applications) == (
        "http://loki:3100",
        "http://p:1",
        "http://localhost:8811",
    )
    assert found.folder == tmp_path / "collector" / "data" / "logs"
    assert "4311" in found.otlp_ports
    assert find_sources({}).collector == "http://localhost:8888"


# What was not seen is said, and is no health.


def test_one_hop_of_ten_is_not_nothing_lost(servers: dict[str, Server], tmp_path: Path) -> None:
    [port] = find_free_ports(1)
    nobody = [word for name in ("applications", "loki", "prometheus") for word in (f"--{name}", f"127.0.0.1:{port}")]
    done = audit(servers, tmp_path / "none", *nobody)
    assert done.exit_code == 3, done.output
    said = " ".join(done.stdout.split())
    assert "Where it was seen, every record is accounted for: nothing lost. Not seen, 9 of 13 hops:" in said
    assert "in Loki" in said.partition("Not seen")[2]


def test_a_loss_beside_what_was_not_seen_is_a_loss(servers: dict[str, Server], tmp_path: Path) -> None:
    write_files(tmp_path, errors=1)
    [port] = find_free_ports(1)
    done = audit(servers, tmp_path, "--loki", f"127.0.0.1:{port}")
    assert done.exit_code == 1, done.output
    assert "Unexplained: errors.jsonl. Not seen, 2 of 13 hops:" in " ".join(done.stdout.split())


def test_one_service_does_not_hide_what_was_not_seen(servers: dict[str, Server], tmp_path: Path) -> None:
    write_files(tmp_path)
    [port] = find_free_ports(1)
    done = audit(servers, tmp_path, "--service", "shop", "--loki", f"127.0.0.1:{port}")
    assert done.exit_code == 3, done.output
    assert "in Loki" in done.stdout


def test_an_application_without_a_ledger_is_not_seen(servers: dict[str, Server], tmp_path: Path) -> None:
    """It was killed before it sent one, or sends no metrics: what it lost itself nobody knows."""
    write_files(tmp_path)
    lines = write_ledger().splitlines()
    servers["applications"].pages["/metrics"] = "\n".join(line for line in lines if "collector_log" in line)
    done = audit(servers, tmp_path, "--json")
    body = json.loads(done.stdout)
    assert (done.exit_code, body["not_seen"]) == (3, ["in the application", "application -> Collector"]), body
    assert any("no ledger was seen of shop" in note for note in body["notes"])


def test_one_application_of_two_without_a_ledger_is_not_seen(servers: dict[str, Server], tmp_path: Path) -> None:
    write_files(tmp_path)
    servers["applications"].pages["/metrics"] += 'otelog_collector_log_records_total{job="mail",severity="info"} 3\n'
    body = json.loads(audit(servers, tmp_path, "--json").stdout)
    assert [name for name in body["not_seen"] if "application" in name] == ["in the application mail"]
    shop = json.loads(audit(servers, tmp_path, "--json", "--service", "shop").stdout)
    assert [name for name in shop["not_seen"] if "application" in name] == []


def test_a_stack_to_which_nothing_has_come_is_not_called_healthy(servers: dict[str, Server], tmp_path: Path) -> None:
    servers["applications"].pages["/metrics"] = ""
    servers["collector"].pages["/metrics"] = 'otelcol_exporter_queue_size{exporter="otlp_http/loki"} 0\n'
    servers["loki"].pages.update({"/metrics": "", "/loki/api/v1/query": result()})
    done = audit(servers, tmp_path)
    assert done.exit_code == 3, done.output
    assert "No records have come. Not seen, 2 of" in " ".join(done.stdout.split())


def test_files_of_which_nothing_came_are_seen_as_empty(servers: dict[str, Server], tmp_path: Path) -> None:
    """No counter has begun, and no file is there: as nothing was to be written, nothing is missing."""
    write_files(tmp_path)
    body = json.loads(audit(servers, tmp_path, "--json").stdout)
    hops = {hop["hop"]: hop["verdict"] for hop in body["hops"]}
    assert (hops["Collector -> file/ai"], hops["ai_responses.jsonl"]) == ("equal", "equal")
    (tmp_path / "errors.jsonl").unlink()
    done = audit(servers, tmp_path, "--json")
    body = json.loads(done.stdout)
    assert done.exit_code == 1
    assert "errors.jsonl: 2 records missing" in " ".join(hop["sentence"] for hop in body["hops"])


def test_a_source_of_which_only_history_is_left_is_not_seen_now(servers: dict[str, Server], tmp_path: Path) -> None:
    """The Collector has ended; Prometheus has what it said last."""
    write_files(tmp_path)
    samples = dict(line.rsplit(" ", 1) for line in write_own().strip().splitlines())
    samples |= dict(line.rsplit(" ", 1) for line in write_ledger().strip().splitlines())

    def answer(query: dict[str, str]) -> dict[str, Any]:
        found = []
        name = query["query"].removeprefix("last_over_time(").partition("[")[0]
        for key, value in samples.items():
            metric, _, labels = key.partition("{")
            if metric == name and not query["query"].startswith("resets"):
                found.append((dict(re.findall(r'(\w+)="([^"]*)"', labels)), value))
        return result(*found)

    servers["prometheus"].pages["/api/v1/query"] = answer
    [port] = find_free_ports(1)
    gone = ["--collector", f"127.0.0.1:{port}", "--applications", f"127.0.0.1:{port}"]
    done = audit(servers, tmp_path, *gone, "--json")
    body = json.loads(done.stdout)
    assert (done.exit_code, body["verdict"], body["not_seen"]) == (3, "explained", []), body
    assert sorted(body["stale"]) == ["applications", "collector"]
    assert "Not answering now: applications, collector." in body["conclusion"]
    assert audit(servers, tmp_path, *gone, "--require", "collector").exit_code == 2


def test_a_prometheus_that_has_not_scraped_yet_is_said(servers: dict[str, Server], tmp_path: Path) -> None:
    write_files(tmp_path)
    done = audit(servers, tmp_path)
    assert "Prometheus has not scraped the collector yet" in done.stderr


def test_the_help_has_the_exit_codes() -> None:
    said = CliRunner().invoke(otelog, ["audit", "--help"]).output
    assert [line.split()[0] for line in said.partition("Exit codes:")[2].strip().splitlines()] == ["0", "1", "2", "3"]


def test_what_a_killed_process_had_queued_is_not_simply_on_the_way(servers: dict[str, Server], tmp_path: Path) -> None:
    write_files(tmp_path)
    servers["applications"].pages["/metrics"] = write_ledger(created=12, queued=2)
    done = audit(servers, tmp_path)
    assert "queued or in flight: 2 records on the way" in " ".join(done.stdout.split())
    assert (
        "what shop had queued or in flight is on the way by its last ledger: if the process was killed" in done.stderr
    )


# What it shows is whole at any width.


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("factor", [1, 123_456_789])
def test_no_word_and_no_number_is_cut(width: int, factor: int) -> None:
    service = "ns/a-service-whose-name-is-of-forty-characters"
    app = Application(service, "1", created=9 * factor, exported=9 * factor)
    books = Books(
        applications=(app,),
        collector=Collector(
            accepted=9 * factor,
            exporters={"otlp_http/loki": Exporter(sent=9 * factor), "file/app": Exporter(sent=9 * factor)},
            passed={"filter/errors": factor, "filter/ai": 0},
        ),
        counted={service: {"info": 8 * factor, "error": factor}},
        loki=Loki(held={service: 8 * factor}, received=9 * factor),
        files={"app": FileRecords({service: 9 * factor}, {service: factor})},
    )
    hops = reconcile(books)
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(show_audit(hops, list_services(books)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    words = text.split()
    for hop in hops:
        for figure in (hop.before, hop.after):
            assert figure is None or f"{figure:,}" in words
        assert hop.difference is None or f"{hop.difference:+,}" in words or not hop.difference
        assert set(hop.verdict.value.split()) <= set(words)
        # What is too long for the line goes on in the next.
        for name in (hop.name, hop.before_name, hop.after_name):
            assert set(name.split()) <= {*words, *(word.rstrip(",") for word in words)}
    for name in ("created", "lost", "app.jsonl", "errors.jsonl", "file", service):
        assert name in words
