"""Traces beside logs: from an application to Jaeger, and the links between both as Grafana would follow them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelog._config.resolve import explain
from otelog.cli.stack.settings import PORTS_OF
from otelog.cli.traces import keeps_traces
from otelog.loki import LokiClient
from tests.stack.conftest import build, start_collector
from tests.stack.running import ROOT, RunningStack, open_url
from tools.loopback import find_free_ports
from tools.waiting import wait_until

SOURCES = ROOT / "dashboards" / "provisioning" / "datasources" / "otelog.yaml"
SECONDS = 60.0
SPANS = 100
MOST_TRACES = 1000
# It knows nothing of otelog, nor of traces.
PROGRAM = """
import logging, sys
from opentelemetry import trace
tracer = trace.get_tracer("shop")
for n in range(3):
    with tracer.start_as_current_span(f"order {n}"):
        with tracer.start_as_current_span("charge"):
            logging.getLogger("shop").warning("order %d is paid", n)
"""


def make_request(start: int) -> bytes:
    """A request with spans of about a kilobyte each, each of a trace of its own."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope = resource.scope_spans.add()
    now = time.time_ns()
    for n in range(start, start + SPANS):
        span = scope.spans.add(name="work", start_time_unix_nano=now, end_time_unix_nano=now + 1)
        span.trace_id, span.span_id = (n + 1).to_bytes(16, "big"), (n + 1).to_bytes(8, "big")
        span.attributes.add(key="text").value.string_value = "x" * 1000
    return bytes(request.SerializeToString())


def post(url: str, body: bytes) -> int:
    request = urllib.request.Request(url, body, {"Content-Type": "application/x-protobuf"})
    try:
        with open_url(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_without_jaeger_traces_cost_no_record_and_their_senders_are_not_held_up(
    collector_binary: Path, tmp_path: Path
) -> None:
    [nobody] = find_free_ports(1)
    environ = {"OTELOG_JAEGER_OTLP": f"http://127.0.0.1:{nobody}", "OTELOG_COLLECTOR_TRACES_QUEUE_BYTES": "200000"}
    with start_collector(collector_binary, tmp_path, ("jaeger.yaml",), environ) as collector:
        for n in range(20):
            assert post(f"{collector.endpoint}/v1/traces", make_request(n * SPANS)) == 200
        code = (
            "import sys, otelog\notelog.configure(service_name='shop', endpoint=sys.argv[1])\n"
            "for n in range(1000): otelog.get_logger('shop').info('%d', n)\n"
            "otelog.shutdown(); assert otelog.stats().exported == 1000"
        )
        subprocess.run([sys.executable, "-c", code, collector.endpoint], cwd=ROOT, check=True, timeout=SECONDS)

        def dropped() -> int:
            return collector.metric("otelcol_exporter_enqueue_failed_spans_total", exporter="otlp_http/jaeger")

        # Two hundred or so are in the queue, the others are counted.
        wait_until(lambda: dropped() > 20 * SPANS / 2, 30, what="spans that have no room, counted")
        assert collector.metric("otelcol_receiver_accepted_spans_total") == 20 * SPANS
        collector.stop()
        assert len(list(collector.records())) == 1000


def test_traces_give_way_before_the_memory_of_all_is_used(collector_binary: Path, tmp_path: Path) -> None:
    [nobody] = find_free_ports(1)
    environ = {
        "OTELOG_JAEGER_OTLP": f"http://127.0.0.1:{nobody}",
        # Less than it needs to run.
        "OTELOG_COLLECTOR_TRACES_MEMORY_MIB": "2",
        "OTELOG_COLLECTOR_TRACES_MEMORY_SPIKE_MIB": "1",
    }
    with start_collector(collector_binary, tmp_path, ("jaeger.yaml",), environ) as collector:

        def refused() -> bool:
            assert post(f"{collector.endpoint}/v1/traces", make_request(0)) == 200
            return collector.metric("otelcol_processor_memory_limiter_refused_spans_total") > 0

        wait_until(refused, 30, what="spans that the limit refuses")
        assert post(f"{collector.endpoint}/v1/logs", b"") == 200


def test_traces_go_by_grpc_too(collector_binary: Path, tmp_path: Path) -> None:
    pytest.importorskip("grpc")
    code = (
        "import sys, otelog\nfrom opentelemetry import trace\n"
        "otelog.configure(service_name='shop', endpoint=sys.argv[1], protocol='grpc')\n"
        "for n in range(3): trace.get_tracer('shop').start_span('order').end()"
    )
    with start_collector(collector_binary, tmp_path) as collector:
        subprocess.run(
            [sys.executable, "-c", code, collector.grpc_endpoint],
            cwd=ROOT,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            check=True,
            timeout=SECONDS,
        )
        assert collector.metric("otelcol_receiver_accepted_spans_total", transport="grpc") == 3


@pytest.mark.parametrize(("overlays", "kept"), [((), False), (("jaeger.yaml",), True)])
def test_the_collector_says_whether_it_keeps_traces(
    collector_binary: Path, tmp_path: Path, overlays: tuple[str, ...], kept: bool
) -> None:
    with start_collector(collector_binary, tmp_path, overlays) as collector:
        settings, _ = explain({"endpoint": collector.endpoint}, {})
        assert keeps_traces(settings) is kept
        by_grpc, _ = explain({"endpoint": collector.grpc_endpoint, "protocol": "grpc"}, {})
        assert keeps_traces(by_grpc) is False
    assert keeps_traces(settings) is False, "nobody answers any more"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A running stack with Jaeger."""
    for name in ("otelog-collector", "loki", "jaeger"):
        build(name)
    one = RunningStack(tmp_path_factory.mktemp("traces") / "stack", {"OTELOG_JAEGER_TRACES": str(MOST_TRACES)})
    one.up("--with", "jaeger", "--without", "prometheus")
    yield one
    one.down("--volumes")


def find_trace(stack: RunningStack, trace_id: str) -> dict[str, Any] | None:
    try:
        [trace] = json.loads(stack.read("jaeger", f"/api/traces/{trace_id}"))["data"]
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 404:
            raise
        return None
    return dict(trace)


def find_entries(stack: RunningStack, selector: str) -> list[Any]:
    now = time.time_ns()
    with LokiClient(f"http://127.0.0.1:{stack.ports['loki']}", timeout=60) as loki:
        return list(loki.query_range(selector, start=now - 3600 * 10**9, end=now))


def run_otelog(*words: str, folder: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "otelog.cli", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def traces(stack: RunningStack) -> dict[str, str]:
    """The bodies of the records of a program under `otelog run`, with their traces' ids."""
    words = ("run", "--service-name", "traced", "--endpoint", stack.endpoint, "--", "python", "-c", PROGRAM)
    done = run_otelog(*words)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: len(find_entries(stack, '{service_name="traced"}')) == 3, 30, what="the records in Loki")
    return {entry.line: entry.metadata["trace_id"] for entry in find_entries(stack, '{service_name="traced"}')}


