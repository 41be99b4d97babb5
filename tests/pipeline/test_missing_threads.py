"""Where no thread can be started it is said at once, nothing is lost, and it is started when one can be."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from otelog.testing import OTLPServer, Reply
from tools.waiting import wait_until

resource = pytest.importorskip("resource")
ROOT = Path(__file__).resolve().parents[2]

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
import itertools, os, resource, sys, time
in_child = []
os.register_at_fork(after_in_child=lambda: [told() for told in in_child])
import otelog
from otelog import doctor
endpoint, folder = sys.argv[1:]
options = {
    "service_name": "x", "endpoint": endpoint, "schedule_delay_millis": 50, "max_queue_size": 64,
    "max_export_batch_size": 16, "shutdown_timeout": 20.0, "reserve_for_errors": 0.0,
    # The SDK's own hooks of a fork want threads.
    "capture_exceptions": False,
}
if CERTIFICATE:
    options["certificate_file"] = CERTIFICATE
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


def run(body: str, server: OTLPServer, folder: Path, *, many: bool = False, certificate: str = "") -> str:
    """Run a program to its end; returns what it says on standard error."""
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            f"MANY, CERTIFICATE = {many}, {certificate!r}\n{BEGIN}\n{body}",
            server.endpoint,
            str(folder),
        ],
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
calls = itertools.count()
def is_started():
    # Not at each: the queues must not be full before their threads are there.
    if next(calls) % 10 == 0:
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


# The time of a call that works in a thread's place.


HANGING = [Reply(), *[Reply(fault="hang")] * 50]
REFUSING = [Reply(), *[Reply(status=503)] * 1000]
TIMED = """
def timed(call, seconds):
    began = time.monotonic()
    answer = call(seconds)
    took = time.monotonic() - began
    assert took < seconds + 2.0, took
    return answer

def flush_until_delivered(seconds=0.2):
    end = time.monotonic() + 30
    while not timed(otelog.flush, seconds):
        assert time.monotonic() < end, otelog.stats()

limit(1)
configure()
log.info("slow")
"""


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("script", [HANGING, REFUSING], ids=["hanging", "refusing"])
def test_a_flush_without_a_thread_ends_in_its_time_and_loses_nothing(
    folder: Path, script: list[Reply], many: bool
) -> None:
    with OTLPServer(script) as server:
        run(
            f"""{TIMED}
for _ in range(3):
    assert timed(otelog.flush, 0.5) is False
log.info("later")
assert timed(otelog.flush, 0.0) is False
stats = otelog.stats()
assert stats.lost == 0, stats
otlp = stats.exporters["otlp"]
assert stats.queued + otlp.in_flight + otlp.waiting == 2, stats
assert otlp.in_flight == 1, stats
if MANY:
    # One that hangs leaves the others their time.
    assert stats.exporters["file"].exported == 2, stats
    assert stats.exporters["file"].waiting + stats.exporters["file"].in_flight + stats.queued == 1, stats
assert timed(otelog.shutdown, 0.5) is False
stats = otelog.stats()
otlp = stats.exporters["otlp"]
assert dict(otlp.dropped) == {{**dict.fromkeys(otlp.dropped, 0), "shutdown_timeout": 2}}, stats
assert otlp.exported == 1, stats
assert not otlp.in_flight + otlp.waiting + stats.queued, stats
""",
            server,
            folder,
            many=many,
        )
        # What is out is waited for, and not sent again.
        assert names(server) == (["before", "slow"] if script is HANGING else ["before"])


@pytest.mark.parametrize("many", [False, True])
def test_an_answer_that_comes_after_a_flush_is_read_by_the_next_one(folder: Path, many: bool) -> None:
    with OTLPServer([Reply(), Reply(delay=1.5)]) as server:
        run(
            f"""{TIMED}
flush_until_delivered()
one = otelog.stats().exporters["otlp"]
assert (one.exported, one.resent, one.outcome_unknown, one.in_flight) == (2, 0, 0, 0), one
assert otelog.shutdown(20.0)
""",
            server,
            folder,
            many=many,
        )
        assert names(server) == ["before", "slow"]


def test_an_answer_over_tls_is_waited_for_by_the_next_flush_too(folder: Path) -> None:
    authority = trustme.CA()
    certificate = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(certificate))
    certificate.chmod(0o644)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    # What TLS itself sends comes before the answer, and is none.
    with OTLPServer([Reply(), Reply(delay=1.5)], tls=context) as server:
        run(
            f"""{TIMED}
