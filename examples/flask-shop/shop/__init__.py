"""A small shop: an application factory, two blueprints, error handlers, and otelog's extension for the requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask, Request

from otelog.flask import FlaskLogging
from shop import catalogue, errors, orders


def request_fields(request: Request) -> dict[str, str]:
    """Fields of every record that is logged while this request is handled."""
    return {"tenant": request.headers.get("X-Tenant", "none")}


flask_logging = FlaskLogging(fields=request_fields, health="/health", access_log_excluded=["/health"])


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Make the application."""
    app = Flask(__name__)
    app.config["STOCK"] = {"lamp": 3, "chair": 0}
    app.config.from_mapping(config or {})
    flask_logging.init_app(app)
    app.register_blueprint(catalogue.blueprint)
    app.register_blueprint(orders.blueprint)
    errors.register(app)
    return app
