"""The ledger as OpenTelemetry metrics, and the MeterProvider that `configure` installs."""

from __future__ import annotations

import gc
import inspect
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.metrics import MeterProvider as APIMeterProvider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Gauge, Histogram, HistogramDataPoint, InMemoryMetricReader, Sum
from opentelemetry.sdk.resources import Resource
from opentelemetry.semconv._incubating.attributes import otel_attributes
from opentelemetry.semconv._incubating.metrics import otel_metrics

from otelog._capture.facade import Logger
from otelog._config.resolve import resolve_processor
from otelog._ledger.counters import ExporterCounts, Ledger, Stats
from otelog._ledger.otel_metrics import publish
from otelog._otlp.exporter import OTLPLogExporter
from otelog._pipeline.assembly import Destination, make_worker
from otelog._pipeline.processor import BatchLogRecordProcessor
from otelog._record.attributes import AttributeBuilder
from otelog.testing import OTLPServer, Reply
from tests.metrics_server import HANG, MetricsServer
from tools.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60.0
MODULE_NAMES = vars(otel_metrics)
OWN = {
    "otelog.log.refused",
    "otelog.log.removed",
    "otelog.log.dropped",
    "otelog.log.waiting",
    "otelog.log.filtered",
    "otelog.log.resent",
    "otelog.log.outcome_unknown",
    "otelog.log.truncated",
    "otelog.log.queue.peak",
    "otelog.log.start.time",
    "otelog.log.end.time",
}
SEMCONV = {
    MODULE_NAMES[name]
    for name in (
        "OTEL_SDK_LOG_CREATED",
        "OTEL_SDK_PROCESSOR_LOG_QUEUE_SIZE",
        "OTEL_SDK_PROCESSOR_LOG_QUEUE_CAPACITY",
        "OTEL_SDK_PROCESSOR_LOG_PROCESSED",
        "OTEL_SDK_EXPORTER_LOG_INFLIGHT",
        "OTEL_SDK_EXPORTER_LOG_EXPORTED",
        "OTEL_SDK_EXPORTER_OPERATION_DURATION",
    )
}
LEVELS = {
    "otel.sdk.processor.log.queue.size",
    "otel.sdk.processor.log.queue.capacity",
    "otel.sdk.exporter.log.inflight",
    "otelog.log.waiting",
}


class Metrics:
    """What a reader collects of otelog's own metrics."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def collect(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        scopes = [] if data is None else [scope for part in data.resource_metrics for scope in part.scope_metrics]
        return {metric.name: metric for scope in scopes if scope.scope.name == "otelog" for metric in scope.metrics}

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        metric = self.collect().get(name)
        return [] if metric is None else [(dict(point.attributes), point) for point in metric.data.data_points]

    def total(self, name: str, **wanted: Any) -> int:
        """The sum of the points that have these attributes; None: that have it not."""
        wanted = {key.replace("__", "."): value for key, value in wanted.items()}
        return sum(
            point.value
            for attributes, point in self.points(name)
            if all(attributes.get(key) == value for key, value in wanted.items())
        )


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    one = Metrics()
    yield one
    one.provider.shutdown()


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with OTLPServer() as one:
        yield one


class Opened:
    """A processor with the exporter that is given, and loggers for it."""

    def __init__(self, exporter: LogRecordExporter, metrics: Metrics, **options: Any) -> None:
        options = {"schedule_delay_millis": 60_000, **options}
        self.processor = BatchLogRecordProcessor(exporter, meter_provider=metrics.provider, **options)
        self.facade = Logger("tests", self.processor.pipeline)
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(self.processor)
        self.sdk = provider.get_logger("tests")

    def emit(self, count: int) -> None:
        for number in range(count):
            self.sdk.emit(LogRecord(body=f"record {number}", severity_number=SeverityNumber.INFO))


@pytest.fixture
def otlp(server: OTLPServer, metrics: Metrics) -> Iterator[Opened]:
    opened = Opened(OTLPLogExporter(endpoint=server.logs_endpoint), metrics)
    yield opened
    opened.processor.shutdown()


class Refuser(LogRecordExporter):
    """An exporter that fails."""

    def export(self, batch: Any) -> LogRecordExportResult:
        return LogRecordExportResult.FAILURE

    def shutdown(self) -> None:
        """Nothing to do."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True


