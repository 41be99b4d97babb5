"""The site that the tests ask."""

from __future__ import annotations

import io
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import include, path, re_path

log = logging.getLogger("site")


def order(request: HttpRequest, number: str | int) -> HttpResponse:
    log.info("order %s", number)
    return HttpResponse("é" * 5)


async def later(request: HttpRequest) -> HttpResponse:
    log.info("later")
    return HttpResponse("later")


def broken(request: HttpRequest) -> HttpResponse:
    raise ValueError("no such item")


async def broken_later(request: HttpRequest) -> HttpResponse:
    raise ValueError("no such item")


def denied(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied("not yours")


def suspicious(request: HttpRequest) -> HttpResponse:
    raise SuspiciousOperation("odd")


def rows(request: HttpRequest) -> StreamingHttpResponse:
    def make() -> Iterator[str]:
        for number in range(3):
            log.info("row %d", number)
            yield "row"
        if "fail" in request.GET:
            raise ValueError("in the middle")

    return StreamingHttpResponse(make())


async def async_rows(request: HttpRequest) -> StreamingHttpResponse:
    async def make() -> AsyncIterator[str]:
        for number in range(3):
            log.info("row %d", number)
            yield "row"
        if "fail" in request.GET:
            raise ValueError("in the middle")

    return StreamingHttpResponse(make())


def file(request: HttpRequest) -> FileResponse:
    return FileResponse(io.BytesIO(b"x" * 1000))


def own_id(request: HttpRequest) -> HttpResponse:
    return HttpResponse("", headers={"X-Request-ID": "the site's own"})


def stop(request: HttpRequest) -> HttpResponse:
    raise SystemExit(3)


urlpatterns: list[Any] = [
    path("orders/<int:number>/", order),
    path("later/", later),
    path("broken/", broken),
    path("broken-later/", broken_later),
    path("denied/", denied),
    path("suspicious/", suspicious),
    path("rows/", rows),
    path("async-rows/", async_rows),
    path("file/", file),
    path("own-id/", own_id),
    path("stop/", stop),
    path("api/", include([re_path(r"^items/(?P<number>[0-9]+)/$", order)])),
    path("é/", order, {"number": 1}),
]
