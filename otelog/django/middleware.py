"""The middleware: where a request begins, and where its response ends."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings as django_settings
from django.core.signals import got_request_exception
from opentelemetry.context import attach, detach, get_current
from opentelemetry.trace import NonRecordingSpan, format_trace_id, get_current_span, set_span_in_context

from otelog._patches.django_requests import CONTEXT, find_context
from otelog._record.values import safe_str
from otelog._requests.access import AccessRecords, ExcludedPaths, show
from otelog._requests.console import AccessConsole
from otelog._requests.entries import make_entries
from otelog._requests.environ import client_finder, find_agent, find_server, find_version, header_key
from otelog._requests.exceptions import name_type, reaches_pipeline, record_exception
from otelog._requests.exchange import Exchange
from otelog._requests.ids import find_request_id
from otelog._requests.server_lines import LOCAL, NOWHERE
from otelog._requests.wsgi_servers import has_line_of_server, is_silent_server
from otelog._runtime.diagnostics import warn
from otelog._setup.configure import configure, ensure_handler
from otelog._setup.state import is_configured
from otelog.django.body import watch_body
from otelog.django.entries import health_view, metrics_view, unavailable_view
from otelog.django.options import SETTING, resolve
from otelog.django.server_lines import drop_doubled_exceptions, keep_back_request_lines, mark

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse
    from django.http.response import HttpResponseBase

_EXCHANGE = "otelog.exchange"
"""In the request's ``META``: what is known of it. Only the outermost middleware of this kind watches a request."""

_DJANGO_LOGGER = "django.request"
"""By which Django says that a view has raised."""

_CLIENT_LEFT = 499
"""What servers write for a request whose client did not wait for the answer."""

_ANCHOR = re.compile(r"(?:\A|(?<=/))\^")


class _Process:
    """What has been done once in this process."""

    prepared = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: setattr(_Process, "prepared", False))