def assert_sums(metrics: Metrics, stats: Stats) -> None:
    total = metrics.total
    assert total("otel.sdk.log.created") == stats.created
    assert total("otel.sdk.processor.log.queue.size") == stats.queued
    assert total("otel.sdk.processor.log.queue.capacity") == stats.queue_capacity
    assert total("otel.sdk.processor.log.processed", error__type=None) == stats.accepted
    for reason in ("queue_full", "already_shutdown"):
        assert total("otel.sdk.processor.log.processed", error__type=reason) == stats.refused[reason]
    assert total("otel.sdk.exporter.log.inflight") == stats.in_flight
    assert total("otel.sdk.exporter.log.exported", error__type=None) == stats.exported
    for reason, count in stats.dropped.items():
        assert total("otel.sdk.exporter.log.exported", error__type=reason) == count
        assert total("otelog.log.dropped", reason=reason) == count
    for reason, count in stats.refused.items():
        assert total("otelog.log.refused", reason=reason) == count
    for reason, count in stats.removed.items():
        assert total("otelog.log.removed", reason=reason) == count
    assert total("otelog.log.resent") == stats.resent
    assert total("otelog.log.outcome_unknown") == stats.outcome_unknown
    assert total("otelog.log.truncated") == stats.truncated


def test_metrics_have_the_conventions_names_units_and_kinds(otlp: Opened, server: OTLPServer, metrics: Metrics) -> None:
    server.script = [Reply(status=400)]
    small = Opened(InMemoryLogRecordExporter(), metrics, max_queue_size=2, max_export_batch_size=2)
    small.processor.shutdown()
    small.emit(1)
    otlp.emit(1)
    otlp.processor.force_flush()
    collected = metrics.collect()
    assert set(collected) == SEMCONV | OWN
    for name, metric in collected.items():
        if name == "otel.sdk.exporter.operation.duration":
            assert (metric.unit, type(metric.data)) == ("s", Histogram)
        elif name == "otelog.log.queue.peak":
            assert (metric.unit, type(metric.data)) == ("{log_record}", Gauge)
        elif name in ("otelog.log.start.time", "otelog.log.end.time"):
            assert (metric.unit, type(metric.data)) == ("s", Gauge)
        else:
            assert (metric.unit, type(metric.data)) == ("{log_record}", Sum)
            assert metric.data.is_monotonic == (name not in LEVELS), name


def test_a_start_time_lies_between_the_moments_around_the_start(metrics: Metrics) -> None:
    before = time.time()
    opened = Opened(InMemoryLogRecordExporter(), metrics)
    after = time.time()
    ((_, point),) = metrics.points("otelog.log.start.time")
    opened.processor.shutdown()
    assert before <= point.value <= after


def read_end(metrics: Metrics) -> float:
    ((_, point),) = metrics.points("otelog.log.end.time")
    return float(point.value)


def test_the_end_is_told_when_the_pipeline_is_shut_down(metrics: Metrics) -> None:
    opened = Opened(InMemoryLogRecordExporter(), metrics)
    assert read_end(metrics) == 0
    before = time.time()
    opened.processor.shutdown()
    assert before <= read_end(metrics) <= time.time()


def test_metrics_say_what_the_stats_say(otlp: Opened, server: OTLPServer, metrics: Metrics) -> None:
    replies = [
        Reply(),
        Reply(status=404),
        Reply(rejected=2, message="old"),
        Reply(status=413),
        Reply(),
        Reply(status=413),
    ]
    replies += [Reply(status=503, headers={"Retry-After": "0"}), Reply()]
    server.script = replies
    for count in (5, 4, 3, 2):
        otlp.emit(count)
        otlp.processor.force_flush()
    otlp.facade.error("one more")
    otlp.processor.force_flush()
    otlp.emit(6)
    stats = otlp.processor.stats()
    assert dict(stats.dropped) | {"rejected": 6, "too_large": 1} == dict(stats.dropped)
    assert (stats.exported, stats.queued, stats.resent) == (5 + 1 + 1 + 1, 6, 1)
    assert_sums(metrics, stats)
    otlp.processor.shutdown()
    otlp.facade.info("too late")
    assert otlp.processor.stats().refused["already_shutdown"] == 1
    assert_sums(metrics, otlp.processor.stats())


