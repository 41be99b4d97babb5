"""The process that sends what a drill needs: python -m otelog.cli.drill.traffic NAME SERVICE ENDPOINT.

It says when the thing has happened, and lives until SIGTERM or the end of standard input.
"""

from __future__ import annotations

import importlib
import math
import os
import signal
import sys
import time
from collections.abc import Callable

import otelog
from otelog.cli.demo.children import leave_with_parent

QUEUE = 64
LOST = 100
BURST = 200
TOO_LONG_FOR_LOKI = 300 * 1024
BEFORE_SILENCE = 300
GRACE = 1.0
"""Seconds that it lives on after it has said that it is done."""

APART = 12.0
"""Seconds between the first record and the others: a count that is born with all of them has not grown."""

_POLL = 0.05


def main(name: str, service: str, endpoint: str) -> None:
    """Make it happen, say so, wait, and end in order."""
    # A plain flag: to set an Event in a handler can hang on the lock of the wait that it interrupts.
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    # Ctrl-C in the terminal is for the parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # One report, at its end: who has reported twice is missed afterwards (OtelogApplicationSilent).
    os.environ["OTEL_METRIC_EXPORT_INTERVAL"] = "3600000"
    if name == "silence":
        os.environ["OTEL_METRICS_EXPORTER"] = "none"
    else:
        # What sends it takes long to import: on a busy machine, longer than the end of a process waits.
        importlib.import_module("otelog._setup.metric_sender")
    options = {"max_queue_size": QUEUE, "max_export_batch_size": QUEUE} if name == "overflow" else {}
    otelog.configure(service_name=service, endpoint=endpoint, **options)  # type: ignore[arg-type]
    leave_with_parent()
    log = otelog.get_logger("drill")
    if name == "silence":
        _begin_silence(log, asked)
        otelog.flush()
    else:
        _HAPPENS[name](log)
    print(f"done {otelog.stats().lost}", flush=True)
    if name == "silence":
        _wait(asked)
        log.info("the drill is over")
    else:
        # Until that was read; then its end delivers the rest, and the report.
        _wait(asked, GRACE)


def _overflow(log: otelog.Logger) -> None:
    while otelog.stats().refused["queue_full"] < LOST:
        for number in range(10 * QUEUE):
            log.info("more than the queue can hold, %s", number)


def _burst(log: otelog.Logger) -> None:
    for number in range(BURST):
        log.error("an error of the drill, %s", number)


def _too_long(log: otelog.Logger) -> None:
    for _ in range(3):
        log.warning("too long for Loki " + "x" * TOO_LONG_FOR_LOKI)  # noqa: G003


def _wait(asked: list[int], seconds: float = math.inf) -> None:
    deadline = time.monotonic() + seconds
    while not asked and time.monotonic() < deadline:
        time.sleep(_POLL)


def _begin_silence(log: otelog.Logger, asked: list[int]) -> None:
    log.info("the first")
    otelog.flush()
    _wait(asked, APART)
    for number in range(BEFORE_SILENCE):
        log.info("before the silence, %s", number)


_HAPPENS: dict[str, Callable[[otelog.Logger], None]] = {
    "overflow": _overflow,
    "error-burst": _burst,
    "loki-refusing": _too_long,
}


if __name__ == "__main__":
    main(*sys.argv[1:])
