"""`otelog demo` as a person runs it: a process of its own, with its output read and its figures checked."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from otelog.cli.dev.journal import Journal
from otelog.cli.dev.receiver import Receiver
from tools.loopback import find_free_ports
from tools.waiting import wait_until

pytest.importorskip("flask")
pytest.importorskip("waitress")
pytest.importorskip("opentelemetry.instrumentation.flask")

if TYPE_CHECKING:
    from collections.abc import Iterator

END_TIMEOUT = 60.0
LABELS = {
    "created": "created in the shop",
    "dropped": "dropped, by the ledger",
    "sent": "sent: exported, by the ledger",
    "received": "received, by the receiver",
    "in_file": "records in the file",
}


class Demo:
    """One `otelog demo`, and what it left behind."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "otelog.cli", "demo", "--data-dir", str(folder), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        self.output = ""

    @property
    def file(self) -> Path | None:
        return next(iter(self.folder.glob("run-*/app.log")), None)

    def wait_for_records(self, count: int) -> None:
        def has_records() -> bool:
            assert self.process.poll() is None, self.process.communicate()[0]
            return self.file is not None and self.file.read_bytes().count(b"\n") >= count

        wait_until(has_records, 40, what=f"{count} records in the file")

    def end(self) -> int:
        self.output = self.process.communicate(timeout=END_TIMEOUT)[0]
        return self.process.returncode

    def figures(self) -> dict[str, int]:
        found = {
            name: re.search(rf"^ *{re.escape(label)} +([\d,]+)", self.output, re.MULTILINE)
            for name, label in LABELS.items()
        }
        return {name: int(match[1].replace(",", "")) for name, match in found.items() if match}

    def records(self) -> list[dict[str, Any]]:
        assert self.file is not None
        return [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]

    def find_children(self) -> dict[str, int]:
        """Return the children's process ids by what they are."""
        children = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = status.read_text().rpartition(")")[2].split()
                command = (status.parent / "cmdline").read_text().split("\0")
            except OSError:
                continue
            if int(fields[1]) == self.process.pid and "-m" in command:
                children[command[command.index("-m") + 1].rpartition(".")[2]] = int(status.parent.name)
        return children


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are found in /proc")


@pytest.fixture
def demos() -> Iterator[list[Demo]]:
    started: list[Demo] = []
    yield started
    for demo in started:
        demo.process.kill()
        demo.process.wait()
        assert demo.process.stdout is not None
        demo.process.stdout.close()


def test_every_record_of_the_shop_is_received_and_in_the_file(tmp_path: Path, demos: list[Demo]) -> None:
    demo = Demo(tmp_path, "--seconds", "3", "--rate", "50")
    demos.append(demo)
    assert demo.end() == 0, demo.output
    figures = demo.figures()
    assert figures["created"] == figures["sent"] == figures["received"] == figures["in_file"]
    assert "Every record has arrived." in demo.output
    assert demo.file is not None
    assert str(demo.file) in demo.output
    assert re.search(r"^00:0\d  created [\d,]+  queued \d+  exported ", demo.output, re.MULTILINE)

    records = demo.records()
    assert len(records) == figures["in_file"] > 20
    assert {record["service.name"] for record in records} == {"otelog-shop"}
    assert len({record["service.instance.id"] for record in records}) == 1
    # The shop's loggers, both through otelog and through standard logging, carry the trace of their request.
    assert {"shop.web", "shop.stock"} <= {record["logger"] for record in records}
    in_requests = [record for record in records if record["logger"].startswith("shop.")]
    assert all(re.fullmatch("[0-9a-f]{32}", record["trace_id"]) for record in in_requests)
    assert all(re.fullmatch("[0-9a-f]{16}", record["span_id"]) for record in in_requests)
    by_order: dict[int, set[str]] = {}
    for record in records:
        if record["logger"] in ("shop.web", "shop.stock") and "order_id" in record:
            by_order.setdefault(record["order_id"], set()).add(record["trace_id"])
    assert by_order
    assert all(len(traces) == 1 for traces in by_order.values())
    times = [record["timestamp"] for record in records]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d", time) for time in times)