class AccessLogMiddleware:
    """Logs the requests of a Django site through otelog: in ``MIDDLEWARE``, in front of all others.

    Each request has one access record, when its response has been made, or, where that is streamed, at its end. All
    records of a request have its id. With opentelemetry-instrumentation-django, whose middleware belongs in front of
    this one, they have its trace, too. `otelog.configure` is called with what the environment says, unless it has been
    called before. It works in WSGI and in ASGI, without a change of threads.

    The options are a dict, ``OTELOG``, in Django's settings, or the keywords of a subclass, which win::

        class OurAccessLog(AccessLogMiddleware, health="/health"): ...

    - `access_log`: Whether there are access records.
    - `access_log_name`: Their logger's name.
    - `access_log_excluded`: Paths without an access record; one that ends with ``*`` is a prefix.
    - `server_access_log`: What becomes of the server's own lines of the requests that have an access record. "console"
      leaves them on its console and in its files, and exports them not; "silence" drops them; "keep" exports them, too.
    - `client_address`: "peer" (who is connected), "forwarded" (what the outermost of `trusted_proxies` has put into
      ``X-Forwarded-For``), or "none".
    - `trusted_proxies`: How many proxies of one's own a request passes.
    - `request_id_header`: The header that brings a request id, and takes it back; None for no request id.
    - `trace_id_header`: The header that takes the trace's id back, and may bring one, which is then the field
      ``request.trace_id``; None for neither.
    - `fields`: A function of the request, or where it can be imported from; what it returns are fields of every record
      inside of the request.
    - `metrics`: A path that answers with Prometheus metrics, such as "/metrics"; None for none.
    - `health`: A path that answers with the pipeline's state, such as "/health"; None for none.

    Raises:
        ConfigurationError: An option is unknown or has a value that cannot be used.

    Thread safety: all methods.
    """

    sync_capable = True
    async_capable = True
    _keywords: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__()
        cls._keywords = {**cls._keywords, **options}

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        settings = resolve(getattr(django_settings, SETTING, None), self._keywords)
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        self._entries = make_entries(
            "django",
            metrics=settings.metrics,
            health=settings.health,
            metrics_app=metrics_view,
            unavailable_app=unavailable_view,
            health_app=health_view,
        )
        self._fields = settings.fields
        self._access = AccessRecords(settings.access_log_name) if settings.access_log else None
        self._console = AccessConsole(settings.access_log_name)
        self._excluded = ExcludedPaths(settings.access_log_excluded)
        self._find_client = client_finder(settings.client_address, settings.trusted_proxies)
        self._keeps_lines_back = settings.access_log and settings.server_access_log != "keep"
        self._silenced = settings.server_access_log == "silence"
        self._request_id_header = settings.request_id_header
        self._request_id_key = header_key(settings.request_id_header or "")
        self._trace_id_header = settings.trace_id_header
        self._trace_id_key = header_key(settings.trace_id_header or "")
        if not is_configured():
            configure()
        if self._keeps_lines_back:
            keep_back_request_lines(settings.access_log_name)
        drop_doubled_exceptions()
        got_request_exception.connect(_note_exception, dispatch_uid="otelog")

    # Django's calls.

    def __call__(self, request: HttpRequest) -> Any:
        """Answer a request, and watch it; a coroutine where Django runs asynchronously."""
        return self._answer_async(request) if self._is_async else self._answer(request)

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        entry = self._find_entry(request)
        if entry is not None:
            return entry
        exchange = self._begin(request)
        if exchange is None:
            response: HttpResponseBase = self._get_response(request)
            return response
        token = self._enter(request, exchange)
        try:
            response = self._get_response(request)
        except BaseException as error:
            self._fail(request, exchange, error)
            raise
        finally:
            detach(token)
        return self._leave(request, exchange, response)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        entry = self._find_entry(request)
        if entry is not None:
            return entry
        exchange = self._begin(request)
        awaited: Awaitable[HttpResponseBase]
        if exchange is None:
            awaited = self._get_response(request)
            return await awaited
        token = self._enter(request, exchange)
        try:
            awaited = self._get_response(request)
            response = await awaited
        except BaseException as error:
            self._fail(request, exchange, error)
            raise
        finally:
            detach(token)
        return self._leave(request, exchange, response)

    # The steps; none of them raises.

    def _find_entry(self, request: HttpRequest) -> HttpResponse | None:
        if not self._entries:
            return None
        make = self._entries.get(request.path_info)
        if make is None:
            return None
        if self._keeps_lines_back:
            request.META[CONTEXT] = mark(
                find_context(request.META) or get_current(), NOWHERE, 200, getattr(request, "scope", None)
            )
        return make(request)

    def _begin(self, request: HttpRequest) -> Exchange | None:
        try:
            if not _Process.prepared:
                _Process.prepared = True
                ensure_handler()
            meta = request.META
            if _EXCHANGE in meta:
                return None
            request_id = None
            if self._request_id_header is not None:
                request_id = find_request_id(meta.get(self._request_id_key))
            given = meta.get(self._trace_id_key) if self._trace_id_header is not None else None
            exchange = meta[_EXCHANGE] = Exchange(request_id, given)
            return exchange
        except Exception as error:
            _tell("a request could not be watched", error)
            return None

    def _enter(self, request: HttpRequest, exchange: Exchange) -> Any:
        """Attach the request's context; returns the token, which takes off whatever is attached after it, too."""
        try:
            exchange.note_span()
            exchange.keep_given_trace_id()
        except Exception as error:
            _tell("a request could not be watched", error)
        token = attach(exchange.context)
        if self._fields is not None:
            try:
                exchange.add_fields(self._fields(request))
            except Exception as error:
                _tell("a request's fields could not be had", error)
        return token

    def _fail(self, request: HttpRequest, exchange: Exchange, error: BaseException) -> None:
        """Record what has gone through all of Django, and end the exchange: there will be no response."""
        try:
            if isinstance(error, asyncio.CancelledError):
                exchange.status = _CLIENT_LEFT
            else:
                exchange.status = 500
                exchange.error_type = name_type(error)
                self._record(request, exchange, error)
            self._finish(request, exchange)
        except Exception as failure:
            _tell("an exception could not be recorded", failure)

    def _leave(self, request: HttpRequest, exchange: Exchange, response: HttpResponseBase) -> HttpResponseBase:
        try:
            exchange.status = response.status_code
            match = request.resolver_match
            if match is not None:
                exchange.route = _find_route(request, match.route)
            _note_lower_span(request, exchange)
            self._add_headers(exchange, response)
            self._note_context(request, exchange)
            if response.streaming:
                watch_body(
                    response,
                    exchange,
                    lambda error: self._break(request, exchange, error),
                    lambda: self._finish(request, exchange),
                )
            else:
                exchange.sent_bytes = len(response.content) if request.method != "HEAD" else 0
                self._finish(request, exchange)
        except Exception as error:
            _tell("a response could not be watched", error)
            self._finish(request, exchange)
        return response

    def _add_headers(self, exchange: Exchange, response: HttpResponseBase) -> None:
        if exchange.request_id is not None:
            response.headers.setdefault(self._request_id_header or "", exchange.request_id)
        if self._trace_id_header is not None and exchange.span_context is not None:
            response.headers.setdefault(self._trace_id_header, format_trace_id(exchange.span_context.trace_id))

    def _note_context(self, request: HttpRequest, exchange: Exchange) -> None:
        """Have what comes after the middlewares be logged in the request's context, with its fields."""
        context = exchange.context
        if exchange.span_context is not None:
            context = set_span_in_context(NonRecordingSpan(exchange.span_context), context)
        if self._keeps_lines_back and is_configured():
            purpose = NOWHERE if self._silenced or request.path_info in self._excluded else LOCAL
            context = mark(context, purpose, exchange.status, getattr(request, "scope", None))
        request.META[CONTEXT] = context

    def _break(self, request: HttpRequest, exchange: Exchange, error: BaseException) -> None:
        """Note what a body has raised on its way."""
        try:
            if isinstance(error, Exception):
                exchange.error_type = name_type(error)
                self._record(request, exchange, error)
        except Exception as failure:
            _tell("an exception could not be recorded", failure)

    def _record(self, request: HttpRequest, exchange: Exchange, error: BaseException) -> None:
        if isinstance(error, Exception):
            token = attach(exchange.context)
            try:
                record_exception(_DJANGO_LOGGER, request.META["REQUEST_METHOD"], show(request.path), error)
            finally:
                detach(token)

    def _finish(self, request: HttpRequest, exchange: Exchange) -> None:
        """Write the access record. Idempotent."""
        if exchange.finished:
            return
        exchange.finished = True
        try:
            if self._access is None or request.path_info in self._excluded:
                return
            meta = request.META
            scope: Any = getattr(request, "scope", None)
            token = attach(exchange.context)
            try:
                written = self._access.write(
                    exchange,
                    method=meta["REQUEST_METHOD"],
                    path=show(request.path) or "/",
                    scheme=_find_scheme(request),
                    route=exchange.route,
                    client=self._find_client(meta),
                    agent=find_agent(meta),
                    version=find_version(meta) if scope is None else str(scope.get("http_version", "")),
                    server=find_server(meta),
                )
            finally:
                detach(token)
            # An ASGI server writes a line of its own; and without a pipeline, `logging` has had it already.
            if scope is None and is_configured() and not has_line_of_server(meta, silenced=self._silenced):
                self._console.show(written, exchange.span_context, last_resort=is_silent_server(meta))
        except Exception as error:
            _tell("an access record could not be written", error)