def test_refusals_and_losses_are_told_by_severity_range(metrics: Metrics) -> None:
    opened = Opened(Refuser(), metrics, max_queue_size=4, max_export_batch_size=4)
    # The worker takes nothing while the books are held.
    with opened.processor.ledger.moving:
        for _ in range(6):
            opened.facade.info("x")
        opened.facade.error("y")
    opened.processor.force_flush()
    assert_sums(metrics, opened.processor.stats())
    assert metrics.total("otelog.log.refused", reason="queue_full", otelog__severity="info") == 2
    assert metrics.total("otelog.log.refused", reason="queue_full", otelog__severity="error") == 1
    dropped = metrics.points("otelog.log.dropped")
    assert [(a["reason"], a["otelog.severity"], a["otelog.exporter"], p.value) for a, p in dropped] == [
        ("export_failed", "info", "Refuser", 4)
    ]
    opened.processor.shutdown()


def test_components_are_named_by_type_and_number(otlp: Opened, server: OTLPServer, metrics: Metrics) -> None:
    otlp.emit(1)
    otlp.processor.force_flush()
    other = Opened(Refuser(), metrics)
    other.processor.shutdown()
    (first, _), (second, _) = metrics.points("otel.sdk.log.created")
    for attributes in (first, second):
        kind, _, number = attributes["otel.component.name"].partition("/")
        assert kind == attributes["otel.component.type"] == "batching_log_processor"
        assert number.isdecimal()
    assert first["otel.component.name"] != second["otel.component.name"]
    kinds = {attributes["otel.component.type"] for attributes, _ in metrics.points("otel.sdk.exporter.log.inflight")}
    standard = otel_attributes.OtelComponentTypeValues
    assert kinds == {standard.OTLP_HTTP_LOG_EXPORTER.value, f"{__name__}.Refuser"}
    assert first["otel.component.type"] == standard.BATCHING_LOG_PROCESSOR.value


def test_exporters_tell_their_server(otlp: Opened, server: OTLPServer, metrics: Metrics) -> None:
    otlp.emit(1)
    otlp.processor.force_flush()
    for name in ("exported", "inflight"):
        for attributes, _ in metrics.points(f"otel.sdk.exporter.log.{name}"):
            assert (attributes["server.address"], attributes["server.port"]) == ("127.0.0.1", server.port)
    ((attributes, _),) = metrics.points("otel.sdk.exporter.operation.duration")
    assert (attributes["server.address"], attributes["server.port"]) == ("127.0.0.1", server.port)


@pytest.mark.parametrize(
    ("replies", "status", "error"),
    [
        ([Reply()], 200, None),
        ([Reply(status=204)], 204, None),
        ([Reply(status=503, headers={"Retry-After": "0"}), Reply()], 200, None),
        ([Reply(status=404)], 404, "rejected"),
        ([Reply(status=413)], 413, "too_large"),
        ([Reply(rejected=1, message="no")], 200, "rejected"),
        ([Reply(status=503, headers={"Retry-After": "3600"})], 503, "retry_exhausted"),
    ],
)
def test_an_operation_is_timed_once_with_all_its_attempts(
    otlp: Opened, server: OTLPServer, metrics: Metrics, replies: list[Reply], status: int, error: str | None
) -> None:
    server.script = replies
    otlp.emit(1)
    otlp.processor.force_flush()
    assert not server.script
    ((attributes, point),) = metrics.points("otel.sdk.exporter.operation.duration")
    assert isinstance(point, HistogramDataPoint)
    assert (point.count, attributes["http.response.status_code"]) == (1, status)
    assert attributes.get("error.type") == error
    assert 0 < point.sum < SECONDS
    assert max(point.explicit_bounds) < SECONDS


def test_an_operation_without_an_answer_has_no_status(metrics: Metrics) -> None:
    with OTLPServer() as server:
        endpoint = server.logs_endpoint
    opened = Opened(OTLPLogExporter(endpoint=endpoint), metrics)
    opened.emit(1)
    opened.processor.shutdown(timeout_millis=100)
    ((attributes, _),) = metrics.points("otel.sdk.exporter.operation.duration")
    assert "http.response.status_code" not in attributes
    assert attributes["error.type"] == "shutdown_timeout"


