"""Django under `otelog run`, with OpenTelemetry's instrumentation: it works as it does without, and has its traces."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from otelog.testing import OTLPServer
from tests.sizes import paired, without_instrumentations
from tools.loopback import find_free_ports
from tools.waiting import wait_until

if TYPE_CHECKING:
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

pytest.importorskip("opentelemetry.instrumentation.django")

RUN = [sys.executable, "-m", "otelog.cli", "run", "--"]
PATIENCE = 60.0
OWN_ACCESS = "otelog.django.access"
FINISHED = ("orders", "finished")
HOST = "elsewhere.example"
REFUSED = f"Invalid HTTP_HOST header: '{HOST}'. You may need to add '{HOST}' to ALLOWED_HOSTS."
FIRST, LAST = 0xA0, 0xFF

MANAGE = """
import os, sys
if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_of_tests.settings")
    from django.core.management import execute_from_command_line
    if os.environ.get("BY_HAND"):
        from opentelemetry.instrumentation.django import DjangoInstrumentor
        DjangoInstrumentor().instrument()
    execute_from_command_line(sys.argv)
"""
SETTINGS = """
SECRET_KEY = "tests"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "site_of_tests.urls"
MIDDLEWARE = ["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"]
INSTALLED_APPS = []
DATABASES = {}
USE_TZ = True
"""
URLS = """
import logging
from django.core.exceptions import PermissionDenied
from django.core.signals import request_finished
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

log = logging.getLogger("orders")

def order(request, number):
    log.info("order %d taken", number)
    return HttpResponse("ok")

async def later(request):
    log.info("later")
    return HttpResponse("ok")

def broken(request):
    raise ValueError("no such item")

def denied(request):
    raise PermissionDenied("not yours")

def rows(request):
    def make():
        for number in range(3):
            log.info("row %d", number)
            yield "row"
    return StreamingHttpResponse(make())

async def async_rows(request):
    async def make():
        for number in range(3):
            log.info("row %d", number)
            yield "row"
    return StreamingHttpResponse(make())

def finished(**_):
    log.info("finished")

request_finished.connect(finished)
urlpatterns = [
    path("order/<int:number>/", order),
    path("later/", later),
    path("broken/", broken),
    path("denied/", denied),
    path("rows/", rows),
    path("async-rows/", async_rows),
    path("form/", order, {"number": 0}),
]
"""
WSGI = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_of_tests.settings")
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""
ASGI = WSGI.replace("wsgi", "asgi")

COMMANDS = {
    "runserver --noreload": ["python", "manage.py", "runserver", "--noreload", "127.0.0.1:{port}"],
    "runserver": ["python", "manage.py", "runserver", "127.0.0.1:{port}"],
    "gunicorn": ["gunicorn", "--access-logfile", "-", "--bind", "127.0.0.1:{port}", "site_of_tests.wsgi"],
    "uvicorn": ["uvicorn", "--port", "{port}", "site_of_tests.asgi:application"],
}
ACCESS_LOGGERS = {"runserver": "django.server", "gunicorn": "gunicorn.access", "uvicorn": "uvicorn.access"}

ROWS = [("orders", f"row {number}") for number in range(3)]
VISITS: list[tuple[str, str, dict[str, str], int, list[tuple[str, str]]]] = [
    ("GET", "/order/7/", {}, 200, [("orders", "order 7 taken")]),
    ("GET", "/later/", {}, 200, [("orders", "later")]),
    ("GET", "/missing/", {}, 404, [("django.request", "Not Found: /missing/")]),
    ("GET", "/order/8", {}, 301, []),
    ("GET", "/denied/", {}, 403, [("django.request", "Forbidden (Permission denied): /denied/")]),
    ("GET", "/broken/", {}, 500, [("django.request", "Internal Server Error: /broken/")]),
    ("GET", "/rows/", {}, 200, ROWS),
    ("GET", "/async-rows/", {}, 200, ROWS),
    ("POST", "/form/", {}, 403, [("django.security.csrf", "Forbidden (CSRF cookie not set.): /form/")]),
    (
        "GET",
        "/order/9/",
        {"Host": HOST},
        400,
        [("django.security.DisallowedHost", REFUSED)],
    ),
]
"""Method, path, headers, status, and all records of the request but the server's line and `finished`."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    package = folder / "site_of_tests"
    package.mkdir(parents=True)
    for path, text in {
        folder / "manage.py": MANAGE,
        package / "__init__.py": "",
        package / "settings.py": SETTINGS,
        package / "urls.py": URLS,
        package / "wsgi.py": WSGI,
        package / "asgi.py": ASGI,
    }.items():
        path.write_text(text)
    return folder