@needs_proc
def test_a_record_that_goes_missing_from_the_file_is_found(tmp_path: Path, demos: list[Demo]) -> None:
    demo = Demo(tmp_path, "--seconds", "0", "--rate", "50")
    demos.append(demo)
    demo.wait_for_records(5)
    assert demo.file is not None
    with demo.file.open("r+b") as file:
        length = len(file.readline())
        file.seek(0)
        file.write(b" " * (length - 1))
    demo.process.send_signal(signal.SIGINT)
    assert demo.end() == 1, demo.output
    figures = demo.figures()
    assert figures["in_file"] == figures["received"] - 1 == figures["sent"] - 1
    assert "receiver -> file: 1 record missing" in demo.output


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_the_reconciliation_and_no_child_left(
    number: signal.Signals, tmp_path: Path, demos: list[Demo]
) -> None:
    demo = Demo(tmp_path, "--seconds", "0", "--rate", "50")
    demos.append(demo)
    demo.wait_for_records(5)
    children = demo.find_children()
    assert set(children) == {"cli", "shop_server", "client"}
    demo.process.send_signal(number)
    assert demo.end() == 0, demo.output
    assert "Every record has arrived." in demo.output
    figures = demo.figures()
    assert figures["sent"] == figures["in_file"] == len(demo.records())
    assert [name for name, pid in children.items() if is_alive(pid)] == []


@needs_proc
def test_a_second_interrupt_ends_it_at_once_and_leaves_no_child(tmp_path: Path, demos: list[Demo]) -> None:
    demo = Demo(tmp_path, "--seconds", "0", "--rate", "50")
    demos.append(demo)
    demo.wait_for_records(5)
    children = demo.find_children()
    # A stopped client cannot end, so the first interrupt waits until the second comes.
    os.kill(children["client"], signal.SIGSTOP)
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.stdout is not None
    seen = iter(demo.process.stdout.readline, "")
    assert any("ending the client" in line for line in seen)
    demo.process.send_signal(signal.SIGINT)
    assert any("Aborted" in line for line in seen)
    assert demo.end() == 1
    assert [name for name, pid in children.items() if is_alive(pid)] == []


@needs_proc
def test_children_end_by_themselves_when_the_demo_is_killed(tmp_path: Path, demos: list[Demo]) -> None:
    demo = Demo(tmp_path, "--seconds", "0", "--rate", "50")
    demos.append(demo)
    demo.wait_for_records(5)
    children = demo.find_children()
    assert len(children) == 3
    demo.process.kill()
    demo.end()
    wait_until(lambda: not any(map(is_alive, children.values())), 30, what="the end of the children")


@needs_proc
def test_a_shop_that_dies_is_told_and_the_others_end(tmp_path: Path, demos: list[Demo]) -> None:
    demo = Demo(tmp_path, "--seconds", "0", "--rate", "50")
    demos.append(demo)
    demo.wait_for_records(5)
    children = demo.find_children()
    os.kill(children["shop_server"], signal.SIGKILL)
    assert demo.end() == 1, demo.output
    assert "the shop ended by itself with code -9" in demo.output
    assert "inside the shop: it left no final ledger" in demo.output
    assert [name for name, pid in children.items() if is_alive(pid)] == []


def test_with_an_endpoint_only_the_ledger_is_judged(tmp_path: Path, demos: list[Demo]) -> None:
    journal = Journal(tmp_path / "collector")
    with Receiver(journal) as receiver:
        demo = Demo(tmp_path / "none", "--seconds", "2", "--rate", "50", "--endpoint", receiver.url)
        demos.append(demo)
        assert demo.end() == 0, demo.output
        stats = receiver.stats()
    journal.close()
    figures = demo.figures()
    assert figures["created"] == figures["sent"] == stats["records"]
    assert {"received", "in_file"}.isdisjoint(figures)
    assert demo.output.count("unknown here") >= 2
    assert receiver.url in demo.output
    assert demo.file is None


def test_with_a_dead_endpoint_the_losses_are_told(tmp_path: Path, demos: list[Demo]) -> None:
    [port] = find_free_ports(1)
    demo = Demo(tmp_path, "--seconds", "2", "--rate", "50", "--endpoint", f"http://127.0.0.1:{port}")
    demos.append(demo)
    assert demo.end() == 1, demo.output
    figures = demo.figures()
    assert figures["created"] == figures["dropped"] > 0
    assert figures["sent"] == 0
    assert "nothing was delivered" in demo.output
    assert "not every record was taken at" in demo.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--endpoint", "localhost:4318"], "is no URL"),
        (["--seconds", "-1"], "--seconds"),
        (["--rate", "0"], "--rate"),
    ],
)
def test_a_wrong_option_is_refused_in_words(arguments: list[str], said: str, tmp_path: Path, demos: list[Demo]) -> None:
    demo = Demo(tmp_path, *arguments)
    demos.append(demo)
    assert demo.end() != 0
    assert said in demo.output
    assert "Traceback" not in demo.output
    assert demo.file is None