def test_the_status_is_that_of_the_last_attempt(server: OTLPServer, metrics: Metrics) -> None:
    server.script = [Reply(status=503), *[Reply(fault="close")] * 9]
    exporter = OTLPLogExporter(endpoint=server.logs_endpoint)
    opened = Opened(exporter, metrics, export_timeout_millis=2_000)
    opened.emit(1)
    opened.processor.force_flush()
    assert server.fired["503"] == 1 and server.fired["close"] >= 1
    ((attributes, _),) = metrics.points("otel.sdk.exporter.operation.duration")
    assert attributes["error.type"] == "retry_exhausted"
    assert "http.response.status_code" not in attributes
    opened.processor.shutdown()


def test_a_foreign_exporter_is_timed_too(metrics: Metrics) -> None:
    opened = Opened(Refuser(), metrics)
    opened.emit(1)
    opened.processor.shutdown()
    ((attributes, point),) = metrics.points("otel.sdk.exporter.operation.duration")
    assert (attributes["error.type"], point.count) == ("export_failed", 1)
    assert "server.address" not in attributes


def test_a_meter_provider_that_raises_costs_no_record() -> None:
    class Broken(APIMeterProvider):
        def get_meter(self, *args: Any, **kwargs: Any) -> Any:
            meter = MeterProvider(shutdown_on_exit=False).get_meter("broken")
            meter.create_histogram = lambda *a, **k: object()
            return meter

    exporter = InMemoryLogRecordExporter()
    processor = BatchLogRecordProcessor(exporter, meter_provider=Broken())
    Logger("tests", processor.pipeline).info("x")
    assert processor.shutdown()
    assert len(exporter.get_finished_logs()) == processor.stats().exported == 1


@pytest.mark.parametrize("enabled", ["true", "false"])
def test_every_record_is_counted_as_created_once(
    monkeypatch: pytest.MonkeyPatch, metrics: Metrics, enabled: str
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", enabled)
    processor = BatchLogRecordProcessor(InMemoryLogRecordExporter(), meter_provider=metrics.provider)
    # The first releases of the SDK that otelog works with count no records.
    counts_itself = "meter_provider" in inspect.signature(LoggerProvider).parameters
    options: dict[str, Any] = {"meter_provider": metrics.provider} if counts_itself else {}
    provider = LoggerProvider(shutdown_on_exit=False, **options)
    provider.add_log_record_processor(processor)
    facade, sdk = Logger("tests", processor.pipeline), provider.get_logger("tests")
    for _ in range(3):
        facade.info("x")
    for _ in range(4):
        sdk.emit(LogRecord(body="y"))
    processor.shutdown()
    data = metrics.reader.get_metrics_data()
    assert data is not None
    counts = {
        scope.scope.name: sum(point.value for point in metric.data.data_points)
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
        if metric.name == "otel.sdk.log.created"
    }
    assert sum(counts.values()) == 7
    assert counts["otelog"] == (3 if enabled == "true" and counts_itself else 7)


def test_a_replaced_pipeline_goes_on_under_its_name(metrics: Metrics, server: OTLPServer) -> None:
    opened = Opened(Refuser(), metrics)
    opened.emit(2)
    before = metrics.points("otel.sdk.log.created")
    replacement = make_worker(
        [Destination(OTLPLogExporter(endpoint=server.logs_endpoint))],
        resolve_processor({}),
        AttributeBuilder(),
        Resource.get_empty,
        meter_provider=metrics.provider,
        shutdown_timeout=5.0,
        ledger=opened.processor.ledger,
    )
    opened.processor.replace_worker(replacement, 5.0)
    assert read_end(metrics) == 0
    opened.emit(3)
    opened.processor.shutdown()
    assert read_end(metrics) > 0
    name = before[0][0]["otel.component.name"]
    assert metrics.total("otel.sdk.log.created", otel__component__name=name) == 5
    assert metrics.total("otelog.log.dropped", otelog__exporter="Refuser", reason="export_failed") == 2
    assert metrics.total("otel.sdk.exporter.log.exported", server__port=server.port, error__type=None) == 3
    assert_sums(metrics, opened.processor.stats())


def test_an_exporter_of_the_same_kind_keeps_its_name(metrics: Metrics) -> None:
    ledger = Ledger()
    ledger.exporters["otlp"] = ExporterCounts()
    names = set()
    for port in (1, 2):
        publish(
            ledger,
            "otlp",
            component_type="otlp_http_log_exporter",
            endpoint=f"http://127.0.0.1:{port}/v1/logs",
            meter_provider=metrics.provider,
        )
        ((attributes, _),) = metrics.points("otel.sdk.exporter.log.inflight")
        assert attributes["server.port"] == port
        names.add(attributes["otel.component.name"])
    assert len(names) == 1


def test_a_processor_that_is_let_go_leaves_no_points(metrics: Metrics) -> None:
    opened = Opened(InMemoryLogRecordExporter(), metrics)
    opened.emit(1)
    ledger = weakref.ref(opened.processor.ledger)
    assert metrics.points("otel.sdk.log.created")
    del opened

    def is_gone() -> bool:
        gc.collect()
        return ledger() is None

    wait_until(is_gone, what="the end of the ledger")
    collected = metrics.collect()
    assert set(collected) <= {"otel.sdk.exporter.operation.duration"}


def test_created_never_falls_while_the_sdk_logs(monkeypatch: pytest.MonkeyPatch, metrics: Metrics) -> None:
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    opened = Opened(InMemoryLogRecordExporter(), metrics, max_queue_size=50_000)
    going = True

    def log() -> None:
        while going:
            opened.emit(20)
            opened.facade.info("x")

    thread = threading.Thread(target=log)
    thread.start()
    try:
        seen = [metrics.total("otel.sdk.log.created") for _ in range(200)]
    finally:
        going = False
        thread.join()
    assert seen == sorted(seen)
    opened.processor.shutdown()


def run(code: str, endpoint: str, *, returncode: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program that has `otelog` imported and its endpoint set."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OTELOG_"))}
    env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "PYTHONPATH": str(ROOT), **environment}
    program = f"import otelog\n{code}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=env,
        check=False,
    )
    assert done.returncode == returncode, done.stderr
    return done


