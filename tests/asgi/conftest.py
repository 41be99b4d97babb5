"""For the tests of otelog.asgi: a pipeline into memory, and nothing of the process's that a test leaves changed."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

pytest.importorskip("starlette")
pytest.importorskip("opentelemetry.instrumentation.asgi")

from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter

import otelog
from otelog._setup.configure import reset
from otelog.testing import CapturedLogs, capture_logs
from tests.asgi.calling import SERVER_LOGGERS


@pytest.fixture(autouse=True)
def restored_process() -> Iterator[None]:
    """Take back what is global: the pipeline, the filters on servers' loggers, the instrumentation of threads."""
    yield
    reset()
    for name in SERVER_LOGGERS:
        logging.getLogger(name).filters.clear()
    if ThreadingInstrumentor().is_instrumented_by_opentelemetry:
        ThreadingInstrumentor().uninstrument()


@pytest.fixture
def logs() -> Iterator[CapturedLogs]:
    """What is logged, in a process whose pipeline is configured."""
    otelog.configure(exporter=InMemoryLogRecordExporter())
    with capture_logs() as captured:
        yield captured