def test_a_span_and_its_record_arrive_with_the_same_ids(stack: RunningStack, traces: dict[str, str]) -> None:
    assert set(traces) == {f"order {n} is paid" for n in range(3)}
    for line, trace_id in traces.items():
        found = wait_until(lambda trace_id=trace_id: find_trace(stack, trace_id), 30, what="the trace in Jaeger")
        spans = {span["operationName"]: span for span in found["spans"]}
        assert set(spans) == {line.removesuffix(" is paid"), "charge"}
        [entry] = [one for one in find_entries(stack, '{service_name="traced"}') if one.line == line]
        assert entry.metadata["span_id"] == spans["charge"]["spanID"]
        assert {process["serviceName"] for process in found["processes"].values()} == {"traced"}


def read_sources() -> dict[str, dict[str, Any]]:
    return {one["uid"]: one for one in yaml.safe_load(SOURCES.read_text())["datasources"]}


def read_link(url: str, value: str) -> dict[str, Any]:
    """What Explore would ask after a click on a derived field's link."""
    parts = urlsplit(url.replace("$$", "$").replace("${__value.raw}", value))
    assert (parts.netloc, parts.path) == ("", "/explore")
    [pane] = json.loads(parse_qs(parts.query)["panes"][0]).values()
    [query] = pane["queries"]
    assert query["datasource"]["uid"] == pane["datasource"]
    return dict(query)


def test_the_links_of_a_line_find_its_trace_and_all_records_of_it(stack: RunningStack, traces: dict[str, str]) -> None:
    line = next(iter(traces))
    [entry] = [one for one in find_entries(stack, '{service_name="traced"}') if one.line == line]
    sources = read_sources()
    found = {}
    for field in sources["otelog-loki"]["jsonData"]["derivedFields"]:
        assert field["matcherType"] == "label"
        query = read_link(field["url"], entry.metadata[field["matcherRegex"]])
        assert query["datasource"]["type"] == sources[query["datasource"]["uid"]]["type"]
        found[query["datasource"]["uid"]] = query
    assert set(found) == {"otelog-jaeger", "otelog-loki"}
    assert wait_until(lambda: find_trace(stack, found["otelog-jaeger"]["query"]), 30, what="the trace")
    assert [one.line for one in find_entries(stack, found["otelog-loki"]["expr"])] == [line]


def test_the_link_of_a_span_finds_the_records_of_its_trace(stack: RunningStack, traces: dict[str, str]) -> None:
    line, trace_id = next(iter(traces.items()))
    trace = wait_until(lambda: find_trace(stack, trace_id), 30, what="the trace")
    link = read_sources()["otelog-jaeger"]["jsonData"]["tracesToLogsV2"]
    assert link["datasourceUid"] in read_sources()
    expression = link["query"].replace("$$", "$").replace("${__trace.traceId}", trace["traceID"])
    assert "$" not in expression, "every variable is filled in"
    assert [one.line for one in find_entries(stack, expression)] == [line]
    assert (link["spanStartTimeShift"], link["spanEndTimeShift"]) == ("-5m", "5m")