def test_a_process_that_ends_at_once_sends_its_last_counts() -> None:
    with MetricsServer() as server:
        done = run("otelog.configure()\nfor _ in range(7): otelog.get_logger('x').info('y')", server.endpoint)
        assert done.stderr == ""
        assert server.paths() == ["/v1/logs", "/v1/metrics"]
        ((_, sums),) = server.sums()
    assert sums["otel.sdk.log.created"] == sums["otel.sdk.exporter.log.exported"] == 7
    assert sums["otel.sdk.processor.log.queue.size"] == sums["otel.sdk.exporter.log.inflight"] == 0


READY = """
import time
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
def wait():
    deadline = time.monotonic() + 30
    while not isinstance(metrics.get_meter_provider(), MeterProvider):
        assert time.monotonic() < deadline
        time.sleep(0.01)
"""


def test_an_application_that_still_imports_may_set_its_own_provider(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        """
import sys, threading, time
from otelog import configure

configure()
(thread,) = [thread for thread in threading.enumerate() if thread.name == "otelog-metrics"]

def waits_for_us():
    frame, names = sys._current_frames().get(thread.ident), []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return "_await_imports" in names

deadline = time.monotonic() + 30
while not waits_for_us():
    assert time.monotonic() < deadline
assert "otelog._setup.metric_sender" not in sys.modules

from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry import metrics
provider = MeterProvider()
metrics.set_meter_provider(provider)
"""
    )
    program = "import shop\nshop.thread.join(30)\nassert shop.metrics.get_meter_provider() is shop.provider"
    with MetricsServer() as server:
        done = run(program, server.endpoint, PYTHONPATH=os.pathsep.join([str(ROOT), str(tmp_path)]))
    assert done.stderr == ""