@contextmanager
def started(command: list[str], folder: Path, log: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a session of its own, which ends with the block: a reloader has a child."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **without_instrumentations("django"), **environ},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def get(url: str, process: subprocess.Popen[bytes], log: Path) -> str:
    """The body of the answer, once the server listens."""

    def ask() -> str | None:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error.code}\n{log.read_text()}") from error
        except OSError:
            assert process.poll() is None, log.read_text()
            return None

    return str(wait_until(ask, PATIENCE, what=f"an answer of {url}"))


def visit(port: int, number: int, method: str, path: str, headers: dict[str, str]) -> int:
    """Send a request with a trace id of its own; returns the status, once the server has done all that it does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with closing(connection):
        trace = {"traceparent": f"00-{number:032x}-{number:016x}-01", "Connection": "close"}
        connection.request(method, path, headers={**trace, **headers})
        answer = connection.getresponse()
        answer.read()
        return answer.status


def list_records(server: OTLPServer) -> list[tuple[str, LogRecord]]:
    return [
        (scope.scope.name, record)
        for request in server.requests
        for resource in request.decode().resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def find_keys(record: LogRecord) -> set[str]:
    return {pair.key for pair in record.attributes}


def check_records(records: list[tuple[str, LogRecord]], access_logger: str, first: int) -> None:
    """See that each visit has its records, once each, with its trace, and that there are no others with any."""
    by_trace: dict[int, list[tuple[str, str]]] = {}
    for logger, record in records:
        by_trace.setdefault(int.from_bytes(record.trace_id, "big"), []).append((logger, record.body.string_value))
    for number, (method, path, _, status, expected) in enumerate(VISITS, first):
        found = by_trace.get(number, [])
        (line,) = [body for logger, body in found if logger == access_logger] or [""]
        wanted = f"{method} /" if access_logger == OWN_ACCESS else f"{method} {path} HTTP/1.1"
        assert wanted in line and str(status) in line, (path, found)
        assert Counter(one for one in found if one[0] != access_logger) == Counter([*expected, FINISHED]), path
    outside = {logger for logger, _ in by_trace.get(0, [])}
    assert not outside & {"orders", "django.request", access_logger}, by_trace[0]
    (broken,) = [record for _, record in records if record.body.string_value.endswith("Error: /broken/")]
    assert {"exception.type", "exception.stacktrace", "http.response.status_code"} <= find_keys(broken)
    for _, record in records:
        assert not {"request", "server_time", "status_code"} & find_keys(record), record


@pytest.mark.parametrize(
    ("command", "settings_by"),
    [(command, "the application") for command in COMMANDS]
    + [(command, "the environment") for command in ACCESS_LOGGERS],
)
def test_every_record_of_every_request_comes_once_and_has_its_trace(
    command: str, settings_by: str, project: Path, tmp_path: Path
) -> None:
    environ = {}
    access_logger = ACCESS_LOGGERS[command.partition(" ")[0]]
    if settings_by == "the environment":
        environ = {"DJANGO_SETTINGS_MODULE": "site_of_tests.settings", "OTELOG_ACCESS_LOG": "true"}
        access_logger = OWN_ACCESS
        if command.startswith("runserver"):
            environ["BY_HAND"] = "true"
    (port,) = find_free_ports(1)
    log = tmp_path / "log"
    arguments = [part.format(port=port) for part in COMMANDS[command]]
    with OTLPServer() as server:
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = server.endpoint
        with started([*RUN, *arguments], project, log, **environ) as process:
            assert get(f"http://127.0.0.1:{port}/order/1/", process, log) == "ok"
            for number, (method, path, headers, status, _) in enumerate(VISITS, FIRST):
                assert visit(port, number, method, path, headers) == status, log.read_text()
            assert visit(port, LAST, "GET", "/order/99/", {}) == 200
            wait_until(
                lambda: sum(record.trace_id == LAST.to_bytes(16, "big") for record in server.records) == 3,
                PATIENCE,
                what="the last request's records",
            )
        records = list_records(server)
    check_records(records, access_logger, FIRST)
    # The console has the server's line for each.
    assert log.read_text().count(" HTTP/1.1") == len(VISITS) + 2
    assert "otelog:" not in log.read_text()
    # The exception of /broken/, and what it was written by; nothing of opentelemetry's.
    assert "Failed to" not in log.read_text()
    assert "already instrumented" not in log.read_text()


def run_command(starter: list[str], project: Path, *arguments: str, **environ: str) -> tuple[int, str, list[str]]:
    with OTLPServer() as server:
        done = subprocess.run(
            [*starter, *arguments],
            cwd=project,
            env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": server.endpoint, **environ},
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE,
            check=False,
        )
    return done.returncode, done.stdout, done.stderr.splitlines()


COMMAND_LINES = {"check": ("manage.py", "check"), "diffsettings": ("manage.py", "diffsettings"), "plain": ("plain.py",)}
SETTINGS_BY = {
    "the application": {},
    "the environment": {"DJANGO_SETTINGS_MODULE": "site_of_tests.settings"},
    "wrong": {"DJANGO_SETTINGS_MODULE": "no_such.settings"},
}


@pytest.mark.parametrize(("line", "settings_by"), paired(COMMAND_LINES, SETTINGS_BY))
def test_a_command_says_what_it_says_without_otelog(line: str, settings_by: str, project: Path) -> None:
    arguments, environ = COMMAND_LINES[line], SETTINGS_BY[settings_by]
    # An application whose settings are wrong gets Django's own word for it, and no settings of otelog's.
    (project / "plain.py").write_text("from django.conf import settings\nprint(settings.ALLOWED_HOSTS)\n")
    without = run_command([sys.executable], project, *arguments, **environ)
    with_otelog = run_command([*RUN, "python"], project, *arguments, **environ)
    if arguments[1:] == ("diffsettings",):
        lines = with_otelog[1].splitlines()
        assert [line for line in lines if "MIDDLEWARE" not in line] == [
            line for line in without[1].splitlines() if "MIDDLEWARE" not in line
        ]
        assert (with_otelog[0], with_otelog[2][-1:]) == (without[0], without[2][-1:])
    else:
        assert (with_otelog[0], with_otelog[1], with_otelog[2][-1:]) == (without[0], without[1], without[2][-1:])


@pytest.mark.parametrize("outcome", ["ends well", "raises"])
def test_the_records_of_a_command_arrive_when_it_ends(outcome: str, project: Path) -> None:
    code = "import logging; logging.getLogger('command').warning('at work')"
    if outcome == "raises":
        code += "; 1 / 0"
    with OTLPServer() as server:
        done = subprocess.run(
            [*RUN, "python", "manage.py", "shell", "-c", code],
            cwd=project,
            env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": server.endpoint},
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE,
            check=False,
        )
        said = [record.body.string_value for record in server.records]
    assert done.returncode == (outcome == "raises"), done.stderr
    assert ("ZeroDivisionError" in done.stderr) == (outcome == "raises")
    assert said[:1] == ["at work"], done.stderr
