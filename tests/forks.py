"""Processes that fork, over and over, while their threads log and otelog delivers: over HTTP, TLS, gRPC, to files.

``python -m tests.forks`` makes 2,000 forks and appends its rows to the table of `make soak`;
`tests/runtime/test_forks.py` makes a few. Most of the children are daemons: they close all descriptors and open their
own, so many that these get the numbers of ours. What must hold: no fork and no child hangs; each record of the parent
and of each child is with the server once, by the server's own count; the ledger's books agree; no descriptor of a
child's own was touched.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import multiprocessing
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_facts
from otelog.testing import OTLPServer, Reply

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "forks.md"
HEAD = """# Forks

Written by `make soak` (`python -m tests.forks`). A process with three threads that log forks, over and over: by
`os.fork`, by two threads at once, in a signal handler during a flush, and by multiprocessing; most of its children
close all descriptors and open their own. A row has held if no fork and no child hung, each record of the parent and of
the children was with the server once by its own count, and no descriptor of a child's own was touched. Some requests
are answered 503 ("fails") or never ("hangs"); "twice" are records that the ledger calls unknown, sent once more after a
call was cut.

| date | system | Python | way | server | forks | longest fork | records | twice | seconds |
|---|---|---|---|---|--:|--:|--:|--:|--:|
"""

WAYS = ("http", "tls", "grpc", "files", "several")
MODES = ("answers", "fails", "hangs")
ROWS = [(way, mode) for way in WAYS for mode in MODES if way != "files" or mode == "answers"]

THREADS = 3
CHILD_RECORDS = 3
CHILD_DEADLINE = 60.0
"""Seconds after which a child, or the fork that made it, hangs."""

FIRST_DESCRIPTOR, LAST_DESCRIPTOR = 3, 256
DELIVERED, LOST, TOUCHED = 0, 3, 4


# The application.


class Own:
    """Descriptors of a child's own: files with known contents, and pairs of sockets on which nobody says anything."""

    def __init__(self, folder: str) -> None:
        self._files = []
        for number in range(24):
            path = os.path.join(folder, f"own-{os.getpid()}-{number}")
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            os.write(descriptor, str(number).encode())
            os.unlink(path)
            self._files.append((descriptor, str(number).encode(), os.fstat(descriptor)[1:3]))
        self._sockets = []
        for pair in (socket.socketpair() for _ in range(4)):
            for one in pair:
                one.setblocking(False)
                self._sockets.append((one, os.fstat(one.fileno())[1:3]))

    def is_untouched(self) -> bool:
        """Returns whether all of them are as they were made."""
        try:
            for descriptor, content, identity in self._files:
                if os.fstat(descriptor)[1:3] != identity or os.pread(descriptor, 100, 0) != content:
                    return False
            for one, identity in self._sockets:
                if os.fstat(one.fileno())[1:3] != identity:
                    return False
                with suppress(BlockingIOError):
                    one.recv(100)
                    return False
        except OSError:
            return False
        return True


def be_child(log: Any, number: int, folder: str, *, daemon: bool) -> None:
    """What a child does; it does not return."""
    import otelog

    if daemon:
        os.closerange(FIRST_DESCRIPTOR, LAST_DESCRIPTOR)
    faulthandler.dump_traceback_later(10.0)
    own = Own(folder)
    for record in range(CHILD_RECORDS):
        log.info("child %d %d", number, record)
    # A shutdown makes one attempt only, which the server may refuse.
    delivered = otelog.flush(30.0) and otelog.shutdown(30.0)
    os._exit(TOUCHED if not own.is_untouched() else DELIVERED if delivered else LOST)


