"""For the tests of otelog.flask: a pipeline into memory, and nothing of the process's that a test leaves changed."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

flask = pytest.importorskip("flask")
pytest.importorskip("opentelemetry.instrumentation.flask")

from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter  # noqa: E402

import otelog  # noqa: E402
from otelog._setup.configure import reset  # noqa: E402
from otelog.testing import CapturedLogs, capture_logs  # noqa: E402

try:
    from opentelemetry.instrumentation.threading import ThreadingInstrumentor
except ImportError:
    ThreadingInstrumentor = None


SERVER_LOGGERS = ("werkzeug", "gunicorn.access", "gunicorn.error", "waitress")


@pytest.fixture(autouse=True)
def restored_process() -> Iterator[None]:
    """Take back what is global: the pipeline, the filters on servers' loggers, the instrumentation of threads."""
    werkzeug = logging.getLogger("werkzeug")
    level, handlers = werkzeug.level, list(werkzeug.handlers)
    yield
    reset()
    for name in SERVER_LOGGERS:
        logging.getLogger(name).filters.clear()
    werkzeug.setLevel(level)
    werkzeug.handlers[:] = handlers
    if ThreadingInstrumentor is not None and ThreadingInstrumentor().is_instrumented_by_opentelemetry:
        ThreadingInstrumentor().uninstrument()


@pytest.fixture
def logs() -> Iterator[CapturedLogs]:
    """What is logged, in a process whose pipeline is configured."""
    otelog.configure(exporter=InMemoryLogRecordExporter())
    with capture_logs() as captured:
        yield captured


@pytest.fixture
def app() -> flask.Flask:
    return flask.Flask("shop")
