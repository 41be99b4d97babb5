"""Private names of other libraries: one that is renamed upstream costs nothing but a few nanoseconds."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from otelog._private import django_instrumentation, flask_instrumentation, loguru, standard, structlog
from otelog._private.opentelemetry import NAMES
from otelog.testing import OTLPServer
from tests.grpc_server import GrpcServer

# Loads a package as a release in which one name is another one, everywhere.
RENAMED = """
import importlib.machinery, re, sys
name, package = {name!r}, {package!r}
standard = importlib.machinery.SourceFileLoader.get_code
def get_code(self, fullname):
    if not (fullname + ".").startswith(package + "."):
        return standard(self, fullname)
    source = self.get_data(self.get_filename(fullname)).decode()
    source = re.sub(r"\\b" + name + r"\\b", name + "_OF_ANOTHER_RELEASE", source)
    return compile(source, self.get_filename(fullname), "exec")
importlib.machinery.SourceFileLoader.get_code = get_code
importlib.machinery.SourceFileLoader.is_renamed = True
import opentelemetry.context
"""


def rename(name: str, package: str = "opentelemetry") -> str:
    """Returns the beginning of a program for which a package has another name for one that is read."""
    return RENAMED.format(name=name, package=package)


PROGRAM = """
import logging, sys
import otelog
from opentelemetry import _logs, metrics, trace
early = _logs.get_logger_provider()
from opentelemetry.sdk._logs import LoggerProvider
module, name = {module!r}, {name!r}
__import__(module)
assert not hasattr(sys.modules[module], name), "it is still there"
from otelog._setup import meter_provider as _meter_provider
from otelog._setup.providers import find_processor
from otelog._private.opentelemetry import SUPPRESS_INSTRUMENTATION_KEY
from otelog._runtime.quiet import quiet
assert _meter_provider.is_missing()
otelog.configure(endpoint=sys.argv[1])
from opentelemetry.sdk.trace import TracerProvider
with trace.get_tracer("tests").start_as_current_span("outer") as span:
    ids = format(span.get_span_context().trace_id, "032x")
    otelog.get_logger("facade").info("by the facade", wanted=ids)
    logging.getLogger("standard").info("by logging", extra={{"wanted": ids}})
    logging.getLogger("standard").error("with a place", extra={{"wanted": ids}}, stack_info=True)
    otelog.get_logger("facade").info("%s", object, wanted=ids)
# A foreign handler, made before there was a provider, is passed over: its records have come already.
assert find_processor(early) is find_processor(_logs.get_logger_provider()) is not None
try:
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled
except ImportError:
    # There is nobody who could trace what otelog does.
    is_instrumentation_enabled = None
if is_instrumentation_enabled:
    with quiet():
        assert not is_instrumentation_enabled()
    assert is_instrumentation_enabled()
assert metrics.get_meter_provider() is not None
print(otelog.shutdown(), otelog.stats().created)
"""


LOGGING_NAMES = [(module, name) for module, name in standard.NAMES if module == "logging"]


@pytest.mark.parametrize(("module", "name"), [*NAMES, *LOGGING_NAMES])
def test_a_private_name_that_upstream_renames_is_not_missed(module: str, name: str, tmp_path: Path) -> None:
    with OTLPServer() as server:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                rename(name, module.partition(".")[0]) + PROGRAM.format(module=module, name=name),
                server.endpoint,
            ],
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
            cwd=tmp_path,
        )
        assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["True", "4"], "")
        assert len(server.records) == 4
        for record in server.records:
            wanted = next(pair.value.string_value for pair in record.attributes if pair.key == "wanted")
            assert record.trace_id.hex() == wanted


OF_LIBRARIES = [*flask_instrumentation.NAMES, *structlog.NAMES, *loguru.NAMES]


@pytest.mark.parametrize(("module", "name"), [*NAMES, *OF_LIBRARIES, *standard.NAMES])
def test_the_private_names_are_those_of_the_installed_release(module: str, name: str) -> None:
    if not module.startswith("opentelemetry.") or module.startswith("opentelemetry.instrumentation."):
        pytest.importorskip(module)
    assert hasattr(importlib.import_module(module), name), "say in otelog/_private what this release calls it"


def test_the_keys_of_the_instrumentation_of_flask_are_those_of_the_installed_release() -> None:
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.flask")
    for name, key in flask_instrumentation.KEYS.items():
        assert getattr(instrumentation, name) == key


def test_the_names_of_the_instrumentation_of_django_are_those_of_the_installed_release() -> None:
    pytest.importorskip("opentelemetry.instrumentation.django")
    ((module, name),) = django_instrumentation.NAMES
    # A process of its own: it is not loaded before there are settings.
    keys = list(django_instrumentation.KEYS)
    code = f"from {module} import {name} as one; print(*(getattr(one, key) for key in {keys}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, timeout=60)
    assert done.stdout.split() == list(django_instrumentation.KEYS.values())


def test_an_rlock_says_whether_it_is_owned() -> None:
    lock = threading.RLock()
    assert not standard.is_owned(lock)
    with lock:
        assert standard.is_owned(lock)


def test_the_private_names_of_the_standard_library_are_those_of_this_python() -> None:
    assert logging._levelToName[20] == "INFO"  # type: ignore[attr-defined]
    assert hasattr(logging, "_lock")
    assert threading.get_ident() in threading._active  # type: ignore[attr-defined]


@pytest.mark.parametrize("statement", ["del logging._levelToName", "del logging._lock"])
def test_the_standard_librarys_names_have_a_way_to_fall_back_to(statement: str) -> None:
    # `logging` itself needs its own: only what otelog reads of them is looked at.
    code = f"""
