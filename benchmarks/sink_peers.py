"""The peers of the second table: otelog's sinks in the process, and other libraries that write the same JSON.

Every line holds timestamp, level, logger, message, module, function, line, thread, process, trace_id, span_id and both
fields; where a library has other names for these, its own are used.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import queue
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peers import (
    LOGGER_NAME,
    Conditions,
    Peer,
    Session,
    SpanIdFilter,
    find_span_ids,
    make_facade_call,
    make_otelog_session,
    make_standard_call,
    make_standard_logger,
)


def _otelog(conditions: Conditions, call: Callable[[], Callable[[int], object]], **options: Any) -> Session:
    return make_otelog_session(conditions, call, **options)


def _to_file(conditions: Conditions) -> dict[str, Any]:
    return {"exporters": ["file"], "file_folder": str(Path(conditions.file).parent), "file_max_bytes": 0}


def _facade_to_file(conditions: Conditions) -> Session:
    return _otelog(conditions, make_facade_call, **_to_file(conditions))


def _logging_to_file(conditions: Conditions) -> Session:
    return _otelog(conditions, lambda: make_standard_call(logging.getLogger(LOGGER_NAME)), **_to_file(conditions))


def _facade_to_console(conditions: Conditions) -> Session:
    # The console's stream is what the interpreter's is; no terminal is as quick as this file.
    sys.stderr = Path(conditions.file).open("w", encoding="utf-8")  # noqa: SIM115 - open as long as the peer
    return _otelog(conditions, make_facade_call, exporters=["console"], console_format="json")


def _python_json_logger(conditions: Conditions) -> Session:
    from pythonjsonlogger.json import JsonFormatter

    waiting: queue.Queue[Any] = queue.Queue(conditions.queue_size)
    logging.raiseExceptions = False
    to_file = logging.FileHandler(conditions.file, encoding="utf-8")
    names = {"levelname": "level", "name": "logger", "funcName": "function", "lineno": "line", "threadName": "thread"}
    keys = ("levelname", "name", "message", "module", "funcName", "lineno", "threadName", "process")
    to_file.setFormatter(
        JsonFormatter(
            " ".join(f"%({key})s" for key in (*keys, "trace_id", "span_id")), rename_fields=names, timestamp=True
        )
    )
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


def _structlog(conditions: Conditions) -> Session:
    import structlog

    file = Path(conditions.file).open("w", encoding="utf-8")  # noqa: SIM115 - open as long as the peer
    place = structlog.processors.CallsiteParameter
    places = {place.MODULE, place.FUNC_NAME, place.LINENO, place.THREAD_NAME, place.PROCESS}

    def add_span_ids(logger: Any, method: str, event: Any) -> Any:
        event["trace_id"], event["span_id"] = find_span_ids()
        return event

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.CallsiteParameterAdder(places),
            add_span_ids,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
            structlog.processors.EventRenamer("message"),
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


def _loguru(conditions: Conditions) -> Session:
    from loguru import logger

    def render(record: Any) -> str:
        trace_id, span_id = find_span_ids()
        line = {
            "timestamp": record["time"].isoformat(),
            "level": record["level"].name,
            "logger": record["name"],
            "message": record["message"],
            "module": record["module"],
            "function": record["function"],
            "line": record["line"],
            "thread": record["thread"].name,
            "process": record["process"].id,
            "trace_id": trace_id,
            "span_id": span_id,
        }
        record["extra"]["_line"] = json.dumps({**line, **record["extra"]}, ensure_ascii=False)
        return "{extra[_line]}\n"

    logger.remove()
    logger.add(conditions.file, level="INFO", format=render, enqueue=True)

    def call(i: int) -> None:
        logger.info("order {} paid by {}", i, "alice", amount=12.5, currency="EUR")

    def close() -> None:
        logger.complete()
        logger.remove()

    return Session(call, logger.complete, close)


_SDK = ("opentelemetry.sdk",)

PEER_OF_GOAL = "queue-pjl"
SINK_PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            "otelog-file",
            "otelog facade, file",
            "file",
            (*_SDK, "otelog"),
            _facade_to_file,
            file_name="app.log",
        ),
        Peer(
            "otelog-logging-file",
            "logging + otelog LoggingHandler, file",
            "file",
            (*_SDK, "otelog"),
            _logging_to_file,
            file_name="app.log",
        ),
        Peer(
            "otelog-console",
            "otelog facade, console as JSON",
            "file",
            (*_SDK, "otelog"),
            _facade_to_console,
            "its standard error is a file",
        ),
        Peer(
            PEER_OF_GOAL,
            "logging QueueHandler + QueueListener, python-json-logger",
            "file",
            (*_SDK, "pythonjsonlogger"),
            _python_json_logger,
        ),
        Peer("structlog-line", "structlog", "file", (*_SDK, "structlog"), _structlog, "writes in the caller"),
        Peer(
            "loguru-line",
            "loguru enqueue=True",
            "file",
            (*_SDK, "loguru"),
            _loguru,
            "renders in the caller; a full pipe blocks it",
        ),
    )
}