flush_until_delivered()
one = otelog.stats().exporters["otlp"]
assert (one.exported, one.resent, one.outcome_unknown, one.in_flight) == (2, 0, 0, 0), one
assert otelog.shutdown(20.0)
""",
            server,
            folder,
            certificate=str(certificate),
        )
        assert names(server) == ["before", "slow"]


@pytest.mark.parametrize("many", [False, True])
def test_a_wait_between_two_attempts_goes_on_in_the_next_flush(folder: Path, many: bool) -> None:
    with OTLPServer([Reply(), *[Reply(status=503)] * 2]) as server:
        run(
            f"""{TIMED}
began = time.monotonic()
flush_until_delivered()
# The server is left in peace as long as ever, 1.0 s and 1.5 s less a fifth.
assert time.monotonic() - began > 1.9
one = otelog.stats().exporters["otlp"]
assert (one.exported, one.resent, one.in_flight) == (2, 2, 0), one
""",
            server,
            folder,
            many=many,
        )
        assert names(server) == ["before", "slow"]


@pytest.mark.parametrize("many", [False, True])
def test_what_a_flush_has_left_is_delivered_by_a_thread_that_could_be_started_at_last(folder: Path, many: bool) -> None:
    with OTLPServer([Reply(), Reply(status=503)]) as server:
        run(
            f"""{TIMED}
assert timed(otelog.flush, 0.2) is False
free()
def is_started():
    log.info("later")
    return not otelog.stats().missing_threads
wait(is_started)
wait(lambda: not otelog.stats().queued and not otelog.stats().waiting and not otelog.stats().in_flight)
stats = otelog.stats()
# Records come faster here than any thread could begin.
assert stats.lost == sum(stats.refused.values()) + stats.dropped["handoff_full"], stats
""",
            server,
            folder,
            many=many,
        )
        assert names(server).count("slow") == 1


@pytest.mark.parametrize("many", [False, True])
def test_what_a_flush_has_left_is_delivered_by_the_shutdown(folder: Path, many: bool) -> None:
    with OTLPServer([Reply(), Reply(delay=1.0)]) as server:
        run(
            f"""{TIMED}
assert timed(otelog.flush, 0.2) is False
assert otelog.shutdown(20.0)
one = otelog.stats().exporters["otlp"]
assert (one.exported, one.resent, one.outcome_unknown) == (2, 0, 0), one
""",
            server,
            folder,
            many=many,
        )
        assert names(server) == ["before", "slow"]


def test_the_time_of_a_batch_does_not_run_while_nobody_delivers_it(folder: Path) -> None:
    with OTLPServer([Reply(), Reply(status=503)]) as server:
        run(
            f"""
options["export_timeout_millis"] = 3000.0
{TIMED}
assert timed(otelog.flush, 0.2) is False
left = time.monotonic()
# More than all of the batch's time is over, and nobody was there.
wait(lambda: time.monotonic() - left > options["export_timeout_millis"] / 1000)
assert otelog.flush(20.0), otelog.stats()
""",
            server,
            folder,
        )
        assert names(server) == ["before", "slow"]


@pytest.mark.parametrize("many", [False, True])
def test_descriptors_that_are_short_hold_up_no_flush_without_a_thread(folder: Path, many: bool) -> None:
    with OTLPServer() as server:
        run(
            f"""{TIMED}
