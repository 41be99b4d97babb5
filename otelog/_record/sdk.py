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

from otelog._record.attributes import AttributeBuilder, build_body
from otelog._record.row import (
    COLUMNS,
    FIELD_BYTES,
    GIVEN_TIME_WINDOW_NS,
    OWN_CLOCK_WINDOW_NS,
    SdkPart,
    Source,
    SpanIds,
    Special,
    find_times,
    next_time,
)
from otelog._record.values import AnyValue, estimate_bytes, to_any_value
from otelog._runtime.interruption import is_interruption
from otelog._runtime.own_threads import converting

MOST_SOURCES = 1024
"""Bound of the cache of what records have in common; beyond it the cache begins anew."""

# SDKs that still have this argument drop nested values without it.
_NESTED: Any = {"extended_attributes": True} if "extended_attributes" in signature(BoundedAttributes).parameters else {}
_SEVERITIES = {number.value: number for number in SeverityNumber}
# By id: an enumeration's member takes long to hash, and longer to tell its value.
_NUMBERS = {id(number): number.value for number in SeverityNumber}
_NO_SPAN = SpanIds(0, 0, 0)


class ReentrantError(Exception):
    """A record that needs converting came out of a conversion: taken too, it might never end."""


class RowMaker:
    """Makes rows of the SDK's log records.

    What records have in common is kept, so that a queued record is but a few values, none of which the cyclic collector
    has to walk.

    Thread safety: any thread, signal handler or ``__del__``; a cache that is lost to another thread is made again.
    """

    def __init__(self) -> None:
        self._sources: dict[tuple[Any, ...], Source] = {}
        self._span = _NO_SPAN

    def make(self, record: ReadWriteLogRecord | ReadableLogRecord) -> tuple[tuple[Any, ...], int]:
        """Copy what a record of the SDK holds, so that nobody can change it afterwards.

        Returns:
            The nine columns, and an estimate of their size in bytes.

        Raises:
            ReentrantError: It has a value that must be converted, and this thread is in a conversion already.
            Exception: It is not what the SDK makes; `make_broken_row` stands for it.
        """
        inner = record.log_record
        body: Any = inner.body
        fields: dict[str, Any] | None = None
        discarded = 0
        odd = False
        size = 0
        if type(body) is str:
            size = len(body)
        else:
            odd = body is not None
        given: Any = inner.attributes
        if type(given) is BoundedAttributes:
            discarded = given.dropped
            # Its own copy() is one step of C; dict() would ask it for each key.
            fields = given.copy()  # type: ignore[assignment]
        elif given:
            fields = dict(given)
        if fields:
            size += FIELD_BYTES * len(fields)
            for value in fields.values():
                kind = type(value)
                if kind is str:
                    size += len(value)
                elif kind is not int and kind is not float and kind is not bool and value is not None:
                    odd = True
        if odd:
            body, fields, size = _convert(body, fields)
        severity = inner.severity_number
        number = _NUMBERS.get(id(severity))
        if number is None:
            number = number_of(severity)
        observed_ns = inner.observed_timestamp or time.time_ns()
        time_ns = inner.timestamp
        source: Source | Special = self._source_of(record, number, inner.severity_text, time_ns is not None)
        if inner.event_name or discarded:
            source = Special(source, event_name=inner.event_name, discarded=discarded)  # type: ignore[arg-type]
        if time_ns is None:
            time_ns = observed_ns
        trace_id = inner.trace_id
        span: SpanIds | None = None
        if trace_id:
            span = self._span
            if span.span_id != inner.span_id or span.trace_id != trace_id or span.trace_flags != inner.trace_flags:
                span = self._span = SpanIds(trace_id, inner.span_id or 0, int(inner.trace_flags or 0))
        return (time_ns, source, span, body, None, fields, None, observed_ns, get_ident()), size

    def make_safely(self, record: ReadWriteLogRecord | ReadableLogRecord) -> tuple[tuple[Any, ...], int]:
        """Make a row as `make` does, or one that says why there is none."""
        try:
            return self.make(record)
        except Exception as error:
            if is_interruption(error):
                raise
            return make_broken_row(error)

    def _source_of(self, record: Any, number: int, text: str | None, given_time: bool) -> Source:
        resource, scope, limits = record.resource, record.instrumentation_scope, record.limits
        key = (id(resource), id(scope), id(limits), number, text, given_time)
        source = self._sources.get(key)
        # An id may have come back with another object.
        known = None if source is None else source.sdk
        if (
            source is not None
            and known is not None
            and known.scope is scope
            and known.limits is limits
            and known.resource is resource
        ):
            return source
        part = SdkPart(resource if resource is not None else Resource.get_empty(), scope, limits)
        source = Source("" if scope is None else scope.name, number, text, sdk=part, given_time=given_time)
        if len(self._sources) >= MOST_SOURCES:
            self._sources.clear()
        self._sources[key] = source
        return source


def _convert(body: Any, fields: dict[str, Any] | None) -> tuple[AnyValue, dict[str, Any] | None, int]:
    if converting.is_inside():
        raise ReentrantError
    me = get_ident()
    try:
        converting.enter(me)
        if type(body) is not str:
            body = to_any_value(body)
        size = estimate_bytes(body)
        if fields is not None:
            fields = {key: value if type(value) is str else to_any_value(value) for key, value in fields.items()}
            size += sum(FIELD_BYTES + estimate_bytes(value) for value in fields.values())
        return body, fields, size
    finally:
        converting.leave(me)


converting.add(_convert.__code__)


def number_of(severity: Any) -> int:
    """Returns the number of a severity that may be missing."""
    return 0 if severity is None else int(getattr(severity, "value", severity))


def make_broken_row(error: Exception) -> tuple[tuple[Any, ...], int]:
    """Returns a row that stands for a record which could not be read, so that it is not lost in silence."""
    now = time.time_ns()
    message = f"a log record could not be read: {type(error).__name__}"
    source = Source("", 0, None, sdk=SdkPart(Resource.get_empty(), None, None))
    return (now, source, None, message, None, None, None, now, get_ident()), len(message)


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
        base = source.source if isinstance(source, Special) else source
        sdk = base.sdk
        # A time of 0 is unknown, and stays so: then whoever stores the record goes by that of its observation.
        time_ns, observed_ns = find_times(time_ns, None if sdk is None else offset, time.time_ns)
        stored_ns = time_ns or observed_ns
        moved_ns = self._next_time(source, stored_ns) if stored_ns else 0
        record = LogRecord(
            timestamp=moved_ns if time_ns else 0,
            observed_timestamp=observed_ns if time_ns and observed_ns else moved_ns,
            severity_text=base.severity_text,
            severity_number=_SEVERITIES[base.severity_number],
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

    def _next_time(self, source: Source | Special, time_ns: int) -> int:
        if source.given_time:
            time_ns = self._last_given_ns = next_time(time_ns, self._last_given_ns, GIVEN_TIME_WINDOW_NS)
        else:
            time_ns = self._last_ns = next_time(time_ns, self._last_ns, OWN_CLOCK_WINDOW_NS)
        return time_ns
