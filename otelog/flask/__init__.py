"""Flask with otelog: one access record a request, the unhandled exception once, ids, metrics, and a health entry::

    from otelog.flask import FlaskLogging

    FlaskLogging(app)                     # or FlaskLogging().init_app(app)

Needs the extra ``flask``.
"""

from otelog.flask.extension import FlaskLogging
from otelog.flask.health import health_app
from otelog.flask.metrics_view import metrics_app

__all__ = ["FlaskLogging", "health_app", "metrics_app"]