class Forks:
    """Makes the forks and waits for the children."""

    def __init__(self, log: Any, folder: str) -> None:
        self._log = log
        self._folder = folder
        self.longest = 0.0
        self.failures: list[str] = []

    def make(self, number: int) -> int:
        """Make fork number so and so, or two; returns how many."""
        kind = number % 4
        if kind == 1:
            both = [threading.Thread(target=self._fork, args=(number + each, "by a thread")) for each in range(2)]
            for thread in both:
                thread.start()
            for thread in both:
                thread.join()
            return 2
        if kind == 3:
            self._fork_in_handler(number)
        elif number % 8 == 4:
            self._fork_by_multiprocessing(number)
        else:
            self._fork(number, "by os.fork")
        return 1

    def _fork(self, number: int, how: str) -> None:
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            be_child(self._log, number, self._folder, daemon=number % 2 == 0 or how != "by os.fork")
        self.longest = max(self.longest, time.monotonic() - began)
        self._wait(number, how, pid)

    def _wait(self, number: int, how: str, pid: int) -> None:
        deadline = time.monotonic() + CHILD_DEADLINE
        while True:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                break
            if time.monotonic() >= deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                self.failures.append(f"fork {number} {how} hung")
                return
            time.sleep(0.002)
        code = os.waitstatus_to_exitcode(status)
        if code != DELIVERED:
            said = {LOST: "did not deliver", TOUCHED: "had a descriptor of its own touched"}
            self.failures.append(f"child {number} {how} {said.get(code, f'ended with {code}')}")

    def _fork_in_handler(self, number: int) -> None:
        import otelog

        pids: list[int] = []

        def handle(*_: object) -> None:
            began = time.monotonic()
            pid = os.fork()
            if pid == 0:
                be_child(self._log, number, self._folder, daemon=True)
            self.longest = max(self.longest, time.monotonic() - began)
            pids.append(pid)

        signal.signal(signal.SIGUSR1, handle)
        main = threading.main_thread().ident or 0
        thread = threading.Timer(0.002 * (number % 5), signal.pthread_kill, (main, signal.SIGUSR1))
        thread.start()
        while not pids:
            otelog.flush(0.5)
        thread.join()
        self._wait(number, "in a signal handler", pids[0])

    def _fork_by_multiprocessing(self, number: int) -> None:
        began = time.monotonic()
        context: Any = multiprocessing.get_context("fork")
        child = context.Process(target=be_child, args=(self._log, number, self._folder), kwargs={"daemon": False})
        child.start()
        self.longest = max(self.longest, time.monotonic() - began)
        child.join(CHILD_DEADLINE)
        if child.exitcode != DELIVERED:
            child.kill()
            self.failures.append(f"child {number} by multiprocessing ended with {child.exitcode}")


def run_application(options: dict[str, Any], forks: int, folder: str) -> None:
    """Log and fork, and print at the end what has become of it."""
    import otelog

    otelog.configure(
        service_name="forks",
        capture_exceptions=False,
        schedule_delay_millis=20,
        max_export_batch_size=64,
        max_queue_size=200_000,
        max_queue_bytes=2**30,
        timeout=1.0,
        export_timeout_millis=60_000,
        shutdown_timeout=60.0,
        **options,
    )
    log = otelog.get_logger("forks")
    counts = [0] * THREADS
    over = threading.Event()

    def work(thread: int) -> None:
        while not over.is_set():
            log.info("parent %d %d", thread, counts[thread])
            counts[thread] += 1
            over.wait(0.003)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    maker, made = Forks(log, folder), 0
    while made < forks:
        made += maker.make(made)
    over.set()
    for thread in threads:
        thread.join()
    delivered = otelog.flush(60.0) and otelog.shutdown(60.0)
    stats = otelog.stats()
    print(
        json.dumps(
            {
                "made": made,
                "longest": maker.longest,
                "failures": maker.failures,
                "counts": counts,
                "delivered": delivered,
                "created": stats.created,
                "lost": stats.lost,
                "exporters": {
                    name: {"accepted": one.accepted, "exported": one.exported, "unknown": one.outcome_unknown}
                    for name, one in stats.exporters.items()
                },
            }
        )
    )


# The servers, and what they say at the end.


@dataclass
class Place:
    """Where records go: the options that lead there, and what is there at the end."""

    options: dict[str, Any]
    bodies: Callable[[], list[str]]


def open_http(stack: ExitStack, mode: str, folder: Path, *, secure: bool = False) -> Place:
    """Start a server for OTLP over HTTP."""
    bad = {"answers": [], "fails": [Reply(status=503)] * 40, "hangs": [Reply(status=503, fault="hang")] * 12}[mode]
    script = [reply for one in bad for reply in [*[Reply()] * 12, one]]
    context, options = None, {}
    if secure:
        import trustme

        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "authority.pem"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        options = {"certificate_file": str(folder / "authority.pem")}
    server = stack.enter_context(OTLPServer(script, tls=context))

    def list_bodies() -> list[str]:
        return [record.body.string_value for record in server.records]

    return Place({"endpoint": server.endpoint, **options}, list_bodies)


def open_grpc(stack: ExitStack, mode: str) -> Place:
    """Start a server for OTLP over gRPC."""
    from tests import grpc_server

    bad = {
        "answers": [],
        "fails": [grpc_server.Reply("UNAVAILABLE")] * 40,
        # It has few threads, and they hang for long.
        "hangs": [grpc_server.Reply("UNAVAILABLE", hang=True)] * 5,
    }[mode]
    script = [reply for one in bad for reply in [*[grpc_server.Reply()] * 12, one]]
    server = stack.enter_context(grpc_server.GrpcServer(script))
    return Place({"endpoint": server.endpoint, "protocol": "grpc"}, lambda: list(server.bodies))


