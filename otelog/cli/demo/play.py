"""One run of `otelog demo`: three processes, a screen, and the reconciliation at the end."""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from collections import deque
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
from rich.live import Live
from rich.text import Text

from otelog._config.resolve import explain
from otelog.cli.demo.children import Child, ChildError
from otelog.cli.demo.reconciliation import Figures, FileCount, Reconciliation
from otelog.cli.demo.service import SERVICE
from otelog.cli.show.readable import safe
from otelog.cli.show.screen import KEPT_RECORDS, View, describe_progress, show_demo, show_reconciliation
from otelog.cli.stack.places import find_stack, list_places, show_places
from otelog.cli.traces import keeps_traces
from otelog.exceptions import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console

    from otelog.cli.show.filters import Record
    from otelog.cli.show.interruption import Interruption

SCREEN_INTERVAL = 0.25
PLAIN_INTERVAL = 1.0
ASK_TIMEOUT = 2.0
CLIENT_STOP_TIMEOUT = 15.0
# The shop first finishes its requests (5 s at most), then delivers what is queued (5 s by default).
SHOP_STOP_TIMEOUT = 20.0
RECEIVER_STOP_TIMEOUT = 10.0


class Run:
    """One run of the demo, from the first process to the last figure; for the main thread."""

    def __init__(
        self,
        console: Console,
        interruption: Interruption,
        *,
        seconds: float | None,
        endpoint: str | None,
        folder: Path,
        rate: float,
    ) -> None:
        self._console = console
        self._interruption = interruption
        self._endpoint = endpoint
        self._folder = folder
        path = self._path = folder / "app.log"
        self._rate = rate
        self._view = View(seconds=seconds, target=endpoint or f"receiver → {path}")
        self._children: list[Child] = []
        self._problems: list[str] = []
        self._began: float | None = None
        self._drawn = 0.0
        self._file_count = FileCount(path)
        self._latest: deque[Record] = deque(maxlen=KEPT_RECORDS)
        self._last_record = 0
        self._instance = ""
        self._final = False
        self._traced = False
        self._receiver_url = ""
        self._ledger_url = ""
        terminal = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, auto_refresh=False) if terminal else None

    def play(self) -> int:
        """Run all of it and print the reconciliation.

        Returns:
            The exit code: 0 if all figures agree, 1 if not, 130 if it was interrupted before it had begun.

        Raises:
            KeyboardInterrupt: At a second interruption. Whatever happens, no child is left.
        """
        try:
            with self._live or nullcontext():
                try:
                    self._start()
                    self._watch()
                except ChildError as failure:
                    self._problems.append(str(failure))
                self._finish()
            if self._began is None and not self._problems:
                self._console.print("Interrupted before it had begun.")
                return 130
            return self._conclude()
        finally:
            self._interruption.ignore_more()
            for child in self._children:
                child.kill()

    def _start(self) -> None:
        if self._endpoint is None:
            options = ["--port", "0", "--folder", str(self._folder), "--max-bytes", "0", "--stop-on-eof"]
            receiver = self._begin("receiver", "otelog.cli", "dev", *options)
            urls = receiver.wait_ready(idle=self._draw)
            self._receiver_url = urls[0]
        self._traced = self._endpoint is not None and _sends_traces(self._endpoint)
        shop = self._begin("shop", "otelog.cli.demo.shop_server", "--endpoint", self._endpoint or self._receiver_url)
        self._view.shop_url, self._ledger_url = shop.wait_ready(idle=self._draw)
        if not self._interruption.asked:
            self._begin("client", "otelog.cli.demo.client", "--url", self._view.shop_url, "--rate", str(self._rate))
            self._view.phase = "running"
            self._began = time.monotonic()

    def _begin(self, name: str, module: str, *arguments: str) -> Child:
        child = Child(name, [sys.executable, "-m", module, *arguments], self._make_environment())
        self._children.append(child)
        return child

    def _make_environment(self) -> dict[str, str]:
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}
        if self._endpoint is None:
            # A developer's own settings (another endpoint, a disabled SDK) would spoil the run against our receiver.
            environment = {name: value for name, value in environment.items() if not name.startswith("OTEL")}
            # Nor need a proxy of the environment lead to this machine's own loopback.
            environment["OTELOG_PROXY"] = "none"
        if self._traced:
            environment["OTEL_TRACES_EXPORTER"] = "otlp"
        environment.setdefault("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=demo")
        return environment

    def _watch(self) -> None:
        seconds = self._view.seconds
        while self._began is not None and not self._interruption.asked:
            if seconds is not None and time.monotonic() - self._began >= seconds:
                return
            if not all(child.is_running() for child in self._children):
                return
            self._draw()
            time.sleep(0.05)

    def _finish(self) -> None:
        """Stop client, shop and receiver in the order of the records' way, and take the last figures."""
        if self._began is not None:
            self._view.elapsed = time.monotonic() - self._began
        timeouts = {"client": CLIENT_STOP_TIMEOUT, "shop": SHOP_STOP_TIMEOUT, "receiver": RECEIVER_STOP_TIMEOUT}
        for child in reversed(self._children):
            self._view.phase = f"ending the {child.name}"
            self._draw(now=True)
            if child.name == "receiver":
                # All that the shop has sent is answered by now, so this is the receiver's last word.
                self._look()
            try:
                child.stop(timeouts[child.name], idle=self._draw)
            except ChildError as failure:
                self._problems.append(str(failure))
            if child.name == "shop" and "created" in child.latest:
                self._view.figures = Figures.read(child.latest)
                self._instance = child.latest["instance"]
                self._final = True
            if child.name == "shop":
                self._ledger_url = ""
        if self._endpoint is None:
            self._file_count = FileCount(self._path)
            self._view.in_file = self._file_count.read_on().get(self._instance, 0)
        self._view.phase = "ended"
        self._receiver_url = ""
        self._draw(now=True)

    def _conclude(self) -> int:
        view = self._view
        outcome = Reconciliation(view.figures or Figures(), view.received, view.in_file, final=self._final)
        if not outcome.figures.created:
            self._problems.append("nothing was logged")
        elif outcome.final and not outcome.figures.exported:
            # Zero equals zero at every hop, but a run that delivered nothing shows nothing.
            self._problems.append("nothing was delivered")
        if self._endpoint is not None and outcome.figures.losses:
            self._problems.append(f"not every record was taken at {self._endpoint}")
        self._console.print(show_reconciliation(outcome, instance=self._instance))
        for problem in self._problems:
            self._console.print(Text(f" {safe(problem)}", "bold red"), soft_wrap=True)
        place = f"sent to {self._endpoint}" if self._endpoint else str(self._path)
        # Not wrapped, so that it can be copied.
        self._console.print(Text(f" {safe(place)}\n"), soft_wrap=True)
        if self._endpoint is not None and outcome.figures.exported:
            selector = f'{{service_name="{SERVICE}"}}'
            for line in show_places(list_places(find_stack(self._endpoint), selector, view.trace_id)):
                self._console.print(Text(f" {safe(line)}"), soft_wrap=True)
        for child in self._children:
            for line in child.errors:
                self._console.print(Text(f" {child.name}: {safe(line)}", "dim"), soft_wrap=True)
        return 1 if self._problems or outcome.differences else 0

    def _draw(self, *, now: bool = False) -> None:
        interval = PLAIN_INTERVAL if self._live is None else SCREEN_INTERVAL
        if time.monotonic() - self._drawn < interval and not now:
            return
        self._drawn = time.monotonic()
        if self._began is not None and self._view.phase == "running":
            self._view.elapsed = self._drawn - self._began
        self._look()
        if self._live is not None:
            self._live.update(show_demo(self._view, self._console), refresh=True)
        else:
            click.echo(describe_progress(self._view))

    def _look(self) -> None:
        """Ask the other processes how far they are; whoever does not answer keeps the figures of before."""
        view = self._view
        if self._ledger_url and (ledger := _ask(self._ledger_url)):
            view.figures = Figures.read(ledger)
            self._instance = ledger["instance"]
        for child in self._children:
            if child.name == "client":
                view.requests = child.latest.get("requests", 0)
                view.trace_id = child.latest.get("trace")
        if not self._receiver_url:
            return
        if stats := _ask(f"{self._receiver_url}/stats"):
            counts = {row["instance"]: row["records"] for row in stats["instances"]}
            view.received = counts.get(self._instance, 0)
        view.in_file = self._file_count.read_on().get(self._instance, 0)
        if records := _ask(f"{self._receiver_url}/records?after={self._last_record}"):
            self._last_record = records["last"]
            self._latest.extend(records["records"])
            view.records = list(self._latest)


def _sends_traces(endpoint: str) -> bool:
    """Returns whether the shop is to send its traces: nobody has said otherwise, and the Collector keeps them."""
    try:
        settings, sources = explain({"endpoint": endpoint})
    except ConfigurationError:
        # The shop itself says what is wrong.
        return False
    if sources["traces_exporter"] != "default":
        return "otlp" in settings.traces_exporter
    return keeps_traces(settings)


def _ask(url: str) -> dict[str, Any] | None:
    parts = urlsplit(url)
    # Not urllib.request: it would send even a loopback address through a proxy of the environment.
    connection = http.client.HTTPConnection(parts.netloc, timeout=ASK_TIMEOUT)
    try:
        connection.request("GET", f"{parts.path or '/'}?{parts.query}")
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return answer if isinstance(answer, dict) else None
