"""For the tests of otelog.django: a pipeline into memory, Django's settings, and nothing that a test leaves changed."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator

import pytest
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter

import otelog
from otelog._setup.configure import reset
from otelog.testing import CapturedLogs, capture_logs
from tests.django.running import OURS, THEIRS

try:
    import django
    import opentelemetry.instrumentation.django  # noqa: F401
    from django.conf import settings
except ImportError:
    # Of the extra "django".
    collect_ignore_glob = ["test_*.py"]

SERVER_LOGGERS = ("gunicorn.access", "gunicorn.error", "django.server", "uvicorn.access", "uvicorn.error")
DJANGO_LOGGERS = ("django", "django.request", "django.server", "django.security")

if "settings" in globals() and not settings.configured:
    settings.configure(
        SECRET_KEY="tests",
        ALLOWED_HOSTS=["127.0.0.1", "testserver"],
        ROOT_URLCONF="tests.django.site",
        MIDDLEWARE=[OURS],
        LOGGING_CONFIG=None,
        USE_TZ=True,
    )
    django.setup()


@pytest.fixture(autouse=True)
def restored_process() -> Iterator[None]:
    """Take back what is global: the pipeline, and what was done to loggers."""
    from django.test.utils import override_settings

    with override_settings(MIDDLEWARE=[THEIRS, OURS]):
        yield
    reset()
    for name in SERVER_LOGGERS:
        logging.getLogger(name).filters.clear()
    for name in DJANGO_LOGGERS:
        logging.getLogger(name).disabled = False


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """Let go here of what Django leaves to the collector, with a warning: no other test has to do with it."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session", autouse=True)
def instrumented() -> Iterator[None]:
    """OpenTelemetry's middleware is ready; the tests say where it stands."""
    from opentelemetry.instrumentation.django import DjangoInstrumentor

    DjangoInstrumentor().instrument()
    yield
    DjangoInstrumentor().uninstrument()


@pytest.fixture
def logs() -> Iterator[CapturedLogs]:
    """What is logged, in a process whose pipeline is configured."""
    otelog.configure(exporter=InMemoryLogRecordExporter())
    with capture_logs() as captured:
        yield captured
