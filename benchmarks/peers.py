"""The peers of the benchmark: how each is set up by its own documentation, and the one call that is measured.

Every peer logs the same record: a template with two arguments and two fields. What reaches the file or the Collector
holds time, level, logger, message, both fields, where the call was made, and the active span's ids; where a peer cannot
carry one of these, its ``note`` says so.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import logging.handlers
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

LOGGER_NAME = "shop.checkout"
DRAIN_SECONDS = 240.0
METERS_SECONDS = 10.0


@dataclass(frozen=True)
class Conditions:
    """What is the same for every peer of a run."""

    endpoint: str
    grpc_endpoint: str
    file: str
    queue_size: int
    batch_size: int
    schedule_delay_millis: int


@dataclass(frozen=True)
class Session:
    """A peer that is set up and ready.

    ``call`` logs record number ``i``; ``drain`` returns when everything logged so far is delivered; ``close`` drains
    and shuts down; ``lost`` is the peer's own count of lost records, where it has one.
    """

    call: Callable[[int], object]
    drain: Callable[[], object]
    close: Callable[[], object]
    lost: Callable[[], int] | None = None


@dataclass(frozen=True)
class Peer:
    """One row of the table."""

    name: str
    title: str
    delivers: Literal["nothing", "file", "logs", "spans"]
    needs: tuple[str, ...]
    open: Callable[[Conditions], Session]
    note: str = ""
    file_name: str = "records.jsonl"

    def missing(self) -> str | None:
        """Name the first module this peer needs that is not installed.

        Returns: a module's name, or None if the peer can run.
        """
        for module in self.needs:
            try:
                found = importlib.util.find_spec(module)
            except ModuleNotFoundError:
                found = None
            if found is None:
                return module
        return None


def _nothing() -> None:
    return None


def make_standard_logger(handler: logging.Handler) -> logging.Logger:
    """Put a handler on the root logger. Returns: the peer's logger."""
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    return logging.getLogger(LOGGER_NAME)


def make_standard_call(log: logging.Logger) -> Callable[[int], None]:
    """The record by `logging`."""

    def call(i: int) -> None:
        log.info("order %s paid by %s", i, "alice", extra={"amount": 12.5, "currency": "EUR"})

    return call


def find_span_ids() -> tuple[str, str]:
    """Returns: the active span's trace id and span id, in hex."""
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    return format(context.trace_id, "032x"), format(context.span_id, "016x")


def _floor(conditions: Conditions) -> Session:
    log = make_standard_logger(logging.NullHandler())
    return Session(make_standard_call(log), _nothing, _nothing)


_PLAIN_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _JSONLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": record.created,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "code.file.path": record.pathname,
            "code.function.name": record.funcName,
            "code.line.number": record.lineno,
        }
        line.update({key: value for key, value in record.__dict__.items() if key not in _PLAIN_RECORD})
        return json.dumps(line, default=str)


class SpanIdFilter(logging.Filter):
    """Adds the active span's ids to standard records."""

    def filter(self, record: logging.LogRecord) -> bool:
        # Here, in the caller: the listener's thread has no active span.
        record.trace_id, record.span_id = find_span_ids()
        return True


def _queue_listener(conditions: Conditions) -> Session:
    waiting: queue.Queue[Any] = queue.Queue(conditions.queue_size)
    # A full queue would print a traceback for each record; the lines in the file tell the loss.
    logging.raiseExceptions = False
    to_file = logging.FileHandler(conditions.file, encoding="utf-8")
    to_file.setFormatter(_JSONLines())
    listener = logging.handlers.QueueListener(waiting, to_file)
    listener.start()
    handler = logging.handlers.QueueHandler(waiting)
    handler.addFilter(SpanIdFilter())
    log = make_standard_logger(handler)

    def close() -> None:
        waiting.join()
        listener.stop()
        to_file.close()

    return Session(make_standard_call(log), waiting.join, close)


def _stock(exporter: Any, conditions: Conditions) -> Session:
    from opentelemetry.instrumentation.logging.handler import LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    processor = BatchLogRecordProcessor(
        exporter,
        schedule_delay_millis=conditions.schedule_delay_millis,
        max_export_batch_size=conditions.batch_size,
        max_queue_size=conditions.queue_size,
    )
    return _under_sdk_logger(processor, LoggingHandler)


def _under_sdk_logger(processor: Any, handler_class: Any, lost: Callable[[], int] | None = None) -> Session:
    from opentelemetry.sdk._logs import LoggerProvider

    provider = LoggerProvider()
    provider.add_log_record_processor(processor)
    log = make_standard_logger(handler_class(logger_provider=provider, log_code_attributes=True))

    def drain() -> None:
        # The stock processor's shutdown gives up after 30 s; only force_flush waits for the whole burst.
        provider.force_flush(int(DRAIN_SECONDS * 1000))

    def close() -> None:
        drain()
        provider.shutdown()

    return Session(make_standard_call(log), drain, close, lost)


def _stock_http(conditions: Conditions) -> Session:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

    return _stock(OTLPLogExporter(conditions.endpoint + "/v1/logs", compression=Compression.Gzip), conditions)


