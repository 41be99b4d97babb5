"""The servers' own lines about requests, and the traces of those."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from otelog.testing import OTLPServer
from tools.loopback import find_free_ports
from tools.waiting import end_process, wait_until

if TYPE_CHECKING:
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

pytest.importorskip("flask")

ROOT = Path(__file__).resolve().parents[2]
SHOP = """
    import otelog
    otelog.configure(service_name="shop")
    from flask import Flask
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    app = Flask("shop")
    FlaskInstrumentor().instrument_app(app)
    @app.get("/order")
    def order():
        app.logger.info("order taken")
        return "ok"
    if __name__ == "__main__":
        import sys
        app.run(port=int(sys.argv[1]))
"""
WERKZEUG = ("shop.py", "{port}")
GUNICORN = ("-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--access-logfile", "-", "--threads", "2", "shop:app")


@pytest.mark.parametrize(("server", "logger"), [(WERKZEUG, "werkzeug"), (GUNICORN, "gunicorn.access")])
def test_the_line_about_a_request_has_its_trace(server: tuple[str, ...], logger: str, tmp_path: Path) -> None:
    if server is GUNICORN:
        pytest.importorskip("gunicorn")
    (tmp_path / "shop.py").write_text(textwrap.dedent(SHOP))
    (port,) = find_free_ports(1)
    traces = [f"{number:032x}" for number in range(0xABC, 0xABF)]
    with OTLPServer() as receiver:
        environ = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, *(argument.format(port=port) for argument in server)]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environ, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: answers(port, f"{1:032x}"), 30, what="the server")
            for trace in traces:
                assert answers(port, trace)

            def lines() -> list[LogRecord]:
                return [one for one in records_of(receiver, logger) if "GET /order" in shown(one)]

            wait_until(lambda: len(lines()) > len(traces), 10, what="the lines")
        finally:
            end_process(process, 10.0)
        # Threads of a server write their lines in either order; the first requests only asked whether it answers.
        assert sorted(one.trace_id.hex() for one in lines())[-len(traces) :] == traces
        assert all(one.span_id.strip(b"\0") for one in lines())


def records_of(receiver: OTLPServer, logger: str) -> list[LogRecord]:
    return [
        record
        for request in receiver.requests
        for resource_logs in request.decode().resource_logs
        for scope_logs in resource_logs.scope_logs
        if scope_logs.scope.name == logger
        for record in scope_logs.log_records
    ]


def shown(record: LogRecord) -> str:
    return record.body.string_value


def answers(port: int, trace: str) -> bool:
    header = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    try:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/order", headers=header)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return bool(answer.read() == b"ok")
    except OSError:
        return False
