"""Where no thread can be started it is said at once, nothing is lost, and it is started when one can be."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelog.testing import OTLPServer
from tools.waiting import wait_until

resource = pytest.importorskip("resource")
ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(resource, "RLIMIT_NPROC"),
    reason="a limit of threads is Linux's",
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user can reach; pytest's own are for one only."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


# The limit holds for ordinary users only; whatever is imported late is imported before: that user may have no way to
# the interpreter.
BEGIN = """
import os, resource, sys, time
in_child = []
os.register_at_fork(after_in_child=lambda: [told() for told in in_child])
import otelog
from otelog import doctor
endpoint, folder = sys.argv[1:]
options = {
    "service_name": "x", "endpoint": endpoint, "schedule_delay_millis": 50, "max_queue_size": 64,
    "max_export_batch_size": 16, "shutdown_timeout": 20.0, "reserve_for_errors": 0.0,
}
exporters = [{"type": "otlp"}, {"type": "file", "folder": folder}]
otelog.configure(**options, exporters=exporters if MANY else None)
log = otelog.get_logger("x")
log.info("before")
assert otelog.flush(20.0)
otelog.shutdown(20.0)
if os.geteuid() == 0:
    os.chown(folder, 65123, 65123)
    for name in os.listdir(folder):
        os.chown(os.path.join(folder, name), 65123, 65123)
    os.setgid(65123)
    os.setuid(65123)

def limit(most):
    resource.setrlimit(resource.RLIMIT_NPROC, (most, resource.getrlimit(resource.RLIMIT_NPROC)[1]))

def free():
    resource.setrlimit(resource.RLIMIT_NPROC, (resource.getrlimit(resource.RLIMIT_NPROC)[1],) * 2)

def configure():
    otelog.configure(**options, exporters=exporters if MANY else None)

def wait(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, otelog.stats()
        time.sleep(0.01)

def check(exported):
    stats = otelog.stats()
    for name, one in stats.exporters.items():
        assert one.accepted == one.filtered + one.exported + sum(one.dropped.values()) + one.waiting + one.in_flight
        assert one.exported == exported, (name, one)
"""


def run(body: str, server: OTLPServer, folder: Path, *, many: bool = False) -> str:
    """Run a program to its end; returns what it says on standard error."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"MANY = {many}\n{BEGIN}\n{body}", server.endpoint, str(folder)],
        cwd=ROOT,
        env={**os.environ, "OTEL_METRICS_EXPORTER": "none"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def names(server: OTLPServer) -> list[str]:
    return sorted(record.body.string_value for record in server.records)


@pytest.mark.parametrize("many", [False, True])
def test_it_is_said_at_once_and_flush_and_shutdown_deliver_meanwhile(folder: Path, many: bool) -> None:
    with OTLPServer() as server:
        said = run(
            """
limit(1)
configure()
assert "otelog-worker" in otelog.stats().missing_threads
assert len(otelog.stats().missing_threads) == (3 if MANY else 1)
(area,) = [one for one in doctor.examine(canary=False).areas if one.name == "limits"]
assert {one.code for one in area.findings} == {"limits.thread_missing"}, area
log.info("flushed")
assert otelog.flush(20.0)
log.info("shut down")
assert otelog.shutdown(20.0)
""",
            server,
            folder,
            many=many,
        )
        assert "otelog: the thread otelog-worker cannot be started (can't start new thread)" in said
        assert names(server) == ["before", "flushed", "shut down"]
    if many:
        assert "otelog: the thread otelog-file cannot be started" in said
        assert len((folder / "app.log").read_text().splitlines()) == 3


@pytest.mark.parametrize("many", [False, True])
def test_a_thread_that_could_not_be_started_is_started_by_the_records_that_come_later(folder: Path, many: bool) -> None:
    with OTLPServer() as server:
        run(
            """
limit(1)
configure()
log.info("waiting")
free()
def is_started():
    log.info("later")
    return not otelog.stats().missing_threads
wait(is_started)
# Nobody flushes: its own thread delivers what had waited.
wait(lambda: not otelog.stats().queued and not otelog.stats().waiting and not otelog.stats().in_flight)
assert otelog.stats().lost == sum(otelog.stats().refused.values())
""",
            server,
            folder,
            many=many,
        )
        assert "waiting" in names(server)
        assert "later" in names(server)


def test_a_queue_that_is_full_by_then_is_no_dead_end(folder: Path) -> None:
    with OTLPServer() as server:
        run(
            """
limit(1)
configure()
for number in range(100):
    log.info("m%d", number)
assert otelog.stats().refused["queue_full"] == 36
free()
def is_started():
    log.info("refused")
    return not otelog.stats().missing_threads
wait(is_started)
wait(lambda: otelog.stats().exported >= 65)
stats = otelog.stats()
assert stats.created == sum(stats.refused.values()) + stats.queued + stats.accepted
""",
            server,
            folder,
        )
        wait_until(lambda: {f"m{number}" for number in range(64)} <= set(names(server)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_that_gets_no_thread_says_so_and_delivers_at_its_end(folder: Path) -> None:
    with OTLPServer() as server:
        said = run(
            """
configure()
# Only the child has the limit: the fork itself must be possible.
in_child.append(lambda: limit(1))
log.info("parent")
assert otelog.flush(20.0)
child = os.fork()
if child == 0:
    assert otelog.stats().missing_threads == ("otelog-worker",)
    log.info("child")
    os._exit(0 if otelog.shutdown(20.0) else 1)
assert os.waitpid(child, 0)[1] == 0
assert not otelog.stats().missing_threads
""",
            server,
            folder,
        )
        assert said.count("cannot be started") == 1
        assert names(server) == ["before", "child", "parent"]
