"""One run: the far end, the server, the requests, and what is found."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

from tools.real_apps.checking import Report, check_ledgers, check_once, check_traces
from tools.real_apps.receiving import Record, open_far_end, open_ledgers
from tools.real_apps.serving import HOST, Server
from tools.real_apps.traffic import Target, Visit, send_all

SERVERS = ("gunicorn.error",)
"""Loggers of the server's own life: its workers say at any time that they have started, or what signal came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is run, and how much of it.

    Args:
        app: ``module:callable``.
        checkout: Where it is run.
        targets: What is asked for, in turn.
        environ: Variables for it.
        python: The interpreter of its environment.
        requests: How many requests one at a time, and then as many at once.
        concurrency: How many of those at once.
        workers: gunicorn's.
        threads: gunicorn's, of each worker.
        options: More of gunicorn's.
        collector: Whether the real Collector takes the records.
        background: Loggers of threads that work for no request, beside `SERVERS`.
        ready: What each worker prints when it is ready, if that is later than gunicorn thinks.
    """

    app: str
    checkout: Path
    targets: Sequence[Target]
    environ: Mapping[str, str] = field(default_factory=dict)
    python: Path = Path(sys.executable)
    requests: int = 200
    concurrency: int = 8
    workers: int = 2
    threads: int = 4
    options: Sequence[str] = ()
    collector: bool = False
    background: Sequence[str] = ()
    ready: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it; `output` is the file with what the server and the application have printed."""

    visits: list[Visit]
    records: list[Record]
    sums: Counter[str]
    processes: int
    far_end: str
    counted: int
    report: Report
    output: Path


def run(
    plan: Plan, folder: Path, say: Callable[[str], None] = lambda _: None, done: Callable[[], object] = lambda: None
) -> Outcome:
    """Run the plan, and compare.

    Args:
        plan: What to run.
        folder: An empty one, for everything that is written.
        say: Told what is being done.
        done: Called after each request.

    Raises:
        RuntimeError: The server did not start.
        TimeoutError: It did not start, or end, in time.
    """
    targets = list(islice(cycle(plan.targets), plan.requests))
    with open_ledgers(folder / "ledgers") as ledgers, open_far_end(folder / "records", collector=plan.collector) as end:
        environ = {
            "OTEL_SERVICE_NAME": plan.checkout.name,
            **plan.environ,
            # The base is where metrics go, and with them the ledgers.
            "OTEL_EXPORTER_OTLP_ENDPOINT": ledgers.url,
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": end.logs_endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_TRACES_EXPORTER": "none",
        }
        say("starting gunicorn")
        with Server(
            plan.app,
            plan.checkout,
            folder,
            environ,
            python=plan.python,
            workers=plan.workers,
            threads=plan.threads,
            options=plan.options,
            ready=plan.ready,
        ) as server:
            say("one request at a time")
            visits = send_all(HOST, server.port, targets, done=done)
            say(f"{plan.concurrency} requests at once")
            visits += send_all(HOST, server.port, targets, concurrency=plan.concurrency, done=done)
            say("stopping gunicorn")
            code = server.stop()
        say("comparing")
        counted = end.count()
        end.finish()
        records = end.records()
        told = ledgers.ledgers.show()
    report = check_traces(visits, records, (*SERVERS, *plan.background))
    if code != 0:
        report.differences.append(f"gunicorn ended with {code}")
    check_once(report, records)
    sums = check_ledgers(report, told, records, counted)
    return Outcome(visits, records, sums, len(told), end.name, counted, report, server.output)
