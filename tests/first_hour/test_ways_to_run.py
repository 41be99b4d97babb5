"""The ways in which people start a Flask application, under `otelog run`: each record arrives once, with its trace."""

from __future__ import annotations

import socket
import sys
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otelog.testing import OTLPServer
from tests.sizes import without_instrumentations
from tools.terminal import Terminal
from tools.waiting import wait_until
from tools.walkthrough import SECONDS, Ports, make_environ

FACTORY = """
import logging

from flask import Flask

{configure}
log = logging.getLogger("shop")


def create_app():
    app = Flask(__name__)

    @app.get("/orders/<number>")
    def order(number):
        log.info("order %s is asked for", number)
        app.logger.warning("order %s is not known", number)
        return {{"order": number}}

    return app
"""
MODULE = FACTORY + "\n\napp = create_app()\n"
SCRIPT = MODULE + "\n\nif __name__ == '__main__':\n    app.run()\n"
DICTCONFIG = """
from logging.config import dictConfig

dictConfig({
    "version": 1,
    "formatters": {"plain": {"format": "[own] %(levelname)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"level": "INFO", "handlers": ["console"]},
})
"""
REQUESTS = 5


@dataclass(frozen=True)
class Way:
    """How an application is started.

    Attributes:
        command: What is typed after ``otelog run --``.
        source: shop.py.
        answers: What is shown when it can be asked.
        access: The logger of the server's own line for each request, if it writes one by itself.
    """

    command: str
    source: str = MODULE
    answers: str = r"Running on http://127\.0\.0\.1:\d+"
    access: str | None = "werkzeug"
    configure: str = ""


WORKERS = r"(?s)Booting worker.*Booting worker"
WAYS = {
    "flask": Way("flask --app shop run"),
    "factory": Way("flask --app 'shop:create_app()' run", source=FACTORY),
    "python": Way("python shop.py", source=SCRIPT),
    "factory, debug": Way("flask --app shop run --debug", source=FACTORY, answers="Debugger PIN"),
    "gunicorn": Way("gunicorn --workers 2 shop:app", answers=WORKERS, access=None),
    "gunicorn, preload": Way(
        "gunicorn --workers 2 --preload --access-logfile - 'shop:create_app()'",
        source=FACTORY,
        answers=WORKERS,
        access="gunicorn.access",
    ),
    "dictConfig, debug": Way("flask --app shop run --debug", answers="Debugger PIN", configure=DICTCONFIG),
    "dictConfig, gunicorn": Way("gunicorn --workers 2 shop:app", answers=WORKERS, access=None, configure=DICTCONFIG),
}


def ask(port: int, number: int) -> str:
    """Make one request, with a trace of its own. Returns: the trace's id."""
    trace = f"{number + 1:032x}"
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/orders/{number}", headers={"traceparent": f"00-{trace}-00000000000000ab-01"}
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        assert answer.status == 200
    return trace


def wait_for_port(port: int) -> None:
    """Wait until a server listens there."""

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listens, SECONDS, what="the server")


def find_records(server: OTLPServer) -> list[tuple[str, LogRecord]]:
    """Logger and record of all that has arrived."""
    return [
        (scope.scope.name, record)
        for request in server.requests
        for resource in request.decode().resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def count_own(server: OTLPServer) -> Counter[tuple[str, str]]:
    """How often each trace has each message of the application."""
    return Counter(
        (record.trace_id.hex(), record.body.string_value)
        for _, record in find_records(server)
        if record.body.string_value.startswith("order ")
    )


def expect(traces: list[str]) -> Counter[tuple[str, str]]:
    """What that must be: two messages a request, once each."""
    said = ("order {} is asked for", "order {} is not known")
    return Counter((trace, message.format(number)) for number, trace in enumerate(traces) for message in said)


def start(way: Way, folder: Path, port: int, ports: Ports, server: OTLPServer) -> Terminal:
    """Write the application, and start it."""
    source = way.source.format(configure=way.configure).replace("app.run()", f"app.run(port={port})")
    (folder / "shop.py").write_text(source, encoding="utf-8")
    environ = make_environ(Path(sys.executable).parent, ports) | without_instrumentations("flask")
    environ |= {"OTEL_EXPORTER_OTLP_ENDPOINT": server.endpoint, "OTEL_METRICS_EXPORTER": "none"}
    return Terminal(f"exec otelog run -- {way.command}", folder, environ)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_each_record_of_a_request_arrives_once_with_its_trace(way: Way, tmp_path: Path) -> None:
    ports = Ports()
    port = ports.gunicorn if "gunicorn" in way.command else ports.flask
    with OTLPServer() as server, start(way, tmp_path, port, ports, server) as terminal:
        terminal.wait_for(way.answers, SECONDS)
        wait_for_port(port)
        traces = [ask(port, number) for number in range(REQUESTS)]
        # By Ctrl-C gunicorn cuts off what is not quite done.
        assert server.wait_until(lambda: count_own(server).total() >= 2 * REQUESTS, timeout=SECONDS), terminal.output
        terminal.interrupt(SECONDS)
        assert count_own(server) == expect(traces), terminal.output
        records, output = find_records(server), terminal.output
    access = [record for name, record in records if name == way.access and "/orders/" in record.body.string_value]
    assert sorted(record.trace_id.hex() for record in access) == (traces if way.access else []), output
    with_trace = [record for _, record in records if any(record.trace_id)]
    assert len(with_trace) == 2 * REQUESTS + len(access)
    assert all(any(record.span_id) for record in with_trace)
    if way.configure:
        assert output.count("[own] INFO order") == REQUESTS


def test_the_reloader_starts_anew_and_no_record_is_missing_or_there_twice(tmp_path: Path) -> None:
    ports, way = Ports(), WAYS["factory, debug"]
    with OTLPServer() as server, start(way, tmp_path, ports.flask, ports, server) as terminal:
        terminal.wait_for(way.answers, SECONDS)
        wait_for_port(ports.flask)
        traces = [ask(ports.flask, number) for number in range(REQUESTS)]
        shop = tmp_path / "shop.py"
        shop.write_text(shop.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
        terminal.wait_for(rf"(?s){way.answers}.*Restarting.*{way.answers}", SECONDS)
        traces += [ask(ports.flask, number) for number in range(REQUESTS, 2 * REQUESTS)]
        assert server.wait_until(lambda: count_own(server).total() >= 4 * REQUESTS, timeout=SECONDS), terminal.output
        terminal.interrupt(SECONDS)
        assert count_own(server) == expect(traces), terminal.output
