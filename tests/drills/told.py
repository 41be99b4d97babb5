"""An application that logs as it is told, and answers each line with its books as one JSON line.

python -m tests.drills.told ENDPOINT SERVICE WAY

WAY is "otlp", its ledger goes to the Collector; or "scrape", it has a /metrics of its own. It ends with its standard
input, whose lines are: ``rate N``, so many records a second from now on; ``log N BYTES``, so many at once, each so
long, and wait until they are delivered; ``overflow N``, until its queue has refused so many, while somebody holds its
request.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Iterator

import otelog
from tools.waiting import wait_until

QUEUE = 1_000
SECONDS = 60.0
TICK = 0.05


def main(endpoint: str, service: str, way: str) -> None:
    otelog.configure(service_name=service, endpoint=endpoint, max_queue_size=QUEUE, schedule_delay_millis=200)
    port = serve_metrics() if way == "scrape" else 0
    log = otelog.get_logger("told")
    answer(port)
    rate, began, logged = 0, time.monotonic(), 0
    for command in read_commands():
        if command is None:
            while logged < rate * (time.monotonic() - began):
                log.info("order %s is paid", logged, number=logged)
                logged += 1
            continue
        word, *numbers = command.split()
        if word == "rate":
            rate, began, logged = int(numbers[0]), time.monotonic(), 0
        elif word == "log":
            for number in range(int(numbers[0])):
                log.info("x" * int(numbers[1]), number=number)
        else:
            log.info("held")
            wait_until(lambda: (otelog.stats().queued, otelog.stats().in_flight) == (0, 1), SECONDS, what="it is held")
            lost = otelog.stats().lost
            while otelog.stats().lost < lost + int(numbers[0]):
                log.error("one of many")
            answer(port)
            continue
        settle()
        answer(port)
    otelog.shutdown(timeout=20.0)
    answer(port)


def read_commands() -> Iterator[str | None]:
    """Each line of the standard input; None while there is none."""
    pending = b""
    while True:
        readable, _, _ = select.select([0], [], [], TICK)
        if not readable:
            yield None
            continue
        read = os.read(0, 65536)
        if not read:
            return
        *lines, pending = (pending + read).split(b"\n")
        yield from (line.decode() for line in lines)


def settle() -> None:
    """Until everything is delivered."""
    wait_until(lambda: otelog.flush(timeout=5.0), SECONDS, what="everything to be delivered")


def answer(port: int) -> None:
    stats = otelog.stats()
    books = {
        "created": stats.created,
        "delivered": stats.exported,
        "lost": stats.lost,
        "resent": stats.resent,
        "port": port,
    }
    print(json.dumps(books), flush=True)


def serve_metrics() -> int:
    from prometheus_client import start_http_server

    import otelog.prometheus

    otelog.prometheus.publish()
    server, _ = start_http_server(0, "127.0.0.1")
    return int(server.server_port)


if __name__ == "__main__":
    main(*sys.argv[1:])
