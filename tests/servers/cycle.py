"""One life of a server: started under `otelog run`, worked with, ended; and the reconciliation of all its records."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from otelog.testing import OTLPServer
from tests.servers import app, books
from tools.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
REQUEST_SECONDS = 20.0
_REQUEST = re.compile(r"request-\d+")
END_SECONDS = 60.0
"""How long a server may take for its end, otelog's own five seconds included."""

HOLD = {
    # Nothing goes out before the end of the process, unless somebody asks: what is not flushed there is missed.
    "OTEL_BLRP_SCHEDULE_DELAY": "600000",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_SERVICE_NAME": "shop",
}


@dataclass
class Outcome:
    """The figures of one cycle, or of several.

    Attributes:
        made: records, of the application and of the server.
        delivered: which have arrived, each once.
        counted: as lost, by the ledgers.
        killed: lost with a process that was killed.
        held: what that process held at the last look; a bound for `killed`.
        processes: which have logged.
        seconds_to_end: from the signal until the last process was gone.
    """

    made: int = 0
    delivered: int = 0
    counted: int = 0
    killed: int = 0
    held: int = 0
    processes: int = 0
    seconds_to_end: float = 0.0


@dataclass
class Cycle:
    """One life of a server, in a folder of its own.

    Args:
        folder: Empty; gets the processes' books and the server's output.
        receiver: Where the records arrive.
        command: What `otelog run` is to run.
        port: Where the server listens; 0: it does not.
        workers: How many processes must answer before it is worked with: a signal to one that is not ready is lost.
        environ: Beside the test's own environment.
        traced: Whether each record of a request must have its request's trace.
    """

    folder: Path
    receiver: OTLPServer
    command: Sequence[str]
    port: int = 0
    workers: int = 1
    environ: dict[str, str] = field(default_factory=dict)
    traced: bool = False

    def __post_init__(self) -> None:
        self._names = 0
        self._started = False
        self.expected: set[str] = set()
        """Bodies of the records that the application is known to have made."""
        self.possible: set[str] = set()
        """Bodies of records of which nobody can say whether they were made: their requests had no answer."""
        self.killed: dict[int, int] = {}
        """How many records a process held when it was killed, by its process id."""
        self.met: dict[int, str] = {}
        """The instance of each process that has answered, by its process id: one may be left without any work."""
        self.outcome = Outcome()

    def start(self, arguments: Iterable[str] = ()) -> None:
        """Start the server, with further arguments, and wait until all of its workers answer."""
        command = [*self.command, *arguments]
        with (self.folder / "output").open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "otelog.cli", "run", "--endpoint", self.receiver.endpoint, "--", *command],
                cwd=ROOT,
                env={**os.environ, **HOLD, "PYTHONPATH": str(ROOT), books.FOLDER: str(self.folder), **self.environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Whatever it starts is found by its group.
                start_new_session=True,
            )
        self._started = True
        if self.port:
            self.wait_for_workers(self.workers)

    def close(self) -> None:
        """Kill whatever is still there. Idempotent."""
        if self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def wait_for_workers(self, count: int, path: str = "/ready", *, other_than: Iterable[int] = ()) -> None:
        """Wait until so many processes have answered, not counting those that were there before."""
        known: set[int] = set()

        def ask(_: int) -> None:
            # Before it listens, there is nobody to answer.
            answer = self.ask(path)
            known.update([answer["pid"]] if answer is not None else [])

        def have_answered() -> bool:
            assert self.process.poll() is None, f"the server ended with {self.process.returncode}:\n{self.output}"
            list(pool.map(ask, range(2 * count)))
            return len(known - set(other_than)) >= count

        with ThreadPoolExecutor(2 * count) as pool:
            wait_until(have_answered, START_SECONDS, what=f"{count} workers answer")

    @property
    def output(self) -> str:
        """What the server has written."""
        return (self.folder / "output").read_text(errors="replace")

    def ask(self, path: str) -> dict[str, Any] | None:
        """Send one request; returns the answer, or None if there was none because the server ends a process."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_SECONDS)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            body = answer.read()
        except TimeoutError:
            raise AssertionError(f"no answer to {path}:\n{self.output}") from None
        except (ConnectionError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        assert answer.status == 200, f"{answer.status} for {path}: {body!r}\n{self.output}"
        answered: dict[str, Any] = json.loads(body)
        if "instance" in answered:
            self.met[answered["pid"]] = answered["instance"]
        return answered

    def work(self, requests: int = 24, clients: int = 4, *, may_fail: int = 0) -> list[dict[str, Any]]:
        """Have requests answered, by several clients at once; returns the answers.

        Args:
            requests: How many.
            clients: How many at once.
            may_fail: How many need not be answered, because a process ends at that moment.
        """
        names = self.make_names(requests)
        with ThreadPoolExecutor(clients) as pool:
            answers = list(pool.map(lambda name: self.ask(f"/records/{name}"), names))
        for name, answer in zip(names, answers, strict=True):
            if answer is None:
                self.possible |= _bodies(name)
            else:
                self.expected |= _bodies(name)
        assert answers.count(None) <= may_fail, f"{answers.count(None)} requests were not answered:\n{self.output}"
        return [answer for answer in answers if answer is not None]

    def settle(self, recycled_after: int) -> None:
        """Wait until the server has all of its workers, and each has answered, and is not the next to be recycled.

        A server that is told to end while it starts a worker may wait for that one for ever.

        Args:
            recycled_after: How many requests a worker answers before it is recycled.
        """
        answered: dict[int, int] = {}

        def ask(_: int) -> None:
            answer = self.ask("/ready")
            if answer is not None:
                answered[answer["pid"]] = answer["number"]

        def has_all() -> bool:
            list(pool.map(ask, range(self.workers)))
            children = [child.pid for child in psutil.Process(self.process.pid).children()]
            return len(children) == self.workers and all(
                answered.get(child, recycled_after) < recycled_after for child in children
            )

        with ThreadPoolExecutor(self.workers) as pool:
            wait_until(has_all, START_SECONDS, what="all workers are there")

    def flush(self) -> None:
        """Have every worker deliver what it holds."""
        self.wait_for_workers(self.workers, "/flush")

    def make_names(self, count: int) -> list[str]:
        """Returns names for requests that nobody else has."""
        self._names += count
        return [f"request-{number}" for number in range(self._names - count, self._names)]

    def expect(self, names: Iterable[str]) -> None:
        """Note that the application has made the records of these names."""
        self.expected.update(*map(_bodies, names))

    def kill(self, process: int, held: int) -> None:
        """Kill a process that holds records which nobody else has."""
        self.killed[process] = held
        os.kill(process, signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send the signal and wait until every process of the server is gone."""
        os.kill(self.process.pid, number)
        self.wait()

    def wait(self) -> None:
        """Wait until every process of the server is gone."""
        began = time.monotonic()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server does not end:\n{self.output}") from None
        wait_until(lambda: not self._has_group(), END_SECONDS, what=f"the server's children are gone:\n{self.output}")
        self.outcome.seconds_to_end = time.monotonic() - began

    def _has_group(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def reconcile(self) -> Outcome:
        """Compare what was made with what has arrived and what is counted.

        Raises:
            AssertionError: they differ.
        """
        for complaint in ("Traceback", "Exception ignored", "otelog: "):
            assert complaint not in self.output, self.output
        known = self.read_books()
        arrived = _by_instance(self.receiver)
        records = Counter(body for bodies in arrived.values() for body in bodies)
        for book in known.values():
            self._check_book(book, len(arrived.get(book["instance"], ())))
        instances = [book["instance"] for book in known.values()]
        assert len(set(instances)) == len(instances), f"two processes are one instance: {known}"
        # A process that was killed has left no book.
        strangers = len(set(arrived) - set(instances))
        assert strangers <= len(self.killed), f"{strangers} instances without a book:\n{self.output}"
        own = Counter({body: count for body, count in records.items() if body.startswith("request-")})
        twice = {body: count for body, count in own.items() if count > 1}
        assert not twice, f"arrived more than once: {twice}"
        missing = self.expected - set(own)
        held = sum(self.killed.values())
        assert len(missing) <= held, (
            f"{len(missing)} of {len(self.expected)} records are missing, {held} were held by what was killed: "
            f"{sorted(missing)[:10]}\n{known}\n{self.output}"
        )
        assert not self.killed or missing, "the kill has not hit anything"
        assert set(own) <= self.expected | self.possible, set(own) - self.expected - self.possible
        if self.traced:
            self._check_traces()
        outcome = self.outcome
        outcome.processes = len(known) + len(self.killed)
        outcome.delivered = sum(records.values())
        outcome.counted = sum(book["lost"] for book in known.values())
        outcome.killed = len(missing)
        outcome.held = held
        outcome.made = outcome.delivered + outcome.counted + outcome.killed
        return outcome

    def _check_traces(self) -> None:
        """See that the records of a request, the server's line of it among them, are of one trace of its own."""
        traces: dict[str, set[bytes]] = {}
        for request in self.receiver.requests:
            for record in (
                one
                for resource_logs in request.decode().resource_logs
                for scope_logs in resource_logs.scope_logs
                for one in scope_logs.log_records
            ):
                found = _REQUEST.search(record.body.string_value)
                if found is not None:
                    traces.setdefault(found[0], set()).add(record.trace_id)
        assert all(len(ids) == 1 and b"" not in ids for ids in traces.values()), traces
        assert len(set().union(*traces.values())) == len(traces), traces

    def _check_book(self, book: dict[str, Any], delivered: int) -> None:
        assert book["held"] == 0, book
        assert book["created"] == book["exported"] + book["lost"], book
        assert book["exported"] == delivered, f"{delivered} records arrived of {book}\n{self.output}"

    def read_books(self) -> dict[int, dict[str, Any]]:
        """The last ledger of every process that has ended in an orderly way, by its process id."""
        read = [json.loads(path.read_text()) for path in self.folder.glob("*.json")]
        return {book["pid"]: book for book in read}

    def check_workers(self, answers: Iterable[dict[str, Any]], least: int) -> None:
        """See that at least so many processes have answered, each another instance, and that each has left its book."""
        instances = {**self.met, **{answer["pid"]: answer["instance"] for answer in answers}}
        assert len(instances) >= least, instances
        assert len(set(instances.values())) == len(instances), instances
        left = {pid: book["instance"] for pid, book in self.read_books().items()}
        for pid, instance in instances.items():
            if pid not in self.killed:
                assert left.get(pid) == instance, f"{pid} has left no book: {left}\n{self.output}"


def _bodies(name: str) -> set[str]:
    return {f"{name}/{number}" for number in range(app.RECORDS)}


def _by_instance(receiver: OTLPServer) -> dict[str, list[str]]:
    arrived: dict[str, list[str]] = {}
    for request in receiver.requests:
        for resource_logs in request.decode().resource_logs:
            (instance,) = (
                pair.value.string_value
                for pair in resource_logs.resource.attributes
                if pair.key == "service.instance.id"
            )
            bodies = arrived.setdefault(instance, [])
            for scope in resource_logs.scope_logs:
                bodies += (record.body.string_value for record in scope.log_records)
    return arrived
