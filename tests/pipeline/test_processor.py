"""The processor takes the place of the SDK's: same arguments, same exporters, and nothing it is given can break it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk import _logs as sdk_logs
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor as SdkProcessor
from opentelemetry.sdk._logs.export import (
    ConsoleLogRecordExporter,
    InMemoryLogRecordExporter,
    LogRecordExportResult,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from otelog import BatchLogRecordProcessor, ConfigurationError
from tests.pipelines import ExporterForTests, check_identity, running

NEVER = 1_000_000
"""A schedule delay in milliseconds that no test waits for."""


class Setup:
    """A LoggerProvider of the SDK over a processor."""

    def __init__(self, exporter: Any, *arguments: Any, before: Any = (), after: Any = (), **options: Any) -> None:
        self.processor = BatchLogRecordProcessor(exporter, *(arguments or (NEVER,)), **options)
        self.provider = LoggerProvider(resource=Resource({"service.name": "tests"}), shutdown_on_exit=False)
        for processor in (*before, self.processor, *after):
            self.provider.add_log_record_processor(processor)
        self.logger = self.provider.get_logger("tests.scope", "1.2", "https://schema", {"scope": "attribute"})


@pytest.fixture
def exporter() -> ExporterForTests:
    return ExporterForTests()


@pytest.fixture
def setup(exporter: ExporterForTests) -> Iterator[Setup]:
    made = Setup(exporter)
    with running(made.processor):
        yield made


def test_it_takes_what_the_sdks_processor_takes_in_the_same_order():
    ours = list(inspect.signature(BatchLogRecordProcessor.__init__).parameters.values())
    theirs = list(inspect.signature(SdkProcessor.__init__).parameters.values())
    assert [(one.name, one.kind, one.default) for one in ours[: len(theirs)]] == [
        (one.name, one.kind, one.default) for one in theirs
    ]
    for name in ("on_emit", "shutdown", "force_flush"):
        required = [
            one.name
            for one in inspect.signature(getattr(BatchLogRecordProcessor, name)).parameters.values()
            if one.default is one.empty
        ]
        assert required in (["self"], ["self", "log_record"])


def test_the_positional_arguments_mean_what_they_mean_in_the_sdk(exporter):
    made = Setup(exporter, 20, 5, 1_000, 50)
    with running(made.processor):
        assert made.processor.stats().queue_capacity == 50
        for _ in range(12):
            made.logger.emit(body="one")
        assert made.processor.force_flush(5_000)
        assert exporter.count == 12
        assert max(exporter.batches) <= 5


def test_the_environment_has_the_sdks_variables(exporter, monkeypatch):
    monkeypatch.setenv("OTEL_BLRP_MAX_QUEUE_SIZE", "60")
    monkeypatch.setenv("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "7")
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_BLRP_EXPORT_TIMEOUT", "1000")
    processor = BatchLogRecordProcessor(exporter)
    with running(processor):
        assert processor.stats().queue_capacity == 60
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(processor)
        for _ in range(20):
            provider.get_logger("tests").emit(body="one")
        assert processor.force_flush(5_000)
        assert max(exporter.batches) <= 7


def test_an_argument_beats_the_environment_and_a_bad_variable_is_the_default(exporter, monkeypatch):
    monkeypatch.setenv("OTEL_BLRP_MAX_QUEUE_SIZE", "not a number")
    with running(BatchLogRecordProcessor(exporter)) as processor:
        assert processor.stats().queue_capacity == 2048
    monkeypatch.setenv("OTEL_BLRP_MAX_QUEUE_SIZE", "600")
    with running(BatchLogRecordProcessor(exporter, max_queue_size=700)) as processor:
        assert processor.stats().queue_capacity == 700


@pytest.mark.parametrize(
    "options",
    [
        {"max_queue_size": 0},
        {"max_export_batch_size": 0},
        {"schedule_delay_millis": 0},
        {"max_queue_size": 10, "max_export_batch_size": 11},
        {"when_full": "explode"},
        {"max_queue_bytes": 1},
    ],
    ids=str,
)
def test_a_bad_argument_is_a_value_error_as_in_the_sdk(options, exporter):
    with pytest.raises(ValueError) as caught:
        BatchLogRecordProcessor(exporter, **options)
    assert isinstance(caught.value, ConfigurationError)


def test_a_record_arrives_whole(exporter, setup):
    tracer = TracerProvider().get_tracer("tests")
    with tracer.start_as_current_span("span") as span:
        setup.logger.emit(
            LogRecord(
                timestamp=1_700_000_000_000_000_001,
                observed_timestamp=1_700_000_000_000_000_002,
                severity_number=SeverityNumber.WARN2,
                severity_text="WARNING",
                body={"nested": [1, 2.5, None, True, b"bytes"]},
                attributes={"key": "value", "numbers": [1, 2]},
                event_name="an.event",
                context=trace.set_span_in_context(span),
            )
        )
    assert setup.processor.force_flush(5_000)
    (record,) = exporter.records
    inner = record.log_record
    assert inner.timestamp == 1_700_000_000_000_000_001
    assert inner.observed_timestamp == 1_700_000_000_000_000_002
    assert inner.severity_number is SeverityNumber.WARN2
    assert inner.severity_text == "WARNING"
    assert inner.body == {"nested": [1, 2.5, None, True, b"bytes"]}
    assert dict(inner.attributes) == {"key": "value", "numbers": (1, 2)}
    assert inner.event_name == "an.event"
    assert inner.trace_id == span.get_span_context().trace_id
    assert inner.span_id == span.get_span_context().span_id
    assert inner.trace_flags == span.get_span_context().trace_flags
    assert record.resource.attributes["service.name"] == "tests"
    assert record.instrumentation_scope.name == "tests.scope"
    assert record.instrumentation_scope.version == "1.2"
    assert dict(record.instrumentation_scope.attributes) == {"scope": "attribute"}


def test_what_later_processors_change_does_not_show(exporter):
    class Changing(LogRecordProcessor):
        def on_emit(self, log_record: ReadWriteLogRecord) -> None:
            inner = log_record.log_record
            inner.body["key"].append("changed")
            inner.body["new"] = "changed"
            inner.attributes["one"] = "changed"
            inner.attributes["new"] = "changed"
            inner.attributes["nested"]["deep"] = "changed"
            inner.severity_text = "changed"
            inner.severity_number = SeverityNumber.FATAL
            inner.event_name = "changed"
            inner.timestamp = 1
            inner.trace_id = 1

        def shutdown(self) -> None: ...

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return True

    made = Setup(exporter, after=[Changing()])
    with running(made.processor):
        # The worker must not be faster than the other processor.
        exporter.gate.clear()
        body = {"key": ["as", "it", "was"]}
        made.logger.emit(
            timestamp=5,
            body=body,
            attributes={"one": "as it was", "nested": {"deep": "as it was"}},
            severity_text="INFO",
            severity_number=SeverityNumber.INFO,
        )
        exporter.gate.set()
        assert made.processor.force_flush(5_000)
        (record,) = exporter.records
        inner = record.log_record
        assert inner.body == {"key": ["as", "it", "was"]}
        assert inner.attributes["one"] == "as it was"
        assert "new" not in inner.attributes
        assert inner.severity_text == "INFO"
        assert inner.severity_number is SeverityNumber.INFO
        assert inner.event_name is None
        assert inner.timestamp == 5
        assert not inner.trace_id


def test_what_earlier_processors_change_does_show(exporter):
    class Adding(LogRecordProcessor):
        def on_emit(self, log_record: ReadWriteLogRecord) -> None:
            log_record.log_record.attributes["added"] = "yes"

        def shutdown(self) -> None: ...

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return True

    made = Setup(exporter, before=[Adding()])
    with running(made.processor):
        made.logger.emit(body="one")
        assert made.processor.force_flush(5_000)
        assert exporter.records[0].log_record.attributes["added"] == "yes"


def test_it_works_with_the_sdks_exporter_into_memory():
    memory = InMemoryLogRecordExporter()
    made = Setup(memory)
    with running(made.processor):
        for number in range(3):
            made.logger.emit(body=f"m{number}")
        assert made.processor.force_flush(5_000)
        assert [one.log_record.body for one in memory.get_finished_logs()] == ["m0", "m1", "m2"]
        assert made.processor.stats().exporters["InMemoryLogRecordExporter"].exported == 3


def test_an_exporter_that_was_shut_down_says_failure_and_that_is_counted():
    memory = InMemoryLogRecordExporter()
    made = Setup(memory)
    with running(made.processor):
        memory.shutdown()
        made.logger.emit(body="one")
        assert made.processor.force_flush(5_000) is False
        assert made.processor.stats().dropped["export_failed"] == 1


def test_it_works_with_the_sdks_exporter_to_the_console():
    out = StringIO()
    made = Setup(ConsoleLogRecordExporter(out=out))
    with running(made.processor):
        made.logger.emit(body="to the console", severity_number=SeverityNumber.ERROR, attributes={"key": [1, 2]})
        assert made.processor.force_flush(5_000)
        written = json.loads(out.getvalue())
        assert written["body"] == "to the console"
        assert written["attributes"] == {"key": [1, 2]}


def test_it_works_beside_the_sdks_processors():
    memory = InMemoryLogRecordExporter()
    exporter = ExporterForTests()
    made = Setup(exporter, after=[SimpleLogRecordProcessor(memory)])
    with running(made.processor):
        made.logger.emit(body="one")
        assert made.provider.force_flush()
        assert exporter.bodies() == ["one"] == [one.log_record.body for one in memory.get_finished_logs()]
        made.provider.shutdown()
        assert exporter.shutdowns == 1


@pytest.mark.skipif(
    not hasattr(sdk_logs, "ConcurrentMultiLogRecordProcessor"), reason="older SDKs have none with a public name"
)
def test_it_works_under_the_concurrent_multi_processor():
    exporters = [ExporterForTests(), ExporterForTests()]
    multi = sdk_logs.ConcurrentMultiLogRecordProcessor(max_workers=2)
    provider = LoggerProvider(shutdown_on_exit=False, multi_log_record_processor=multi)
    processors = [BatchLogRecordProcessor(exporter, NEVER) for exporter in exporters]
    for processor in processors:
        provider.add_log_record_processor(processor)
    logger = provider.get_logger("tests")
    for number in range(50):
        logger.emit(body=f"m{number}")
    assert provider.force_flush()
    for exporter, processor in zip(exporters, processors, strict=True):
        assert exporter.bodies() == [f"m{number}" for number in range(50)]
        check_identity(processor.stats())
    provider.shutdown()
    assert [exporter.shutdowns for exporter in exporters] == [1, 1]
    multi._executor.shutdown()


class Unreadable:
    """An answer that raises whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise ValueError(name)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    "answer", [LogRecordExportResult.FAILURE, None, 0, True, "SUCCESS", pytest.param(Unreadable(), id="unreadable")]
)
def test_any_answer_but_success_is_a_failure_and_costs_that_batch_alone(answer, exporter, setup):
    exporter.answer = answer
    setup.logger.emit(body="one", severity_number=SeverityNumber.ERROR)
    setup.logger.emit(body="two")
    assert setup.processor.force_flush(5_000) is False
    exporter.answer = LogRecordExportResult.SUCCESS
    setup.logger.emit(body="three")
    assert setup.processor.force_flush(5_000) is True
    stats = setup.processor.stats()
    check_identity(stats)
    assert (stats.dropped["export_failed"], stats.exported, stats.worker_restarts) == (2, 1, 0)


