"""The same with otelog: the queue, the thread and the end of the process are its business."""

from __future__ import annotations

import sys

import otelog
from work import QUEUE_RECORDS, work


def configure(address: str) -> None:
    """Log to an OTLP server, such as a Collector."""
    otelog.configure(
        service_name="shop",
        endpoint=f"http://{address}",
        max_queue_size=QUEUE_RECORDS,
        handle_sigterm=True,
        shutdown_timeout=10.0,
    )


if __name__ == "__main__":
    configure(sys.argv[1])
    work(sys.argv[2])
