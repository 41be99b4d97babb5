"""A shop for gunicorn: the requests' records, and what became of them at /metrics."""

from __future__ import annotations

import logging
import os

from flask import Flask

from otelog.flask import FlaskLogging

app = Flask("shop")
log = logging.getLogger("shop")
FlaskLogging(app, metrics="/metrics", health="/health", access_log_excluded=["/metrics", "/health"])


@app.get("/orders/<int:number>")
def order(number: int) -> dict[str, int]:
    """One order, and which worker has found it."""
    log.info("order %d is asked for", number)
    return {"order": number, "worker": os.getpid()}