def _note_exception(request: Any = None, **_: Any) -> None:
    """Note an exception that Django answers with 500; record it where Django's record would not arrive."""
    error = sys.exc_info()[1]
    try:
        # The signal may be anybody's.
        exchange = getattr(request, "META", {}).get(_EXCHANGE)
        if exchange is None or error is None:
            return
        exchange.error_type = name_type(error)
        if not reaches_pipeline(logging.getLogger(_DJANGO_LOGGER), logging.ERROR):
            record_exception(_DJANGO_LOGGER, request.META["REQUEST_METHOD"], show(request.path), error)
    except Exception as failure:
        _tell("an exception could not be recorded", failure)


def _note_lower_span(request: HttpRequest, exchange: Exchange) -> None:
    """Take the span of an instrumentation whose middleware stands below this one, and has ended it."""
    if exchange.span_context is None:
        context = find_context(request.META)
        if context is not None:
            exchange.context = set_span_in_context(get_current_span(context), exchange.context)
            exchange.span_context = get_current_span(context).get_span_context()


def _find_route(request: HttpRequest, route: str) -> str:
    """Returns a route as a path from the server's root; Django's own begins without a slash, or with ``^``."""
    script = request.path.removesuffix(request.path_info) if request.path_info else ""
    return f"{script}/{_ANCHOR.sub('', route).removesuffix('$')}"


def _find_scheme(request: HttpRequest) -> str:
    try:
        return request.scheme or "http"
    except Exception:
        # Its setting for a proxy's header is wrong: Django says so to whoever needs it.
        return "http"


def _tell(what: str, error: BaseException) -> None:
    warn(f"django:{what}", f"{what}: {type(error).__name__}: {safe_str(error)}")
