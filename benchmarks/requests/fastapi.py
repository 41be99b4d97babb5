"""``python -m benchmarks.requests.fastapi``: what logging costs a FastAPI request, beside the SDK's own logs.

The view of the Flask benchmark, five log calls, asked in its process as a server asks it, without a socket. Each set-up
runs in a process of its own, in turns; the figure is the whole process's CPU time of a request in the cheapest of eight
parts, threads and all, until everything is delivered; what logging adds is that beyond the traced application with a
NullHandler.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import math
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.collector import NopCollector
from benchmarks.peers import FLOOR, OTLP_PEERS, Conditions
from benchmarks.trial import cpu_seconds
from tools.collector import find_collector

REQUESTS, WARM_UP, PARTS = 8_000, 500, 8
SETUPS = {
    "traced": (FLOOR, "traced, `logging` to a NullHandler (the base)"),
    "stock": ("sdk-http", "traced, the SDK's logs by OTLP/HTTP"),
    "otelog": ("otelog-handler", "traced, otelog.configure()"),
    "otelog-asgi": ("otelog-handler", "traced, otelog.configure() and AccessLog, a sixth record"),
}


def make_shop() -> Any:
    """Make an application with one view, which makes five log calls through standard `logging`."""
    from fastapi import FastAPI

    app = FastAPI(openapi_url=None)
    log, stock_log, payment_log = (logging.getLogger(f"shop.{name}") for name in ("orders", "stock", "payment"))

    @app.get("/orders/{number}")
    async def order(number: int) -> dict[str, Any]:
        log.info("order %d asked for by %s", number, "alice")
        stock_log.info("%s: %d of %d left", "enamel mug", number % 40, 40)
        payment_log.info("order %d is charged", number, extra={"amount": 12.5, "currency": "EUR"})
        payment_log.warning("the bank took %.1f ms for order %d", 41.7, number)
        log.info("order %d is done", number)
        return {"order": number, "state": "paid"}

    return app


def measure(name: str, conditions: Conditions, requests: int) -> dict[str, float]:
    """Run one set-up in this process. Returns: ``cpu_us``, of one request, and ``lost``, records."""
    from opentelemetry import trace
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.metrics import NoOpMeterProvider
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider())
    app = make_shop()
    FastAPIInstrumentor().instrument_app(app, meter_provider=NoOpMeterProvider(), exclude_spans=["receive", "send"])
    session = OTLP_PEERS[SETUPS[name][0]].open(conditions)
    if name == "otelog-asgi":
        from otelog.asgi import AccessLog

        app = AccessLog(app)

    async def ask(count: int) -> None:
        for number in range(count):
            await asyncio.ensure_future(app(_scope(number), _receive, _send))

    async def run() -> float:
        await ask(WARM_UP)
        session.drain()
        gc.collect()
        # In parts, as long as the queue takes them: what is dropped costs nothing. The cheapest: what others do on the
        # machine meanwhile only adds.
        cheapest = math.inf
        for _ in range(PARTS):
            began = cpu_seconds()
            await ask(requests // PARTS)
            session.drain()
            cheapest = min(cheapest, (cpu_seconds() - began) / (requests // PARTS))
        return cheapest

    cpu = asyncio.run(run())
    lost = session.lost() if session.lost else 0
    session.close()
    return {"cpu_us": cpu * 1e6, "lost": lost}


def _scope(number: int) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": f"/orders/{number}",
        "raw_path": b"/orders/1",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"shop.example"), (b"user-agent", b"bench/1"), (b"accept", b"*/*")],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: dict[str, Any]) -> None:
    pass


def main(words: list[str] | None = None) -> int:
    """Run all set-ups in turns, and print the table. Returns: 0, 1 if records were lost, 2 without a Collector."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.requests.fastapi", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--set-up", nargs=2, metavar=("NAME", "CONDITIONS"), help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    if asked.set_up:
        name, conditions = asked.set_up
        print(json.dumps(measure(name, Conditions(**json.loads(conditions)), asked.requests)))
        return 0
    binary = find_collector(None)
    if binary is None:
        print("no Collector: build it (make test does)", file=sys.stderr)
        return 2
    found: dict[str, list[float]] = {name: [] for name in SETUPS}
    lost = 0.0
    with NopCollector(binary) as collector:
        conditions = json.dumps(
            {
                "endpoint": collector.endpoint,
                "grpc_endpoint": "",
                "file": "",
                "queue_size": 65_536,
                "batch_size": 512,
                "schedule_delay_millis": 1000,
            }
        )
        for _ in range(asked.rounds):
            for name in SETUPS:
                command = [sys.executable, "-m", __spec__.name, "--requests", str(asked.requests)]
                done = subprocess.run(
                    [*command, "--set-up", name, conditions], capture_output=True, text=True, check=True
                )
                figures = json.loads(done.stdout.splitlines()[-1])
                found[name].append(figures["cpu_us"])
                lost += figures["lost"]
    base = statistics.median(found["traced"])
    stock = statistics.median(found["stock"]) - base
    print("| set-up | CPU a request | what logging adds | beside the SDK's |\n|---|--:|--:|--:|")
    for name, (_, title) in SETUPS.items():
        median = statistics.median(found[name])
        print(f"| {title} | {median:.0f} µs | {median - base:.1f} µs | {(median - base) / stock:.2f} |")
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
