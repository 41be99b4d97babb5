"""The page for Prometheus: the application's metrics with otelog's ledger, right with one worker and with several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otelog._requests.metrics import MISSING_PACKAGE, find_registry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def metrics_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer a scrape; a WSGI application, which a Flask view may return, too.

    With ``PROMETHEUS_MULTIPROC_DIR`` set it adds up the workers' files, anew for each scrape; without, it shows the
    default registry. Needs the extra ``prometheus``.
    """
    from prometheus_client import make_wsgi_app

    answer: Iterable[bytes] = make_wsgi_app(find_registry())(environ, start_response)
    return answer


def unavailable_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer a scrape where prometheus-client is missing; a WSGI application."""
    body = f"{MISSING_PACKAGE}\n".encode()
    start_response(
        "503 Service Unavailable",
        [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))],
    )
    return [body]
