"""aiohttp's server with otelog: one access record a request, the unhandled exception once, ids, metrics, health::

    from otelog.aiohttp import access_log

    app = web.Application()
    access_log(app)

Needs the extra ``aiohttp``.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web
from opentelemetry.context import attach, detach
from opentelemetry.trace import NonRecordingSpan, format_trace_id, set_span_in_context

from otelog._patches import aiohttp_spans, asgi_lines
from otelog._patches.asgi_lines import FINISH
from otelog._patches.asgi_spans import SPAN_IN_SCOPE
from otelog._patches.last_resort import is_seen
from otelog._record.values import safe_str
from otelog._requests.access import MOST_AGENT_CHARACTERS, AccessRecords, ExcludedPaths, name_host, show
from otelog._requests.client import MOST_ADDRESS_CHARACTERS, find_forwarded
from otelog._requests.console import AccessConsole
from otelog._requests.entries import make_entries
from otelog._requests.exceptions import name_type, record_exception
from otelog._requests.exchange import Exchange
from otelog._requests.health import answer_health
from otelog._requests.ids import find_request_id
from otelog._requests.metrics import MISSING_PACKAGE, find_registry
from otelog._requests.server_lines import LOCAL, NOWHERE
from otelog._requests.threads import instrument_threading
from otelog._runtime.diagnostics import warn
from otelog._setup.configure import configure, flush
from otelog._setup.state import is_configured
from otelog.asgi.middleware import DELIVER_SECONDS, NOTHING_SENT
from otelog.asgi.options import AccessLogOptions, AccessLogSettings, resolve
from otelog.asgi.server_lines import drop_doubled_exceptions, keep_back_request_lines, mark

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["access_log"]

ACCESS_LOGGER = "otelog.aiohttp.access"
"""The logger name of access records."""

LOGGER = "otelog.aiohttp"
"""The logger of unhandled exceptions."""

_EXCHANGE = "otelog.exchange"
_HAS = "_otelog_access_log"

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def access_log(app: web.Application, **options: Unpack[AccessLogOptions]) -> None:
    """Log an application's requests through otelog. Again, it does nothing.

    Each request has one access record when its response has been sent; an unhandled exception is one record; all
    records inside of a request have its trace and its id. `otelog.configure` is called with what the environment says,
    unless it has been called before. When the application is cleaned up, everything is delivered.

    Args:
        app: The application, before it is started; its subapplications belong to it.
        options: Keyword-only, those of `otelog.asgi.AccessLog`. `fields` is called with the request. Without
            `instrument`, a request has a span where the application is instrumented by somebody else.

    Raises:
        ConfigurationError: An option is unknown or has a value that cannot be used.
        RuntimeError: The application has been started, or given to another one.
    """
    if getattr(app, _HAS, False):
        return
    settings = resolve({"access_log_name": ACCESS_LOGGER, **options})
    if not is_configured():
        configure()
    layer = _Layer(settings)
    if settings.instrument:
        _instrument(app)
    app.middlewares.insert(_find_place(app), layer.middleware)
    app.on_response_prepare.append(layer.prepare)
    app.on_cleanup.append(_deliver)
    # Its own attributes are deprecated, but for those of its class.
    object.__setattr__(app, _HAS, True)
    asgi_lines.install()
    if settings.access_log and settings.server_access_log != "keep":
        keep_back_request_lines(settings.access_log_name)
    drop_doubled_exceptions()
    if settings.instrument_threading:
        instrument_threading()


def _find_place(app: web.Application) -> int:
    """Returns the place right inside of the request's span."""
    place = 0
    for number, middleware in enumerate(app.middlewares):
        module = str(getattr(middleware, "__module__", ""))
        if middleware is aiohttp_spans.note_span or module.startswith("opentelemetry."):
            place = number + 1
    return place


