"""What users import, name in a `dictConfig` or keep in a pickle is where it was, wherever its code has moved to."""

from __future__ import annotations

import base64
import importlib
import logging
import logging.config
import pickle
import subprocess
import sys
from importlib.metadata import distribution
from typing import Any

import pytest

import otelog
import otelog.loki
import otelog.testing

# Module to the names that were there in the first release with rooms, and before.
NAMES = {
    "otelog": (
        "BatchLogRecordProcessor ConfigurationError ExporterStats Logger LoggingHandler OTLPLogExporter Operation "
        "OtelogError Stats __version__ bound configure flush get_logger shutdown stats track"
    ),
    "otelog.celery": "CeleryInstrumentor connect disconnect",
    "otelog.distro": "OtelogConfigurator OtelogDistro",
    "otelog.doctor": "Area Finding Report examine",
    "otelog.exceptions": "ConfigurationError OtelogError",
    "otelog.exporter": "OTLPLogExporter",
    "otelog.flask": "FlaskLogging health_app metrics_app",
    "otelog.gunicorn": "child_exit",
    "otelog.handler": "LoggingHandler",
    "otelog.logger": "Logger bound",
    "otelog.loki": "DEFAULT_TIMEOUT Entry LokiClient LokiError Sample",
    "otelog.processor": "BatchLogRecordProcessor",
    "otelog.prometheus": "publish",
    "otelog.providers": (
        "add_observer configure flush get_logger is_configured is_running reset settings_in_force shutdown stats"
    ),
    "otelog.sinks": "ConsoleLogExporter FileLogExporter",
    "otelog.sinks.console": "ConsoleLogExporter",
    "otelog.sinks.files": "FileLogExporter",
    "otelog.testing": "CAPTURE_SECONDS CapturedLogs LOGS_PATH OTLPServer Reply Request capture_logs",
    "otelog.typing": "ConfigureOptions",
}
HANDLERS = ("otelog.LoggingHandler", "otelog.handler.LoggingHandler")
ENTRY_POINTS = {
    ("console_scripts", "otelog"): "otelog.cli:main",
    ("opentelemetry_configurator", "otelog"): "otelog.distro:OtelogConfigurator",
    ("opentelemetry_distro", "otelog"): "otelog.distro:OtelogDistro",
    ("opentelemetry_instrumentor", "otelog_celery"): "otelog.celery:CeleryInstrumentor",
}
# Made before the code moved, by protocol 4.
PICKLES: dict[str, tuple[str, object]] = {
    "ExporterStats": ("gASVJAAAAAAAAACMDm90ZWxvZy5fbGVkZ2VylIwNRXhwb3J0ZXJTdGF0c5STlC4=", otelog.ExporterStats),
    "Stats": ("gASVHAAAAAAAAACMDm90ZWxvZy5fbGVkZ2VylIwFU3RhdHOUk5Qu", otelog.Stats),
    "LoggingHandler": ("gASVJQAAAAAAAACMDm90ZWxvZy5oYW5kbGVylIwOTG9nZ2luZ0hhbmRsZXKUk5Qu", otelog.LoggingHandler),
    "Logger": ("gASVHAAAAAAAAACMDW90ZWxvZy5sb2dnZXKUjAZMb2dnZXKUk5Qu", otelog.Logger),
    "BatchLogRecordProcessor": (
        "gASVMAAAAAAAAACMEG90ZWxvZy5wcm9jZXNzb3KUjBdCYXRjaExvZ1JlY29yZFByb2Nlc3NvcpSTlC4=",
        otelog.BatchLogRecordProcessor,
    ),
    "OTLPLogExporter": (
        "gASVJwAAAAAAAACMD290ZWxvZy5leHBvcnRlcpSMD09UTFBMb2dFeHBvcnRlcpSTlC4=",
        otelog.OTLPLogExporter,
    ),
    "configure": ("gASVIgAAAAAAAACMEG90ZWxvZy5wcm92aWRlcnOUjAljb25maWd1cmWUk5Qu", otelog.configure),
    "Sample": ("gASVGgAAAAAAAACMC290ZWxvZy5sb2tplIwGU2FtcGxllJOULg==", otelog.loki.Sample),
    "Reply(status=503)": (
        "gASVQgAAAAAAAACMDm90ZWxvZy50ZXN0aW5nlIwFUmVwbHmUk5QpgZRdlChN9wF9lE5LAIwAlEcAAAAAAAAAAE5HP5R64UeuFHtlYi4=",
        otelog.testing.Reply(status=503),
    ),
}
# Those whose home is a machinery room show the path that users import.
SHOWN: dict[str, tuple[object, ...]] = {
    "otelog": (otelog.BatchLogRecordProcessor, otelog.Logger, otelog.LoggingHandler, otelog.OTLPLogExporter),
    "otelog.loki": (otelog.loki.Entry, otelog.loki.LokiClient, otelog.loki.LokiError, otelog.loki.Sample),
    "otelog.testing": (otelog.testing.CapturedLogs, otelog.testing.OTLPServer, otelog.testing.Reply),
}


@pytest.mark.parametrize("module", NAMES)
def test_what_users_import_is_where_it_was(module: str) -> None:
    found = importlib.import_module(module)
    assert [name for name in NAMES[module].split() if not hasattr(found, name)] == []


@pytest.mark.parametrize("module", NAMES)
def test_a_public_module_can_be_imported_first(module: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", HANDLERS)
def test_a_class_path_of_a_configuration_leads_to_the_handler(name: str) -> None:
    handlers: dict[str, Any] = {"otelog": {"class": name}}
    loggers = {"tests.import_paths": {"handlers": ["otelog"], "propagate": False}}
    logging.config.dictConfig(
        {"version": 1, "disable_existing_loggers": False, "handlers": handlers, "loggers": loggers}
    )
    logger = logging.getLogger("tests.import_paths")
    (handler,) = logger.handlers
    logger.handlers, logger.propagate = [], True
    assert type(handler) is otelog.LoggingHandler


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_of_an_earlier_release_is_read(name: str) -> None:
    text, wanted = PICKLES[name]
    found = pickle.loads(base64.b64decode(text))
    assert found == wanted
    assert pickle.loads(pickle.dumps(wanted)) == wanted


@pytest.mark.parametrize("module", SHOWN)
def test_a_public_class_shows_the_path_that_users_import(module: str) -> None:
    for one in SHOWN[module]:
        assert isinstance(one, type)
        assert one.__module__ == module


def test_entry_points_are_those_that_they_were() -> None:
    found = {(one.group, one.name): one for one in distribution("otelog").entry_points}
    assert {key: one.value for key, one in found.items()} == ENTRY_POINTS
    for one in found.values():
        assert callable(one.load())