def _stock_grpc(conditions: Conditions) -> Session:
    from grpc import Compression  # type: ignore[import-untyped,unused-ignore]
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter

    exporter = OTLPLogExporter(conditions.grpc_endpoint, insecure=True, compression=Compression.Gzip)
    return _stock(exporter, conditions)


def _structlog(conditions: Conditions) -> Session:
    import structlog

    file = Path(conditions.file).open("w", encoding="utf-8")  # noqa: SIM115 - open as long as the peer
    place = structlog.processors.CallsiteParameter

    def add_span_ids(logger: Any, method: str, event: Any) -> Any:
        event["trace_id"], event["span_id"] = find_span_ids()
        return event

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.CallsiteParameterAdder({place.PATHNAME, place.FUNC_NAME, place.LINENO}),
            add_span_ids,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file),
        cache_logger_on_first_use=True,
    )
    log = structlog.get_logger(LOGGER_NAME).bind(logger=LOGGER_NAME)

    def call(i: int) -> None:
        log.info("order %s paid by %s", i, "alice", amount=12.5, currency="EUR")

    return Session(call, file.flush, file.close)


def _loguru_direct(conditions: Conditions) -> Session:
    return _loguru(conditions, enqueue=False)


def _loguru(conditions: Conditions, *, enqueue: bool = True) -> Session:
    from loguru import logger

    def add_span_ids(record: Any) -> None:
        record["extra"]["trace_id"], record["extra"]["span_id"] = find_span_ids()

    logger.remove()
    logger.configure(patcher=add_span_ids)
    logger.add(conditions.file, level="INFO", format="{message}", serialize=True, enqueue=enqueue)

    def call(i: int) -> None:
        logger.info("order {} paid by {}", i, "alice", amount=12.5, currency="EUR")

    def close() -> None:
        logger.complete()
        logger.remove()

    return Session(call, logger.complete, close)


def _picologging(conditions: Conditions) -> Session:
    import picologging
    import picologging.handlers

    class Lines(picologging.Formatter):  # type: ignore[misc,unused-ignore]
        def format(self, record: Any) -> str:
            line = {
                "time": record.created,
                "level": record.levelname,
                "logger": record.name,
                "message": record.getMessage(),
            }
            return json.dumps(line)

    waiting: queue.Queue[Any] = queue.Queue(conditions.queue_size)
    to_file = picologging.FileHandler(conditions.file)
    to_file.setFormatter(Lines())
    listener = picologging.handlers.QueueListener(waiting, to_file)
    listener.start()
    log: Any = picologging.getLogger(LOGGER_NAME)
    log.addHandler(picologging.handlers.QueueHandler(waiting))
    log.setLevel(picologging.INFO)

    def close() -> None:
        waiting.join()
        listener.stop()
        to_file.close()

    return Session(make_standard_call(log), waiting.join, close)


def _logfire(conditions: Conditions) -> Session:
    import logfire
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    processor = BatchSpanProcessor(
        OTLPSpanExporter(conditions.endpoint + "/v1/traces", compression=Compression.Gzip),
        max_queue_size=conditions.queue_size,
        schedule_delay_millis=conditions.schedule_delay_millis,
        max_export_batch_size=conditions.batch_size,
    )
    logfire.configure(
        send_to_logfire=False,
        console=False,
        metrics=False,
        service_name="bench",
        additional_span_processors=[processor],
    )

    def call(i: int) -> None:
        logfire.info("order {order} paid by {user}", order=i, user="alice", amount=12.5, currency="EUR")

    def drain() -> None:
        logfire.force_flush(int(DRAIN_SECONDS * 1000))

    def close() -> None:
        drain()
        logfire.shutdown(30_000)

    return Session(call, drain, close)


# The byte bound stands far above any burst here: the record count is the bound that all peers share.
_AMPLE_QUEUE_BYTES = 1 << 30


def _lost(stats: Any) -> int:
    return int(sum(stats.refused.values()) + sum(stats.dropped.values()))


def make_otelog_session(conditions: Conditions, call: Callable[[], Callable[[int], object]], **options: Any) -> Session:
    """Configure otelog, and log by `call`."""
    from opentelemetry.metrics import get_meter_provider
    from opentelemetry.metrics._internal import _ProxyMeterProvider

    import otelog

    otelog.configure(
        service_name="bench",
        endpoint=conditions.endpoint or None,
        max_queue_size=conditions.queue_size,
        max_queue_bytes=_AMPLE_QUEUE_BYTES,
        max_export_batch_size=conditions.batch_size,
        schedule_delay_millis=conditions.schedule_delay_millis,
        **options,
    )

    # It is made in the background, out of modules that take longer to import than otelog; see benchmarks/README.md.
    deadline = time.monotonic() + (0.0 if options else METERS_SECONDS)
    while isinstance(get_meter_provider(), _ProxyMeterProvider) and time.monotonic() < deadline:
        time.sleep(0.01)

    def lost() -> int:
        return _lost(otelog.stats())

    def drain() -> None:
        otelog.flush(timeout=DRAIN_SECONDS)

    def close() -> None:
        otelog.shutdown(timeout=DRAIN_SECONDS)

    return Session(call(), drain, close, lost)


