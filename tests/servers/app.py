"""The application that runs under every server: it knows nothing of otelog but how to keep the test's books."""

from __future__ import annotations

import itertools
import logging
import os
import time
from typing import Any

from flask import Flask, g

import otelog
from tests.servers import books

RECORDS = 5
"""Records of one request."""

books.keep()
app = Flask("shop")
log = logging.getLogger("shop")
requests = itertools.count(1)


@app.before_request
def count() -> None:
    g.number = next(requests)


@app.get("/records/<name>")
def work(name: str) -> dict[str, Any]:
    """Log a few records that nobody else logs; says who has, and what is held in this process."""
    for number in range(RECORDS):
        log.info("%s/%d", name, number)
    return {"pid": os.getpid(), "instance": books.find_instance(), **books.describe(otelog.stats())}


@app.get("/ready")
def ready() -> dict[str, Any]:
    """Say who answers, and how often it has; slowly, so that the next to ask finds another worker."""
    time.sleep(0.02)
    return {"pid": os.getpid(), "instance": books.find_instance(), "number": g.number}


@app.get("/flush")
def flush() -> dict[str, Any]:
    """Deliver what is held in this process; slowly, as above."""
    time.sleep(0.02)
    return {"pid": os.getpid(), "flushed": otelog.flush()}
