"""What is inside of a request's span, in aiohttp's server, and what comes after it.

opentelemetry-instrumentation-aiohttp-server traces a request by the outermost of its application's middlewares. aiohttp
writes what the handler has returned, its access line and its line about an exception when all middlewares are done. So
a middleware of otelog's stands next to that one: it notes the span in the request, and on an exception that passes; the
response is written within that span.

The instrumentation takes the application's middlewares for a list, and raises for a tuple, which aiohttp allows.
"""

from __future__ import annotations

import sys
from functools import wraps
from typing import Any

from opentelemetry.trace import get_current_span

from otelog._capture.remembered import remember_span
from otelog._patches.asgi_spans import SPAN_IN_SCOPE
from otelog._runtime.replacing import find_original, is_ours, mark


async def note_span(request: Any, handler: Any) -> Any:
    """Call the handler, and note the current span; a middleware of aiohttp's."""
    span_context = get_current_span().get_span_context()
    if not span_context.is_valid:
        return await handler(request)
    # An application that is in another one has a span of its own, in the same trace.
    request.setdefault(SPAN_IN_SCOPE, span_context)
    try:
        return await handler(request)
    except BaseException as error:
        remember_span(error, span_context)
        raise


# What aiohttp's `web.middleware` says of a middleware.
note_span.__middleware_version__ = 1  # type: ignore[attr-defined]


def install() -> None:
    """Have instrumented applications note their spans, if the instrumentation has put them in place. Idempotent."""
    owner = getattr(sys.modules.get("aiohttp.web"), "Application", None)
    init: Any = getattr(owner, "__init__", None)
    if owner is None or owner.__name__ != "_InstrumentedApplication" or is_ours(init):
        return

    @wraps(init)
    def begin(self: Any, *arguments: Any, middlewares: Any = (), **keywords: Any) -> None:
        # A new list: the instrumentation puts its own into it, and an application's list may be used for several.
        init(self, *arguments, middlewares=[note_span, *middlewares], **keywords)

    mark(begin, init)
    owner.__init__ = begin


def uninstall() -> None:
    """Take back what `install` has put in place."""
    owner = getattr(sys.modules.get("aiohttp.web"), "Application", None)
    init = getattr(owner, "__init__", None)
    if owner is not None and is_ours(init):
        owner.__init__ = find_original(init)