def test_the_demo_sends_its_traces_and_says_where_to_look(stack: RunningStack) -> None:
    # In the folder where the stack's is, under its usual name.
    (stack.folder.parent / "otelog-stack").symlink_to(stack.folder)
    words = ("demo", "--seconds", "6", "--rate", "20", "--endpoint", stack.endpoint)
    done = run_otelog(*words, folder=stack.folder.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    shop = '{service_name="otelog-shop"} | http_route="/checkout"'
    entries = wait_until(lambda: find_entries(stack, shop), 30, what="access records")
    trace = wait_until(lambda: find_trace(stack, entries[0].metadata["trace_id"]), 30, what="the trace")
    assert "POST /checkout" in {span["operationName"] for span in trace["spans"]}
    # What it says in the end is what there is.
    said = {line.partition(": ")[0].strip(): line.partition(": ")[2].strip() for line in done.stdout.splitlines()}
    assert said["records"].startswith("otelog query '{service_name=\"otelog-shop\"}'")
    _, _, shown = said["the trace"].partition(f"http://127.0.0.1:{stack.ports['jaeger']}/api/traces/")
    paid = wait_until(lambda: find_trace(stack, shown), 30, what="the trace that it names")
    assert "POST /pay" in {span["operationName"] for span in paid["spans"]}
    words = said["those of a trace"].split()[1:]
    records = run_otelog(*words, "--json").stdout.splitlines()
    assert {json.loads(record)["trace_id"] for record in records} == {shown}
    # As docs/how-to/stack.md has it.
    address = f"http://127.0.0.1:{stack.ports['loki']}"
    found = run_otelog("query", '{service_name="otelog-shop"} |= "paid"', "--since", "10m", "--loki", address)
    assert found.returncode == 0 and "order.paid" in found.stdout


def test_an_application_that_wants_none_sends_none(stack: RunningStack) -> None:
    words = ("run", "--service-name", "silent", "--endpoint", stack.endpoint, "--", "python", "-c", PROGRAM)
    assert run_otelog(*words, OTEL_TRACES_EXPORTER="none").returncode == 0
    entries = wait_until(
        lambda: found if len(found := find_entries(stack, '{service_name="silent"}')) == 3 else None, 30
    )
    assert [find_trace(stack, entry.metadata["trace_id"]) for entry in entries] == [None] * 3


def test_jaeger_listens_on_loopback_alone(stack: RunningStack) -> None:
    process = psutil.Process(stack.statuses()["jaeger"]["pid"])
    listening = [one.laddr for one in process.net_connections() if one.status == psutil.CONN_LISTEN]
    assert {address.ip for address in listening} <= {"127.0.0.1", "::1"}
    wanted = {stack.ports[name] for name in PORTS_OF["jaeger"]}
    assert wanted <= {address.port for address in listening}


def test_jaeger_keeps_the_newest_traces_and_no_more_than_it_may(stack: RunningStack) -> None:
    def id_of(number: int) -> str:
        return format(number + 1, "032x")

    wait_until(lambda: post(f"{stack.endpoint}/v1/traces", make_request(0)) == 200, 30)
    wait_until(lambda: find_trace(stack, id_of(0)), 30, what="the oldest trace")
    for n in range(1, MOST_TRACES // SPANS + 1):
        assert post(f"{stack.endpoint}/v1/traces", make_request(n * SPANS)) == 200
    wait_until(lambda: find_trace(stack, id_of(MOST_TRACES + SPANS - 1)), 30, what="the newest trace")
    wait_until(lambda: find_trace(stack, id_of(0)) is None, 30, what="the end of the oldest trace")


def test_its_configuration_is_valid_by_jaegers_own_check(stack: RunningStack) -> None:
    assert "jaeger: valid" in stack.run("config", "--check").stdout.splitlines()


def test_loki_finds_patterns_of_lines(stack: RunningStack) -> None:
    code = (
        "import otelog, sys; otelog.configure(service_name='patterned', endpoint=sys.argv[1])\n"
        "for n in range(50): otelog.get_logger('shop').info('customer %d has put %d items into the basket', n, n * 2)"
    )
    subprocess.run([sys.executable, "-c", code, stack.endpoint], cwd=ROOT, check=True, timeout=SECONDS)

    def patterns() -> list[str]:
        now = time.time_ns()
        times = {"start": str(now - 600 * 10**9), "end": str(now + 60 * 10**9)}
        answer = stack.read("loki", "/loki/api/v1/patterns", query='{service_name="patterned"}', **times)
        return [one["pattern"] for one in json.loads(answer)["data"]]

    found = wait_until(patterns, 60, what="a pattern")
    assert found == ["customer <_> has put <_> items into the basket"]
