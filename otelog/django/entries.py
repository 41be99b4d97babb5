"""What the middleware answers itself: the pipeline's health, and Prometheus metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from django.http import HttpRequest, HttpResponse

from otelog._requests.health import answer_health, watch_exports
from otelog._requests.metrics import MISSING_PACKAGE, find_registry
from otelog._runtime.diagnostics import warn

Entry: TypeAlias = Callable[[HttpRequest], HttpResponse]


def make_entries(health: str | None, metrics: str | None) -> dict[str, Entry]:
    """Returns what answers, by path."""
    entries: dict[str, Entry] = {}
    if metrics is not None:
        entries[metrics] = _answer_metrics
        try:
            from otelog import prometheus

            prometheus.publish()
        except ImportError:
            # A site serves its requests without metrics, too.
            warn("django:metrics", f"{metrics} answers 503: {MISSING_PACKAGE}")
            entries[metrics] = _answer_without_metrics
    if health is not None:
        watch_exports()
        entries[health] = _answer_health
    return entries


def _answer_health(request: HttpRequest) -> HttpResponse:
    answer = answer_health(request.META["REQUEST_METHOD"])
    return HttpResponse(answer.body, status=answer.status, headers=dict(answer.headers))


def _answer_metrics(request: HttpRequest) -> HttpResponse:
    from prometheus_client.exposition import choose_encoder

    if request.method not in ("GET", "HEAD"):
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
    encode, content_type = choose_encoder(request.META.get("HTTP_ACCEPT", ""))
    return HttpResponse(encode(find_registry()), content_type=content_type)


def _answer_without_metrics(_: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{MISSING_PACKAGE}\n", status=503, content_type="text/plain; charset=utf-8")
