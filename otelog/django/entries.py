"""What the middleware answers itself: the pipeline's health, and Prometheus metrics."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from otelog._requests.health import answer_health
from otelog._requests.metrics import MISSING_PACKAGE, find_registry


def health_view(request: HttpRequest) -> HttpResponse:
    """Answer with the state of this process's pipeline."""
    answer = answer_health(request.META["REQUEST_METHOD"])
    return HttpResponse(answer.body, status=answer.status, headers=dict(answer.headers))


def metrics_view(request: HttpRequest) -> HttpResponse:
    """Answer a scrape."""
    from prometheus_client.exposition import choose_encoder

    if request.method not in ("GET", "HEAD"):
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
    encode, content_type = choose_encoder(request.META.get("HTTP_ACCEPT", ""))
    return HttpResponse(encode(find_registry()), content_type=content_type)


def unavailable_view(_: HttpRequest) -> HttpResponse:
    """Answer a scrape where prometheus-client is missing."""
    return HttpResponse(f"{MISSING_PACKAGE}\n", status=503, content_type="text/plain; charset=utf-8")
