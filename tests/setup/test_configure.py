"""`configure`: what it sets up, what it leaves alone, and what a second call does; `capture_logs` on top of it."""

from __future__ import annotations

import io
import logging
import logging.config
import os
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import _logs
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter

import otelog
from otelog._setup.state import is_configured
from otelog.testing import OTLPServer, capture_logs
from tests.arrivals import SDK_RENEWS_RESOURCES, bodies, configured, flush_record, flush_records, to_dict, to_python

ROOT = Path(__file__).resolve().parents[2]
log = otelog.get_logger("facade")
std = logging.getLogger("std")


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with configured() as one:
        yield one


def our_handlers() -> list[logging.Handler]:
    """Handlers of otelog on the root logger."""
    return [one for one in logging.getLogger().handlers if isinstance(one, otelog.LoggingHandler)]


def resource_of(server: OTLPServer) -> dict[str, Any]:
    """The attributes of the last request's only resource."""
    (resource,) = server.requests[-1].decode().resource_logs
    return to_dict(resource.resource.attributes)


def run(script: str, **environment: str) -> str:
    """Run a script in a process of its own: the providers of OpenTelemetry can be set once only."""
    done = subprocess.run(
        [sys.executable, "-c", "import logging, sys, otelog\n" + textwrap.dedent(script)],
        env={**os.environ, "OTEL_METRICS_EXPORTER": "none", "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


# Twice.


def test_the_same_options_again_change_nothing(server: OTLPServer) -> None:
    handlers, threads = list(logging.getLogger().handlers), set(threading.enumerate())
    port = log._pipeline.port
    for _ in range(3):
        otelog.configure(
            endpoint=server.endpoint, service_name="test", thread_attributes=False, capture_exceptions=False
        )
    assert logging.getLogger().handlers == handlers
    assert set(threading.enumerate()) == threads
    assert log._pipeline.port is port
    assert len(our_handlers()) == 1


def test_other_options_deliver_what_is_queued_and_replace_while_the_ledger_goes_on() -> None:
    with configured(schedule_delay_millis=60_000) as first, OTLPServer() as second:
        for number in range(10):
            log.info("first %d", number)
        otelog.configure(endpoint=second.endpoint, service_name="test", level="ERROR", thread_attributes=False)
        assert len(first.records) == 10
        log.info("below the new level")
        log.error("second")
        std.error("second, standard")
        _logs.get_logger("otel").emit(body="second, otel")
        assert sorted(bodies(flush_records(second))) == ["second", "second, otel", "second, standard"]
        assert len(first.records) == 10
        stats = otelog.stats()
        assert (stats.created, stats.exported, stats.lost) == (13, 13, 0)
        assert len(our_handlers()) == 1
        assert logging.getLogger().level == logging.ERROR


def test_threads_that_log_while_pipelines_are_replaced_lose_nothing() -> None:
    with configured(max_queue_size=100_000) as server:
        stop = threading.Event()
        counts = []

        def work() -> None:
            count = 0
            while not stop.is_set():
                log.info("x", thread=1)
                std.warning("y")
                count += 2
                stop.wait(0.0002)
            counts.append(count)

        workers = [threading.Thread(target=work) for _ in range(3)]
        for worker in workers:
            worker.start()
        for delay in range(1, 6):
            otelog.configure(
                endpoint=server.endpoint, service_name="test", schedule_delay_millis=delay, max_queue_size=100_000
            )
        stop.set()
        for worker in workers:
            worker.join()
        assert len(flush_records(server)) == sum(counts)
        stats = otelog.stats()
        assert (stats.created, stats.exported, stats.lost) == (sum(counts), sum(counts), 0)


def test_the_same_exporter_serves_the_next_pipeline_too() -> None:
    exporter = InMemoryLogRecordExporter()
    with configured(exporter=exporter):
        log.info("one")
        otelog.configure(exporter=exporter, level="DEBUG")
        log.info("two")
        assert otelog.flush(10)
        assert [record.log_record.body for record in exporter.get_finished_logs()] == ["one", "two"]


def test_a_handler_that_was_taken_off_is_put_back(server: OTLPServer) -> None:
    logging.getLogger().handlers.clear()
    assert our_handlers() == []
    otelog.configure(endpoint=server.endpoint, service_name="test", thread_attributes=False)
    assert len(our_handlers()) == 1
    std.info("x")
    assert bodies(flush_records(server)) == ["x"]


def test_a_handler_that_the_application_has_put_there_is_enough() -> None:
    own = otelog.LoggingHandler()
    root = logging.getLogger()
    root.addHandler(own)
    try:
        with configured() as server:
            assert our_handlers() == [own]
            std.info("once")
            assert bodies(flush_records(server)) == ["once"]
        assert our_handlers() == [own]
    finally:
        root.removeHandler(own)


def test_the_handler_is_left_out_and_taken_back_on_request() -> None:
    level = logging.getLogger().level
    with configured(install_handler=False) as server:
        assert our_handlers() == []
        assert logging.getLogger().level == level
        otelog.configure(endpoint=server.endpoint, service_name="test")
        assert len(our_handlers()) == 1
        otelog.configure(endpoint=server.endpoint, service_name="test", install_handler=False)
        assert our_handlers() == []


def test_a_console_handler_stays(server: OTLPServer) -> None:
    stream = io.StringIO()
    console = logging.StreamHandler(stream)
    logging.getLogger().addHandler(console)
    try:
        otelog.configure(endpoint=server.endpoint, service_name="other")
        std.info("to both")
        log.info("to otelog only")
    finally:
        logging.getLogger().removeHandler(console)
    assert stream.getvalue() == "to both\n"
    assert sorted(bodies(flush_records(server))) == ["to both", "to otelog only"]


# Before and after.


def test_before_configure_the_facade_is_the_standard_library(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    log.info("%s paid", "ada", amount=12.5)
    log.bind(a=1).warning("%(b)s", {"b": 2})
    with otelog.bound(request="r-1"):
        log.log(25, "notice", items=[1])
    log.event("order.paid", order_id=7)
    try:
        raise KeyError("sku")
    except KeyError:
        log.exception("failed", stack_info=True)
    info, warning, notice, event, error = caplog.records
    assert (info.name, info.levelno, info.getMessage(), info.amount) == ("facade", 20, "ada paid", 12.5)
    assert (info.pathname, info.funcName) == (__file__, "test_before_configure_the_facade_is_the_standard_library")
    assert (warning.getMessage(), warning.a) == ("2", 1)
    assert (notice.levelno, notice.request, notice.items) == (25, "r-1", [1])
    assert (event.getMessage(), event.order_id) == ("order.paid", 7)
    assert error.exc_info is not None and error.exc_info[0] is KeyError
    assert error.stack_info is not None and "stack_info=True" in error.stack_info
    assert otelog.stats().created == 0


def test_before_configure_the_standard_librarys_level_counts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    log.info("no")
    log.warning("yes")
    assert [record.getMessage() for record in caplog.records] == ["yes"]


def test_a_logger_made_before_configure_is_a_logger_after_it() -> None:
    early = otelog.get_logger("early").bind(a=1)
    with configured() as server:
        early.info("x")
        assert to_python(flush_record(server).body) == "x"


def test_after_shutdown_records_are_refused_and_counted(server: OTLPServer, capfd: pytest.CaptureFixture[str]) -> None:
    log.info("in time")
    assert otelog.shutdown()
    log.info("late")
    log.info("late and large", text="x" * 10_000)
    log.info("late and odd", items=[1])
    std.info("late")
    _logs.get_logger("otel").emit(body="late")
    stats = otelog.stats()
    assert stats.refused["already_shutdown"] == 5
    assert (stats.created, stats.exported) == (6, 1)
    assert bodies(server.records) == ["in time"]
    assert otelog.flush() and otelog.shutdown()


def test_configure_after_shutdown_begins_again(server: OTLPServer) -> None:
    otelog.shutdown()
    otelog.configure(endpoint=server.endpoint, service_name="test", thread_attributes=False)
    log.info("again")
    assert bodies(flush_records(server)) == ["again"]


def test_flush_and_shutdown_say_when_something_was_lost(capfd: pytest.CaptureFixture[str]) -> None:
    with configured(exporter=RefusingExporter()):
        log.info("x")
        assert not otelog.flush()
        log.info("y")
        assert not otelog.shutdown()
        assert otelog.stats().dropped["export_failed"] == 2


class RefusingExporter(InMemoryLogRecordExporter):
    def export(self, batch: Any) -> Any:
        raise ConnectionError("no")


# OpenTelemetry's providers.


def test_opentelemetry_loggers_land_in_the_same_queue(server: OTLPServer) -> None:
    log.info("facade")
    std.info("standard")
    _logs.get_logger("library", "1.2").emit(body="otel", severity_number=_logs.SeverityNumber.WARN)
    assert otelog.stats().created == 3
    assert sorted(bodies(flush_records(server))) == ["facade", "otel", "standard"]
    resources = server.requests[-1].decode().resource_logs
    assert len(resources) == 1 or not SDK_RENEWS_RESOURCES
    assert {scope.scope.name for one in resources for scope in one.scope_logs} == {"facade", "std", "library"}


def test_missing_providers_are_installed_and_loggers_from_before_work() -> None:
    out = run("""
        from opentelemetry import _logs, trace
        from otelog.testing import OTLPServer
        early = _logs.get_logger("early")
        with OTLPServer() as server:
            otelog.configure(endpoint=server.endpoint, service_name="s")
            assert type(_logs.get_logger_provider()).__module__.startswith("opentelemetry.sdk")
            with trace.get_tracer("x").start_as_current_span("span") as span:
                otelog.get_logger("f").info("in a span")
            early.emit(body="early")
            assert otelog.flush()
            inside, other = server.records
            assert int.from_bytes(inside.trace_id, "big") == span.get_span_context().trace_id != 0
            assert int.from_bytes(inside.span_id, "big") == span.get_span_context().span_id != 0
            otelog.shutdown()
        print("done")
    """)
    assert out == "done\n"


def test_existing_providers_are_not_replaced_and_keep_their_own_resource() -> None:
    out = run("""
        from opentelemetry import _logs, trace
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from otelog.testing import OTLPServer
        loggers = LoggerProvider(Resource({"service.name": "app", "team": "shop"}))
        tracers = TracerProvider()
        _logs.set_logger_provider(loggers)
        trace.set_tracer_provider(tracers)
        with OTLPServer() as server:
            otelog.configure(endpoint=server.endpoint, service_version="7")
            otelog.configure(endpoint=server.endpoint, service_version="8")
            assert _logs.get_logger_provider() is loggers and trace.get_tracer_provider() is tracers
            otelog.get_logger("f").info("x")
            loggers.get_logger("own").emit(body="y")
            assert otelog.flush()
            assert len(server.records) == 2
            resources = [
                {pair.key: pair.value.string_value for pair in resource.resource.attributes}
                for request in server.requests for resource in request.decode().resource_logs
            ]
            (ours,) = [one for one in resources if "service.version" in one]
            assert (ours["service.name"], ours["team"], ours["service.version"]) == ("app", "shop", "8")
            assert ours["service.instance.id"]
            otelog.shutdown()
        print("done")
    """, OTEL_SERVICE_NAME="from the environment")  # fmt: skip
    assert out == "done\n"


def test_another_kind_of_provider_is_left_alone_and_told_of() -> None:
    out = run("""
        from opentelemetry import _logs
        _logs.set_logger_provider(_logs.NoOpLoggerProvider())
        from otelog.testing import OTLPServer
        with OTLPServer() as server:
            otelog.configure(endpoint=server.endpoint)
            otelog.get_logger("f").info("x")
            assert otelog.flush() and len(server.records) == 1
            otelog.shutdown()
    """)
    assert "not the SDK's" in out


def test_a_disabled_sdk_sets_up_nothing() -> None:
    out = run("""
        import threading
        otelog.configure()
        otelog.get_logger("f").warning("to the standard library")
        assert otelog.stats().created == 0
        assert threading.active_count() == 1
        assert logging.getLogger().handlers == []
    """, OTEL_SDK_DISABLED="true")  # fmt: skip
    assert out == "to the standard library\n"


# The resource.


def test_the_resource_says_who_we_are() -> None:
    with configured(
        service_name="checkout",
        service_version="1.2.3",
        service_namespace="shop",
        deployment_environment="test",
        resource_attributes={"team": "a", "numbers": [1, 2]},
    ) as server:
        log.info("x")
        if SDK_RENEWS_RESOURCES:
            _logs.get_logger("otel").emit(body="y")
        flush_records(server)
        resource = resource_of(server)
    assert resource["service.name"] == "checkout"
    assert resource["service.version"] == "1.2.3"
    assert resource["service.namespace"] == "shop"
    assert resource["deployment.environment.name"] == "test"
    assert (resource["team"], resource["numbers"]) == ("a", [1, 2])
    assert resource["telemetry.sdk.language"] == "python"
    assert uuid.UUID(resource["service.instance.id"])


def test_the_instance_id_outlives_a_second_configure(server: OTLPServer) -> None:
    log.info("x")
    flush_records(server)
    before = resource_of(server)
    otelog.configure(endpoint=server.endpoint, service_name="other")
    log.info("y")
    if SDK_RENEWS_RESOURCES:
        _logs.get_logger("otel").emit(body="z")
    flush_records(server)
    after = resource_of(server)
    assert after["service.instance.id"] == before["service.instance.id"]
    assert (before["service.name"], after["service.name"]) == ("test", "other")


def test_an_instance_id_of_ones_own_is_kept() -> None:
    with configured(resource_attributes={"service.instance.id": "pod-7"}) as server:
        log.info("x")
        flush_records(server)
        assert resource_of(server)["service.instance.id"] == "pod-7"


def test_the_environment_names_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "named")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=b,service.version=9")
    with configured(service_name=None) as server:
        log.info("x")
        flush_records(server)
        resource = resource_of(server)
    assert (resource["service.name"], resource["team"], resource["service.version"]) == ("named", "b", "9")


# Mistakes.


@pytest.mark.parametrize(
    "options",
    [{"servise_name": "x"}, {"level": "LOUD"}, {"max_queue_size": 0}, {"when_full": "panic"}, {"endpoint": "ftp://x"}],
    ids=str,
)
def test_a_bad_keyword_is_an_error_and_changes_nothing(server: OTLPServer, options: dict[str, Any]) -> None:
    port = log._pipeline.port
    with pytest.raises(otelog.ConfigurationError) as caught:
        otelog.configure(**{"endpoint": server.endpoint, **options})
    assert next(iter(options)) in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert log._pipeline.port is port
    log.info("still there")
    assert bodies(flush_records(server)) == ["still there"]


def test_a_file_that_is_missing_is_an_error_and_changes_nothing(server: OTLPServer) -> None:
    port = log._pipeline.port
    with pytest.raises(otelog.ConfigurationError):
        otelog.configure(endpoint="https://127.0.0.1:1", certificate_file="/no/such/file.pem")
    assert log._pipeline.port is port


def test_a_bad_environment_is_told_and_the_default_taken(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_BLRP_MAX_QUEUE_SIZE", "many")
    with configured():
        assert otelog.stats().queue_capacity == 10_000
    err = capfd.readouterr().err
    assert err.startswith("otelog: OTEL_BLRP_MAX_QUEUE_SIZE") and err.count("\n") == 1


# capture_logs.


def captured_bodies(records: list[ReadableLogRecord]) -> list[Any]:
    """The bodies of captured records."""
    return [record.log_record.body for record in records]


def say_all() -> None:
    """Log in all three ways."""
    log.info("facade %d", 1, a=1, items=[{"b": None}])
    std.info("standard %d", 2, extra={"a": 2})
    _logs.get_logger("otel").emit(body="otel", attributes={"a": 3})


ALL = ["facade 1", "otel", "standard 2"]


def test_what_is_logged_in_the_block_is_collected_with_everything_in_it(server: OTLPServer) -> None:
    with capture_logs() as logs, otelog.bound(request="r-1"):
        say_all()
        assert sorted(captured_bodies(logs.records)) == ALL
    by_body = {record.log_record.body: record for record in logs.records}
    facade = by_body["facade 1"]
    attributes = facade.log_record.attributes or {}
    assert (attributes["a"], attributes["request"]) == (1, "r-1")
    assert attributes["items"] == ({"b": None},)
    assert attributes["code.function.name"] == "say_all"
    assert facade.instrumentation_scope is not None and facade.instrumentation_scope.name == "facade"
    assert facade.log_record.severity_text == "INFO"
    assert (by_body["otel"].log_record.attributes or {})["a"] == 3


def test_nothing_of_it_is_exported_and_afterwards_all_is_as_before(server: OTLPServer) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), log._pipeline.port, set(threading.enumerate()))
    with capture_logs() as logs:
        say_all()
    assert (root.level, list(root.handlers), log._pipeline.port, set(threading.enumerate())) == before
    assert otelog.stats().created == 0
    say_all()
    assert sorted(bodies(flush_records(server))) == ALL
    assert sorted(captured_bodies(logs.records)) == ALL


def test_the_innermost_of_nested_captures_collects(server: OTLPServer) -> None:
    with capture_logs() as outer:
        log.info("outer")
        with capture_logs() as inner:
            say_all()
        log.info("outer again")
    assert captured_bodies(outer.records) == ["outer", "outer again"]
    assert sorted(captured_bodies(inner.records)) == ALL


def test_it_goes_together_with_caplog(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), capture_logs() as logs:
        std.info("both")
    assert "both" in captured_bodies(logs.records)
    assert [record.getMessage() for record in caplog.records if record.name == "std"] == ["both"]


@pytest.mark.parametrize(("level", "expected"), [(None, ["info"]), ("DEBUG", ["debug", "info"]), (30, [])])
def test_the_level_can_be_chosen(server: OTLPServer, level: Any, expected: list[str]) -> None:
    with capture_logs(level) as logs:
        log.debug("debug")
        log.info("info")
    assert captured_bodies(logs.records) == expected


def test_a_level_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(otelog.ConfigurationError), capture_logs("LOUD"):
        pass


def test_an_error_in_the_block_passes_and_cleans_up(server: OTLPServer) -> None:
    port = log._pipeline.port
    with pytest.raises(KeyError), capture_logs() as logs:
        log.info("x")
        raise KeyError
    assert captured_bodies(logs.records) == ["x"]
    assert log._pipeline.port is port


def test_many_records_of_many_threads_are_all_there_in_order(server: OTLPServer) -> None:
    with capture_logs() as logs:

        def work(name: int) -> None:
            for number in range(6000):
                log.info("x", name=name, number=number)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found: dict[Any, list[Any]] = {}
    for record in logs.records:
        attributes = record.log_record.attributes or {}
        found.setdefault(attributes["name"], []).append(attributes["number"])
    assert found == {name: list(range(6000)) for name in range(4)}


WITHOUT_CONFIGURE = """
    from opentelemetry import _logs
    from otelog.testing import OTLPServer, capture_logs
    log, std, early = otelog.get_logger("facade"), logging.getLogger("std"), _logs.get_logger("early")
    def say():
        log.info("facade")
        std.info("standard")
        early.emit(body="early")
        _logs.get_logger("late").emit(body="late")
    def bodies(logs):
        return sorted(record.log_record.body for record in logs.records)
    ALL = ["early", "facade", "late", "standard"]
"""


def run_without_configure(script: str) -> str:
    return run(textwrap.dedent(WITHOUT_CONFIGURE) + textwrap.dedent(script))


def test_capture_needs_no_configure_and_does_not_hinder_a_later_one() -> None:
    out = run_without_configure("""
        root = logging.getLogger()
        for _ in range(2):
            with capture_logs() as logs:
                say()
                with capture_logs() as inner:
                    say()
            assert bodies(logs) == bodies(inner) == ALL, (bodies(logs), bodies(inner))
            assert (root.level, root.handlers) == (logging.WARNING, [])
        early.emit(body="nowhere")
        with OTLPServer() as server:
            otelog.configure(endpoint=server.endpoint)
            say()
            with capture_logs() as logs:
                say()
            assert otelog.flush()
            assert sorted(record.body.string_value for record in server.records) == ALL
            assert bodies(logs) == ALL
            otelog.shutdown()
        print("done")
    """)
    assert out == "done\n"


def test_configure_may_be_called_inside_the_block() -> None:
    out = run_without_configure("""
        with OTLPServer() as server:
            with capture_logs() as logs:
                say()
                otelog.configure(endpoint=server.endpoint)
                say()
            assert bodies(logs) == sorted(2 * ALL), bodies(logs)
            assert server.records == []
            say()
            assert otelog.flush()
            assert sorted(record.body.string_value for record in server.records) == ALL
            assert [type(one).__name__ for one in logging.getLogger().handlers] == ["LoggingHandler"]
            assert logging.getLogger().level == logging.INFO
            otelog.shutdown()
        print("done")
    """)
    assert out == "done\n"


def test_an_application_with_a_provider_of_its_own_keeps_its_pipeline() -> None:
    out = run_without_configure("""
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
        exporter = InMemoryLogRecordExporter()
        provider = LoggerProvider()
        provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        _logs.set_logger_provider(provider)
        before = provider._multi_log_record_processor._log_record_processors
        with capture_logs() as logs:
            say()
            with capture_logs() as inner:
                say()
        assert bodies(logs) == bodies(inner) == ALL
        assert provider._multi_log_record_processor._log_record_processors == before
        assert len(exporter.get_finished_logs()) == 4
        print("done")
    """)
    assert out == "done\n"


def test_reset_takes_everything_back() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    for _ in range(2):
        with configured(level="DEBUG") as server:
            say_all()
            assert len(flush_records(server)) == 3
            assert otelog.stats().created == 3
        assert (root.level, list(root.handlers)) == before
        assert not is_configured()
        assert otelog.stats().created == 0
