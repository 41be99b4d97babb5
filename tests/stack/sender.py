"""Sends numbered records under spans to a Collector, as an application would, and prints its books as one JSON line.

python sender.py ENDPOINT NAME COUNT RECORDS_PER_SPAN
"""

from __future__ import annotations

import json
import sys
from typing import Any

from opentelemetry import trace

import otelog


def make_exporter(kind: str, endpoint: str) -> Any:
    """An official exporter; each is imported only where it is used."""
    if kind == "official-grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcExporter

        return GrpcExporter(endpoint=endpoint, insecure=True)
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpExporter

    return HttpExporter(endpoint=f"{endpoint}/v1/logs")


def main(endpoint: str, name: str, count: int, records_per_span: int, exporter: str = "") -> None:
    otelog.configure(
        service_name=name,
        endpoint=None if exporter else endpoint,
        exporter=make_exporter(exporter, endpoint) if exporter else None,
        when_full="block",
        block_timeout=60.0,
        export_timeout_millis=60_000,
    )
    tracer = trace.get_tracer(__name__)
    log = otelog.get_logger("stack.sender")
    spans: list[tuple[str, str]] = []
    for first in range(0, count, records_per_span):
        with tracer.start_as_current_span("work") as span:
            context = span.get_span_context()
            spans.append((trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)))
            for number in range(first, min(first + records_per_span, count)):
                log.info("record %s of %s", number, name, number=number)
    delivered = otelog.shutdown(timeout=120.0)
    stats = otelog.stats()
    books = {
        "delivered": delivered,
        "created": stats.created,
        "exported": stats.exported,
        "refused": sum(stats.refused.values()),
        "dropped": sum(stats.dropped.values()),
        "resent": stats.resent,
        "spans": spans,
    }
    print(json.dumps(books))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])
