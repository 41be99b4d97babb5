"""A configured pipeline to a server in the test, and what arrived there as plain Python values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.sdk._logs import LoggerProvider

import otelog
from otelog._setup import configure
from otelog.testing import OTLPServer

SDK_RENEWS_RESOURCES = hasattr(LoggerProvider, "_update_resource")
"""Whether the SDK's loggers follow when their provider's resource changes, and have an instance id of each process.

Older ones keep the resource that they were made with, in a forked child as well; otelog's own records follow.
"""


@contextmanager
def configured(**options: Any) -> Iterator[OTLPServer]:
    """Call `otelog.configure` towards a server, and take it back afterwards."""
    with pytest.MonkeyPatch.context() as patch, OTLPServer() as server:
        # Its thread would go on after the test: providers cannot be taken back.
        patch.setenv("OTEL_METRICS_EXPORTER", "none")
        try:
            defaults = {
                "endpoint": server.endpoint,
                "service_name": "test",
                "thread_attributes": False,
                # With pytest, what a test leaves unclosed is an exception that nobody handles, at any later moment.
                "capture_exceptions": False,
            }
            otelog.configure(**{**defaults, **options})
            yield server
        finally:
            configure.reset()


def flush_records(server: OTLPServer) -> list[LogRecord]:
    """Deliver what is queued, and return all that the server has."""
    assert otelog.flush(10.0)
    return server.records


def flush_record(server: OTLPServer) -> LogRecord:
    """Deliver what is queued, and return the only record."""
    (record,) = flush_records(server)
    return record


def to_python(value: AnyValue) -> Any:
    """Return a decoded value as a plain one."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [to_python(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return to_dict(value.kvlist_value.values)
    return getattr(value, kind)


def to_dict(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Return decoded attributes as a dict; no key may come twice."""
    pairs = list(pairs)
    found = {pair.key: to_python(pair.value) for pair in pairs}
    assert len(found) == len(pairs), "a key came twice"
    return found


def attributes_of(record: LogRecord) -> dict[str, Any]:
    """Return a record's attributes."""
    return to_dict(record.attributes)


def fields_of(record: LogRecord) -> dict[str, Any]:
    """Return a record's attributes without those that say where in the code it was made."""
    return {key: value for key, value in attributes_of(record).items() if not key.startswith("code.")}


def bodies(records: Iterable[LogRecord]) -> list[Any]:
    """Return the records' bodies."""
    return [to_python(record.body) for record in records]
