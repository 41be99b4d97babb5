"""The WSGI layer around a Flask application: where a request begins, and where its response ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import flask
from opentelemetry.context import attach, detach
from opentelemetry.trace import format_trace_id

from otelog._record.values import safe_str
from otelog._requests.access import ExcludedPaths
from otelog._requests.environ import find_path, header_key
from otelog._requests.exceptions import name_type, record_exception
from otelog._requests.ids import find_request_id
from otelog._requests.server_lines import LOCAL, NOWHERE
from otelog._requests.trace_ids import OFFERED, make_offer
from otelog._runtime.diagnostics import warn
from otelog._setup.configure import ensure_handler
from otelog._setup.state import is_configured
from otelog.flask.access import AccessLog
from otelog.flask.body import Body, hook_file
from otelog.flask.errors import is_logged_by_flask
from otelog.flask.exchange import CURRENT, Exchange
from otelog.flask.server_lines import mark, mark_exception, unmark
from otelog.flask.spans import end_span

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask import Flask

    from otelog.flask.options import FlaskSettings

# Handed down from application to application inside one request, so that both say the same.
_REQUEST_ID = "otelog.request_id"


class _Process:
    """What has been done once in this process."""

    prepared = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: setattr(_Process, "prepared", False))


class RequestMiddleware:
    """Watches the requests of one application.

    Args:
        application: The application's ``wsgi_app``.
        logger_name: The application's logger.
        settings: The application's options.
        entries: WSGI applications by path, which answer in place of Flask's: without its hooks, a span or a record.

    Thread safety: all methods.
    """

    def __init__(
        self,
        application: WSGIApplication,
        logger_name: str,
        settings: FlaskSettings,
        entries: Mapping[str, WSGIApplication],
    ) -> None:
        self._application = application
        self._logger_name = logger_name
        self._entries = entries
        self._fields = settings.fields
        self._access = AccessLog(settings) if settings.access_log else None
        self._excluded = ExcludedPaths(settings.access_log_excluded)
        self._keeps_lines_back = settings.access_log and settings.server_access_log != "keep"
        self._line_purpose = NOWHERE if settings.server_access_log == "silence" else LOCAL
        self._request_id_header = settings.request_id_header
        self._request_id_key = header_key(settings.request_id_header or "")
        self._trace_id_header = settings.trace_id_header
        self._trace_id_key = header_key(settings.trace_id_header or "")

    # The server's calls.

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Call the application, and watch what it does."""
        if self._entries:
            entry = self._entries.get(environ.get("PATH_INFO", ""))
            if entry is not None:
                if self._keeps_lines_back:
                    mark(environ, NOWHERE)
                return entry(environ, start_response)
        exchange = self._begin(environ)
        if exchange is None:
            return self._application(environ, start_response)
        offered = OFFERED.set(make_offer(exchange.given_trace_id))
        current = CURRENT.set(exchange)
        # Whatever the application leaves attached, as a teardown function that raises does, ends here.
        token = attach(exchange.context)
        try:
            parts = self._application(environ, self._wrap_start(exchange, start_response))
        except BaseException as error:
            self._fail_outside(exchange, error)
            raise
        finally:
            detach(token)
            CURRENT.reset(current)
            OFFERED.reset(offered)
        return self._watch_body(exchange, parts)

    def _begin(self, environ: WSGIEnvironment) -> Exchange | None:
        try:
            if not _Process.prepared:
                _Process.prepared = True
                ensure_handler()
            request_id: str | None = None
            if self._request_id_header is not None:
                request_id = environ.get(_REQUEST_ID)
                if request_id is None:
                    request_id = environ[_REQUEST_ID] = find_request_id(environ.get(self._request_id_key))
            given = environ.get(self._trace_id_key) if self._trace_id_header is not None else None
            exchange = Exchange(environ, request_id, given)
            if self._keeps_lines_back and is_configured():
                # A path that shall have no record shall have no line either.
                mark(environ, NOWHERE if environ.get("PATH_INFO", "") in self._excluded else self._line_purpose)
            else:
                unmark(environ)
            return exchange
        except Exception as error:
            _tell("a request could not be watched", error)
            return None

    def _wrap_start(self, exchange: Exchange, start_response: StartResponse) -> Callable[..., Any]:
        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            try:
                exchange.status = int(status[:3])
                exchange.note_span()
                headers = self._add_headers(exchange, headers)
                exchange.headers = headers
            except Exception as error:
                _tell("a response could not be watched", error)
            return start_response(status, headers, *exc_info)

        return start

    def _add_headers(self, exchange: Exchange, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        added = []
        if exchange.request_id is not None:
            added.append((self._request_id_header or "", exchange.request_id))
        if self._trace_id_header is not None and exchange.span_context is not None:
            added.append((self._trace_id_header, format_trace_id(exchange.span_context.trace_id)))
        if not added:
            return headers
        there = {name.lower() for name, _ in headers}
        return [*headers, *((name, value) for name, value in added if name.lower() not in there)]

    def _watch_body(self, exchange: Exchange, parts: Iterable[bytes]) -> Iterable[bytes]:
        try:
            exchange.leave()
            file_wrapper = exchange.wsgi.get("wsgi.file_wrapper")
            if isinstance(file_wrapper, type) and isinstance(parts, file_wrapper):
                hook_file(parts, exchange, self._finish)
                return parts
            return Body(parts, exchange, self._fail, self._finish)
        except Exception as error:
            _tell("a response could not be watched", error)
            return parts

    def _fail_outside(self, exchange: Exchange, error: BaseException) -> None:
        """Note what has left the application, and end the exchange: there will be no body."""
        try:
            # First, since it belongs to the context that the application has left.
            end_span(exchange.wsgi, error)
            if self._keeps_lines_back:
                mark_exception(exchange.wsgi, error)
            exchange.leave()
            self._fail(exchange, error)
            self._finish(exchange)
        except Exception as failure:
            _tell("an exception could not be recorded", failure)

    def _fail(self, exchange: Exchange, error: BaseException) -> None:
        """Record what has left the application, in the request's context, unless it is a word to stop."""
        try:
            exchange.error_type = name_type(error)
            if not exchange.sent_bytes:
                # Servers send the head with the first part: what was begun has not been sent, and they answer for it.
                exchange.status = 500
            end_span(exchange.wsgi, error)
            # Flask may have left it already, while the exception was on its way.
            token = attach(exchange.context)
            try:
                self._record(exchange, error)
            finally:
                detach(token)
        except Exception as failure:
            _tell("an exception could not be recorded", failure)

    def _record(self, exchange: Exchange, error: BaseException) -> None:
        try:
            if isinstance(error, Exception) and not exchange.is_passed_on:
                environ = exchange.wsgi
                record_exception(self._logger_name, environ["REQUEST_METHOD"], find_path(environ), error)
        except Exception as failure:
            _tell("an exception could not be recorded", failure)

    def _finish(self, exchange: Exchange) -> None:
        """Write the access record. Idempotent."""
        if exchange.finished:
            return
        exchange.finished = True
        try:
            environ = exchange.wsgi
            if self._access is None or exchange.is_passed_on or environ.get("PATH_INFO", "") in self._excluded:
                return
            exchange.keep_given_trace_id()
            token = attach(exchange.context)
            try:
                self._access.write(exchange)
            finally:
                detach(token)
        except Exception as error:
            _tell("an access record could not be written", error)

    # Flask's calls.

    def before_request(self) -> None:
        """Take over the request's span and route; to be called right after the instrumentation has started the span."""
        exchange = CURRENT.get()
        if exchange is None or exchange.entered:
            return
        try:
            request = flask.request
            rule = request.url_rule
            exchange.enter(None if rule is None else rule.rule)
            if self._fields is not None:
                exchange.add_fields(self._fields(request._get_current_object()))  # type: ignore[attr-defined]
        except Exception as error:
            _tell("a request's fields could not be had", error)

    def on_exception(self, sender: Flask, *, exception: BaseException, **_: object) -> None:
        """Note an exception that Flask answers with 500 or lets go; record it where Flask's record would not arrive."""
        exchange = CURRENT.get()
        if exchange is None:
            return
        try:
            exchange.error_type = name_type(exception)
            if not is_logged_by_flask(sender):
                self._record(exchange, exception)
        except Exception as error:
            _tell("an exception could not be recorded", error)


def _tell(what: str, error: BaseException) -> None:
    warn(f"flask:{what}", f"{what}: {type(error).__name__}: {safe_str(error)}")