def open_files(folder: Path) -> Place:
    """Name a folder for log files."""

    def list_bodies() -> list[str]:
        lines = [line for path in sorted(folder.glob("app*.log")) for line in path.read_text().splitlines()]
        return [str(json.loads(line)["message"]) for line in lines]

    return Place({"folder": str(folder), "compression": "none", "max_bytes": 200_000, "max_files": 0}, list_bodies)


def open_places(stack: ExitStack, way: str, mode: str, folder: Path) -> tuple[dict[str, Any], list[Place]]:
    """Returns the options of `otelog.configure`, and where records must be at the end."""
    if way in ("http", "tls"):
        place = open_http(stack, mode, folder, secure=way == "tls")
        return place.options, [place]
    if way == "grpc":
        place = open_grpc(stack, mode)
        return place.options, [place]
    files = open_files(folder / "logs")
    if way == "files":
        return {"exporters": [{"type": "file", **files.options}]}, [files]
    places = [open_http(stack, mode, folder), open_grpc(stack, mode), files]
    kinds = [{"type": "otlp"}, {"type": "otlp"}, {"type": "file"}]
    return {"exporters": [{**kind, **place.options} for kind, place in zip(kinds, places, strict=True)]}, places


@dataclass
class Result:
    """What a row has shown."""

    forks: int
    longest: float
    records: int
    twice: int
    seconds: float


def run_row(way: str, mode: str, forks: int) -> Result:
    """Run the application over one way to a server of one mode.

    Raises:
        AssertionError: Something does not hold.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="otelog-forks-")))
        options, places = open_places(stack, way, mode, folder)
        arguments = json.dumps([options, forks, str(folder)])
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "tests.forks", "--application", arguments],
            cwd=ROOT,
            # Not so often that a child's own metrics go out before it has come to close its descriptors.
            env={**os.environ, "OTEL_METRIC_EXPORT_INTERVAL": "3000"},
            capture_output=True,
            text=True,
            timeout=120.0 + 5.0 * forks,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        said = json.loads(done.stdout.splitlines()[-1])
        assert not said["failures"], (said["failures"], done.stderr[-4000:])
        assert said["delivered"], done.stderr[-4000:]
        assert not said["lost"]
        assert said["created"] == sum(said["counts"])
        expected = {f"parent {thread} {call}" for thread in range(THREADS) for call in range(said["counts"][thread])}
        expected |= {f"child {child} {call}" for child in range(said["made"]) for call in range(CHILD_RECORDS)}
        twice = 0
        for place, (name, exporter) in zip(places, said["exporters"].items(), strict=True):
            assert exporter["accepted"] == exporter["exported"] == said["created"], (name, exporter)
            found = Counter(place.bodies())
            assert not expected - set(found), (name, "missing", sorted(expected - set(found))[:10])
            assert not set(found) - expected, (name, "nobody's", sorted(set(found) - expected)[:10])
            more = sum(found.values()) - len(found)
            assert more <= exporter["unknown"], (name, f"{more} records twice, {exporter['unknown']} unknown")
            twice += more
    return Result(said["made"], said["longest"], len(expected), twice, time.monotonic() - began)


def run_all(rows: list[tuple[str, str]], forks: int) -> Iterator[str]:
    """Share the forks among the rows; yields each row of the table that has held."""
    facts = machine_facts()
    for way, mode in rows:
        result = run_row(way, mode, -(-forks // len(rows)))
        yield (
            f"| {datetime.now(timezone.utc):%Y-%m-%d} | {facts['system']}, {facts['cores']} cores | {facts['python']} "
            f"| {way} | {mode} | {result.forks} | {result.longest * 1000:.0f} ms | {result.records:,} | {result.twice} "
            f"| {result.seconds:.0f} |"
        )


def main() -> None:
    """Run the rows; an AssertionError ends it at the one that does not hold."""
    parser = argparse.ArgumentParser(description="Fork while records are delivered, and count them.")
    parser.add_argument("--forks", type=int, default=2_000, help="over all rows")
    parser.add_argument("--only", action="append", metavar="WAY", choices=WAYS, help="this way only; may be repeated")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FILE", help="the table to append to")
    parser.add_argument("--application", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.application:
        run_application(*json.loads(options.application))
        return
    rows = [row for row in ROWS if not options.only or row[0] in options.only]
    if not options.output.exists():
        options.output.write_text(HEAD, encoding="utf-8")
    for row in run_all(rows, options.forks):
        print(row, flush=True)
        with options.output.open("a", encoding="utf-8") as table:
            table.write(f"{row}\n")


if __name__ == "__main__":
    main()
