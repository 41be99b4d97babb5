"""The page for Prometheus, with one worker and with several."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import flask
import pytest
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter

import otelog
from otelog.flask import FlaskLogging, metrics_app
from tests.flask.running import SECONDS

prometheus_client = pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def read(text: str, name: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    )


def test_the_ledger_is_on_the_page_as_of_the_scrape(app: flask.Flask) -> None:
    otelog.configure(exporter=InMemoryLogRecordExporter())
    FlaskLogging(app, metrics="/metrics")
    client = app.test_client()
    otelog.flush()
    before = read(client.get("/metrics").text, "otelog_log_records_created_total")
    client.get("/").close()
    # The request's access record; the scrapes have none.
    assert read(client.get("/metrics").text, "otelog_log_records_created_total") == before + 1


def test_the_applications_own_metrics_are_on_it(app: flask.Flask) -> None:
    otelog.configure(exporter=InMemoryLogRecordExporter())
    FlaskLogging(app)
    app.add_url_rule("/internal", view_func=lambda: metrics_app)
    counter = prometheus_client.Counter("orders_for_this_test", "Orders.")
    try:
        counter.inc(3)
        assert read(app.test_client().get("/internal").text, "orders_for_this_test_total") == 3
    finally:
        prometheus_client.REGISTRY.unregister(counter)


def test_without_the_library_the_application_runs_and_the_page_says_what_to_install(
    app: flask.Flask, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "otelog.prometheus", raising=False)
    monkeypatch.delattr(otelog, "prometheus", raising=False)
    app.add_url_rule("/", view_func=lambda: "fine")
    FlaskLogging(app, metrics="/metrics")
    pip_line = "python -m pip install 'otelog[prometheus]'"
    assert capfd.readouterr().err.count(pip_line) == 1
    answer = app.test_client().get("/metrics")
    assert (answer.status_code, answer.text) == (503, f"metrics need prometheus-client: {pip_line}\n")
    assert app.test_client().get("/").text == "fine"


WORKER = """
    import os, sys
    import flask, otelog
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
    from otelog.flask import FlaskLogging

    app = flask.Flask("shop")
    otelog.configure(exporter=InMemoryLogRecordExporter())
    FlaskLogging(app, metrics="/metrics")

    def work(requests):
        for _ in range(requests):
            app.test_client().get("/").close()
        otelog.flush()

    children = []
    for requests in (2, 3):
        child = os.fork()
        if not child:
            work(requests)
            otelog.shutdown()
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    work(1)
    sys.stdout.write(app.test_client().get("/metrics").text)
"""


def test_with_several_workers_every_scrape_adds_them_up(tmp_path: Path) -> None:
    done: Any = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(WORKER)],
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
        cwd=ROOT,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
    )
    assert read(done.stdout, "otelog_log_records_created_total") == 6
    assert read(done.stdout, "otelog_log_records_exported_total") == 6
    # Each of the two has left its part behind.
    assert len(list(tmp_path.glob("counter_*.db"))) == 3
