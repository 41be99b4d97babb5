"""The ASGI layer around an application, or in it: where a request begins, and where its response ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from opentelemetry.context import attach, detach
from opentelemetry.trace import NonRecordingSpan, format_trace_id, set_span_in_context

from otelog._capture.exception_notes import remember_span
from otelog._capture.port import BOUND_KEY
from otelog._patches import asgi_lines, asgi_spans
from otelog._patches.asgi_spans import FIELDS_IN_SCOPE, SPAN_IN_SCOPE
from otelog._private.opentelemetry import is_asgi_middleware
from otelog._record.values import safe_str
from otelog._requests.access import ExcludedPaths
from otelog._requests.entries import make_entries
from otelog._requests.exceptions import name_type, record_exception
from otelog._requests.ids import find_request_id
from otelog._requests.server_lines import LOCAL, NOWHERE
from otelog._requests.threads import instrument_threading
from otelog._requests.trace_ids import OFFERED, accept_offers, make_offer
from otelog._runtime.diagnostics import warn
from otelog._setup.configure import configure, ensure_handler, flush
from otelog._setup.state import is_configured
from otelog.asgi.access import AccessWriter
from otelog.asgi.entries import health_app, metrics_app, unavailable_app
from otelog.asgi.exchange import AGENT, FORWARDED, HOST, Exchange, read_headers
from otelog.asgi.options import resolve
from otelog.asgi.server_lines import drop_doubled_exceptions, keep_back_request_lines, mark, mark_exception

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from otelog.asgi.entries import ASGIApp, Message, Receive, Scope, Send
    from otelog.asgi.options import AccessLogOptions, AccessLogSettings

LOGGER = "otelog.asgi"
"""The logger of unhandled exceptions."""

NOTHING_SENT = 499
"""The status of a request whose client has left before there was a response: nobody has seen one."""

DELIVER_SECONDS = 2.0
"""How long an application's shutdown waits for the Collector; what is left then is delivered when the process ends."""

_EXCHANGE = "otelog.exchange"
_SWITCHING = 101
_ENDS = ("http.response.pathsend", "http.response.zerocopysend")


class _Process:
    """What has been done once in this process."""

    prepared = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: setattr(_Process, "prepared", False))