def test_an_application_that_runs_in_its_import_has_metrics(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(f"import otelog\n{READY}otelog.configure()\nwait()\n")
    with MetricsServer() as server:
        run("import shop", server.endpoint, PYTHONPATH=os.pathsep.join([str(ROOT), str(tmp_path)]))
        assert server.paths() == ["/v1/metrics"]


def test_a_process_that_is_terminated_sends_its_last_counts() -> None:
    code = (
        "import os, signal\notelog.configure(handle_sigterm=True)\notelog.get_logger('x').info('y')\n"
        "os.kill(os.getpid(), signal.SIGTERM)"
    )
    with MetricsServer() as server:
        run(code, server.endpoint, returncode=-signal.SIGTERM)
        ((_, sums),) = server.sums()
    assert sums["otel.sdk.exporter.log.exported"] == 1


def test_an_applications_own_metrics_go_the_same_way() -> None:
    code = READY + (
        "counter = metrics.get_meter('shop').create_counter('orders')\notelog.configure()\nwait()\ncounter.add(3)"
    )
    with MetricsServer() as server:
        assert run(code, server.endpoint).stderr == ""
        ((_, sums),) = server.sums()
    assert sums["orders"] == 3


def test_a_shutdown_sends_the_counts_while_the_process_lives_on() -> None:
    code = READY + (
        "otelog.configure()\nwait()\notelog.get_logger('x').info('y')\nassert otelog.shutdown()\nprint('alive')"
    )
    with MetricsServer() as server:
        assert run(code, server.endpoint).stdout == "alive\n"
        first, last = server.sums()
    assert first == last
    assert first[1]["otel.sdk.exporter.log.exported"] == 1


def test_a_provider_that_is_there_stays() -> None:
    code = READY + (
        "mine = MeterProvider()\nmetrics.set_meter_provider(mine)\notelog.configure()\n"
        "otelog.get_logger('x').info('y')\notelog.shutdown()\nassert metrics.get_meter_provider() is mine"
    )
    with MetricsServer() as server:
        assert run(code, server.endpoint).stderr == ""
        assert server.paths() == ["/v1/logs"]


WITHOUT_ENCODER = "import sys\nsys.modules['opentelemetry.exporter.otlp.proto.common.metrics_encoder'] = None\n"
FOREIGN = """
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
otelog.configure(exporter=InMemoryLogRecordExporter())
"""


@pytest.mark.parametrize(
    ("code", "environment"),
    [
        ("otelog.configure()", {"OTEL_METRICS_EXPORTER": "none"}),
        (WITHOUT_ENCODER + "otelog.configure()", {}),
        (FOREIGN, {}),
    ],
    ids=["turned off", "package missing", "foreign exporter"],
)
def test_no_metrics_are_sent_where_nobody_wants_them(code: str, environment: dict[str, str]) -> None:
    with MetricsServer() as server:
        done = run(f"{code}\notelog.get_logger('x').info('y')", server.endpoint, **environment)
        assert done.stderr == ""
        assert "/v1/metrics" not in server.paths()


def test_headers_go_only_where_the_logs_go() -> None:
    with MetricsServer() as server, MetricsServer() as other:
        logs = {
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{other.endpoint}/v1/logs",
            "OTEL_EXPORTER_OTLP_HEADERS": "key=s3cret",
        }
        run("otelog.configure()\notelog.get_logger('x').info('y')", server.endpoint, **logs)
        ((path, headers, _),) = server.requests
        assert path == "/v1/metrics" and "key" not in headers
        ((path, headers, _),) = other.requests
        assert path == "/v1/logs" and headers["key"] == "s3cret"
        run("otelog.configure(headers={'key': 's3cret'})\notelog.get_logger('x').info('y')", server.endpoint)
        assert server.requests[-1][0] == "/v1/metrics" and server.requests[-1][1]["key"] == "s3cret"


LOUD = "import logging\nlogging.basicConfig(level=logging.DEBUG)\n"


@pytest.mark.parametrize("status", [404, 503, HANG])
def test_an_endpoint_without_metrics_costs_one_line_and_little_time(status: int) -> None:
    code = READY + LOUD + "began = time.monotonic()\notelog.configure(level='DEBUG')\nwait()\ntime.sleep(0.5)\n"
    code += "otelog.shutdown(timeout=5.0)\nprint(otelog.stats().created)"
    with MetricsServer(status) as server:
        done = run(code, server.endpoint, OTEL_METRIC_EXPORT_INTERVAL="50")
        assert server.paths().count("/v1/metrics") >= 1
    lines = [line for line in done.stderr.splitlines() if "metric" in line.lower()]
    assert len(lines) == 1 and lines[0].startswith("otelog: metrics are not delivered: "), done.stderr
    assert done.stdout == "0\n"


def test_what_is_logged_while_metrics_are_sent_is_no_record() -> None:
    code = READY + LOUD + "otelog.configure(level='DEBUG')\nwait()\n"
    code += "metrics.get_meter('x').create_counter('y').add(1, {'key': '\\udc80'})\n"
    code += "otelog.shutdown()\nprint(otelog.stats().created)"
    with MetricsServer() as server:
        done = run(code, server.endpoint)
        assert server.paths() == ["/v1/metrics"] * 2
    assert "Failed to encode" in done.stderr
    assert done.stdout == "0\n"


def test_another_endpoint_takes_over_the_metrics_too() -> None:
    with MetricsServer() as first, MetricsServer() as second:
        code = READY + "otelog.configure()\nwait()\notelog.get_logger('x').info('y')\n"
        run(code + f"otelog.configure(endpoint={second.endpoint!r})\notelog.get_logger('x').info('y')", first.endpoint)
        assert first.paths() == ["/v1/logs"]
        ((_, sums),) = second.sums()
    assert sums["otel.sdk.log.created"] == 2
    assert sums["otel.sdk.exporter.log.exported"] == 2


FORKS = """
import json, os
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from otelog._capture.facade import Logger
reader = InMemoryMetricReader()
processor = otelog.BatchLogRecordProcessor(InMemoryLogRecordExporter(), meter_provider=MeterProvider([reader]))
log = Logger("x", processor.pipeline)
def log_and_tell(count):
    for _ in range(count):
        log.info("y")
    processor.force_flush()
    metrics = {m.name: m for s in reader.get_metrics_data().resource_metrics[0].scope_metrics for m in s.metrics}
    names = ("otel.sdk.log.created", "otel.sdk.processor.log.processed", "otel.sdk.exporter.log.exported")
    print(json.dumps([sum(p.value for p in metrics[name].data.data_points) for name in names]), flush=True)
log_and_tell(5)
pid = os.fork()
if not pid:
    log_and_tell(2)
    os._exit(0)
os.waitpid(pid, 0)
log_and_tell(1)
"""


def test_a_forked_childs_counts_begin_at_zero() -> None:
    done = run(FORKS, "http://127.0.0.1:9", OTEL_METRICS_EXPORTER="none")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[5] * 3, [2] * 3, [6] * 3]


