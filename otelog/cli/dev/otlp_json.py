"""OTLP/JSON requests as protobuf messages."""

from __future__ import annotations

import base64
import json
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from otelog.cli.dev.bounds import DEFAULT_BOUNDS, Bounds, check_record_count

_IDS = ("traceId", "trace_id", "spanId", "span_id")


def decode_logs(body: bytes, bounds: Bounds = DEFAULT_BOUNDS) -> ExportLogsServiceRequest:
    """Decode an ``ExportLogsServiceRequest`` in OTLP/JSON; fields that are not known are ignored.

    Raises:
        ValueError: It is none; the message says what is wrong.
        RefusedError: It has more records than it may have.

    Source: OTLP, "JSON Protobuf Encoding": ids are in hex, where protobuf's own JSON has base64.
    """
    document = _load(body)
    count = 0
    for resource_logs in _list(document, "resourceLogs", "resource_logs"):
        for scope_logs in _list(resource_logs, "scopeLogs", "scope_logs"):
            records = _list(scope_logs, "logRecords", "log_records")
            count += len(records)
            check_record_count(count, bounds)
            for record in records:
                for key in _IDS:
                    if key in record:
                        record[key] = _to_base64(key, record[key])
    request = ExportLogsServiceRequest()
    _fill(request, document)
    return request


def decode_metrics(body: bytes) -> ExportMetricsServiceRequest:
    """Decode an ``ExportMetricsServiceRequest`` in OTLP/JSON; the ids in its exemplars are not to be relied on.

    Raises:
        ValueError: It is none; the message says what is wrong.
    """
    request = ExportMetricsServiceRequest()
    _fill(request, _load(body))
    return request


def _load(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")
    return document


def _fill(request: Message, document: dict[str, Any]) -> None:
    try:
        ParseDict(document, request, ignore_unknown_fields=True)
    except (ParseError, RecursionError) as error:
        raise ValueError(str(error)[:300]) from error


def _list(parent: dict[str, Any], *names: str) -> list[dict[str, Any]]:
    found = next((parent[name] for name in names if name in parent), None) or []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ValueError(f"{names[0]} is no list of objects")
    return found


def _to_base64(key: str, value: Any) -> str:
    try:
        return base64.b64encode(bytes.fromhex(value)).decode("ascii")
    except (TypeError, ValueError):
        raise ValueError(f"{key} is not in hex") from None
