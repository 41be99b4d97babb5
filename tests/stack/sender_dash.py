"""An application that loses some of its records, and prints its books as one JSON line.

python sender_dash.py WAY SERVICE

WAY is "otlp", its ledger goes to the Collector; "shop", so does its ledger, and it has access records, exceptions and
calls of a language model; or "scrape", it has a /metrics of its own and a second exporter, which writes files into its
working directory, and it waits for the end of its standard input before it ends.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

from opentelemetry import trace

import otelog

NAMESPACE = "shop"
INFO, ERRORS, UNWANTED = 10, 3, 2
TOO_LONG_FOR_LOKI = 300 * 1024
MAX_QUEUE_BYTES = 1024 * 1024
TOO_LARGE_TO_QUEUE = 2 * MAX_QUEUE_BYTES
ENVIRONMENT = "test (eu)|1"
TEXT = r"""50% of "a\b" isn't C:\new (x)[y]"""
"""With all that could break a query, but a backquote."""


def main(way: str, service: str) -> None:
    to_collector = {"type": "otlp", "filter": is_wanted}
    to_files = {"type": "file", "folder": ".", "max_queue_size": 1_000_000}
    place = {"deployment.environment.name": ENVIRONMENT} if way == "shop" else {"service.namespace": NAMESPACE}
    otelog.configure(
        service_name=service,
        resource_attributes=place,
        exporters=[to_collector, to_files] if way == "scrape" else [to_collector],
        message_template=way == "shop",
        max_queue_size=16,
        max_queue_bytes=MAX_QUEUE_BYTES,
    )
    port = 0
    if way == "scrape":
        port = serve_metrics()
    log = otelog.get_logger("sender")
    with trace.get_tracer("sender").start_as_current_span("work"):
        for number in range(INFO):
            log.info("record %s", number)
        settle()
        for number in range(ERRORS):
            log.error("failure %s", number)
        settle()
    if way == "shop":
        serve_requests(log)
    for _ in range(UNWANTED):
        log.info("unwanted")
    settle()
    log.warning("long " + "x" * TOO_LONG_FOR_LOKI)
    settle()
    log.warning("large " + "x" * TOO_LARGE_TO_QUEUE)
    settle()
    lost = otelog.stats().lost
    while otelog.stats().lost == lost:
        for _ in range(100):
            log.info("burst")
    settle()
    if way != "scrape":
        otelog.shutdown(timeout=20.0)
    stats = otelog.stats()
    # A reason may be in two of them.
    reasons = +(Counter(stats.refused) + Counter(stats.removed) + Counter(stats.dropped))
    on_the_way = sum(stats.refused.values()) + stats.removed["invalid"] + sum(stats.exporters["otlp"].dropped.values())
    books = {
        "created": stats.created,
        "delivered": stats.exporters["otlp"].exported,
        "filtered": stats.exporters["otlp"].filtered,
        "lost": stats.lost,
        "lost_on_the_way": on_the_way,
        "reasons": dict(reasons),
        "port": port,
    }
    print(json.dumps(books), flush=True)
    if way == "scrape":
        sys.stdin.read()


def is_wanted(record: Any) -> bool:
    return bool(record.log_record.body != "unwanted")


def settle() -> None:
    """Send what is queued: no record but those of the burst may find the queue full."""
    otelog.flush(timeout=20.0)
    stats = otelog.stats()
    assert stats.queued == stats.waiting == stats.in_flight == 0, stats


def serve_requests(log: otelog.Logger) -> None:
    """Access records as otelog.flask writes them: five requests, one slow, two that fail; and their exceptions."""
    import time

    from flask import Flask

    from otelog.flask import FlaskLogging

    app = Flask("shop")
    FlaskLogging(app)

    @app.get("/orders/<int:number>")
    def show_order(number: int) -> str:
        if number == 0:
            raise ZeroDivisionError(TEXT)
        if number == 1:
            # Nothing is waited for: it is the slow request that the board of requests has to show.
            time.sleep(0.3)
        return "order"

    @app.get("/answer")
    def answer() -> str:
        call_models(log)
        return "answer"

    client = app.test_client()
    for path in ("/orders/0", "/answer", "/orders/2", "/orders/1", "/orders/0"):
        client.get(path).close()
        settle()


def call_models(log: otelog.Logger) -> None:
    """Calls as an instrumented client would record them; the last one fails."""
    call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "model (1.5)"}
    for seconds in (0.5, 1.5):
        used = {"gen_ai.usage.input_tokens": 20, "gen_ai.usage.output_tokens": 7}
        log.info("answered %s", TEXT, **call, **used, **{"gen_ai.client.operation.duration": seconds})
    log.error("not answered", **call, **{"error.type": "timeout", "gen_ai.client.operation.duration": 30.0})


def serve_metrics() -> int:
    from prometheus_client import start_http_server

    import otelog.prometheus

    otelog.prometheus.publish()
    server, _ = start_http_server(0, "127.0.0.1")
    return int(server.server_port)


if __name__ == "__main__":
    main(*sys.argv[1:])