least = os.dup(2)
os.close(least)
resource.setrlimit(resource.RLIMIT_NOFILE, (least, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
for _ in range(3):
    assert timed(otelog.flush, 0.3) is False
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
assert otelog.stats().lost == 0, otelog.stats()
flush_until_delivered(2.0)
""",
            server,
            folder,
            many=many,
        )
        assert names(server) == ["before", "slow"]


@pytest.mark.parametrize("many", [False, True])
def test_a_fork_leaves_what_a_flush_has_left_to_the_parent(folder: Path, many: bool) -> None:
    with OTLPServer([Reply(), Reply(delay=1.5)]) as server:
        run(
            f"""{TIMED}
assert timed(otelog.flush, 0.2) is False
free()
child = os.fork()
if child == 0:
    log.info("child")
    os._exit(0 if otelog.shutdown(20.0) else 1)
assert os.waitpid(child, 0)[1] == 0
flush_until_delivered()
one = otelog.stats().exporters["otlp"]
assert (one.exported, one.resent, one.outcome_unknown) == (2, 0, 0), one
""",
            server,
            folder,
            many=many,
        )
        assert names(server) == ["before", "child", "slow"]


def test_a_folder_that_another_process_holds_holds_up_no_flush_without_a_thread(folder: Path) -> None:
    with OTLPServer() as server:
        run(
            f"""
import fcntl
{TIMED}
with open(os.path.join(folder, ".otelog.lock"), "rb+") as other:
    fcntl.flock(other, fcntl.LOCK_EX)
    began = time.monotonic()
    assert otelog.flush(0.2) is False
    assert time.monotonic() - began < 0.8
assert otelog.stats().lost == 0
flush_until_delivered()
""",
            server,
            folder,
            many=True,
        )
    assert [json.loads(line)["message"] for line in (folder / "app.log").read_text().splitlines()] == ["before", "slow"]


def test_a_stream_that_takes_nothing_holds_up_no_flush_without_a_thread(folder: Path) -> None:
    with OTLPServer() as server:
        said = run(
            f"""
reading, writing = os.pipe()
os.set_blocking(writing, False)
filled = 0
while True:
    try:
        filled += os.write(writing, b"." * 4096)
    except BlockingIOError:
        break
os.set_blocking(writing, True)
kept = os.dup(1)
os.dup2(writing, 1)
limit(1)
otelog.configure(**options, exporters=[{{"type": "console"}}], console_format="json", console_stream="stdout")
for number in range(3):
    log.info("m%d", number)
{TIMED.partition("limit(1)")[0]}
for _ in range(2):
    assert timed(otelog.flush, 0.3) is False
assert otelog.stats().lost == 0
assert otelog.stats().exporters["console"].in_flight == 3
while filled:
    filled -= len(os.read(reading, filled))
flush_until_delivered()
os.dup2(kept, 1)
lines = os.read(reading, 65536).decode().splitlines()
assert [f'm{{number}}' in line for number, line in enumerate(lines)] == [True] * 3, lines
assert otelog.stats().exporters["console"].exported == 3
""",
            server,
            folder,
        )
    assert "cannot be written" not in said


# Whose records they are.


def instances(server: OTLPServer) -> dict[str, str]:
    """The ``service.instance.id`` that each record came with."""
    found = {}
    for request in server.requests:
        for part in request.decode().resource_logs:
            (instance,) = [
                one.value.string_value for one in part.resource.attributes if one.key == "service.instance.id"
            ]
            for scope in part.scope_logs:
                found.update({record.body.string_value: instance for record in scope.log_records})
    return found


API = """
from opentelemetry._logs import LogRecord, SeverityNumber, get_logger
api = get_logger("api")
def emit(body):
    api.emit(LogRecord(body=body, severity_number=SeverityNumber.INFO))
"""


def test_a_process_is_one_instance_with_and_without_threads(folder: Path) -> None:
    with OTLPServer() as server:
        run(
            f"""{API}
limit(1)
configure()
log.info("without threads")
emit("without threads, by the API")
assert otelog.shutdown(20.0)
free()
configure()
log.info("with threads")
emit("with threads, by the API")
assert otelog.shutdown(20.0)
""",
            server,
            folder,
        )
        found = instances(server)
        assert len(found) == 5
        assert len(set(found.values())) == 1, found


def test_a_forked_child_without_threads_is_an_instance_of_its_own_whichever_way_a_record_comes(folder: Path) -> None:
    with OTLPServer() as server:
        run(
            f"""{API}
configure()
in_child.append(lambda: limit(1))
log.info("parent")
emit("parent, by the API")
assert otelog.flush(20.0)
child = os.fork()
if child == 0:
    emit("child, by the API")
    log.info("child")
    get_logger("another").emit(LogRecord(body="child, by another", severity_number=SeverityNumber.INFO))
    assert otelog.shutdown(20.0)
    in_child.clear()
    free()
    configure()
    log.info("child, with threads")
    emit("child, with threads, by the API")
    os._exit(0 if otelog.shutdown(20.0) else 1)
assert os.waitpid(child, 0)[1] == 0
log.info("parent, later")
assert otelog.shutdown(20.0)
""",
            server,
            folder,
        )
        found = instances(server)
        ours = {body: found[body] for body in found if "child" not in body}
        children = {body: found[body] for body in found if "child" in body}
        assert (len(ours), len(children)) == (4, 5)
        assert len(set(ours.values())) == 1, ours
        assert len(set(children.values())) == 1, children
        assert not set(ours.values()) & set(children.values())
