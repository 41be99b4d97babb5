"""Logs as an application would, straight to Loki, and to files if there is a folder; prints its books as one JSON line.

python loki_sender.py ENDPOINT NAME FOLDER COUNT LONG_LINE_BYTES BISECT
"""

from __future__ import annotations

import json
import logging
import sys

from opentelemetry import trace

import otelog


def main(endpoint: str, name: str, folder: str, count: int, long_line_bytes: int, bisect: bool) -> None:
    if bisect:
        exporter = otelog.OTLPLogExporter(endpoint=f"{endpoint}/v1/logs", bisect_bad_request=True)
        otelog.configure(service_name=name, exporter=exporter)
    elif folder:
        otelog.configure(service_name=name, endpoint=endpoint, exporters=["otlp", "file"], file_folder=folder)
    else:
        otelog.configure(service_name=name, endpoint=endpoint, when_full="block", block_timeout=60.0)
    log = otelog.get_logger("shop.orders")
    with trace.get_tracer(__name__).start_as_current_span("work") as span:
        context = span.get_span_context()
        for number in range(count):
            log.info("user %s paid", number, number=number, vip=number % 2 == 0, amount=12.5)
    log.warning("stock.low", **{"item.name": "tea (green)"})
    logging.getLogger("shop.tickets.vip").error('sold "out"\n[of all]')
    logging.getLogger("shop.ticketshop").critical("É gone")
    try:
        raise KeyError("no such order")
    except KeyError:
        log.exception("charge failed")
    if long_line_bytes:
        log.info("x" * long_line_bytes)
    delivered = otelog.shutdown(timeout=60.0)
    stats = otelog.stats()
    books = {
        "delivered": delivered,
        "trace_id": trace.format_trace_id(context.trace_id),
        "created": stats.created,
        "exporters": {
            name: {"exported": one.exported, "dropped": dict(one.dropped), "resent": one.resent}
            for name, one in stats.exporters.items()
        },
    }
    print(json.dumps(books))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6] == "True")
