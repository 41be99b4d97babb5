"""Our parts with the SDK's and the official exporters: whichever way a record goes, it arrives equal in every field."""

from __future__ import annotations

import json
import logging
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from time import time_ns
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as OfficialGrpcExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as OfficialHttpExporter
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits, ReadableLogRecord
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor as OfficialProcessor,
)
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, LogRecordExportResult, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import otelog
from otelog.sinks import FileLogExporter
from otelog.testing import OTLPServer, Reply
from tests.arrivals import configured, flush_records, to_dict, to_python
from tools.waiting import wait_until

RESOURCE = Resource({"service.name": "interop", "ports": [1, 2], "ratio": 0.5, "on": True}, "https://schema/resource")
NESTED = {"list": [1, "a", None, True, 2.5], "dict": {"deep": {"deeper": [{"x": b"\x00\xff"}]}}, "empty": {}}
SPAN = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0x00F067AA0BA902B7, is_remote=True, trace_flags=TraceFlags(1))


class Receiver(logs_service_pb2_grpc.LogsServiceServicer):
    """A gRPC server's side that keeps requests."""

    def __init__(self) -> None:
        self.requests: list[logs_service_pb2.ExportLogsServiceRequest] = []

    def Export(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return logs_service_pb2.ExportLogsServiceResponse()


@contextmanager
def grpc_server() -> Iterator[tuple[str, Receiver]]:
    """A real gRPC server on loopback."""
    receiver = Receiver()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", receiver
    finally:
        server.stop(None).wait()


def emit_all(provider: LoggerProvider) -> None:
    """Emit records of all kinds, with times of their own."""
    plain = provider.get_logger("plain")
    full = provider.get_logger("full", "1.2.3", "https://schema/scope", {"scope": "attribute", "number": 5})
    start = 1_700_000_000_000_000_000
    scalars: list[Any] = ["text", "", "é\x00", 5, -5, 2**62, 2.5, True, False, b"\x00\xff", None]
    bodies = [*scalars, [1, ["a", None]], NESTED]
    for number, body in enumerate(bodies):
        plain.emit(
            LogRecord(
                timestamp=start + number * 1000,
                observed_timestamp=start + number * 1000 + 7,
                severity_number=SeverityNumber.INFO,
                severity_text="INFO",
                body=body,
            )
        )
    with trace.use_span(NonRecordingSpan(SPAN)):
        for number, severity in enumerate(SeverityNumber):
            full.emit(
                LogRecord(
                    timestamp=start + 10**9 + number,
                    observed_timestamp=start,
                    severity_number=severity,
                    severity_text=severity.name.lower(),
                    body="in a span",
                    attributes={"s": "x", "i": -7, "f": 1.5, "b": True, "list": ["a", "b"], "nested": NESTED},
                    event_name="an.event" if number % 2 else None,
                )
            )
    plain.emit(LogRecord(timestamp=start + 2 * 10**9, observed_timestamp=start, body="bare"))
    try:
        raise KeyError("sku")
    except KeyError as error:
        plain.emit(timestamp=start + 3 * 10**9, observed_timestamp=start, body="failed", exception=error)


def flatten(requests: list[Any]) -> list[dict[str, Any]]:
    """Every record with everything that can be said of it, in a settled order."""
    found = []
    for request in requests:
        for resource in request.resource_logs:
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    found.append(
                        {
                            "resource": to_dict(resource.resource.attributes),
                            "resource schema": resource.schema_url,
                            "scope": (scope.scope.name, scope.scope.version, scope.schema_url),
                            "scope attributes": to_dict(scope.scope.attributes),
                            "time": record.time_unix_nano,
                            "observed": record.observed_time_unix_nano,
                            "severity": (record.severity_number, record.severity_text),
                            "body": to_python(record.body),
                            "body kind": record.body.WhichOneof("value"),
                            "attributes": to_dict(record.attributes),
                            "dropped": record.dropped_attributes_count,
                            "ids": (record.trace_id, record.span_id, record.flags),
                            "event": record.event_name,
                        }
                    )
    return sorted(found, key=lambda one: (one["time"], one["observed"]))


def over_http(make: Callable[[str], Any], **limits: Any) -> list[dict[str, Any]]:
    """Emit all records over a processor, made for the URL of a server; return what arrived."""
    with OTLPServer() as server:
        provider = LoggerProvider(
            RESOURCE, shutdown_on_exit=False, log_record_limits=LogRecordLimits(**limits) if limits else None
        )
        processor = make(server.logs_endpoint)
        provider.add_log_record_processor(processor)
        emit_all(provider)
        assert processor.force_flush(10_000) in (True, None)
        provider.shutdown()
        return flatten([request.decode() for request in server.requests])


def stock(url: str) -> Any:
    return OfficialProcessor(OfficialHttpExporter(endpoint=url))


def ours_with_official_exporter(url: str) -> Any:
    return otelog.BatchLogRecordProcessor(OfficialHttpExporter(endpoint=url))


def ours(url: str) -> Any:
    return otelog.BatchLogRecordProcessor(otelog.OTLPLogExporter(endpoint=url))


def stock_with_our_exporter(url: str) -> Any:
    return OfficialProcessor(otelog.OTLPLogExporter(endpoint=url))


def simple_with_our_exporter(url: str) -> Any:
    return SimpleLogRecordProcessor(otelog.OTLPLogExporter(endpoint=url))


@pytest.fixture(scope="module")
def reference() -> list[dict[str, Any]]:
    """What the official parts make of it."""
    return over_http(stock)


WAYS = [ours, ours_with_official_exporter, stock_with_our_exporter, simple_with_our_exporter]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_delivers_what_the_official_parts_deliver(
    way: Callable[[str], Any], reference: list[dict[str, Any]]
) -> None:
    found = over_http(way)
    assert len(found) == len(reference) > 30
    for got, expected in zip(found, reference, strict=True):
        assert got == expected


def test_the_official_grpc_exporter_works_under_our_processor(reference: list[dict[str, Any]]) -> None:
    with grpc_server() as (target, receiver):
        provider = LoggerProvider(RESOURCE, shutdown_on_exit=False)
        processor = otelog.BatchLogRecordProcessor(OfficialGrpcExporter(endpoint=target, insecure=True))
        provider.add_log_record_processor(processor)
        emit_all(provider)
        assert processor.force_flush()
        stats = processor.stats()
        assert stats.created == stats.exported == len(reference)
        provider.shutdown()
        assert flatten(receiver.requests) == reference


@pytest.mark.parametrize("exporter", ["http", "grpc"])
def test_the_facade_and_the_handler_speak_through_official_exporters(exporter: str) -> None:
    import logging

    from tests.arrivals import configured

    with OTLPServer() as server, grpc_server() as (target, receiver):
        official: Any = (
            OfficialHttpExporter(endpoint=server.logs_endpoint)
            if exporter == "http"
            else OfficialGrpcExporter(endpoint=target, insecure=True)
        )
        with configured(exporter=official), trace.use_span(NonRecordingSpan(SPAN)):
            try:
                raise KeyError("sku")
            except KeyError:
                otelog.get_logger("facade").exception("facade %d", 1, nested=NESTED, none=None)
            logging.getLogger("std").warning("standard %d", 2, extra={"nested": NESTED})
            assert otelog.flush(10)
            assert otelog.stats().exported == 2
        requests = [request.decode() for request in server.requests] if exporter == "http" else receiver.requests
        facade, standard = flatten(requests)
    assert (facade["body"], standard["body"]) == ("facade 1", "standard 2")
    assert facade["attributes"]["nested"] == standard["attributes"]["nested"] == NESTED
    assert facade["attributes"]["none"] is None
    assert facade["attributes"]["exception.type"] == "KeyError"
    assert facade["attributes"]["code.file.path"] == standard["attributes"]["code.file.path"] == __file__
    assert facade["ids"] == standard["ids"] == (SPAN.trace_id.to_bytes(16, "big"), SPAN.span_id.to_bytes(8, "big"), 1)
    assert facade["resource"]["service.name"] == "test"
    assert (facade["scope"][0], standard["scope"][0]) == ("facade", "std")
    assert (facade["severity"], standard["severity"]) == ((17, "ERROR"), (13, "WARNING"))


@pytest.mark.parametrize("way", [ours, ours_with_official_exporter, stock_with_our_exporter])
@pytest.mark.filterwarnings("ignore:Log record attributes were dropped")
def test_the_sdks_own_limits_are_kept_and_counted(way: Callable[[str], Any]) -> None:
    found = over_http(way, max_log_record_attributes=2, max_log_record_attribute_length=3)
    assert {one["dropped"] for one in found if one["event"]} == {4}
    assert all(len(one["attributes"]) <= 2 for one in found)


@pytest.mark.parametrize("way", [ours, ours_with_official_exporter, stock_with_our_exporter])
def test_more_attributes_than_usual_arrive_where_the_sdk_allows_them(way: Callable[[str], Any]) -> None:
    with OTLPServer() as server:
        limits = LogRecordLimits(max_attributes=1000)
        provider = LoggerProvider(RESOURCE, shutdown_on_exit=False, log_record_limits=limits)
        processor = way(server.logs_endpoint)
        provider.add_log_record_processor(processor)
        attributes = {f"key {number}": number for number in range(300)}
        provider.get_logger("x").emit(LogRecord(body="x", attributes=attributes))
        processor.force_flush(10_000)
        provider.shutdown()
        (record,) = server.records
    assert (to_dict(record.attributes), record.dropped_attributes_count) == (attributes, 0)


def test_times_that_the_application_set_are_kept_but_for_ties() -> None:
    times = [10**18, 10**18, 10**18 - 400_000_000, 10**18 + 5]
    with OTLPServer() as server:
        provider = LoggerProvider(RESOURCE, shutdown_on_exit=False)
        processor = ours(server.logs_endpoint)
        provider.add_log_record_processor(processor)
        for time_ns in times:
            provider.get_logger("x").emit(LogRecord(timestamp=time_ns, body="x"))
        processor.force_flush()
        provider.shutdown()
        # Loki keeps one of several equal lines of the same nanosecond.
        assert [record.time_unix_nano for record in server.records] == [times[0], times[0] + 1, *times[2:]]


def test_a_record_without_a_time_gets_that_of_its_observation() -> None:
    with OTLPServer() as server:
        provider = LoggerProvider(RESOURCE, shutdown_on_exit=False)
        processor = ours(server.logs_endpoint)
        provider.add_log_record_processor(processor)
        provider.get_logger("x").emit(LogRecord(observed_timestamp=123_456_789, body="x"))
        processor.force_flush()
        provider.shutdown()
        (record,) = server.records
    assert record.observed_time_unix_nano == 123_456_789
    assert record.time_unix_nano in (0, 123_456_789)


def test_what_a_later_processor_changes_does_not_show() -> None:
    exporter = InMemoryLogRecordExporter()
    processor = otelog.BatchLogRecordProcessor(exporter, schedule_delay_millis=60_000)

    class Meddler(SimpleLogRecordProcessor):
        def on_emit(self, log_record: Any) -> None:
            log_record.log_record.body["list"].append("meddled")
            log_record.log_record.attributes["a"] = "meddled"
            log_record.log_record.attributes["nested"]["key"] = "meddled"

    provider = LoggerProvider(RESOURCE, shutdown_on_exit=False)
    provider.add_log_record_processor(processor)
    provider.add_log_record_processor(Meddler(exporter))
    provider.get_logger("x").emit(body={"list": [1]}, attributes={"a": "b", "nested": {"key": 1}})
    provider.force_flush()
    provider.shutdown()
    (record,) = exporter.get_finished_logs()
    assert record.log_record.body == {"list": [1]}
    assert dict(record.log_record.attributes or {}) == {"a": "b", "nested": {"key": 1}}


class Choosy(InMemoryLogRecordExporter):
    """Says no to every second batch, raises at every third."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def export(self, batch: Any) -> LogRecordExportResult:
        self.calls += 1
        if self.calls % 3 == 0:
            raise ValueError("no")
        if self.calls % 2 == 0:
            return LogRecordExportResult.FAILURE
        return super().export(batch)


def test_what_a_foreign_exporter_says_is_what_is_counted(capfd: pytest.CaptureFixture[str]) -> None:
    exporter = Choosy()
    processor = otelog.BatchLogRecordProcessor(exporter, schedule_delay_millis=60_000)
    provider = LoggerProvider(RESOURCE, shutdown_on_exit=False)
    provider.add_log_record_processor(processor)
    answers = []
    for _ in range(6):
        for _ in range(5):
            provider.get_logger("x").emit(body="x")
        answers.append(processor.force_flush())
    assert answers == [True, False, False, False, True, False]
    stats = processor.stats()
    assert (stats.created, stats.exported, stats.dropped["export_failed"]) == (30, 10, 20)
    assert len(exporter.get_finished_logs()) == 10
    provider.shutdown()


@pytest.mark.parametrize("severity", [9, 99, -1])
def test_a_severity_that_is_none_of_the_sdks_costs_no_other_record(
    severity: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    exporter = InMemoryLogRecordExporter()
    processor = otelog.BatchLogRecordProcessor(exporter)
    provider = LoggerProvider(RESOURCE, shutdown_on_exit=False)
    provider.add_log_record_processor(processor)
    logger = provider.get_logger("x")
    logger.emit(body="before")
    logger.emit(LogRecord(severity_number=severity, body="odd"))
    logger.emit(body="after")
    processor.force_flush()
    found: tuple[ReadableLogRecord, ...] = exporter.get_finished_logs()
    bodies = [record.log_record.body for record in found]
    assert bodies[0] == "before" and bodies[-1] == "after" and len(bodies) == 3
    if severity == 9:
        assert (bodies[1], found[1].log_record.severity_number) == ("odd", SeverityNumber.INFO)
    provider.shutdown()


def export_one(exporter: otelog.OTLPLogExporter, records: list[ReadableLogRecord]) -> None:
    assert exporter.export(records) is LogRecordExportResult.SUCCESS


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_exports_though_a_thread_of_the_parent_was_in_the_middle_of_it() -> None:
    kept = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(kept))
    provider.get_logger("shop").emit(LogRecord(body="one", severity_number=SeverityNumber.INFO))
    records = list(kept.get_finished_logs())
    with OTLPServer(script=[Reply(delay=3.0)]) as server:
        exporter = otelog.OTLPLogExporter(endpoint=server.logs_endpoint)
        thread = threading.Thread(target=export_one, args=(exporter, records))
        thread.start()
        wait_until(lambda: len(server.requests) == 1)
        child = multiprocessing.get_context("fork").Process(target=export_one, args=(exporter, records))
        child.start()
        child.join(30)
        thread.join(30)
        assert child.exitcode == 0
        assert len(server.requests) == 2
        exporter.shutdown()


# Times that are not known.


@pytest.mark.parametrize("special", [{}, {"event_name": "e"}], ids=["plain", "special"])
@pytest.mark.parametrize(
    ("given", "time", "observed"),
    [
        ({"timestamp": 0, "observed_timestamp": 0}, 0, "now"),
        ({"timestamp": 0}, 0, "now"),
        ({"timestamp": 0, "observed_timestamp": 7 * 10**17}, 0, 7 * 10**17),
        ({"timestamp": None, "observed_timestamp": 0}, "now", "now"),
        ({"timestamp": None, "observed_timestamp": None}, "now", "now"),
        ({"timestamp": 6 * 10**17, "observed_timestamp": 0}, 6 * 10**17, "now"),
        ({"timestamp": 6 * 10**17, "observed_timestamp": 7 * 10**17}, 6 * 10**17, 7 * 10**17),
    ],
)
def test_a_time_of_zero_stays_unknown_and_there_is_always_one_of_observation(
    tmp_path: Path, special: dict[str, Any], given: dict[str, Any], time: Any, observed: Any
) -> None:
    exporter = InMemoryLogRecordExporter()
    before = time_ns()
    with OTLPServer() as server:
        provider = LoggerProvider(RESOURCE, shutdown_on_exit=False)
        for one in (otelog.OTLPLogExporter(endpoint=server.logs_endpoint), exporter, FileLogExporter(folder=tmp_path)):
            provider.add_log_record_processor(otelog.BatchLogRecordProcessor(one))
        for _ in range(3):
            provider.get_logger("x").emit(LogRecord(body="x", **given, **special))
        provider.force_flush()
        provider.shutdown()
        after = time_ns()
        arrived = [(one.time_unix_nano, one.observed_time_unix_nano) for one in server.records]
    kept = [
        (one.log_record.timestamp or 0, one.log_record.observed_timestamp or 0) for one in exporter.get_finished_logs()
    ]
    lines = [json.loads(line) for path in tmp_path.glob("*.log") for line in path.read_text().splitlines()]
    for times in (arrived, kept):
        assert len(times) == 3
        for got in times:
            for value, wanted in zip(got, (time, observed), strict=True):
                # Ties are moved by a nanosecond each.
                assert before <= value <= after + 3 if wanted == "now" else wanted <= value <= wanted + 3 * bool(wanted)
        # What a store goes by is never the same twice.
        assert len({moment or seen for moment, seen in times}) == 3
    shown = {datetime.fromisoformat(one["timestamp"]) for one in lines}
    wanted = time or observed
    for moment in shown:
        seconds = moment.timestamp()
        assert before // 10**9 <= seconds <= after / 1e9 if wanted == "now" else abs(seconds - wanted / 1e9) < 1
    assert len(lines) == 3


def test_a_log_record_without_a_time_has_that_at_which_it_was_taken() -> None:
    before = time_ns()
    with configured(level="DEBUG") as server:
        for extra in ({}, {"list": [1]}):
            logging.getLogger("x").handle(logging.makeLogRecord({"msg": "x", "levelno": 20, "created": 0.0, **extra}))
        times = [(one.time_unix_nano, one.observed_time_unix_nano) for one in flush_records(server)]
    assert len(times) == 2
    for moment, observed in times:
        assert before <= moment == observed <= time_ns()
