"""The usual recipe: a bounded queue in front of a slow handler, so that a log call does not wait for the network."""

from __future__ import annotations

import atexit
import logging
import queue
import sys
from logging.handlers import HTTPHandler, QueueHandler, QueueListener

from work import QUEUE_RECORDS, work

# As the documentation of `logging` advises for production: an error in logging is ignored.
logging.raiseExceptions = False


def configure(address: str) -> None:
    """Log to an HTTP server, from a thread of its own."""
    records: queue.Queue[logging.LogRecord] = queue.Queue(QUEUE_RECORDS)
    listener = QueueListener(records, HTTPHandler(address, "/logs", "POST"))
    listener.start()
    atexit.register(listener.stop)
    logging.basicConfig(level=logging.INFO, handlers=[QueueHandler(records)])


if __name__ == "__main__":
    configure(sys.argv[1])
    work(sys.argv[2])