import importlib, logging
from otelog._private import standard
logging.getLevelName = lambda level: "ASKED"
{statement}
importlib.reload(standard)
with standard.logging_lock():
    print(standard.LEVEL_NAMES[20])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ("ASKED" if "levelToName" in statement else "INFO")


def test_capture_logs_works_without_the_private_names(tmp_path: Path) -> None:
    code = (
        rename("_LOGGER_PROVIDER")
        + """
import logging, otelog
from otelog.testing import capture_logs
with capture_logs() as captured:
    logging.getLogger("app").info("captured")
    print([one.log_record.body for one in captured.records])
"""
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "['captured']", "")


@pytest.mark.parametrize("name", ["_resource", "_update_resource"])
def test_a_provider_without_the_private_names_keeps_its_loggers(name: str, tmp_path: Path) -> None:
    code = (
        rename(name)
        + """
import otelog
from opentelemetry._logs import LogRecord, get_logger
for service in ("before", "after"):
    otelog.configure(endpoint=sys.argv[1], service_name=service)
    get_logger("tests").emit(LogRecord(timestamp=1, body=service))
    assert otelog.flush()
print(otelog.shutdown(), otelog.stats().exported)
"""
    )
    with OTLPServer() as server:
        done = subprocess.run(
            [sys.executable, "-c", code, server.endpoint], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["True", "2"], "")
        assert [record.body.string_value for record in server.records] == ["before", "after"]


@pytest.mark.parametrize("name", ["_call_state", "managed_calls"])
def test_grpc_without_the_private_names_delivers_before_and_after_a_fork(name: str, tmp_path: Path) -> None:
    pytest.importorskip("grpc")
    code = (
        rename(name, "grpc")
        + """
import os, warnings
import otelog
warnings.simplefilter("ignore")
otelog.configure(endpoint=sys.argv[1], protocol="grpc")
otelog.get_logger("tests").info("before")
assert otelog.flush()
child = os.fork()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
otelog.get_logger("tests").info("after")
print(otelog.shutdown(), otelog.stats().exported)
"""
    )
    with GrpcServer() as server:
        done = subprocess.run(
            [sys.executable, "-c", code, server.endpoint], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["True", "2"], "")


STRUCTLOG = """
import logging, structlog, otelog, otelog.structlog
from otelog.testing import capture_logs
otelog.configure(endpoint="http://127.0.0.1:1", capture_structlog=True)
def say(keep, factory, *ending):
    structlog.configure(
        processors=[otelog.structlog.OtelogProcessor(keep=keep), *ending],
        logger_factory=factory, wrapper_class=structlog.stdlib.BoundLogger,
    )
    structlog.get_logger("shop").warning("said")
with capture_logs() as captured:
    say(False, structlog.PrintLoggerFactory())
    say(True, structlog.stdlib.LoggerFactory(), structlog.processors.JSONRenderer())
    print(len(captured))
"""

LOGURU = """
import logging, otelog, otelog.loguru
from loguru import logger
from otelog.testing import capture_logs
class Propagate(logging.Handler):
    def emit(self, record):
        logging.getLogger(record.name).handle(record)
logger.remove()
otelog.configure(endpoint="http://127.0.0.1:1")
otelog.loguru.install()
with capture_logs() as captured:
    logger.warning("said")
    logger.add(Propagate(), format="{message}")
    logger.warning("said")
    print(len(captured))
"""


@pytest.mark.parametrize(
    ("package", "name", "program", "most"),
    [
        ("structlog", "BoundLoggerBase", STRUCTLOG, 3),
        ("structlog", "_process_event", STRUCTLOG, 3),
        ("structlog", "_proxy_to_logger", STRUCTLOG, 3),
        ("structlog", "_ASYNC_CALLING_STACK", STRUCTLOG, 2),
        ("loguru", "_core", LOGURU, 3),
        ("loguru", "_sink", LOGURU, 3),
        ("loguru", "emit", LOGURU, 3),
    ],
)
def test_a_private_name_of_a_bridge_that_is_renamed_costs_no_record(
    package: str, name: str, program: str, most: int, tmp_path: Path
) -> None:
    pytest.importorskip(package)
    done = subprocess.run(
        [sys.executable, "-c", rename(name, package) + program],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "OTEL_METRICS_EXPORTER": "none"},
    )
    # What cannot be recognised may come by both ways; nothing is lost, and nothing raises.
    assert done.returncode == 0, done.stderr
    assert 2 <= int(done.stdout.splitlines()[-1]) <= most
