"""`otelog doctor`: what it says of a set-up and of an application, and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from otelog.cli.commands import otelog
from otelog.testing import OTLPServer, Reply
from tools.loopback import find_free_ports

pytest.importorskip("flask")
pytest.importorskip("opentelemetry.instrumentation.flask")

ROOT = Path(__file__).resolve().parents[2]
GOOD = """
    import logging
    from flask import Flask

    print("not for the report")
    app = Flask(__name__)

    @app.get("/orders/<int:number>")
    def order(number):
        logging.getLogger("shop.orders").info("order %d", number)
        return "ok"

    def create_app(name):
        return Flask(name)
"""
BAD = """
    import logging.config
    from flask import Flask

    early = logging.getLogger("early")
    logging.config.dictConfig({
        "version": 1,
        "handlers": {"console": {"class": "logging.StreamHandler"}},
        "root": {"level": "INFO", "handlers": ["console"]},
    })
    quiet = logging.getLogger("quiet")
    quiet.propagate = False
    app = Flask(__name__)
"""


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with OTLPServer() as one:
        yield one


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("shop", GOOD), ("bad", BAD)):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
    return tmp_path


def ask(*words: str, code: int) -> str:
    """Run it here: without an application nothing is set up."""
    done = CliRunner().invoke(otelog, ["doctor", *words], env={"OTEL_SERVICE_NAME": "shop"})
    assert done.exit_code == code, done.output
    return done.output


def examine(folder: Path, *words: str, code: int, **environ: str) -> tuple[dict[str, Any], list[tuple[str, str]], str]:
    """Examine an application in a process of its own.

    Returns the report, what is worse than a note, and standard error.
    """
    done = subprocess.run(
        [sys.executable, "-m", "otelog.cli", "doctor", "--json", *words],
        cwd=folder,
        env={**os.environ, "OTEL_SERVICE_NAME": "shop", "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == code, done.stdout + done.stderr
    report = json.loads(done.stdout)
    found = [(one["code"], one["subject"]) for one in report["findings"] if one["severity"] != "note"]
    return report, found, done.stderr


def test_a_set_up_that_is_well_is_told_with_its_facts(server: OTLPServer) -> None:
    said = ask("--endpoint", server.endpoint, "--strict", code=0)
    assert "canary accepted" in " ".join(said.split())
    assert said.splitlines()[-1].strip() == "All is well."
    assert len(server.records) == 1


def test_what_is_wrong_is_told_with_its_advice() -> None:
    (port,) = find_free_ports(1)
    said = " ".join(ask("--endpoint", f"http://127.0.0.1:{port}", code=1).split())
    assert "[endpoint.not_listening]" in said
    assert "-> start a Collector: `otelog stack up`" in said
    assert said.endswith("1 error, 0 warnings: begin with endpoint.not_listening.")


def test_a_warning_is_allowed_unless_strict(server: OTLPServer) -> None:
    server.script = [Reply(message="old"), Reply(message="old")]
    for words, code in (((), 0), (("--strict",), 1)):
        report = json.loads(ask("--json", "--endpoint", server.endpoint, *words, code=code))
        assert [one["code"] for one in report["findings"] if one["severity"] != "note"] == ["endpoint.warned"]


def test_a_configuration_that_cannot_be_used_is_the_error(tmp_path: Path) -> None:
    (tmp_path / "otelog.yaml").write_text("levle: INFO", encoding="utf-8")
    report = json.loads(ask("--json", "--config", str(tmp_path / "otelog.yaml"), code=1))
    assert [one["code"] for one in report["findings"]] == ["settings.refused"]


def test_an_application_that_is_well_is_told_with_its_request(folder: Path, server: OTLPServer) -> None:
    report, found, _ = examine(
        folder, "shop:app", "--request", "/orders/7", OTEL_EXPORTER_OTLP_ENDPOINT=server.endpoint, code=0
    )
    assert found == []
    facts = [one["fact"] for one in report["facts"] if one["area"] == "application"]
    assert facts == [
        "shop is instrumented: each request is a span",
        "/orders/7 was answered 200; 2 records inside, all with the request's trace id",
    ]
    assert [record.body.string_value for record in server.records] == ["otelog doctor was here"]


def test_an_application_whose_loggers_do_not_reach_otelog_is_told(folder: Path) -> None:
    report, found, _ = examine(folder, "bad.py:app", "--no-canary", code=1)
    assert ("logger.not_propagating", "quiet") in found
    (disabled,) = [one for one in report["findings"] if one["code"] == "logger.disabled" and one["severity"] == "error"]
    assert "early" in disabled["names"]


def test_a_request_without_a_trace_is_told(folder: Path) -> None:
    _, found, _ = examine(
        folder,
        "shop:create_app('late')",
        "--request",
        "/",
        "--no-canary",
        code=1,
        OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="flask",
    )
    assert found == [
        ("packages.flask_turned_off", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"),
        ("application.not_instrumented", "late"),
        ("application.no_trace_id", "/"),
    ]


def test_an_application_with_threads_and_settings_of_its_own_is_examined_by_these(
    folder: Path, server: OTLPServer
) -> None:
    code = f"""
        import threading, otelog
        from otelog.doctor import examine
        from flask import Flask

        otelog.configure(endpoint={server.endpoint!r}, service_name="own")
        threading.Thread(target=threading.Event().wait).start()
        shop = Flask("shop")
        (inside,) = [area for area in examine(canary=False).areas if area.name == "application"]
        assert inside.facts == ("shop is instrumented: each request is a span",)
        app = object()
    """
    (folder / "own.py").write_text(textwrap.dedent(code), encoding="utf-8")
    report, found, _ = examine(folder, "own:app", code=0)
    assert found == []
    assert {"area": "application", "fact": "builtins.object is not Flask's: its requests are not looked at"} in report[
        "facts"
    ]
    assert len(server.records) == 1


def test_an_application_that_cannot_be_imported_is_told_beside_everything_else(folder: Path) -> None:
    (folder / "broken.py").write_text("raise LookupError('DATABASE_URL')", encoding="utf-8")
    report, found, errors = examine(folder, "broken:app", "--no-canary", code=1)
    assert found == [("application.not_imported", "broken:app")]
    assert "LookupError: DATABASE_URL" in errors
    assert any(one["area"] == "settings" for one in report["facts"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--request", "/"], "--request needs APP"),
        (["shop"], "module:callable"),
        (["shop:app.wsgi()"], "module:callable"),
        (["shop:create(open)"], "module:callable"),
        (["no_such_module:app"], "there is no module 'no_such_module' here"),
        (["no/such/file.py:app"], "there is no file no/such/file.py"),
        (["--timeout", "0"], "--timeout"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: list[str], said: str) -> None:
    assert said in " ".join(ask(*words, code=2).split())


DJANGO = """
    import logging, sys
    from django.conf import settings
    from django.http import HttpResponse
    from django.urls import path

    early = logging.getLogger("early")

    def order(request):
        logging.getLogger("shop").warning("asked")
        return HttpResponse("ok")

    urlpatterns = [path("order/", order)]
    settings.configure(
        SECRET_KEY="none", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["shop.example"], MIDDLEWARE=[],
        LOGGING={"version": 1, "loggers": {"shop.quiet": {"propagate": False}}},
    )
    from django.core.wsgi import get_wsgi_application
    application = get_wsgi_application()
