"""The SDK's log records as rows, and rows as the SDK's log records."""

from __future__ import annotations

import time
from collections.abc import Callable
from inspect import signature
from threading import get_ident
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otelog._attributes import AttributeBuilder, build_body
from otelog._capture import FIELD_BYTES
from otelog._record import (
    COLUMNS,
    GIVEN_TIME_WINDOW_NS,
    OWN_CLOCK_WINDOW_NS,
    SdkPart,
    Source,
    SpanIds,
    Special,
    next_time,
)
from otelog._values import estimate_bytes, to_any_value

_SOURCE = Source("", 0, "")
# SDKs that still have this argument drop nested values without it.
_NESTED: Any = {"extended_attributes": True} if "extended_attributes" in signature(BoundedAttributes).parameters else {}
_SEVERITIES = {number.value: number for number in SeverityNumber}


def make_row(record: ReadWriteLogRecord | ReadableLogRecord) -> tuple[tuple[Any, ...], int]:
    """Copy what a record of the SDK holds, so that nobody can change it afterwards.

    Returns:
        The nine columns, and an estimate of their size in bytes.
    """
    inner = record.log_record
    body: Any = inner.body
    if type(body) is str:
        size = len(body)
    else:
        body = to_any_value(body)
        size = estimate_bytes(body)
    fields: dict[str, Any] | None = None
    given: Any = inner.attributes
    if given:
        # Its own copy() is one step of C; dict() would ask it for each key.
        copied: Any = given.copy() if type(given) is BoundedAttributes else dict(given)
        fields = copied
        size += FIELD_BYTES * len(copied)
        for key, value in copied.items():
            kind = type(value)
            if kind is str:
                size += len(value)
            elif kind is not int and kind is not float and kind is not bool:
                copied[key] = to_any_value(value)
                size += estimate_bytes(copied[key])
    severity: Any = inner.severity_number
    observed_ns = inner.observed_timestamp
    time_ns = inner.timestamp or observed_ns
    special = Special(
        _SOURCE,
        event_name=inner.event_name,
        discarded=record.dropped_attributes,
        sdk=SdkPart(
            observed_ns or time_ns or 0,
            record.resource if record.resource is not None else Resource.get_empty(),
            record.instrumentation_scope,
            number_of(severity),
            inner.severity_text,
            record.limits,
        ),
        own_time=inner.timestamp is not None,
    )
    trace_id = inner.trace_id
    span = SpanIds(trace_id, inner.span_id or 0, int(inner.trace_flags or 0)) if trace_id else None
    return (time_ns or 0, special, span, body, None, fields, None, 0, get_ident()), size


def number_of(severity: Any) -> int:
    """Returns the number of a severity that may be missing."""
    return 0 if severity is None else int(getattr(severity, "value", severity))


def make_broken_row(error: Exception) -> tuple[tuple[Any, ...], int]:
    """Returns a row that stands for a record which could not be read, so that it is not lost in silence."""
    now = time.time_ns()
    message = f"a log record could not be read: {type(error).__name__}"
    sdk = SdkPart(now, Resource.get_empty(), None, 0, None, None)
    return (now, Special(_SOURCE, sdk=sdk), None, message, None, None, None, 0, get_ident()), len(message)


class ReadableMaker:
    """Makes the SDK's ``ReadableLogRecord`` objects of rows, for exporters that are not ours.

    Args:
        resource: Returns the resource of the facade's and the handler's records.
        attributes: What a record's attributes are.
    """

    def __init__(self, resource: Callable[[], Resource], attributes: AttributeBuilder) -> None:
        self._resource = resource
        self._attributes = attributes
        self._last_ns = 0
        self._last_given_ns = 0

    def make(self, rows: list[Any]) -> list[ReadableLogRecord]:
        """Returns one record for each row of `COLUMNS` values."""
        row = iter(rows)
        return [self._make_safely(columns) for columns in zip(*[row] * COLUMNS, strict=True)]

    def _make_safely(self, columns: tuple[Any, ...]) -> ReadableLogRecord:
        try:
            return self._make_one(*columns)
        except Exception as error:
            # The batch's other records must not share its fate, and its exporter counts it like any other.
            return self._make_one(*make_broken_row(error)[0])

    def _make_one(
        self,
        time_ns: int,
        source: Source | Special,
        context: Any,
        message: Any,
        arguments: tuple[Any, ...] | None,
        fields: dict[str, Any] | None,
        code: Any,
        offset: int,
        thread: int,
    ) -> ReadableLogRecord:
        attributes, discarded = self._attributes.build(source, message, arguments, fields, code, offset, thread)
        special = source if isinstance(source, Special) else None
        if special is not None and special.own_time:
            time_ns = self._last_given_ns = next_time(time_ns, self._last_given_ns, GIVEN_TIME_WINDOW_NS)
        else:
            time_ns = self._last_ns = next_time(time_ns, self._last_ns, OWN_CLOCK_WINDOW_NS)
        base = source.source if isinstance(source, Special) else source
        sdk = special.sdk if special is not None else None
        record = LogRecord(
            timestamp=time_ns,
            observed_timestamp=time_ns if sdk is None else sdk.observed_timestamp_ns,
            severity_text=base.severity_text if sdk is None else sdk.severity_text,
            severity_number=_SEVERITIES[base.severity_number if sdk is None else sdk.severity_number],
            body=build_body(message, arguments),
            attributes=attributes,
            event_name=special.event_name if special is not None else None,
        )
        if context is not None:
            record.trace_id = context.trace_id
            record.span_id = context.span_id
            record.trace_flags = context.trace_flags
        # The worker's own Context is nobody else's business.
        record.context = Context()
        bounded = BoundedAttributes(attributes=attributes, immutable=False, **_NESTED)
        bounded.dropped = discarded
        record.attributes = bounded
        return ReadableLogRecord(
            log_record=record,
            resource=self._resource() if sdk is None else sdk.resource,
            instrumentation_scope=InstrumentationScope(base.scope_name) if sdk is None else sdk.scope,
            limits=None if sdk is None else sdk.limits,
        )