class AccessLog:
    """Logs an ASGI application's requests through otelog.

    Each request has one access record, when its response has been sent, and so has each websocket, when it is closed;
    an unhandled exception is one record; all records inside of a request have its trace and its id. `otelog.configure`
    is called with what the environment says, unless it has been called before. When the server shuts the application
    down, everything is delivered.

    Args:
        app: An ASGI application. One that is in this one, and has its own `AccessLog`, has no second record.
        options: Keyword-only.

            - `access_log`: Whether there are access records.
            - `access_log_name`: Their logger's name.
            - `access_log_excluded`: Paths without an access record; one that ends with ``*`` is a prefix.
            - `server_access_log`: What becomes of the lines of uvicorn, hypercorn, granian and gunicorn for requests
              that have an access record. "console" leaves them on the server's console and in its files, and exports
              them not; "silence" drops them; "keep" exports them, too. A request without a line of its server's has
              one of otelog's, by the application's own handlers or on standard error.
            - `client_address`: "peer" (who is connected), "forwarded" (what the outermost of `trusted_proxies` has put
              into ``X-Forwarded-For``), or "none".
            - `trusted_proxies`: How many proxies of one's own a request passes.
            - `request_id_header`: The header that brings a request id, and takes it back; None for no request id.
            - `trace_id_header`: The header that brings a trace id, and takes the request's back; None for neither.
            - `fields`: Called with the scope; what it returns are fields of every record inside of the request.
            - `instrument`: Whether a request that has no span gets one, by opentelemetry-instrumentation-asgi.
            - `instrument_threading`: Whether threads inherit the request's trace and fields, in the whole process, by
              opentelemetry-instrumentation-threading.
            - `metrics`: A path that answers with Prometheus metrics, such as "/metrics"; None for none. Without
              prometheus-client, which the extra ``asgi`` brings, it answers 503.
            - `health`: A path that answers with the pipeline's state, such as "/health"; None for none.

    Raises:
        ConfigurationError: An option is unknown or has a value that cannot be used.

    Thread safety: any number of event loops and threads may call it.
    """

    def __init__(self, app: ASGIApp, **options: Unpack[AccessLogOptions]) -> None:
        settings = resolve(options)
        self.app = app
        self._entries = make_entries(
            "asgi",
            metrics=settings.metrics,
            health=settings.health,
            metrics_app=metrics_app,
            unavailable_app=unavailable_app,
            health_app=health_app,
        )
        if not is_configured():
            configure()
        self._fields = settings.fields
        self._access = AccessWriter(settings) if settings.access_log else None
        self._excluded = ExcludedPaths(settings.access_log_excluded)
        self._keeps_lines_back = settings.access_log and settings.server_access_log != "keep"
        self._line_purpose = NOWHERE if settings.server_access_log == "silence" else LOCAL
        self._request_id_header = _encode(settings.request_id_header)
        self._trace_id_header = _encode(settings.trace_id_header)
        self._wanted = frozenset((HOST, AGENT, FORWARDED, self._request_id_header, self._trace_id_header))
        asgi_spans.install()
        self._traced = _instrument(app, settings)
        asgi_lines.install()
        if self._keeps_lines_back:
            keep_back_request_lines(settings.access_log_name)
        drop_doubled_exceptions()
        if settings.instrument_threading:
            instrument_threading()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, and watch what it does."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._live(scope, receive, send)
            return
        if kind not in ("http", "websocket") or _EXCHANGE in scope:
            await self.app(scope, receive, send)
            return
        if self._entries and kind == "http":
            entry = self._entries.get(scope.get("path", ""))
            if entry is not None:
                if self._keeps_lines_back:
                    mark(scope, NOWHERE)
                await entry(scope, receive, send)
                return
        exchange = self._begin(scope)
        if exchange is None:
            await self.app(scope, receive, send)
            return
        offered = OFFERED.set(make_offer(exchange.given_trace_id))
        token = attach(exchange.context)
        try:
            app = self.app if exchange.span_context is not None else self._traced
            await app(scope, self._wrap_receive(exchange, receive), self._wrap_send(exchange, send))
        except BaseException as error:
            self._fail(exchange, error)
            raise
        finally:
            self._finish(exchange)
            detach(token)
            OFFERED.reset(offered)

    def _begin(self, scope: Scope) -> Exchange | None:
        try:
            if not _Process.prepared:
                _Process.prepared = True
                ensure_handler()
                asgi_lines.install()
            headers = read_headers(scope.get("headers") or (), self._wanted)
            request_id = given = None
            if self._request_id_header:
                request_id = find_request_id(headers.get(self._request_id_header))
            if self._trace_id_header:
                given = headers.get(self._trace_id_header)
            exchange = Exchange(scope, headers, request_id, given)
            exchange.note_span()
            if exchange.span_context is not None:
                exchange.keep_given_trace_id()
            if self._fields is not None:
                self._add_fields(exchange, self._fields)
            scope[_EXCHANGE] = True
            asgi_spans.note_scope(scope)
            scope[FIELDS_IN_SCOPE] = exchange.context.get(BOUND_KEY)
            if self._keeps_lines_back and is_configured():
                # A path that shall have no record shall have no line either.
                mark(scope, NOWHERE if scope.get("path", "") in self._excluded else self._line_purpose)
            return exchange
        except Exception as error:
            _tell("a request could not be watched", error)
            return None

    def _add_fields(self, exchange: Exchange, find: Callable[[Any], Mapping[str, object]]) -> None:
        try:
            exchange.bind(find(exchange.scope))
        except Exception as error:
            _tell("a request's fields could not be had", error)

    def _wrap_receive(self, exchange: Exchange, receive: Receive) -> Receive:
        async def watched_receive() -> Message:
            message = await receive()
            kind = message.get("type")
            if kind == "http.disconnect":
                exchange.disconnected = True
            elif kind == "websocket.disconnect":
                exchange.disconnected = True
                if exchange.close_code is None:
                    exchange.close_code = _to_number(message.get("code", 1005))
            return message

        return watched_receive

    def _wrap_send(self, exchange: Exchange, send: Send) -> Send:
        async def watched_send(message: Message) -> None:
            kind = message["type"]
            if kind == "http.response.body":
                await send(message)
                if not exchange.finished:
                    exchange.sent_bytes += len(message.get("body", b""))
                    if not message.get("more_body", False) and not exchange.has_trailers:
                        self._end_body(exchange)
                return
            try:
                message = self._note_sending(exchange, kind, message)
            except Exception as error:
                _tell("a response could not be watched", error)
            await send(message)
            if kind in _ENDS or (kind == "http.response.trailers" and not message.get("more_trailers", False)):
                self._end_body(exchange)

        return watched_send

    def _note_sending(self, exchange: Exchange, kind: str, message: Message) -> Message:
        if kind == "http.response.start" or kind == "websocket.http.response.start":
            if exchange.status:
                # Once more: the server refuses it.
                return message
            self._note_span(exchange)
            exchange.status = int(message["status"])
            exchange.has_trailers = bool(message.get("trailers", False))
            return self._add_headers(exchange, message)
        if kind == "websocket.accept":
            self._note_span(exchange)
            exchange.accepted = True
            exchange.status = _SWITCHING
            return self._add_headers(exchange, message)
        if kind == "websocket.close":
            if exchange.close_code is None and exchange.accepted:
                exchange.close_code = _to_number(message.get("code", 1000))
        elif kind == "websocket.send":
            exchange.sent_bytes += len(message.get("bytes") or message.get("text") or b"")
        elif kind == "websocket.http.response.body":
            exchange.sent_bytes += len(message.get("body", b""))
        elif kind in _ENDS:
            exchange.sent_bytes = _find_content_length(exchange)
        return message

    def _note_span(self, exchange: Exchange) -> None:
        if exchange.span_context is None:
            exchange.span_context = exchange.scope.get(SPAN_IN_SCOPE)
            exchange.note_span()
        exchange.keep_given_trace_id()

    def _add_headers(self, exchange: Exchange, message: Message) -> Message:
        added = []
        if exchange.request_id is not None:
            added.append((self._request_id_header, exchange.request_id.encode("ascii")))
        if self._trace_id_header and exchange.span_context is not None:
            added.append((self._trace_id_header, format_trace_id(exchange.span_context.trace_id).encode("ascii")))
        headers = list(message.get("headers") or ())
        exchange.sent_headers = headers
        if not added:
            return message
        there = {bytes(name).lower() for name, _ in headers}
        return {**message, "headers": [*headers, *(pair for pair in added if pair[0] not in there)]}

    def _end_body(self, exchange: Exchange) -> None:
        """End a response whose last part has been sent."""
        exchange.mark_end()
        # An exception that the framework has answered with 500 is still on its way out, and belongs to the record.
        if exchange.status < 500:
            self._finish(exchange)

    def _fail(self, exchange: Exchange, error: BaseException) -> None:
        """Record what has left the application, in the request's context, unless it is a word to stop."""
        try:
            self._note_span(exchange)
            if exchange.span_context is not None:
                remember_span(error, exchange.span_context)
            if not isinstance(error, Exception):
                exchange.disconnected = True
                return
            if exchange.disconnected and _is_disconnect(error):
                return
            if self._keeps_lines_back:
                mark_exception(exchange.scope, error)
            if not exchange.finished:
                exchange.error_type = name_type(error)
                if exchange.is_websocket and exchange.close_code is None and exchange.accepted:
                    exchange.close_code = 1006
                elif not exchange.status:
                    # Nothing has been sent: the server answers for it.
                    exchange.status = 500
            token = attach(_context_of(exchange))
            try:
                method = "WEBSOCKET" if exchange.is_websocket else str(exchange.scope.get("method"))
                record_exception(LOGGER, method, exchange.path, error)
            finally:
                detach(token)
        except Exception as failure:
            _tell("an exception could not be recorded", failure)

    def _finish(self, exchange: Exchange) -> None:
        """Write the access record, once."""
        if exchange.finished:
            return
        exchange.finished = True
        try:
            if self._access is None or exchange.scope.get("path", "") in self._excluded:
                return
            self._note_span(exchange)
            if not exchange.status:
                # Refused before it was accepted, left by its client, or forgotten by the application.
                exchange.status = 403 if exchange.is_websocket else NOTHING_SENT if exchange.disconnected else 500
            token = attach(_context_of(exchange))
            try:
                self._access.write(exchange)
            finally:
                detach(token)
        except Exception as error:
            _tell("an access record could not be written", error)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Go through the application's whole life: what goes wrong in it is recorded, and all is delivered."""
        told: set[str] = set()

        async def watched_receive() -> Message:
            message = await receive()
            told.add(str(message.get("type")))
            return message

        async def watched_send(message: Message) -> None:
            kind = str(message.get("type"))
            if kind.endswith(".failed") and message.get("message"):
                # With its traceback, which the server logs.
                told.add("failed")
            if kind.startswith("lifespan.shutdown."):
                await _deliver()
            await send(message)
            if kind == "lifespan.startup.complete":
                ensure_handler()
                asgi_lines.install()

        try:
            await self.app(scope, watched_receive, watched_send)
        except Exception as error:
            # Who raises without having listened has no lifespan.
            if told and "failed" not in told:
                record_exception(LOGGER, "lifespan", "shutdown" if "lifespan.shutdown" in told else "startup", error)
            raise


