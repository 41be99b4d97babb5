"""`crash_folder`: what a crash leaves behind is one record at the next start, whoever else uses the folder."""

from __future__ import annotations

import faulthandler
import fcntl
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import otelog
from otelog._setup import crashes
from tests.arrivals import configured, fields_of, flush_record, flush_records, to_python
from tools.loopback import find_free_ports
from tools.waiting import wait_until

ROOT = Path(__file__).resolve().parents[1]
CRASH = "Fatal Python error: Segmentation fault\n\nCurrent thread 0x01 (most recent call first):\n  File x.py, line 1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is not there yet, and a `faulthandler` that is off, as it is without pytest."""
    was_on = faulthandler.is_enabled()
    faulthandler.disable()
    yield tmp_path / "crashes"
    faulthandler.disable()
    if was_on and sys.__stderr__ is not None:
        faulthandler.enable(file=sys.__stderr__)


def leave(folder: Path, name: str, content: bytes | str = CRASH) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def others(folder: Path) -> list[str]:
    """What is there beside the file of this process."""
    return sorted(name for name in os.listdir(folder) if not name.startswith(f"crash-{os.getpid()}-"))


def wait_until_removed(*paths: Path) -> None:
    wait_until(lambda: not any(path.exists() for path in paths), 10.0, what="the removal of what was reported")


CRASHES = """
import faulthandler, os, sys
import otelog

otelog.configure(endpoint=os.environ["ENDPOINT"], service_name="crash", crash_folder=sys.argv[1])
child = os.fork()
if child == 0:
    faulthandler._sigabrt()
os.waitpid(child, 0)
if os.fork() == 0:
    os._exit(0)
os.wait()
faulthandler._sigsegv()
"""


def test_a_crash_of_a_process_and_of_its_child_is_a_record_each_at_the_next_start(folder: Path) -> None:
    with configured(crash_folder=folder) as server:
        script = folder.parent / "crash.py"
        script.write_text(textwrap.dedent(CRASHES), encoding="utf-8")
        environment = {**os.environ, "ENDPOINT": server.endpoint, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(script), str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode < 0, done.stderr
        assert len(others(folder)) == 2, "one a process, and none of the child that ended as it should"
        assert flush_records(server) == []
        # A start of its own.
        otelog.configure(endpoint=server.endpoint, service_name="test", crash_folder=None)
        otelog.configure(endpoint=server.endpoint, service_name="test", crash_folder=folder)
        records = sorted(flush_records(server), key=lambda one: to_python(one.body))
        assert [to_python(one.body) for one in records] == [
            "Fatal Python error: Aborted",
            "Fatal Python error: Segmentation fault",
        ]
        for record in records:
            fields = fields_of(record)
            assert (record.event_name, record.severity_number, record.severity_text) == ("crash", 21, "CRITICAL")
            assert "crash.py" in fields["exception.stacktrace"]
            assert fields["crash.file"].startswith(str(folder)) and str(fields["process.pid"]) in fields["crash.file"]
            assert fields["crash.time"].endswith("+00:00")
        wait_until(lambda: not others(folder), 10.0, what="the removal of both files")
        otelog.configure(endpoint=server.endpoint, service_name="test", crash_folder=None)
    assert os.listdir(folder) == []
    assert len(server.records) == 2


@pytest.mark.parametrize(
    ("content", "body"),
    [
        (CRASH, "Fatal Python error: Segmentation fault"),
        (b"\x00\xff\xfe\n" + bytes(range(256)) * 3000, None),
        ("\n\n   \nx" * 1_000_000, "x"),
    ],
    ids=["as it should be", "binary", "huge"],
)
def test_whatever_is_in_it_is_one_record_of_bounded_size(folder: Path, content: str | bytes, body: str | None) -> None:
    path = leave(folder, "crash-1-a.txt", content)
    with configured(crash_folder=folder) as server:
        record = flush_record(server)
        assert body is None or to_python(record.body) == body
        assert len(fields_of(record)["exception.stacktrace"]) < 2 * crashes.MOST_TEXT_BYTES
        wait_until_removed(path)


def test_what_is_no_crash_is_left_alone_and_what_is_empty_is_swept(folder: Path) -> None:
    empty = leave(folder, "crash-1-a.txt", b"")
    mine = leave(folder, f"crash-{os.getpid()}-b.txt")
    foreign = leave(folder, "notes.txt")
    (folder / "crash-2-c.txt").mkdir()
    os.mkfifo(folder / "crash-3-d.txt")
    (folder / "crash-4-e.txt").symlink_to(foreign)
    with configured(crash_folder=folder) as server:
        # The process id has come back: it is not of this process.
        assert to_python(flush_record(server).body) == "Fatal Python error: Segmentation fault"
        wait_until_removed(empty, mine)
        assert others(folder) == ["crash-2-c.txt", "crash-3-d.txt", "crash-4-e.txt", "notes.txt"]


def test_the_file_of_a_process_that_lives_is_not_reported(folder: Path) -> None:
    path = leave(folder, "crash-1-a.txt")
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        leave(folder, "crash-2-b.txt", b"")
        with configured(crash_folder=folder) as server:
            assert flush_records(server) == []
            assert others(folder) == ["crash-1-a.txt"]


def test_what_was_not_delivered_is_reported_again(folder: Path) -> None:
    path = leave(folder, "crash-1-a.txt")
    (port,) = find_free_ports(1)
    with configured(crash_folder=folder, endpoint=f"http://127.0.0.1:{port}", shutdown_timeout=0.1):
        assert otelog.stats().created == 1
        assert not otelog.shutdown(0.1)
    with configured(crash_folder=folder) as server:
        flush_record(server)
        wait_until_removed(path)


def test_a_faulthandler_of_the_applications_own_is_left_alone(folder: Path, tmp_path: Path) -> None:
    path = leave(folder, "crash-1-a.txt")
    with (tmp_path / "own.txt").open("w") as own:
        faulthandler.enable(file=own)
        with configured(crash_folder=folder) as server:
            flush_record(server)
            wait_until_removed(path)
            assert os.listdir(folder) == []
        assert faulthandler.is_enabled()
        faulthandler.disable()
        # And one that it enables later.
        with configured(crash_folder=folder):
            assert len(os.listdir(folder)) == 1
            faulthandler.enable(file=own)
        assert faulthandler.is_enabled()
        assert os.listdir(folder) == []
        faulthandler.disable()


def test_without_the_option_it_stays_off(folder: Path) -> None:
    with configured():
        assert not faulthandler.is_enabled()
    with configured(crash_folder=folder) as server:
        assert faulthandler.is_enabled()
        otelog.configure(endpoint=server.endpoint, service_name="test", crash_folder=None)
        assert not faulthandler.is_enabled()


def test_a_folder_that_cannot_be_made_costs_a_line_only(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder.write_text("a file", encoding="utf-8")
    with configured(crash_folder=folder / "below") as server:
        otelog.get_logger("app").info("goes on")
        assert to_python(flush_record(server).body) == "goes on"
        assert not faulthandler.is_enabled()
    assert "a crash would leave no record" in capfd.readouterr().err
