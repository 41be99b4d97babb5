"""A shop that sets up logging its own way, after everybody else; it knows nothing of OpenTelemetry.

The configuration replaces the root logger's handlers and disables the loggers that are there. One logger keeps its
records for a handler of its own. Each answer says in X-Records how many log calls its request has made.
"""

from __future__ import annotations

import logging
import logging.config
import os
from typing import Any

from flask import Flask, Response, g, request

early = logging.getLogger("early")

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": True,
    "formatters": {"plain": {"format": "[own] %(name)s %(levelname)s %(message)s"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "plain"},
        "payments": {
            "class": "logging.FileHandler",
            "formatter": "plain",
            "filename": os.environ.get("SHOP_PAYMENTS", os.devnull),
        },
    },
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {"payments": {"level": "INFO", "handlers": ["payments"], "propagate": False}},
}


def create_app() -> Flask:
    """Make the application, and set up logging."""
    app = Flask(__name__)
    logging.config.dictConfig(LOGGING)
    payments, late = logging.getLogger("payments"), logging.getLogger("late")

    @app.get("/pay")
    def pay() -> dict[str, object]:
        early.error("not seen: disable_existing_loggers has disabled this logger")
        say(late, "paying for %s", request.full_path)
        say(payments, "paid %s", request.args.get("amount", "nothing"))
        return {"paid": True}

    @app.get("/look")
    def look() -> dict[str, object]:
        for number in range(3):
            say(late, "looked at %d", number)
        return {}

    @app.after_request
    def tell(response: Response) -> Response:
        response.headers["X-Records"] = str(g.get("records", 0))
        return response

    return app


def say(log: logging.Logger, message: str, *arguments: object) -> None:
    """Log, and count what should arrive."""
    g.records = g.get("records", 0) + 1
    log.info(message, *arguments)
