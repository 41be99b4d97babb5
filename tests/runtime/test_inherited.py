"""Descriptors that are not ours any more are neither written to nor closed, whoever closed ours, however it forks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from otelog.testing import OTLPServer
from tests.otlp.test_grpc import run

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork") or not sys.platform.startswith("linux"), reason="descriptors are numbered as on Linux"
)

BEGIN = """
import ctypes, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from tests.forks import Own
from otelog._otlp.exchange import TransportSettings
from otelog._otlp.http import Transport
from otelog.sinks._folder import LogFolder
from otelog.sinks._settings import FileSettings, check_settings

def take_all_numbers():
    "As a daemon does: whatever is open is closed, and its numbers get other files."
    os.closerange(3, 256)
    return Own(sys.argv[2])

def fork_without_telling_python():
    # With the interpreter lock held, which the child could not get.
    return ctypes.PyDLL(None).fork()

def end(child):
    if child == 0:
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def check(body: str, endpoint: str, folder: Path) -> None:
    """Run a program that must end well."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + body, endpoint, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


FORKS = ["os.fork()", "fork_without_telling_python()"]


def test_a_connection_whose_number_has_another_file_is_given_up(tmp_path: Path) -> None:
    with OTLPServer() as server:
        check(
            """
t = Transport(TransportSettings(endpoint=sys.argv[1]))
assert t.post(b"one").status == 200
own = take_all_numbers()
assert t.post(b"two").status == 200
assert own.is_untouched()
own_too = take_all_numbers()
t.close()
del t
assert own_too.is_untouched()
""",
            server.logs_endpoint,
            tmp_path,
        )
        assert [request.body for request in server.requests] == [b"one", b"two"]


@pytest.mark.parametrize("fork", FORKS)
def test_a_child_touches_no_socket_of_its_parent_by_its_number(fork: str, tmp_path: Path) -> None:
    with OTLPServer() as server:
        check(
            f"""
t = Transport(TransportSettings(endpoint=sys.argv[1]))
assert t.post(b"parent").status == 200
child = {fork}
if child == 0:
    own = take_all_numbers()
    assert t.post(b"child").status == 200
    assert own.is_untouched()
end(child)
assert t.post(b"parent").status == 200
""",
            server.logs_endpoint,
            tmp_path,
        )
        assert [request.body for request in server.requests] == [b"parent", b"child", b"parent"]
        assert server.connections == 2


@pytest.mark.parametrize("per_process", [False, True])
@pytest.mark.parametrize("fork", FORKS)
def test_a_child_touches_no_file_of_its_parent_by_its_number(fork: str, per_process: bool, tmp_path: Path) -> None:
    check(
        f"""
folder = LogFolder(check_settings(FileSettings(folder=sys.argv[2], per_process={per_process}, compression="none")))
folder.append("app", [b"parent\\n"])
child = {fork}
if child == 0:
    own = take_all_numbers()
    # The very files that the parent has open, under the numbers of the parent's.
    same = [os.open(os.path.join(sys.argv[2], name), os.O_RDWR) for name in os.listdir(sys.argv[2])]
    folder.append("app", [b"child\\n"])
    folder.close()
    assert own.is_untouched()
    for descriptor in same:
        os.fstat(descriptor)
end(child)
folder.append("app", [b"parent\\n"])
""",
        "-",
        tmp_path,
    )
    lines = [line for path in tmp_path.glob("app*.log") for line in path.read_text().splitlines()]
    assert sorted(lines) == ["child", "parent", "parent"]


def test_a_fork_lets_the_childs_copies_go_at_once(tmp_path: Path) -> None:
    # In a child that does nothing at all with otelog.
    with OTLPServer() as server:
        check(
            """
before = set(os.listdir("/proc/self/fd"))
t = Transport(TransportSettings(endpoint=sys.argv[1]))
t.post(b"parent")
folder = LogFolder(check_settings(FileSettings(folder=sys.argv[2])))
folder.append("app", [b"parent\\n"])
assert len(os.listdir("/proc/self/fd")) > len(before)
child = os.fork()
if child == 0:
    assert len(os.listdir("/proc/self/fd")) == len(before)
end(child)
""",
            server.logs_endpoint,
            tmp_path,
        )


def test_a_program_that_is_started_inherits_nothing(tmp_path: Path) -> None:
    with OTLPServer() as server:
        check(
            """
import subprocess
t = Transport(TransportSettings(endpoint=sys.argv[1]))
command = ["ls", "/proc/self/fd"]
before = subprocess.run(command, close_fds=False, capture_output=True).stdout
t.post(b"parent")
folder = LogFolder(check_settings(FileSettings(folder=sys.argv[2])))
folder.append("app", [b"parent\\n"])
assert subprocess.run(command, close_fds=False, capture_output=True).stdout == before
""",
            server.logs_endpoint,
            tmp_path,
        )


def test_a_signal_handler_may_fork_in_the_middle_of_what_a_fork_waits_for() -> None:
    # The gate is held by the very thread that forks: it must not wait for itself, and both go on.
    done = run(
        """
import os, signal, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from otelog._runtime.fork_gate import ForkGate
gate = ForkGate(60.0)
children = []
signal.signal(signal.SIGUSR1, lambda *_: children.append(os.fork()))
with gate.lock:
    signal.raise_signal(signal.SIGUSR1)
    with gate.lock:
        pass
if children == [0]:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert os.waitpid(children[0], 0)[1] == 0
import threading
thread = threading.Thread(target=gate.lock.acquire)
thread.start()
thread.join(30.0)
assert not thread.is_alive()
"""
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_child_needs_no_lock_of_the_standard_librarys_to_read_a_files_name() -> None:
    # One that its parent's thread held as it forked is taken for ever.
    done = run(
        """
import _strptime
from otelog.sinks._names import next_second_stamp, parse_name
with _strptime._cache_lock:
    assert parse_name("app.20261124-212937-0001.log").stamp == "20261124-212937-0001"
    assert parse_name("app.20261124-0001.log") is not None
    assert parse_name("app.20261199-212937-0001.log") is None
    assert next_second_stamp(0.0, ["20261124-212959-9999"]) == "20261124-213000-0001"
"""
    )
    assert (done.returncode, done.stderr) == (0, "")
