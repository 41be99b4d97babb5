"""What clients are told when something is wrong."""

from __future__ import annotations

import logging

from flask import Flask
from werkzeug.exceptions import InternalServerError

log = logging.getLogger(__name__)


class OutOfStockError(Exception):
    """There is none left of an item."""


def register(app: Flask) -> None:
    """Add the error handlers to the application."""

    @app.errorhandler(OutOfStockError)
    def out_of_stock(error: OutOfStockError) -> tuple[dict[str, str], int]:
        log.warning("out of stock: %s", error)
        return {"error": f"{error} is out of stock"}, 409

    # Flask has logged the exception by now: it is one record, with its stack trace.
    @app.errorhandler(InternalServerError)
    def broken(_error: InternalServerError) -> tuple[dict[str, str], int]:
        return {"error": "something is broken, we have been told"}, 500
