"""Keeps a request's trace until Flask, and the server, are done with it.

opentelemetry-instrumentation-flask ends the request's span, and takes it off the current context, when the request's
own teardown functions have run. Those of the application context come after: where extensions give back connections,
and say so. Later still comes the server's access line. With this the context of the request is current there, too.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from functools import wraps
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from flask import g, request
from opentelemetry.context import attach, detach, get_current

if TYPE_CHECKING:
    from flask import Flask

_IN_G = "_otelog_context"
_IN_ENVIRON = "otelog.context"
# The WSGI server's, not the process's.
_environ_of = attrgetter("environ")


def keep_context(owner: type[Flask] | Flask) -> None:
    """Have the context of a request be current for what comes after the request's own teardown.

    Args:
        owner: An application, or their class for all that are made of it.
    """
    # Of a class they are called with the application, of an application without.
    tear_down_request: Any = owner.do_teardown_request
    tear_down_application: Any = owner.do_teardown_appcontext

    @wraps(tear_down_request)
    def do_teardown_request(*arguments: Any, **keywords: Any) -> None:
        # Somebody may call it outside of a request.
        with contextlib.suppress(RuntimeError):
            context = get_current()
            setattr(g, _IN_G, context)
            _environ_of(request)[_IN_ENVIRON] = context
            _watch_servers()
        tear_down_request(*arguments, **keywords)

    @wraps(tear_down_application)
    def do_teardown_appcontext(*arguments: Any, **keywords: Any) -> None:
        context = None
        with contextlib.suppress(RuntimeError):
            context = g.pop(_IN_G, None)
        _call_in(context, tear_down_application, *arguments, **keywords)

    replaced: Any = owner
    replaced.do_teardown_request = do_teardown_request
    replaced.do_teardown_appcontext = do_teardown_appcontext


def _call_in(context: Any, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
    if context is None:
        function(*arguments, **keywords)
        return
    token = attach(context)
    try:
        function(*arguments, **keywords)
    finally:
        detach(token)


class _Servers:
    """What has been done once in this process, or before it was forked."""

    watched = False


def _watch_servers() -> None:
    # At the first request, since a server may be imported after the application.
    if _Servers.watched:
        return
    _Servers.watched = True
    gunicorn, werkzeug = sys.modules.get("gunicorn.glogging"), sys.modules.get("werkzeug.serving")
    if gunicorn is not None:
        access = gunicorn.Logger.access

        @wraps(access)
        def log_access(self: Any, resp: Any, req: Any, environ: dict[str, Any], *arguments: Any) -> None:
            _call_in(environ.get(_IN_ENVIRON), access, self, resp, req, environ, *arguments)

        gunicorn.Logger.access = log_access
    if werkzeug is not None:
        log_request = werkzeug.WSGIRequestHandler.log_request

        @wraps(log_request)
        def log_line(self: Any, *arguments: Any, **keywords: Any) -> None:
            # There is no environment where the request could not be read.
            environ = getattr(self, "environ", None) or {}
            _call_in(environ.get(_IN_ENVIRON), log_request, self, *arguments, **keywords)

        werkzeug.WSGIRequestHandler.log_request = log_line
