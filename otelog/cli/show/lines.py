"""OTLP log records as the lines that the file sink writes."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from otelog._record.severity import severity_range
from otelog.cli.dev.bounds import DEFAULT_BOUNDS, MAX_NAME_LENGTH, Bounds, check_text_length
from otelog.sinks._line import build_line, find_module, level_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

AI_PREFIX = "gen_ai."
"""What the attributes of a language model's records begin with. Source: semantic conventions, "Generative AI"."""

SERVICE, INSTANCE = "service.name", "service.instance.id"


@dataclass(frozen=True, slots=True)
class Line:
    """One record, rendered: its JSON `text` without a line end, and what it is counted and sorted by."""

    service: str | None
    instance: str | None
    logger: str
    severity_number: int
    is_ai: bool
    text: str

    @property
    def severity(self) -> str:
        """The range of the severity: TRACE, DEBUG, INFO, WARN, ERROR, FATAL or UNSPECIFIED."""
        return severity_range(self.severity_number).upper()


def render_lines(request: ExportLogsServiceRequest, bounds: Bounds = DEFAULT_BOUNDS) -> list[Line]:
    """Render every record of a request, in the order of their times; the caller owns the list.

    A request holds its records by resource and scope: so those of two loggers come one logger after the other, whatever
    their order was. Records of the same time, and those without one, stay behind those before them.

    Args:
        request: The decoded request; it is not changed.
        bounds: How long the lines may be together.

    Raises:
        ValueError: A record cannot be rendered.
        RefusedError: They are longer.
    """
    found: list[tuple[int, Line]] = []
    length = last_ns = 0
    for resource_logs in request.resource_logs:
        resource = _to_dict(resource_logs.resource.attributes)
        service, instance = _to_name(resource, SERVICE), _to_name(resource, INSTANCE)
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                attributes = _to_dict(record.attributes)
                is_ai = any(key.startswith(AI_PREFIX) for key in attributes)
                time_ns = record.time_unix_nano or record.observed_time_unix_nano
                text = build_text(
                    resource=resource,
                    scope=scope_logs.scope.name,
                    time_ns=time_ns,
                    severity_number=record.severity_number,
                    severity_text=record.severity_text,
                    body=_to_python(record.body),
                    trace_id=record.trace_id.hex(),
                    span_id=record.span_id.hex(),
                    event_name=record.event_name,
                    attributes=attributes,
                    discarded=record.dropped_attributes_count,
                )
                length += len(text)
                check_text_length(length, bounds)
                line = Line(service, instance, scope_logs.scope.name, int(record.severity_number), is_ai, text)
                last_ns = time_ns or last_ns
                found.append((last_ns, line))
    # By the time that the line shows; a stable sort, so that one batch of one logger stays as it was.
    found.sort(key=itemgetter(0))
    return [line for _, line in found]


def build_text(
    *,
    resource: Mapping[str, Any],
    scope: str | None,
    time_ns: int,
    severity_number: int,
    severity_text: str | None,
    body: Any,
    trace_id: str | None,
    span_id: str | None,
    event_name: str | None,
    attributes: dict[str, Any],
    discarded: int = 0,
) -> str:
    """Build the line of a record that came over OTLP; all values are plain ones.

    The resource's `service.name` and `service.instance.id` are the first fields. What the line has a key for (`code.*`,
    `thread.*`, `process.pid`) is no field, where it is of the right type.

    Args:
        resource: The resource's attributes.
        scope: The scope's name.
        time_ns: Nanoseconds since 1970; 0 if unknown.
        severity_number: 0 to 24.
        severity_text: The level as its sender calls it.
        body: The body.
        trace_id: In hex, or empty.
        span_id: In hex, or empty.
        event_name: What makes the record an event.
        attributes: The record's; what has a key of the line is taken out.
        discarded: Attributes that the sender left out.

    Returns:
        The line, without an end.

    Raises:
        ValueError: A value is of a type, or a size, that no line has.
    """
    path = _take(attributes, "code.file.path", str)
    thread, thread_id = _take(attributes, "thread.name", str), _take(attributes, "thread.id", int)
    process = resource.get("process.pid")
    origin = {name: resource[name] for name in (SERVICE, INSTANCE) if name in resource and name not in attributes}
    try:
        return build_line(
            time_ns=time_ns,
            level=level_name(severity_number, severity_text),
            logger=scope,
            message=body,
            module=find_module(path) if path else None,
            function=_take(attributes, "code.function.name", str),
            line=_take(attributes, "code.line.number", int),
            thread=thread or (None if thread_id is None else str(thread_id)),
            process=process if type(process) is int else None,
            trace_id=trace_id.lower() if trace_id else None,
            span_id=span_id.lower() if span_id else None,
            event_name=event_name,
            fields={**origin, **attributes},
            discarded=discarded,
        )
    except (TypeError, AttributeError, OverflowError, OSError, RecursionError) as error:
        raise ValueError(f"a record cannot be a line: {error}") from error


def _take(attributes: dict[str, Any], key: str, kind: type) -> Any:
    return attributes.pop(key) if type(attributes.get(key)) is kind else None


def _to_name(resource: Mapping[str, Any], key: str) -> str | None:
    value = resource.get(key)
    return None if value is None else str(value)[:MAX_NAME_LENGTH]


def _to_dict(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _to_python(pair.value) for pair in pairs}


def _to_python(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_to_python(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _to_dict(value.kvlist_value.values)
    return getattr(value, kind)
