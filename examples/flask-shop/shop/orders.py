"""Orders. It logs by otelog's own loggers, which take fields."""

from __future__ import annotations

from flask import Blueprint, current_app, request

import otelog
from shop.errors import OutOfStockError

log = otelog.get_logger(__name__)
blueprint = Blueprint("orders", __name__, url_prefix="/orders")


PRICE = 49.5


@blueprint.post("/")
def place() -> tuple[dict[str, object], int]:
    """Take an order for one item, such as {"item": "lamp"}."""
    item = request.get_json()["item"]
    # In every record of the block, also in those of other modules.
    with otelog.bound(item=item):
        take_from_stock(item)
        # How long the block takes, and how it ends, is a record.
        with otelog.track("charge", amount=PRICE):
            charge(PRICE)
        log.info("order placed", amount=PRICE, currency="EUR")
    return {"ordered": item}, 201


def take_from_stock(item: str) -> None:
    """Take one of an item."""
    stock = current_app.config["STOCK"]
    if stock[item] == 0:
        raise OutOfStockError(item)
    stock[item] -= 1


def charge(amount: float) -> None:
    """Charge the customer. Here a payment service would be called."""
    log.debug("charging %.2f", amount)
