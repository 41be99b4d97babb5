"""Logs a mixed load, as an application would, and prints its books as one JSON line.

python -m tests.stack.load ENDPOINT NAME COUNT [OPTIONS OF configure AS JSON] [RECORDS A SECOND]

Each record has a number of its own. By the number: one in 10 is an ERROR, one in 100 FATAL instead, one in 4 a WARNING,
the rest INFO; one in 20 has an attribute gen_ai.*. With COUNT 0 it goes on until SIGTERM.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter
from typing import Any

import otelog

BURST = 0.05
"""Seconds between two bursts, where there is a rate."""


def severity_of(number: int) -> str:
    """The severity of a record, in the Collector's words."""
    if number % 100 == 0:
        return "fatal"
    if number % 10 == 0:
        return "error"
    return "warn" if number % 4 == 0 else "info"


def is_ai(number: int) -> bool:
    return number % 20 == 1


def expected(count: int) -> dict[str, int]:
    """How many of so many records have which severity."""
    return dict(Counter(severity_of(number) for number in range(count)))


def expected_in_files(count: int) -> dict[str, int]:
    """How many of so many records are to be in which file."""
    severities = expected(count)
    return {
        "app": count,
        "errors": severities.get("error", 0) + severities.get("fatal", 0),
        "ai_responses": sum(map(is_ai, range(count))),
    }


def log_one(log: Any, number: int) -> None:
    severity = severity_of(number)
    if severity == "fatal":
        log.critical("order %s cannot be kept", number, number=number)
    elif severity == "error":
        log.error("payment of order %s failed", number, number=number)
    elif is_ai(number):
        log.info("answer to question %s", number, number=number, **{"gen_ai.request.model": "small-1"})
    elif severity == "warn":
        log.warning("stock is low at order %s", number, number=number)
    else:
        log.info("order %s is paid", number, number=number, amount=12.5, currency="EUR")


def main(endpoint: str, name: str, count: int, options: dict[str, Any], rate: float) -> None:
    stopping = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.append(number))
    otelog.configure(service_name=name, endpoint=endpoint, **options)
    log = otelog.get_logger("stack.load")
    # Whoever waits for it knows now that it has its handler for SIGTERM.
    print("logging", flush=True)
    began = time.monotonic()
    used, of_caller = time.process_time(), time.thread_time()
    number = 0
    while not stopping and (count == 0 or number < count):
        log_one(log, number)
        number += 1
        if rate and number % max(1, int(rate * BURST)) == 0:
            wait = began + number / rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)
    logged_in, of_caller = time.monotonic() - began, time.thread_time() - of_caller
    delivered = otelog.shutdown(timeout=60.0)
    stats = otelog.stats()
    books = {
        "name": name,
        "delivered": delivered,
        "created": stats.created,
        "refused": dict(stats.refused),
        "removed": sum(stats.removed.values()),
        "dropped": dict(stats.dropped),
        "exported": stats.exported,
        "resent": stats.resent,
        "outcome_unknown": stats.outcome_unknown,
        "lost": stats.lost,
        "max_queued": stats.max_queued,
        "seconds": logged_in,
        "cpu": time.process_time() - used,
        "caller_cpu": of_caller,
    }
    print(json.dumps(books), flush=True)


if __name__ == "__main__":
    main(
        sys.argv[1],
        sys.argv[2],
        int(sys.argv[3]),
        json.loads(sys.argv[4]) if len(sys.argv) > 4 else {},
        float(sys.argv[5]) if len(sys.argv) > 5 else 0.0,
    )
