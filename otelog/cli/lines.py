"""OTLP log records as JSON lines."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from datetime import datetime, timezone, tzinfo
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

_RANGES = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")


@dataclass(frozen=True, slots=True)
class Line:
    """One record, rendered: its JSON `text` without a line end, and what it is counted by."""

    service: str | None
    instance: str | None
    severity: str
    text: str


def render_lines(request: ExportLogsServiceRequest, *, zone: tzinfo | None = None) -> list[Line]:
    """Render every record of a request as one JSON object.

    Keys, in order: timestamp (ISO 8601, microseconds, offset), level, logger, message, trace_id, span_id,
    severity_number, service, instance, event (only for events), attributes. What a record lacks is null.

    Args:
        request: The decoded request; it is not changed.
        zone: The zone of the timestamps; None means this machine's.

    Returns:
        The lines in the order of the request; the caller owns the list.
    """
    lines = []
    for resource_logs in request.resource_logs:
        resource = _to_dict(resource_logs.resource.attributes)
        service, instance = _to_name(resource, "service.name"), _to_name(resource, "service.instance.id")
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                fields: dict[str, object] = {
                    "timestamp": _to_timestamp(record.time_unix_nano or record.observed_time_unix_nano, zone),
                    "level": record.severity_text or severity_range(record.severity_number),
                    "logger": scope_logs.scope.name or None,
                    "message": _to_json(record.body),
                    "trace_id": record.trace_id.hex() or None,
                    "span_id": record.span_id.hex() or None,
                    "severity_number": int(record.severity_number),
                    "service": service,
                    "instance": instance,
                }
                if record.event_name:
                    fields["event"] = record.event_name
                fields["attributes"] = _to_dict(record.attributes)
                text = json.dumps(fields, ensure_ascii=False, allow_nan=False)
                lines.append(Line(service, instance, severity_range(record.severity_number), text))
    return lines


def severity_range(number: int) -> str:
    """Name the range of a severity number: TRACE, DEBUG, INFO, WARN, ERROR, FATAL, or UNSPECIFIED outside 1 to 24.

    Source: OpenTelemetry specification, logs data model, field SeverityNumber.
    """
    return _RANGES[(number - 1) // 4] if 1 <= number <= 24 else "UNSPECIFIED"


def _to_timestamp(time_ns: int, zone: tzinfo | None) -> str | None:
    if not time_ns:
        return None
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    # Only whole seconds pass through a float, so that no microsecond is rounded.
    moment = datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=rest_ns // 1000)
    return moment.astimezone(zone).isoformat(timespec="microseconds")


def _to_name(resource: dict[str, object], key: str) -> str | None:
    value = resource.get(key)
    return None if value is None else str(value)


def _to_dict(pairs: Iterable[KeyValue]) -> dict[str, object]:
    return {pair.key: _to_json(pair.value) for pair in pairs}


def _to_json(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_to_json(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _to_dict(value.kvlist_value.values)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode("ascii")
    if kind == "double_value" and not math.isfinite(value.double_value):
        return str(value.double_value)
    plain: object = getattr(value, kind)
    return plain
