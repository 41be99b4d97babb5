"""A shop with blueprints and a database, as many Flask applications are built; it knows nothing of OpenTelemetry.

Each answer says in X-Records how many log calls its request has made.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from typing import Any

from flask import Blueprint, Flask, Response, abort, current_app, g, request

log = logging.getLogger(__name__)
items = Blueprint("items", __name__, url_prefix="/items")
orders = Blueprint("orders", __name__, url_prefix="/orders")


def create_app() -> Flask:
    """Make the application, and the tables in the file that SHOP_DATABASE names."""
    app = Flask(__name__)
    app.config["DATABASE"] = os.environ["SHOP_DATABASE"]
    with connect(app.config["DATABASE"]) as database:
        database.executescript(
            "PRAGMA journal_mode = WAL;"
            "CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, name TEXT);"
            "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, item INTEGER);"
            "INSERT OR IGNORE INTO items VALUES (1, 'a cup'), (2, 'a spoon');"
        )
    database.close()
    app.register_blueprint(items)
    app.register_blueprint(orders)
    app.before_request(lambda: say(logging.DEBUG, "not seen: its level is too low", seen=False))
    app.after_request(tell)
    app.teardown_appcontext(disconnect)
    log.info("the shop is open")
    return app


def connect(name: str) -> sqlite3.Connection:
    return sqlite3.connect(name, timeout=30)


def say(level: int, message: str, *arguments: Any, seen: bool = True, **keywords: Any) -> None:
    """Log, and count what should arrive."""
    g.records = g.get("records", 0) + seen
    log.log(level, message, *arguments, **keywords)


def tell(response: Response) -> Response:
    # One more follows, when the connection is closed.
    response.headers["X-Records"] = str(g.get("records", 0) + ("database" in g))
    return response


def database() -> sqlite3.Connection:
    if "database" not in g:
        g.database = connect(current_app.config["DATABASE"])
        say(logging.INFO, "connected for %s", request.full_path)
    return g.database


def disconnect(_: BaseException | None) -> None:
    if "database" in g:
        g.database.close()
        log.info("disconnected")


@items.get("/<int:number>")
def show(number: int) -> dict[str, object]:
    found = database().execute("SELECT name FROM items WHERE id = ?", (number,)).fetchone()
    if found is None:
        say(logging.WARNING, "there is no item %d", number)
        abort(404)
    say(logging.INFO, "item %d is shown", number, extra={"item": found[0]})
    return {"name": found[0]}


@orders.post("/")
def order() -> dict[str, object]:
    item = int(request.form["item"])
    with database() as connection:
        number = connection.execute("INSERT INTO orders (item) VALUES (?)", (item,)).lastrowid
    say(logging.INFO, "order %s of item %d", number, item)
    return {"order": number}


@orders.get("/broken")
def fail() -> dict[str, object]:
    try:
        database().execute("SELECT * FROM nowhere")
    except sqlite3.OperationalError:
        say(logging.ERROR, "no orders are kept there", exc_info=True)
    # Flask logs what nobody has caught, itself.
    g.records += 1
    raise RuntimeError("nobody catches this")
