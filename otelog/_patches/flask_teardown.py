"""Keeps a request's trace until Flask is done with it.

opentelemetry-instrumentation-flask ends the request's span, and takes it off the current context, when the request's
own teardown functions have run. Those of the application context come after: where extensions give back connections,
and say so. With this the context of the request, with the fields that are bound in it, is current there, too.

A teardown function that raises keeps the instrumentation's from being called: the span would not end, and its context
would stay with the thread, whose next request would become a part of this one. Here it is ended.
"""

from __future__ import annotations

import contextlib
from functools import wraps
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from flask import g, request
from opentelemetry.context import attach, detach, get_current

from otelog._private.flask_instrumentation import end_span
from otelog._runtime.replacing import is_ours, mark

if TYPE_CHECKING:
    from flask import Flask

_CONTEXT = "_otelog_context"

# The WSGI server's, not the process's.
_environ_of = attrgetter("environ")


def keep_context(owner: type[Flask] | Flask) -> None:
    """Have the context of a request be current while its application context is torn down.

    Args:
        owner: An application, or their class for all that are made of it.
    """
    # Of a class they are called with the application, of an application without.
    tear_down_request: Any = owner.do_teardown_request
    tear_down_application: Any = owner.do_teardown_appcontext
    if is_ours(tear_down_request):
        return

    @wraps(tear_down_request)
    def do_teardown_request(*arguments: Any, **keywords: Any) -> None:
        # Somebody may call it outside of a request.
        with contextlib.suppress(RuntimeError):
            setattr(g, _CONTEXT, get_current())
        try:
            tear_down_request(*arguments, **keywords)
        except BaseException as error:
            with contextlib.suppress(Exception):
                token = end_span(_environ_of(request), error)
                if token is not None:
                    detach(token)
            raise

    @wraps(tear_down_application)
    def do_teardown_appcontext(*arguments: Any, **keywords: Any) -> None:
        context = None
        with contextlib.suppress(RuntimeError):
            context = g.pop(_CONTEXT, None)
        if context is None:
            tear_down_application(*arguments, **keywords)
            return
        token = attach(context)
        try:
            tear_down_application(*arguments, **keywords)
        finally:
            detach(token)

    mark(do_teardown_request, tear_down_request)
    mark(do_teardown_appcontext, tear_down_application)
    replaced: Any = owner
    replaced.do_teardown_request = do_teardown_request
    replaced.do_teardown_appcontext = do_teardown_appcontext