"""


def test_a_django_site_is_told_what_its_settings_hide(folder: Path) -> None:
    pytest.importorskip("opentelemetry.instrumentation.django")
    (folder / "site_of_tests.py").write_text(textwrap.dedent(DJANGO), encoding="utf-8")
    report, found, _ = examine(folder, "site_of_tests:application", "--request", "/order/", "--no-canary", code=1)
    assert [code for code, _ in found] == ["logger.disabled", "logger.not_propagating"]
    (disabled,) = [one["names"] for one in report["findings"] if one["code"] == "logger.disabled"]
    # Django's own among them, which its default settings had set up before.
    assert {"early", "django.request"} <= set(disabled)
    notes = [one["code"] for one in report["findings"] if one["area"] == "application"]
    assert notes == ["application.no_access_log", "application.disables_loggers"]
    facts = [one["fact"] for one in report["facts"] if one["area"] == "application"]
    assert facts == [
        "site_of_tests is instrumented: each request is a span",
        "/order/ was answered 200; 2 records inside, all with the request's trace id",
    ]
    _, found, _ = examine(
        folder,
        "site_of_tests:application",
        "--no-canary",
        code=1,
        OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="django",
    )
    assert ("application.not_instrumented", "site_of_tests") in found


def test_a_celery_application_is_looked_at(folder: Path) -> None:
    pytest.importorskip("opentelemetry.instrumentation.celery")
    (folder / "work.py").write_text("from celery import Celery\napp = Celery('work')\n", encoding="utf-8")
    report, found, _ = examine(folder, "work:app", "--no-canary", code=0)
    assert found == []
    assert "work is instrumented: each task is a span, in the trace that it is sent in" in str(report["facts"])