def _instrument(app: web.Application) -> None:
    if _find_place(app):
        return
    try:
        from opentelemetry.instrumentation.aiohttp_server import AioHttpServerInstrumentor, create_aiohttp_middleware
    except ImportError:
        return
    instrumentor = AioHttpServerInstrumentor()
    if not instrumentor.is_instrumented_by_opentelemetry:
        # Its middleware needs what this sets up. aiohttp warns of the class that it makes.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            instrumentor.instrument()
        aiohttp_spans.install()
    app.middlewares.insert(0, create_aiohttp_middleware())
    app.middlewares.insert(1, aiohttp_spans.note_span)


class _Layer:
    """What stands in an application.

    Args:
        settings: The application's options.
    """

    def __init__(self, settings: AccessLogSettings) -> None:
        self._settings = settings
        self._records = AccessRecords(settings.access_log_name)
        self._console = AccessConsole(settings.access_log_name)
        self._excluded = ExcludedPaths(settings.access_log_excluded)
        self._entries = make_entries(
            "aiohttp",
            metrics=settings.metrics,
            health=settings.health,
            metrics_app=_answer_metrics,
            unavailable_app=_answer_without_metrics,
            health_app=_answer_health,
        )
        self._keeps_lines_back = settings.access_log and settings.server_access_log != "keep"
        self._line_purpose = NOWHERE if settings.server_access_log == "silence" else LOCAL

        @web.middleware
        async def watch(request: web.Request, handler: _Handler) -> web.StreamResponse:
            return await self._watch(request, handler)

        self.middleware = watch

    async def _watch(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if _EXCHANGE in aiohttp_spans.state_of(request):
            return await handler(request)
        entry = self._entries.get(request.path)
        if entry is not None:
            if self._keeps_lines_back:
                mark(aiohttp_spans.state_of(request), NOWHERE)
            return entry(request)
        exchange = self._begin(request)
        if exchange is None:
            return await handler(request)
        token = attach(exchange.context)
        try:
            return await handler(request)
        except web.HTTPException:
            # A response.
            raise
        except Exception as error:
            self._fail(exchange, request, error)
            raise
        finally:
            detach(token)

    def _begin(self, request: web.Request) -> Exchange | None:
        try:
            settings = self._settings
            request_id = given = None
            if settings.request_id_header is not None:
                request_id = find_request_id(request.headers.get(settings.request_id_header))
            if settings.trace_id_header is not None:
                given = request.headers.get(settings.trace_id_header)
            exchange = Exchange(request_id, given)
            exchange.note_span()
            exchange.keep_given_trace_id()
            if settings.fields is not None:
                self._add_fields(exchange, request, settings.fields)
            state = aiohttp_spans.state_of(request)
            state[_EXCHANGE] = exchange
            state[FINISH] = lambda response: self._finish(exchange, request, response)
            if self._keeps_lines_back and is_configured():
                mark(state, NOWHERE if request.path in self._excluded else self._line_purpose)
            return exchange
        except Exception as error:
            _tell("a request could not be watched", error)
            return None

    def _add_fields(
        self, exchange: Exchange, request: web.Request, find: Callable[[Any], Mapping[str, object]]
    ) -> None:
        try:
            exchange.bind(find(request))
        except Exception as error:
            _tell("a request's fields could not be had", error)

    async def prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Give a response that is about to be sent the request's ids; a signal handler of aiohttp's."""
        exchange = aiohttp_spans.state_of(request).get(_EXCHANGE)
        if exchange is None:
            return
        settings = self._settings
        if settings.request_id_header is not None and exchange.request_id is not None:
            response.headers.setdefault(settings.request_id_header, exchange.request_id)
        if settings.trace_id_header is not None and exchange.span_context is not None:
            response.headers.setdefault(settings.trace_id_header, format_trace_id(exchange.span_context.trace_id))

    def _fail(self, exchange: Exchange, request: web.Request, error: Exception) -> None:
        try:
            if isinstance(error, ConnectionError):
                # The client has left.
                return
            exchange.error_type = name_type(error)
            record_exception(LOGGER, request.method, show(request.path), error)
        except Exception as failure:
            _tell("an exception could not be recorded", failure)

    def _finish(self, exchange: Exchange, request: web.Request, response: Any) -> None:
        """Write the access record, once."""
        if exchange.finished:
            return
        exchange.finished = True
        try:
            if not self._settings.access_log or request.path in self._excluded:
                return
            exchange.status = response.status if response.prepared else NOTHING_SENT
            exchange.sent_bytes = _find_size(request, response)
            context = exchange.context
            if exchange.span_context is None:
                exchange.span_context = aiohttp_spans.state_of(request).get(SPAN_IN_SCOPE)
            if exchange.span_context is not None:
                context = set_span_in_context(NonRecordingSpan(exchange.span_context), context)
            token = attach(context)
            try:
                self._write(exchange, request, response)
            finally:
                detach(token)
        except Exception as error:
            _tell("an access record could not be written", error)

    def _write(self, exchange: Exchange, request: web.Request, response: Any) -> None:
        others: dict[str, Any] | None = None
        if isinstance(response, web.WebSocketResponse):
            others = {"network.protocol.name": "websocket"}
            if response.close_code is not None:
                others["websocket.close_code"] = response.close_code
        self._console_show(
            exchange,
            self._records.write(
                exchange,
                method=request.method,
                path=show(request.path) or "/",
                scheme=request.scheme,
                route=_find_route(request),
                client=self._find_client(request),
                agent=request.headers.get("User-Agent", "")[:MOST_AGENT_CHARACTERS],
                version=f"{request.version.major}.{request.version.minor}",
                server=name_host(request.host or ""),
                others=others,
            ),
        )

    def _console_show(self, exchange: Exchange, written: Any) -> None:
        line = self._settings.server_access_log != "silence" and is_seen(logging.getLogger("aiohttp.access"))
        if is_configured() and not line:
            self._console.show(written, exchange.span_context, last_resort=False)

    def _find_client(self, request: web.Request) -> str:
        if self._settings.client_address == "none":
            return ""
        address = ""
        if self._settings.client_address == "forwarded":
            header = ",".join(request.headers.getall("X-Forwarded-For", ()))
            address = find_forwarded(header, self._settings.trusted_proxies)
        return address or show((request.remote or "")[:MOST_ADDRESS_CHARACTERS])


def _find_route(request: web.Request) -> str | None:
    resource = getattr(request.match_info.route, "resource", None)
    found = getattr(resource, "canonical", None)
    return found if isinstance(found, str) else None


def _find_size(request: web.Request, response: Any) -> int:
    if request.method == "HEAD" or not response.prepared:
        return 0
    length = response.content_length
    # In newer releases what was written for a body of unknown length, its head among it.
    return int((getattr(response, "body_length", 0) or 0) if length is None else length)


def _answer_without_metrics(request: web.Request) -> web.Response:
    return web.Response(status=503, text=f"{MISSING_PACKAGE}\n")


def _answer_health(request: web.Request) -> web.Response:
    answer = answer_health(request.method)
    headers = {name: value for name, value in answer.headers if name != "Content-Length"}
    return web.Response(status=answer.status, headers=headers, body=answer.body)


def _answer_metrics(request: web.Request) -> web.Response:
    from prometheus_client.exposition import choose_encoder

    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(find_registry()), headers={"Content-Type": content_type})


async def _deliver(_: web.Application) -> None:
    try:
        await asyncio.get_running_loop().run_in_executor(None, flush, DELIVER_SECONDS)
    except RuntimeError:
        # It takes no work any more.
        flush(DELIVER_SECONDS)


def _tell(what: str, error: BaseException) -> None:
    warn(f"aiohttp:{what}", f"{what}: {type(error).__name__}: {safe_str(error)}")