@pytest.mark.parametrize("error", [ValueError("no"), Unprintable(), RecursionError()], ids=type)
def test_an_exporter_that_raises_costs_that_batch_alone(error, exporter, setup):
    exporter.error = error
    setup.logger.emit(body="one")
    assert setup.processor.force_flush(5_000) is False
    exporter.error = None
    setup.logger.emit(body="two")
    assert setup.processor.force_flush(5_000) is True
    stats = setup.processor.stats()
    check_identity(stats)
    assert (stats.dropped["export_failed"], stats.exported, stats.worker_restarts) == (1, 1, 0)


def test_an_exporter_may_keep_and_change_the_list_it_is_given():
    class Taking(ExporterForTests):
        def export(self, batch: Any) -> LogRecordExportResult:
            result = super().export(batch)
            batch.clear()
            return result

    exporter = Taking()
    made = Setup(exporter)
    with running(made.processor):
        for _ in range(5):
            made.logger.emit(body="one")
        assert made.processor.force_flush(5_000)
        assert made.processor.stats().exported == 5


def test_a_record_that_cannot_be_made_readable_is_lost_alone(exporter):
    from otelog._ledger.counters import Ledger
    from otelog._pipeline.batch_export import SdkBatchExport
    from otelog._record.row import Source
    from otelog._runtime.waiting import Stop

    def make(rows: list[Any]) -> list[Any]:
        bodies = rows[3::9]
        if "bad" in bodies:
            raise ValueError("one of them is bad")
        return bodies

    source = Source("tests", 17, "ERROR")
    bodies = [f"m{number}" for number in range(250)]
    bodies[3] = bodies[120] = bodies[249] = "bad"
    rows = [column for body in bodies for column in (1, source, None, body, None, None, None, 0, 1)]
    ledger = Ledger()
    ledger.open_exporter("foreign")
    ledger.begin_move()
    ledger.take(250, 250)
    ledger.accept(250)
    ledger.enter("foreign", 250)
    ledger.end_move()
    batch_export = SdkBatchExport(exporter, make, "foreign")
    batch_export.deliver(rows, ledger, Stop(), lambda tally: None)
    assert exporter.records == [body for body in bodies if body != "bad"]
    stats = ledger.read()
    assert (stats.exported, stats.dropped["encode_error"], stats.in_flight) == (247, 3, 0)
    assert ledger.exporters["foreign"].dropped_by_severity == {("encode_error", "error"): 3}


def test_a_record_that_cannot_be_read_leaves_a_record_that_says_so(exporter, setup):
    class Hostile:
        @property
        def log_record(self) -> Any:
            raise ValueError("hostile")

    setup.processor.on_emit(Hostile())  # type: ignore[arg-type]
    setup.logger.emit(body="neighbour")
    assert setup.processor.force_flush(5_000)
    assert "could not be read" in exporter.bodies()[0]
    assert exporter.bodies()[1] == "neighbour"


def test_records_after_shutdown_are_ignored_gracefully_and_counted(exporter, setup):
    setup.provider.shutdown()
    setup.logger.emit(body="late")
    assert setup.processor.force_flush(100) is True
    stats = setup.processor.stats()
    assert (stats.created, stats.refused["already_shutdown"]) == (1, 1)


def test_records_of_the_sdks_logger_are_counted_as_such(exporter, setup):
    from tests.pipelines import make_logger

    setup.logger.emit(body="one")
    make_logger(setup.processor).info("two")
    assert setup.processor.ledger.created_by_sdk.value == 1
    assert setup.processor.stats().created == 2