@pytest.mark.parametrize(
    ("in_parent", "in_child"),
    [("pass", "pass"), ("pass", "wait()"), ("wait()", "wait()")],
    ids=["at once", "provider in the child", "provider in both"],
)
def test_a_child_of_multiprocessing_sends_its_own_last_counts(in_parent: str, in_child: str) -> None:
    code = READY + (
        "import multiprocessing\n"
        f"otelog.configure()\n{in_parent}\nlog = otelog.get_logger('x')\nlog.info('y')\n"
        f"def work():\n    {in_child}\n    for _ in range(3): log.info('z')\n"
        "child = multiprocessing.get_context('fork').Process(target=work)\nchild.start()\nchild.join()\n"
        "assert child.exitcode == 0\n"
    )
    with MetricsServer() as server:
        assert run(code, server.endpoint).stderr == ""
        sums = server.sums()
    assert sorted(one["otel.sdk.exporter.log.exported"] for _, one in sums) == [1, 3]
    assert len({instance for instance, _ in sums}) == 2


def test_a_fork_waits_for_a_collection_whose_locks_the_child_would_inherit() -> None:
    code = READY + (
        "import os, threading\n"
        "otelog.configure()\nwait()\nparent = os.getpid()\nbegun = threading.Event()\n"
        "meter = metrics.get_meter('shop')\ncounter = meter.create_counter('orders')\ncounter.add(1)\n"
        "def observe(_):\n"
        "    if os.getpid() == parent and not begun.is_set():\n"
        "        begun.set()\n        threading.Event().wait(0.3)\n"
        "    return [metrics.Observation(1)]\n"
        "meter.create_observable_gauge('stock', [observe])\n"
        "thread = threading.Thread(target=metrics.get_meter_provider().force_flush)\n"
        "thread.start()\nassert begun.wait(30)\n"
        "child = os.fork()\n"
        "if child:\n    assert os.waitpid(child, 0)[1] == 0\n    thread.join()\n"
        "else:\n    counter.add(7)\n"
    )
    with MetricsServer() as server:
        assert run(code, server.endpoint).stderr == ""
        sums = server.sums()
    # The SDK goes on counting in the child where the parent was.
    assert sorted({(one["orders"]) for _, one in sums}) == [1, 8]
    assert len({instance for instance, _ in sums}) == 2
