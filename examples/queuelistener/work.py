"""What both programs do: log, and end in one of several ways."""

from __future__ import annotations

import logging
import os
import signal
import time

QUEUE_RECORDS = 500
BURST_RECORDS = 3_000
FEW_RECORDS = 300

log = logging.getLogger("shop")


def work(way: str) -> None:
    """Log records.

    Args:
        way: "burst": more at once than the queue holds. "few": fewer, then the program ends. "sigterm": fewer, then
            it is told to end, as a container is.
    """
    for number in range(BURST_RECORDS if way == "burst" else FEW_RECORDS):
        log.info("order %d is paid", number)
    if way == "burst":
        # The program goes on. With a queue that is still full, QueueListener.stop() would raise queue.Full.
        time.sleep(0.5)
    if way == "sigterm":
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
