"""The application of `tests.servers.app` for Django: ``python -m tests.servers.django_app runserver PORT``."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import time
from typing import Any

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils import autoreload

import otelog
from tests.servers import books
from tests.servers.app import RECORDS

books.keep()
log = logging.getLogger("shop")
requests = itertools.count(1)


def work(_: HttpRequest, name: str) -> JsonResponse:
    """Log a few records that nobody else logs."""
    for number in range(RECORDS):
        log.warning("%s/%d", name, number)
    return JsonResponse({**_describe(), **books.describe(otelog.stats())})


def ready(_: HttpRequest) -> JsonResponse:
    """Say who answers; slowly, so that the next to ask finds another worker."""
    time.sleep(0.02)
    return JsonResponse(_describe())


def _describe() -> dict[str, Any]:
    return {"pid": os.getpid(), "instance": books.find_instance(), "number": next(requests)}


urlpatterns = [path("records/<name>", work), path("ready", ready)]


def _watch(sender: Any, **_: Any) -> None:
    sender.watch_dir(os.environ[books.FOLDER], "*.py")


def make_wsgi() -> Any:
    """Returns the application for gunicorn."""
    _configure()
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


def make_asgi() -> Any:
    """Returns the application for uvicorn."""
    _configure()
    from django.core.asgi import get_asgi_application

    return get_asgi_application()


def _configure() -> None:
    settings.configure(DEBUG=True, SECRET_KEY="none", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])


if __name__ == "__main__":
    autoreload.autoreload_started.connect(_watch)
    _configure()
    execute_from_command_line(sys.argv)
