"""Traces that `configure` sends: where logs go, quietly, and never longer than the end of the process lasts."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.metrics_server import HANG, MetricsServer
from tools.loopback import find_free_ports

pytest.importorskip("opentelemetry.exporter.otlp.proto.common.trace_encoder")
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60.0
TRACES = "/v1/traces"
PROGRAM = """
import os, sys, otelog
from opentelemetry import trace
otelog.configure(service_name="shop", endpoint=sys.argv[1])
log, tracer = otelog.get_logger("shop"), trace.get_tracer("shop")

def work(names):
    for name in names:
        with tracer.start_as_current_span(name):
            log.info(name)
            print(format(trace.get_current_span().get_span_context().trace_id, "032x"), flush=True)
"""
THREE = "work(['order 0', 'order 1', 'order 2'])"


def run(endpoint: str, code: str = THREE, **environ: str) -> subprocess.CompletedProcess[str]:
    environ = {"OTEL_TRACES_EXPORTER": "otlp", **environ}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + code, endpoint],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def spans(server: MetricsServer) -> list[tuple[str, str, str]]:
    """Trace id, name and service of each span that has come."""
    found = []
    for path, _, body in server.requests:
        if path == TRACES:
            for part in ExportTraceServiceRequest.FromString(gzip.decompress(body)).resource_spans:
                [service] = [one.value.string_value for one in part.resource.attributes if one.key == "service.name"]
                found += [
                    (span.trace_id.hex(), span.name, service) for scope in part.scope_spans for span in scope.spans
                ]
    return found


def records(server: MetricsServer) -> list[str]:
    """The trace id of each record that has come."""
    parts = [
        part
        for path, _, body in server.requests
        if path == "/v1/logs"
        for part in ExportLogsServiceRequest.FromString(gzip.decompress(body)).resource_logs
    ]
    return [record.trace_id.hex() for part in parts for scope in part.scope_logs for record in scope.log_records]


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    with MetricsServer() as one:
        yield one


def test_spans_go_where_the_logs_go_and_have_their_trace_ids(server: MetricsServer) -> None:
    done = run(server.endpoint)
    assert (done.returncode, done.stderr) == (0, "")
    traces = done.stdout.split()
    assert spans(server) == [(trace, f"order {n}", "shop") for n, trace in enumerate(traces)]
    assert records(server) == traces


@pytest.mark.parametrize("value", ["", "none", "otlp,none"])
def test_without_being_asked_for_none_are_sent(server: MetricsServer, value: str) -> None:
    done = run(server.endpoint, OTEL_TRACES_EXPORTER=value)
    assert (done.returncode, done.stderr) == (0, "")
    assert (len(records(server)), spans(server)) == (3, [])


def test_headers_and_the_sampler_are_followed(server: MetricsServer) -> None:
    environ = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}
    assert run(server.endpoint, **environ).returncode == 0
    assert (len(records(server)), spans(server)) == (3, [])
    assert all(trace.strip("0") for trace in records(server)), "records have the ids all the same"
    assert run(server.endpoint, OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20secret").returncode == 0
    assert [headers["authorization"] for path, headers, _ in server.requests if path == TRACES] == ["Bearer secret"]


def test_after_another_configure_they_go_to_the_other_endpoint(server: MetricsServer) -> None:
    with MetricsServer(404, TRACES) as other:
        before = "work(['before']); trace.get_tracer_provider().force_flush()"
        code = f"{before}\notelog.configure(endpoint={server.endpoint!r})\nwork(['after'])"
        assert run(other.endpoint, code).returncode == 0
        assert [name for _, name, _ in spans(server)] == ["after"]
        assert [name for _, name, _ in spans(other)] == ["before"]


def test_variables_for_traces_alone_are_followed(server: MetricsServer) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    with MetricsServer() as other:
        environ = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": other.endpoint + TRACES}
        done = run(server.endpoint, **environ, OTEL_EXPORTER_OTLP_TRACES_COMPRESSION="gzip")
        assert done.returncode == 0, done.stderr
        assert (len(records(server)), len(spans(server)), len(spans(other))) == (3, 0, 3)


@pytest.mark.parametrize("status", [404, 405, 501])
def test_an_endpoint_that_takes_no_traces_is_asked_once_and_told_of_once(status: int) -> None:
    code = "for n in range(5): work(['order']); trace.get_tracer_provider().force_flush()"
    with MetricsServer(status, TRACES) as server:
        done = run(server.endpoint, code)
        assert done.returncode == 0
        assert len(records(server)) == 5
        assert server.paths().count(TRACES) == 1
        said = f"traces are not sent any more: {server.endpoint}{TRACES} answered {status}"
        assert done.stderr == f"otelog: {said}; OTEL_TRACES_EXPORTER=none turns them off\n"


def test_a_dead_endpoint_costs_no_record_of_its_own_and_one_line() -> None:
    [port] = find_free_ports(1)
    code = "for n in range(3): work(['order']); trace.get_tracer_provider().force_flush()\n"
    code += "otelog.shutdown(); stats = otelog.stats(); print(stats.created)"
    done = run(f"http://127.0.0.1:{port}", code, OTEL_EXPORTER_OTLP_TIMEOUT="1")
    assert done.returncode == 0
    assert done.stdout.split()[-1] == "3", "no words about traces became records"
    assert len([line for line in done.stderr.splitlines() if "traces are not delivered" in line]) == 1


@pytest.mark.parametrize("end", ["", "os._exit(0)", "os.execv('/bin/true', ['true'])"])
def test_an_endpoint_that_never_answers_for_traces_costs_no_record_and_holds_no_end_up(end: str) -> None:
    with MetricsServer(HANG, TRACES) as server:
        # A minute for an answer; the test's own limit is the same.
        done = run(server.endpoint, f"{THREE}\n{end}", OTEL_EXPORTER_OTLP_TIMEOUT="60")
        assert done.returncode == 0
        assert len(records(server)) == 3
        assert server.paths().count(TRACES) == 1


@pytest.mark.parametrize("end", ["os._exit(0)", "os.execv('/bin/true', ['true'])"])
def test_ends_that_skip_atexit_deliver_spans_too(server: MetricsServer, end: str) -> None:
    done = run(server.endpoint, f"{THREE}\n{end}")
    assert (done.returncode, done.stderr) == (0, "")
    assert (len(records(server)), len(spans(server))) == (3, 3)


def test_a_forked_child_sends_its_own_spans(server: MetricsServer) -> None:
    code = "work(['parent'])\npid = os.fork()\nwork(['child' if pid == 0 else 'after'])\nif pid: os.waitpid(pid, 0)"
    done = run(server.endpoint, code)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(name for _, name, _ in spans(server)) == ["after", "child", "parent"]


def test_without_the_exporter_records_are_delivered_and_one_line_says_what_is_missing(server: MetricsServer) -> None:
    hidden = "import sys; sys.modules['opentelemetry.exporter.otlp.proto.common.trace_encoder'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", hidden + PROGRAM + THREE, server.endpoint],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OTEL_TRACES_EXPORTER": "otlp"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1 and "pip install 'otelog[metrics]' brings the exporter" in done.stderr
    assert (len(records(server)), spans(server)) == (3, [])


KEPT = {"otelog-traces": "kept"}


@pytest.mark.parametrize(
    ("headers", "environ", "sent"),
    [
        (KEPT, {}, 3),
        ({}, {}, 0),
        (KEPT, {"OTEL_TRACES_EXPORTER": "none"}, 0),
        ({}, {"OTEL_TRACES_EXPORTER": "otlp"}, 3),
        (KEPT, {"OTEL_SDK_DISABLED": "true"}, 0),
    ],
    ids=["kept", "not kept", "not wanted", "wanted all the same", "disabled"],
)
def test_under_otelog_run_traces_are_sent_where_the_collector_says_that_it_keeps_them(
    headers: dict[str, str], environ: dict[str, str], sent: int
) -> None:
    code = f"from opentelemetry import trace; tracer = trace.get_tracer('x')\n{'tracer.start_span(str()).end();' * 3}"
    words = ("run", "--service-name", "shop")
    with MetricsServer(headers=headers) as server:
        done = subprocess.run(
            [sys.executable, "-m", "otelog.cli", *words, "--endpoint", server.endpoint, "--", "python", "-c", code],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                # Each would import its library.
                "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*",
                **environ,
            },
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        # The question is an empty request.
        assert len(spans(server)) == sent
