"""`otelog audit` against scripted servers: what it reads of them, what it says, and its exit code."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner, Result

from otelog.audit.reading import Reader, Sources
from otelog.cli.audit.command import find_sources, settle
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
    assert hop["sentence"].startswith("errors.jsonl: 1 record missing (2 counted, 1 in the file), of shop")


def test_what_is_queued_is_on_the_way(servers: dict[str, Server], tmp_path: Path) -> None:
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
    [port] = find_free_ports(1)
    done = audit(servers, tmp_path, "--loki", f"127.0.0.1:{port}", "--json")
    body = json.loads(done.stdout)
    assert done.exit_code == 0
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
    done = audit(servers, tmp_path, "--json")
    body = json.loads(done.stdout)
    assert "no result of a query" in body["missing"]["loki"]
    assert "no list" in body["missing"]["prometheus"]
    assert done.exit_code == 0, done.output


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