async def _deliver() -> None:
    """Deliver what is queued, while the loop goes on: connections may be closing."""
    try:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, flush, DELIVER_SECONDS)
    except RuntimeError:
        # Another kind of loop, or one that takes no work any more.
        flush(DELIVER_SECONDS)


def _instrument(app: ASGIApp, settings: AccessLogSettings) -> ASGIApp:
    """Returns what to call for a request that has no span."""
    if not settings.instrument or _is_instrumented(app):
        return app
    try:
        module = import_module("opentelemetry.instrumentation.asgi")
    except ImportError:
        return app
    asgi_spans.install()
    # Without the spans of each `receive` and `send`, which cost more than the request's own.
    traced: Any = module.OpenTelemetryMiddleware(app, exclude_spans=["receive", "send"])
    if settings.trace_id_header is not None:
        accept_offers(getattr(traced, "tracer", None))
    return traced  # type: ignore[no-any-return]


def _is_instrumented(app: Any) -> bool:
    # FastAPI's and Starlette's put their middleware into the stack that is built with the first request.
    return getattr(app, "_is_instrumented_by_opentelemetry", False) is True or is_asgi_middleware(app)


def _context_of(exchange: Exchange) -> Any:
    """Returns the context in which records belong to a request, wherever they are made."""
    if exchange.span_context is None:
        return exchange.context
    return set_span_in_context(NonRecordingSpan(exchange.span_context), exchange.context)


def _is_disconnect(error: BaseException) -> bool:
    # uvicorn's and Starlette's, and what hypercorn and granian let out of a socket that is gone.
    return isinstance(error, OSError) or "Disconnect" in type(error).__name__


def _find_content_length(exchange: Exchange) -> int:
    for name, value in exchange.sent_headers:
        if bytes(name).lower() == b"content-length" and bytes(value).isdigit():
            return int(value)
    return 0


def _to_number(code: object) -> int:
    return code if type(code) is int else 1005


def _encode(header: str | None) -> bytes:
    return (header or "").lower().encode("ascii")


def _tell(what: str, error: BaseException) -> None:
    warn(f"asgi:{what}", f"{what}: {type(error).__name__}: {safe_str(error)}")
