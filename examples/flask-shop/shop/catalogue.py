"""What is for sale. It logs by the standard library, as most code does."""

from __future__ import annotations

import logging

from flask import Blueprint, abort, current_app

log = logging.getLogger(__name__)
blueprint = Blueprint("catalogue", __name__, url_prefix="/catalogue")


@blueprint.get("/<item>")
def show(item: str) -> dict[str, object]:
    """One item, and how many there are."""
    stock = current_app.config["STOCK"]
    if item not in stock:
        log.warning("%s is asked for, and not in the catalogue", item)
        abort(404)
    log.info("%s is looked at", item, extra={"in_stock": stock[item]})
    return {"item": item, "in_stock": stock[item]}
