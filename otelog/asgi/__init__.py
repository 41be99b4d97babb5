"""ASGI applications with otelog: one access record a request, the unhandled exception once, ids, metrics, health::

    from otelog.asgi import AccessLog

    app = AccessLog(app)                  # around any ASGI application: FastAPI's, Starlette's, Quart's, Django's
    app.add_middleware(AccessLog)         # or as one of its middlewares

Needs the extra ``asgi`` or ``fastapi``.
"""

from otelog.asgi.entries import health_app, metrics_app
from otelog.asgi.middleware import AccessLog

__all__ = ["AccessLog", "health_app", "metrics_app"]
