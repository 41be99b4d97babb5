"""The shop and its customers, each as the process that the demo runs."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from otelog.cli.dev.journal import Journal
from otelog.cli.dev.receiver import Receiver
from tools.waiting import wait_until

pytest.importorskip("flask")
pytest.importorskip("waitress")
pytest.importorskip("opentelemetry.instrumentation.flask")

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


def start(module: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"otelog.cli.demo.{module}", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )


class Shop:
    """A running shop, the receiver behind it, and a customer's connection."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder / "files")
        self.receiver = Receiver(self.journal)
        self.receiver.start()
        self.process = start("shop_server", "--endpoint", self.receiver.url)
        assert self.process.stdout is not None
        self.url, self.ledger_url = re.findall(r"http://\S+", self.process.stdout.readline())
        self.connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=10)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json", "traceparent": TRACEPARENT}
        self.connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())

    def read_ledger(self) -> dict[str, Any]:
        connection = http.client.HTTPConnection(urlsplit(self.ledger_url).netloc, timeout=10)
        connection.request("GET", "/")
        ledger: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return ledger

    def end(self) -> dict[str, Any]:
        """End the shop and return its last word."""
        self.connection.close()
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == 0
        ledger: dict[str, Any] = json.loads(output.splitlines()[-1])
        return ledger

    def records(self, logger: str) -> list[dict[str, Any]]:
        lines = (self.journal.folder / "app.log").read_text(encoding="utf-8").splitlines()
        return [record for record in map(json.loads, lines) if record["logger"] == logger]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.process.kill()
    shop.process.communicate()
    shop.connection.close()
    shop.receiver.stop()
    shop.journal.close()


def test_records_carry_the_trace_of_the_request_whoever_logs(shop: Shop) -> None:
    status, order = shop.ask("POST", "/checkout", {"items": ["mug", "café"]})
    assert (status, order["amount"]) == (201, 39.5)
    ledger = shop.end()
    [placed] = shop.records("shop.web")
    [reserved] = shop.records("shop.stock")
    assert placed["trace_id"] == reserved["trace_id"] == TRACE_ID
    assert placed["span_id"] == reserved["span_id"] != "b7ad6b7169203331"
    assert placed.items() >= {"amount": 39.5, "basket": ["mug", "café"]}.items()
    assert reserved["order_id"] == order["order_id"]
    assert {record["service.instance.id"] for record in (placed, reserved)} == {ledger["instance"]}


def test_a_declined_payment_is_logged_with_its_exception_and_cause(shop: Shop) -> None:
    statuses = {shop.ask("POST", "/pay", {"order_id": n, "amount": 5.0})[0] for n in range(100)}
    assert statuses == {200, 402}
    shop.end()
    records = shop.records("shop.payment")
    assert len(records) == 100
    failed = next(record for record in records if record["level"] == "ERROR")
    assert failed["message"] == "charge failed"
    assert failed["exception.type"] == "otelog.cli.demo.shop.PaymentDeclinedError"
    assert "5.0 EUR not charged" in failed["exception.message"]
    assert "BankUnreachableError: no answer from the bank" in failed["exception.stacktrace"]
    paid = next(record for record in records if record["level"] == "INFO")
    assert paid["event_name"] == "order.paid"


def test_an_ai_answer_has_the_fields_of_the_conventions(shop: Shop) -> None:
    statuses = [shop.ask("POST", "/ai/answer", {"question": "Do you ship?"})[0] for _ in range(150)]
    shop.end()
    records = [record for record in shop.records("shop.ai") if "gen_ai.operation.name" in record]
    assert len(records) == 150
    answered = [record for record in records if record["level"] == "INFO"]
    failed = [record for record in records if record["level"] == "ERROR"]
    assert len(answered) == statuses.count(200)
    assert len(failed) == statuses.count(503) > 0
    for record in records:
        assert record["gen_ai.operation.name"] == "chat"
        assert record["gen_ai.request.model"] == "shop-assistant-1"
        assert 0 < record["gen_ai.client.operation.duration"] < 10
    for record in answered:
        assert record["gen_ai.response.model"] == record["gen_ai.request.model"]
        assert record["gen_ai.response.finish_reasons"] in (["stop"], ["length"])
        assert record["gen_ai.usage.input_tokens"] == 23
        assert record["gen_ai.usage.output_tokens"] > 0
    for record in failed:
        assert record["error.type"] == "otelog.cli.demo.shop.ModelTimeoutError"
        assert record["exception.type"] == record["error.type"]
        assert "gen_ai.usage.input_tokens" not in record


def test_each_request_has_an_access_record_but_the_health_checks(shop: Shop, capfd: pytest.CaptureFixture[str]) -> None:
    shop.ask("GET", "/search?q=mug")
    shop.ask("GET", "/health")
    shop.ask("POST", "/checkout", {"items": []})
    shop.end()
    assert capfd.readouterr().err == ""
    found, refused = shop.records("otelog.flask.access")
    assert found["trace_id"] == TRACE_ID
    assert (found["http.request.method"], found["http.route"], found["http.response.status_code"]) == (
        "GET",
        "/search",
        200,
    )
    assert 0 < found["http.server.request.duration"] < 10
    assert (refused["http.route"], refused["http.response.status_code"]) == ("/checkout", 400)


def test_bad_requests_are_answered_in_words(shop: Shop) -> None:
    for body in (
        None,
        {},
        {"items": []},
        {"items": ["nothing"]},
        {"items": "mug"},
        {"items": [7, []]},
        {"items": 7},
        [],
        "mug",
    ):
        assert shop.ask("POST", "/checkout", body)[0] == 400, body
    assert shop.ask("GET", "/health") == (200, {"status": "ok"})
    assert shop.ask("GET", "/search?q=bicycle") == (200, {"items": []})
    shop.end()
    assert {record["level"] for record in shop.records("shop.web")} == {"INFO", "WARNING"}


def test_the_ledger_is_served_while_it_runs_and_said_at_the_end(shop: Shop) -> None:
    shop.ask("GET", "/search?q=mug")
    # A search has a record of its own, and an access record.
    wait_until(lambda: shop.read_ledger()["exported"] == 2, what="the export of the records")
    for _ in range(20):
        shop.ask("GET", "/search?q=mug")
    ledger = shop.end()
    assert ledger["created"] == ledger["exported"] == 42
    assert shop.receiver.stats()["records"] == 42


def test_customers_keep_to_their_rate_and_bring_traces_at_times() -> None:
    seen: list[str] = []

    class Counting(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            seen.append(self.headers.get("traceparent", ""))
            body = b'{"order_id": 1}\n'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    began = time.monotonic()
    client = start("client", "--url", f"http://127.0.0.1:{server.server_address[1]}", "--rate", "40")
    try:
        wait_until(lambda: len(seen) >= 40, 30, what="40 requests")
        assert time.monotonic() - began > 0.9
        assert client.stdin is not None
        client.stdin.close()
        assert client.stdout is not None
        last = json.loads(client.stdout.read().splitlines()[-1])
        assert client.wait(20) == 0
    finally:
        client.kill()
        client.wait()
        server.shutdown()
        thread.join()
        server.server_close()
    if client.stdout is not None:
        client.stdout.close()
    # That of a payment, if one came with a trace.
    trace = last.pop("trace")
    assert trace is None or any(trace in one for one in seen)
    assert last == {"requests": len(seen), "answers": {"200": len(seen)}}
    traced = [trace for trace in seen if trace]
    assert 0 < len(traced) < len(seen)
    assert all(re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", trace) for trace in traced)