def make_facade_call() -> Callable[[int], None]:
    """The record by otelog's facade."""
    import otelog

    log = otelog.get_logger(LOGGER_NAME)

    def call(i: int) -> None:
        log.info("order %s paid by %s", i, "alice", amount=12.5, currency="EUR")

    return call


def _make_structlog_call() -> Callable[[int], None]:
    import structlog

    from otelog.structlog import OtelogProcessor

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, OtelogProcessor()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    log = structlog.get_logger(LOGGER_NAME).bind(logger=LOGGER_NAME)

    def call(i: int) -> None:
        log.info("order %s paid by %s", i, "alice", amount=12.5, currency="EUR")

    return call


def _otelog_structlog(conditions: Conditions) -> Session:
    return make_otelog_session(conditions, _make_structlog_call)


def _make_loguru_call() -> Callable[[int], None]:
    from loguru import logger

    import otelog.loguru

    logger.remove()
    otelog.loguru.install(level="INFO")

    def call(i: int) -> None:
        logger.info("order {} paid by {}", i, "alice", amount=12.5, currency="EUR")

    return call


def _otelog_loguru(conditions: Conditions) -> Session:
    return make_otelog_session(conditions, _make_loguru_call)


def _otelog_facade(conditions: Conditions) -> Session:
    return make_otelog_session(conditions, make_facade_call)


def _otelog_handler(conditions: Conditions) -> Session:
    return make_otelog_session(conditions, lambda: make_standard_call(logging.getLogger(LOGGER_NAME)))


def _otelog_processor(conditions: Conditions) -> Session:
    from opentelemetry.instrumentation.logging.handler import LoggingHandler

    import otelog

    processor = otelog.BatchLogRecordProcessor(
        otelog.OTLPLogExporter(endpoint=conditions.endpoint + "/v1/logs"),
        schedule_delay_millis=conditions.schedule_delay_millis,
        max_export_batch_size=conditions.batch_size,
        max_queue_size=conditions.queue_size,
        max_queue_bytes=_AMPLE_QUEUE_BYTES,
    )

    return _under_sdk_logger(processor, LoggingHandler, lambda: _lost(processor.stats()))


_SDK = ("opentelemetry.sdk",)
_STOCK_HANDLER = ("opentelemetry.instrumentation.logging.handler",)
_HTTP = ("opentelemetry.exporter.otlp.proto.http",)

FLOOR = "floor"
OTLP_PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(FLOOR, "logging + NullHandler (the floor)", "nothing", _SDK, _floor, "delivers nothing"),
        Peer("otelog-facade", "otelog facade", "logs", (*_SDK, "otelog"), _otelog_facade),
        Peer(
            "otelog-handler",
            "logging + otelog LoggingHandler",
            "logs",
            (*_SDK, "otelog"),
            _otelog_handler,
        ),
        Peer(
            "otelog-processor",
            "otelog BatchLogRecordProcessor under the SDK's Logger and handler",
            "logs",
            (*_SDK, *_STOCK_HANDLER, "otelog"),
            _otelog_processor,
        ),
        Peer(
            "sdk-http",
            "OpenTelemetry SDK, OTLP/HTTP",
            "logs",
            (*_SDK, *_STOCK_HANDLER, *_HTTP),
            _stock_http,
        ),
        Peer(
            "sdk-grpc",
            "OpenTelemetry SDK, OTLP/gRPC",
            "logs",
            (*_SDK, *_STOCK_HANDLER, "opentelemetry.exporter.otlp.proto.grpc"),
            _stock_grpc,
        ),
        Peer("logfire", "logfire, OTLP/HTTP", "spans", (*_SDK, *_HTTP, "logfire"), _logfire, "sends a span a record"),
        Peer("queue-listener", "logging QueueHandler + QueueListener, JSON file", "file", _SDK, _queue_listener),
        Peer(
            "picologging",
            "picologging QueueHandler + QueueListener, JSON file",
            "file",
            (*_SDK, "picologging"),
            _picologging,
            "its records carry no fields, no place of the call, no trace ids",
        ),
        Peer("structlog", "structlog, JSON file", "file", (*_SDK, "structlog"), _structlog, "writes in the caller"),
        Peer(
            "otelog-structlog",
            "structlog + otelog's processor",
            "logs",
            (*_SDK, "structlog", "otelog"),
            _otelog_structlog,
        ),
        Peer(
            "loguru",
            "loguru enqueue=True, JSON file",
            "file",
            (*_SDK, "loguru"),
            _loguru,
            "its queue is a pipe: a full one blocks the caller",
        ),
        Peer(
            "loguru-direct",
            "loguru, JSON file",
            "file",
            (*_SDK, "loguru"),
            _loguru_direct,
            "writes in the caller, under a lock",
        ),
        Peer("otelog-loguru", "loguru + otelog.loguru.install()", "logs", (*_SDK, "loguru", "otelog"), _otelog_loguru),
    )
}
