"""Which WSGI servers write a line of their own for a request, and which leave that to the application."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

from otelog._patches.last_resort import is_seen

WERKZEUG_SOCKET = "werkzeug.socket"
"""What werkzeug's server alone has in the WSGI environment."""

GUNICORN_ACCESS = "gunicorn.access"

_SILENT_SERVERS = ("waitress", "gunicorn")


def has_line_of_server(environ: Mapping[str, Any], *, silenced: bool) -> bool:
    """Returns whether the server writes a line of its own for a request, as far as it can be known.

    Args:
        environ: The request's WSGI environment.
        silenced: Whether otelog drops werkzeug's and gunicorn's lines.
    """
    if WERKZEUG_SOCKET in environ:
        return not silenced
    software = str(environ.get("SERVER_SOFTWARE", ""))
    if "gunicorn" in software:
        return not silenced and is_seen(logging.getLogger(GUNICORN_ACCESS))
    if "uwsgi.version" in environ:
        options = getattr(sys.modules.get("uwsgi"), "opt", {})
        return not {"disable-logging", b"disable-logging"} & set(options)
    # wsgiref's, gevent's own, and an ASGI server's behind an adapter.
    return software.startswith(("WSGIServer/", "gevent/")) or "asgi.scope" in environ


def is_silent_server(environ: Mapping[str, Any]) -> bool:
    """Returns whether the server is one that leaves its lines to the application."""
    return str(environ.get("SERVER_SOFTWARE", "")).startswith(_SILENT_SERVERS)
