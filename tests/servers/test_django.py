"""Django under `otelog run`, with OpenTelemetry's instrumentation: it works as it does without, and has its traces."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from otelog.testing import OTLPServer
from tools.loopback import find_free_ports
from tools.waiting import wait_until

if TYPE_CHECKING:
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

pytest.importorskip("opentelemetry.instrumentation.django")

RUN = [sys.executable, "-m", "otelog.cli", "run", "--"]
PATIENCE = 60.0

MANAGE = """
import os, sys
if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_of_tests.settings")
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
"""
SETTINGS = """
SECRET_KEY = "tests"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "site_of_tests.urls"
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
INSTALLED_APPS = []
DATABASES = {}
USE_TZ = True
"""
URLS = """
import logging
from django.http import HttpResponse
from django.urls import path

def order(request, number):
    logging.getLogger("orders").info("order %d taken", number)
    return HttpResponse("ok")

urlpatterns = [path("order/<int:number>/", order)]
"""
WSGI = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_of_tests.settings")
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""

COMMANDS = {
    "runserver --noreload": ["python", "manage.py", "runserver", "--noreload", "127.0.0.1:{port}"],
    "runserver": ["python", "manage.py", "runserver", "127.0.0.1:{port}"],
    "gunicorn": ["gunicorn", "--bind", "127.0.0.1:{port}", "site_of_tests.wsgi"],
}


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
    }.items():
        path.write_text(text)
    return folder


@contextmanager
def started(command: list[str], folder: Path, log: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a session of its own, which ends with the block: a reloader has a child."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environ}, stdout=file, stderr=file, start_new_session=True
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


def is_order(record: LogRecord) -> bool:
    return record.body.string_value.startswith("order ")


@pytest.mark.parametrize("settings_by", ["the application", "the environment"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_request_is_answered_and_its_records_have_its_trace(
    command: str, settings_by: str, project: Path, tmp_path: Path
) -> None:
    environ = {"DJANGO_SETTINGS_MODULE": "site_of_tests.settings"} if settings_by == "the environment" else {}
    (port,) = find_free_ports(1)
    log = tmp_path / "log"
    arguments = [part.format(port=port) for part in COMMANDS[command]]
    with OTLPServer() as server:
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = server.endpoint
        with started([*RUN, *arguments], project, log, **environ) as process:
            for number in range(3):
                assert get(f"http://127.0.0.1:{port}/order/{number}/", process, log) == "ok"
            wait_until(lambda: sum(map(is_order, server.records)) == 3, PATIENCE, what="the three records")
        orders = list(filter(is_order, server.records))
    assert len({record.trace_id for record in orders}) == 3
    assert all(record.trace_id.strip(b"\0") and record.span_id.strip(b"\0") for record in orders), log.read_text()
    assert "Traceback" not in log.read_text()
    assert "otelog:" not in log.read_text()


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


@pytest.mark.parametrize(
    "environ",
    [{}, {"DJANGO_SETTINGS_MODULE": "site_of_tests.settings"}, {"DJANGO_SETTINGS_MODULE": "no_such.settings"}],
    ids=["by the application", "by the environment", "wrong"],
)
@pytest.mark.parametrize("arguments", [("manage.py", "check"), ("manage.py", "diffsettings"), ("plain.py",)])
def test_a_command_says_what_it_says_without_otelog(
    arguments: tuple[str, ...], environ: dict[str, str], project: Path
) -> None:
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
