"""The process that visits the shop at a bounded rate."""

from __future__ import annotations

import argparse
import http.client
import json
import random
import secrets
import signal
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from otelog.cli.demo.children import leave_with_parent

if TYPE_CHECKING:
    from types import FrameType

REQUEST_TIMEOUT = 10.0
VISITORS = 8
QUESTIONS = ("Do you ship to Norway?", "Which lamp is good for reading?", "Is the tea organic?")
SEARCHES = ("mug", "lamp", "tea", "wool", "café", "bicycle")
BASKETS: tuple[list[str], ...] = (["mug"], ["lamp", "book"], ["tea", "tea", "mug"], ["rug"], ["café", "book"], [])


class Traffic:
    """Several visitors that share one rate."""

    def __init__(self, url: str, rate: float) -> None:
        """Prepare the traffic.

        Args:
            url: Where the shop is.
            rate: Requests a second of all visitors together; it is a bound, a slow shop gets fewer.
        """
        self._lock = threading.Lock()
        self._answers: dict[str, int] = {}
        self._trace_id: str | None = None
        self.stopping = False
        interval = VISITORS / rate
        visitors = [Visitor(self, url, interval=interval, delay=interval * n / VISITORS) for n in range(VISITORS)]
        self._threads = [threading.Thread(target=visitor.visit, name="visitor") for visitor in visitors]

    def start(self) -> None:
        """Let the visitors in."""
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until every visitor has had the answer to its last request; set `stopping` before."""
        for thread in self._threads:
            thread.join()

    def count(self, answer: str) -> None:
        """Count one request by the status of its answer, or as "failed". Thread-safe."""
        with self._lock:
            self._answers[answer] = self._answers.get(answer, 0) + 1

    def note_trace(self, trace_id: str) -> None:
        """Note the trace of a request that was answered. Thread-safe."""
        self._trace_id = trace_id

    def summarise(self) -> dict[str, object]:
        """Return the number of requests, in all and by the status of the answer, and a trace. Thread-safe."""
        with self._lock:
            requests = sum(self._answers.values())
            return {"requests": requests, "answers": dict(self._answers), "trace": self._trace_id}


class Visitor:
    """One customer with one kept-alive connection, for one thread."""

    def __init__(self, traffic: Traffic, url: str, *, interval: float, delay: float) -> None:
        """Prepare the visitor.

        Args:
            traffic: Who counts the requests and says when to stop.
            url: Where the shop is.
            interval: Seconds between two requests at least.
            delay: Seconds before the first.
        """
        self._traffic = traffic
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "127.0.0.1", parts.port or 80, timeout=REQUEST_TIMEOUT
        )
        self._interval = interval
        self._due = time.monotonic() + delay
        self._chance = random.Random()

    def visit(self) -> None:
        """Search, buy, pay and ask, until the traffic stops."""
        choose = self._chance.choice
        while not self._traffic.stopping:
            what = self._chance.random()
            if what < 0.35:
                self._ask("GET", f"/search?q={quote(choose(SEARCHES))}")
            elif what < 0.8:
                order = self._ask("POST", "/checkout", {"items": choose(BASKETS)})
                if "order_id" in order:
                    self._ask("POST", "/pay", order)
            elif what < 0.95:
                self._ask("POST", "/ai/answer", {"question": choose(QUESTIONS)})
            else:
                self._ask("GET", "/health")
        self._connection.close()

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, object]:
        while (wait := self._due - time.monotonic()) > 0:
            if self._traffic.stopping:
                return {}
            time.sleep(min(wait, 0.1))
        # A visitor that is late does not catch up: the rate is a bound.
        self._due = time.monotonic() + self._interval
        headers, trace_id = {"Content-Type": "application/json"}, secrets.token_hex(16)
        # Some visitors come with a trace of their own, as from behind a gateway; for the others the shop begins one.
        if self._chance.random() < 0.5:
            headers["traceparent"] = f"00-{trace_id}-{secrets.token_hex(8)}-01"
        try:
            self._connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            self._traffic.count("failed")
            return {}
        self._traffic.count(str(response.status))
        # A payment has several records.
        if path == "/pay" and "traceparent" in headers:
            self._traffic.note_trace(trace_id)
        value = json.loads(answer) if response.headers.get("Content-Type") == "application/json" else {}
        return value if isinstance(value, dict) else {}


def main() -> None:
    """Visit the shop until SIGTERM or the end of standard input; a JSON line a second says how it goes."""
    parser = argparse.ArgumentParser(prog="python -m otelog.cli.demo.client", description=main.__doc__)
    parser.add_argument("--url", required=True, help="where the shop is")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second at most")
    options = parser.parse_args()
    traffic = Traffic(options.url, options.rate)

    def leave(signal_number: int, frame: FrameType | None) -> None:
        traffic.stopping = True

    signal.signal(signal.SIGTERM, leave)
    # Ctrl-C in the terminal is for the parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave_with_parent()
    traffic.start()
    said = time.monotonic()
    while not traffic.stopping:
        time.sleep(0.1)
        if time.monotonic() - said >= 1.0:
            said = time.monotonic()
            print(json.dumps(traffic.summarise()), flush=True)
    traffic.join()
    print(json.dumps(traffic.summarise()), flush=True)


if __name__ == "__main__":
    main()
