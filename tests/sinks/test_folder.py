"""The log files of a folder: rotation, packing, removal, and several processes, by what lies in the folder."""

from __future__ import annotations

import contextlib
import gzip
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from otelog.exceptions import ConfigurationError
from otelog.sinks._folder import LineTooLargeError, LogFolder
from otelog.sinks._folder_lock import LOCK_NAME, FolderLock
from otelog.sinks._names import next_day_stamp, next_second_stamp, parse_name, read_time
from otelog.sinks._settings import FileSettings, check_settings
from tools.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
KIB = 1024


class Clock:
    """A clock that is set by hand; it begins at noon, local time."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 12, 0, 0).astimezone().timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., LogFolder]]:
    """Opens folders, which are closed at the end of the test."""
    folders = []

    def open_folder(*, clock: Callable[[], float] = time.time, **settings: Any) -> LogFolder:
        defaults = {"folder": str(tmp_path / "logs"), "compression": "none"}
        folders.append(LogFolder(check_settings(FileSettings(**{**defaults, **settings})), clock=clock))
        return folders[-1]

    yield open_folder
    for folder in folders:
        folder.close()


def finish_packing() -> None:
    """Wait until nothing is being packed."""
    wait_until(lambda: not any(thread.name == "otelog-file-packer" for thread in threading.enumerate()))


def line(number: int, size: int = 100) -> bytes:
    return f"{number:08}".encode().ljust(size - 1, b".") + b"\n"


def read_lines(path: Path) -> list[bytes]:
    """A file's lines, each of which must be whole."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    elif path.suffix == ".zst":
        import zstandard

        content = zstandard.ZstdDecompressor().decompressobj().decompress(content)
    assert content.endswith(b"\n")
    return content[:-1].split(b"\n")


def read(path: Path) -> list[int]:
    """The numbers of a file's lines."""
    lines = read_lines(path)
    assert all(one[8:].strip(b".") == b"" for one in lines)
    return [int(one[:8]) for one in lines]


def logs(folder: Path, pattern: str = "app*.log*") -> list[Path]:
    """Rotated files in the order of their rotation, then the one that is written."""
    return sorted(folder.glob(pattern), key=lambda path: (path.name == "app.log", path.name))


def read_all(folder: Path) -> list[int]:
    return [number for path in logs(folder) for number in read(path)]


# Rotation.


def test_files_are_rotated_before_they_are_too_large(opened: Any, tmp_path: Path) -> None:
    folder = opened(max_bytes=1_000, max_files=0)
    for start in range(0, 95, 5):
        folder.append("app", [line(number) for number in range(start, start + 5)])
    assert read_all(tmp_path / "logs") == list(range(95))
    assert [path.stat().st_size for path in logs(tmp_path / "logs")] == [1_000] * 9 + [500]


def test_a_line_that_is_longer_than_a_file_has_one_to_itself(opened: Any, tmp_path: Path) -> None:
    folder = opened(max_bytes=500, max_files=0)
    folder.append("app", [line(0), line(1, 2_000_000), line(2)])
    assert [read(path) for path in logs(tmp_path / "logs")] == [[0], [1], [2]]


def test_without_a_bound_a_batch_of_any_size_goes_into_one_file(opened: Any, tmp_path: Path) -> None:
    opened(max_bytes=0).append("app", [line(number, 10_000) for number in range(300)])
    assert [path.name for path in logs(tmp_path / "logs")] == ["app.log"]
    assert read_all(tmp_path / "logs") == list(range(300))


def test_files_are_rotated_when_they_are_old_even_if_the_process_began_anew(
    opened: Any, tmp_path: Path, clock: Clock
) -> None:
    opened(clock=clock, interval=60.0).append("app", [line(0)])
    clock.now += 59
    opened(clock=clock, interval=60.0).append("app", [line(1)])
    clock.now += 2
    opened(clock=clock, interval=60.0).append("app", [line(2)])
    assert [read(path) for path in logs(tmp_path / "logs")] == [[0, 1], [2]]


def test_an_empty_file_is_never_rotated(opened: Any, tmp_path: Path, clock: Clock) -> None:
    folder = opened(clock=clock, interval=60.0)
    folder.append("app", [])
    clock.now += 600
    folder.append("app", [line(0)])
    assert [path.name for path in logs(tmp_path / "logs")] == ["app.log"]


def test_files_are_named_by_the_day_that_they_hold(opened: Any, tmp_path: Path, clock: Clock) -> None:
    folder = opened(clock=clock, daily=True, max_bytes=300, max_files=0)
    folder.append("app", [line(number) for number in range(4)])
    clock.now += 24 * 3600
    folder.append("app", [line(4)])
    clock.now += 48 * 3600
    folder.append("app", [line(5)])
    names = {path.name: read(path) for path in logs(tmp_path / "logs")}
    assert names == {
        "app.20261124-0001.log": [0, 1, 2],
        "app.20261124.log": [3],
        "app.20261125.log": [4],
        "app.log": [5],
    }
    # By the parsed order, not by the raw name, the parts of a day come before its end.
    ordered = sorted((name for name in map(parse_name, names) if name and name.stamp), key=lambda name: name.order)
    assert [name.base for name in ordered] == [*names][:3]


def test_a_day_that_comes_twice_because_the_clock_is_set_back_goes_on_in_order(
    opened: Any, tmp_path: Path, clock: Clock
) -> None:
    folder = opened(clock=clock, daily=True, max_bytes=200, max_files=0)
    # From noon to just after midnight, back to before it, and over it once more.
    for number, hours in enumerate([0, 12.1, -0.3, 0.1, 0.1, 0.3, 24]):
        clock.now += hours * 3600
        folder.append("app", [line(number)])
    assert read_all(tmp_path / "logs") == list(range(7))


def test_a_file_is_rotated_too_when_the_clock_is_set_back_by_more_than_the_interval(
    opened: Any, tmp_path: Path, clock: Clock
) -> None:
    folder = opened(clock=clock, interval=60.0)
    folder.append("app", [line(0)])
    clock.now -= 3600
    folder.append("app", [line(1)])
    assert [read(path) for path in logs(tmp_path / "logs")] == [[0], [1]]


def test_names_sort_in_the_order_of_rotation_also_when_the_clock_is_set_back(
    opened: Any, tmp_path: Path, clock: Clock
) -> None:
    folder = opened(clock=clock, max_bytes=100, max_files=0)
    for number in range(30):
        folder.append("app", [line(number)])
        clock.now -= number % 3
    assert read_all(tmp_path / "logs") == list(range(30))


def test_stamps_go_on_when_the_numbers_of_a_second_or_a_day_are_used_up() -> None:
    assert next_second_stamp(0.0, ["20261124-212937-9999"]) == "20261124-212938-0001"
    day = datetime(2026, 11, 24).date()  # noqa: DTZ001 - a day has no zone
    assert next_day_stamp(day, ["20261124-9999"], is_over=False) == "20261125-0001"
    assert next_day_stamp(day, ["20261124"], is_over=True) == "20261125-0001"


@pytest.mark.parametrize(
    "name",
    [
        *("app.log.1", "application.log", "app.log.gz", "app.2026.txt", "app.20261399-000000-0001.log", ".app.log"),
        *("app.20261124-212937-0001.log.bz2", "app.log.tmp", "errors.txt", LOCK_NAME),
    ],
)
def test_names_that_are_not_ours_are_not_known(name: str) -> None:
    assert parse_name(name) is None


def test_the_moment_of_rotation_is_read_from_the_name() -> None:
    assert read_time("20261124-212937-0001") == datetime.fromisoformat("2026-11-24T21:29:37+00:00").timestamp()
    end = datetime(2026, 11, 25).astimezone().timestamp()
    assert read_time("20261124") == read_time("20261124-0003") == end


# What is kept.


def test_the_newest_files_are_kept_of_each_kind(opened: Any, tmp_path: Path) -> None:
    folder = opened(max_bytes=100, max_files=3, ai_max_files=5)
    for number in range(20):
        for stream in ("app", "errors", "ai_responses"):
            folder.append(stream, [line(number)])
    assert read_all(tmp_path / "logs") == [16, 17, 18, 19]
    kept = Counter(path.name.split(".")[0] for path in (tmp_path / "logs").glob("*.log"))
    assert kept == {"app": 4, "errors": 4, "ai_responses": 6}


def test_old_files_are_removed(opened: Any, tmp_path: Path, clock: Clock) -> None:
    folder = opened(clock=clock, max_bytes=100, max_files=0, max_age_days=1)
    for number in range(5):
        folder.append("app", [line(number)])
        clock.now += 12 * 3600
    # Each rotation carries the time at which the next line came.
    assert read_all(tmp_path / "logs") == [1, 2, 3, 4]


def test_files_that_are_not_ours_stay(opened: Any, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    others = ["app.log.1", "application.log", "app.20261124-212937-0001.log.bak", "notes.txt"]
    for name in others:
        (tmp_path / "logs" / name).write_text("mine")
    folder = opened(max_bytes=100, max_files=1, max_total_bytes=100 * KIB)
    for number in range(10):
        folder.append("app", [line(number)])
    assert {path.name for path in (tmp_path / "logs").iterdir()} >= set(others)


def test_all_limits_hold_at_every_instant(opened: Any, tmp_path: Path) -> None:
    limits = {"max_bytes": 20 * KIB, "max_files": 4, "max_total_bytes": 150 * KIB}
    folder = opened(compression="gzip", **limits)
    done = threading.Event()
    seen: list[str] = []

    def sample() -> None:
        while not done.is_set():
            names = os.listdir(tmp_path / "logs")
            rotated = {name.partition(".log")[0] for name in names if "-" in name}
            if len(rotated) > limits["max_files"]:
                seen.append(f"{len(rotated)} files")
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    if (tmp_path / "logs" / name).stat().st_size > limits["max_bytes"]:
                        seen.append(f"{name} is too large")

    (tmp_path / "logs").mkdir()
    thread = threading.Thread(target=sample)
    thread.start()
    try:
        for _ in range(400):
            folder.append("app", [os.urandom(48).hex().encode() + b"\n" for _ in range(50)])
    finally:
        done.set()
        thread.join()
    assert seen == []


def test_the_folders_total_is_kept_while_files_are_packed(opened: Any, tmp_path: Path) -> None:
    limit = 150 * KIB
    folder = opened(compression="gzip", max_bytes=20 * KIB, max_files=0, max_total_bytes=limit)
    for _ in range(200):
        folder.append("app", [os.urandom(48).hex().encode() + b"\n" for _ in range(50)])
        with folder._hold():
            # Whoever has the lock sees the folder as it is.
            assert sum(path.stat().st_size for path in (tmp_path / "logs").iterdir()) <= limit
    folder.close()
    assert len(logs(tmp_path / "logs")) > 3


def test_the_total_is_kept_while_two_processes_write(tmp_path: Path) -> None:
    limit = 150 * KIB
    place = tmp_path / "logs"
    settings = {"folder": str(place), "max_bytes": 20 * KIB, "max_files": 0, "max_total_bytes": limit}
    command = [sys.executable, "-c", ENDLESS_WRITER, repr(settings)]
    writers = [
        subprocess.Popen([*command, str(number * 1_000_000)], cwd=ROOT, stdout=subprocess.DEVNULL) for number in (1, 2)
    ]
    try:
        wait_until(lambda: len(list(place.glob("*.gz"))) > 1 if place.exists() else False)
        lock = FolderLock(str(place))
        totals = set()

        def look() -> bool:
            # A look without the lock would not be one of a single instant.
            with lock:
                totals.add(sum(path.stat().st_size for path in place.iterdir()))
            return len(totals) > 50

        wait_until(look, 30.0)
        lock.close()
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert max(totals) <= limit


def test_what_larger_settings_have_left_is_brought_below_the_total_before_anything_is_written(
    opened: Any, tmp_path: Path
) -> None:
    place = tmp_path / "logs"
    opened(max_bytes=0, max_files=0).append("app", [line(0, 500 * KIB)])
    opened(max_bytes=0).append("errors", [line(1, 500 * KIB)])
    opened(max_bytes=20 * KIB, max_total_bytes=150 * KIB).append("app", [line(2)])
    assert sum(path.stat().st_size for path in place.iterdir()) < 150 * KIB
    assert read(place / "app.log") == [2]


def test_a_line_that_is_larger_than_the_total_is_told_and_those_around_it_are_written(
    opened: Any, tmp_path: Path
) -> None:
    folder = opened(max_bytes=20 * KIB, max_files=0, max_total_bytes=150 * KIB)
    lines = [line(0), line(1), line(2, 200 * KIB), line(3)]
    with pytest.raises(LineTooLargeError) as caught:
        folder.append("app", lines)
    assert caught.value.written == 2
    folder.append("app", lines[3:])
    assert read_all(tmp_path / "logs") == [0, 1, 3]


def test_a_file_is_left_unpacked_where_only_live_files_could_make_room_for_it(tmp_path: Path) -> None:
    # The total is less than the settings may have, so that a rotated file and its packed copy do not both fit.
    settings = FileSettings(folder=str(tmp_path / "logs"), max_bytes=20 * KIB, max_total_bytes=42 * KIB)
    folder = LogFolder(settings)
    for stream, size in (("errors", 9 * KIB), ("app", 9 * KIB), ("app", 1 * KIB + KIB // 2)):
        folder.append(stream, [os.urandom(size).hex().encode() + b"\n"])
    finish_packing()
    folder.close()
    sizes = [path.stat().st_size for path in logs(tmp_path / "logs", "*.log*")]
    assert sorted(sizes) == [3 * KIB + 1, 18 * KIB + 1, 18 * KIB + 1]


# Packing.


@pytest.mark.parametrize(("compression", "suffix"), [("gzip", ".gz"), ("zstd", ".zst")])
def test_rotated_files_are_packed_and_hold_the_same(opened: Any, tmp_path: Path, compression: str, suffix: str) -> None:
    if compression == "zstd":
        pytest.importorskip("zstandard")
    folder = opened(compression=compression, max_bytes=1_000, max_files=0)
    for number in range(100):
        folder.append("app", [line(number)])
    finish_packing()
    names = [path.name for path in logs(tmp_path / "logs")]
    assert len(names) == 10
    assert all(name.endswith(f".log{suffix}") for name in names[:-1]), names
    assert read_all(tmp_path / "logs") == list(range(100))


def test_what_a_killed_process_has_left_is_finished_by_the_next(opened: Any, tmp_path: Path) -> None:
    place = tmp_path / "logs"
    place.mkdir()
    packed = gzip.compress(line(0))
    # Killed before the raw file was removed, in the middle of packing, and before it.
    (place / "app.20261124-000000-0001.log.gz").write_bytes(packed)
    (place / "app.20261124-000000-0001.log").write_bytes(line(0))
    (place / "app.20261124-000000-0002.log").write_bytes(line(1))
    (place / "app.20261124-000000-0002.log.gz.tmp").write_bytes(packed[:10])
    (place / "app.20261124-000000-0003.log").write_bytes(line(2))
    folder = opened(compression="gzip", max_files=0)
    folder.append("app", [line(3)])
    finish_packing()
    assert [path.name for path in logs(place)] == [
        "app.20261124-000000-0001.log.gz",
        "app.20261124-000000-0002.log.gz",
        "app.20261124-000000-0003.log.gz",
        "app.log",
    ]
    assert read_all(place) == [0, 1, 2, 3]


def test_a_file_that_cannot_be_packed_is_told_of_and_stays(
    opened: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = opened(compression="gzip", max_bytes=100, max_files=0)
    folder.append("app", [line(0)])
    # A folder in the place where the packed file would be written.
    blocked = tmp_path / "logs" / "app.20261124-000000-0001.log.gz.tmp"
    blocked.mkdir()
    (tmp_path / "logs" / "app.20261124-000000-0001.log").write_bytes(line(7))
    folder.append("app", [line(1)])
    finish_packing()
    assert "cannot be packed: Is a directory" in capfd.readouterr().err
    blocked.rmdir()
    assert sorted(read_all(tmp_path / "logs")) == [0, 1, 7]


# Other programs and processes.


def test_a_line_that_a_killed_process_left_torn_is_the_only_torn_one(opened: Any, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "app.log").write_bytes(line(0) + b"torn")
    opened().append("app", [line(1)])
    assert (tmp_path / "logs" / "app.log").read_bytes() == line(0) + b"torn\n" + line(1)


def test_a_file_that_another_program_renames_is_left_to_it(opened: Any, tmp_path: Path) -> None:
    folder = opened()
    folder.append("app", [line(0)])
    (tmp_path / "logs" / "app.log").rename(tmp_path / "logs" / "app.log.1")
    folder.append("app", [line(1)])
    assert read(tmp_path / "logs" / "app.log.1") == [0]
    assert read(tmp_path / "logs" / "app.log") == [1]


def test_a_file_that_another_program_empties_goes_on_at_its_begin(opened: Any, tmp_path: Path) -> None:
    folder = opened(max_bytes=1_000)
    for number in range(9):
        folder.append("app", [line(number)])
    os.truncate(tmp_path / "logs" / "app.log", 0)
    folder.append("app", [line(9), line(10)])
    assert [path.name for path in logs(tmp_path / "logs")] == ["app.log"]
    assert read_all(tmp_path / "logs") == [9, 10]


def test_a_daemon_that_goes_to_another_folder_still_writes_where_it_was_told_to(
    opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = opened(folder="logs")
    folder.append("app", [line(0)])
    folder.close()
    monkeypatch.chdir("/")
    folder.append("app", [line(1)])
    assert read_all(tmp_path / "logs") == [0, 1]


def test_a_descriptor_that_the_application_closes_and_uses_itself_is_let_alone(opened: Any, tmp_path: Path) -> None:
    folder = opened()
    folder.append("app", [line(0)])
    mine = tmp_path / "mine"
    ours = {
        int(entry.name): entry.resolve()
        for entry in Path("/proc/self/fd").iterdir()
        if tmp_path / "logs" in entry.resolve().parents
    }
    assert len(ours) == 2
    with mine.open("wb", buffering=0) as file:
        # As a daemon does that closes all that is open, and opens files of its own.
        for descriptor in ours:
            os.dup2(file.fileno(), descriptor)
        folder.append("app", [line(1)])
        folder.close()
        assert mine.read_bytes() == b""
        for descriptor in ours:
            assert os.fstat(descriptor).st_ino == mine.stat().st_ino
            os.close(descriptor)
    assert read_all(tmp_path / "logs") == [0, 1]


CUT_WRITER = """
import resource, signal, sys
from otelog.sinks._folder import LogFolder, WriteError
from otelog.sinks._settings import FileSettings
folder = LogFolder(FileSettings(folder=sys.argv[1]))
lines = [f"{number:08}".encode().ljust(99, b".") + b"\\n" for number in range(20)]
# The system itself writes the first 1,050 bytes and refuses the rest, as a full disk does.
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1_050, hard))
try:
    folder.append("app", lines)
except WriteError as error:
    print(type(error).__name__, error.strerror, error.written, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    folder.append("app", lines[error.written:])
"""


def test_a_line_of_which_only_a_part_could_be_written_is_cut_off_again(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CUT_WRITER, str(tmp_path / "logs")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "WriteError File too large 10\n", done.stderr
    assert read(tmp_path / "logs" / "app.log") == list(range(20))


def test_a_folder_that_is_removed_is_made_again(opened: Any, tmp_path: Path) -> None:
    folder = opened()
    folder.append("app", [line(0)])
    for path in (tmp_path / "logs").iterdir():
        path.unlink()
    (tmp_path / "logs").rmdir()
    folder.append("app", [line(1)])
    assert read_all(tmp_path / "logs") == [1]


def test_a_symbolic_link_in_the_files_place_is_not_followed(opened: Any, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "logs" / "app.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        opened().append("app", [line(0)])
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_files_and_folder_are_not_for_everybody(opened: Any, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        opened().append("app", [line(0)])
    finally:
        os.umask(before)
    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "logs" / "app.log").stat().st_mode & 0o777 == 0o640


WRITER = """
import sys
from otelog.sinks._folder import LogFolder
from otelog.sinks._settings import FileSettings
folder = LogFolder(FileSettings(**eval(sys.argv[1])))
first = int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for start in range(first, first + 5_000, 10):
    folder.append("app", [f"{number:08}".encode().ljust(99, b".") + b"\\n" for number in range(start, start + 10)])
folder.close()
"""


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("per_process", [False, True])
def test_several_processes_write_every_line_once(tmp_path: Path, per_process: bool, processes: int) -> None:
    firsts = range(0, processes * 10_000, 10_000)
    settings = {"folder": str(tmp_path / "logs"), "max_bytes": 100_000, "max_files": 0, "per_process": per_process}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, repr(settings), str(first)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for first in firsts
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        writer.communicate(b"\n", timeout=60)
        assert writer.returncode == 0
    numbers = read_all(tmp_path / "logs")
    assert Counter(numbers) == Counter(number for first in firsts for number in range(first, first + 5_000))
    for first in firsts:
        if not per_process:
            own = [number for number in numbers if first <= number < first + 5_000]
            assert own == sorted(own)
    assert all(path.stat().st_size <= 100_000 for path in logs(tmp_path / "logs"))
    names = {path.name for path in logs(tmp_path / "logs")}
    assert ("app.log" in names) != per_process
    # What an ended process has left is rotated by another, and goes by its name still.
    owners = {name.split(".")[1] for name in names}
    assert (owners == {str(writer.pid) for writer in writers}) == per_process


ENDLESS_WRITER = """
import sys
from otelog.sinks._folder import LogFolder
from otelog.sinks._settings import FileSettings
folder = LogFolder(FileSettings(**eval(sys.argv[1])))
number = int(sys.argv[2])
while True:
    folder.append("app", [f"{one:08}".encode().ljust(99, b".") + b"\\n" for one in range(number, number + 10)])
    number += 10
    # What is told of is in the file.
    print(number, flush=True)
"""


@pytest.mark.parametrize("per_process", [False, True])
def test_processes_that_are_killed_while_they_write_lose_no_line_and_the_next_packs_what_they_left(
    opened: Any, tmp_path: Path, per_process: bool
) -> None:
    settings = {"folder": str(tmp_path / "logs"), "max_bytes": 20_000, "max_files": 0, "per_process": per_process}
    told: list[tuple[int, int]] = []
    for round_number in range(4):
        command = [sys.executable, "-c", ENDLESS_WRITER, repr(settings)]
        firsts = [(2 * round_number + number) * 1_000_000 for number in range(2)]
        writers = [
            subprocess.Popen([*command, str(first)], cwd=ROOT, stdout=subprocess.PIPE, text=True) for first in firsts
        ]
        for writer in writers:
            assert writer.stdout is not None
            for _ in range(300 + 100 * round_number):
                writer.stdout.readline()
        for writer in writers:
            writer.kill()
        for first, writer in zip(firsts, writers, strict=True):
            out = writer.communicate()[0].splitlines()
            # The last line of its output may be torn, too; the one before it is not.
            told.append((first, int(out[-2]) if len(out) > 1 else first))
    folder = opened(**{**settings, "compression": "gzip", "per_process": False})
    folder.append("errors", [line(0)])
    finish_packing()
    left = [path.name for path in logs(tmp_path / "logs") if path.suffix != ".gz" and path.name != "app.log"]
    assert left == []
    numbers, torn = Counter[int](), 0
    for path in logs(tmp_path / "logs"):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for one in content.splitlines():
            if len(one) == 99:
                numbers[int(one[:8])] += 1
            else:
                torn += 1
    assert torn <= len(told)
    assert set(numbers.values()) == {1}
    for first, end in told:
        assert all(number in numbers for number in range(first, end))


def test_the_file_of_a_process_that_is_no_more_is_rotated_by_another(opened: Any, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "app.1234567.log").write_bytes(line(0))
    opened(per_process=True, compression="gzip").append("app", [line(1)])
    finish_packing()
    (rotated,) = (tmp_path / "logs").glob("app.1234567.*")
    assert parse_name(rotated.name)._replace(stamp="") == ("app", "1234567", "", ".gz", False)
    assert read(rotated) == [0]
    assert read(tmp_path / "logs" / f"app.{os.getpid()}.log") == [1]


def test_two_that_have_the_same_process_id_have_files_of_their_own(opened: Any, tmp_path: Path) -> None:
    # As the first processes of two containers have, or two exporters of one process.
    folders = [opened(per_process=True) for _ in range(2)]
    for number in range(4):
        folders[number % 2].append("app", [line(number)])
    names = {path.name: read(path) for path in logs(tmp_path / "logs")}
    assert names == {f"app.{os.getpid()}.log": [0, 2], f"app.{os.getpid()}-2.log": [1, 3]}


def append_in_child(folder: LogFolder) -> None:
    folder.append("app", [line(1)])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_opens_its_own(opened: Any, tmp_path: Path) -> None:
    folder = opened(per_process=True)
    folder.append("app", [line(0)])
    child = multiprocessing.get_context("fork").Process(target=append_in_child, args=(folder,))
    child.start()
    child.join(30)
    folder.append("app", [line(2)])
    assert child.exitcode == 0
    assert read(tmp_path / "logs" / f"app.{os.getpid()}.log") == [0, 2]
    assert read(tmp_path / "logs" / f"app.{child.pid}.log") == [1]


def test_a_lock_that_another_holds_is_waited_for_and_then_told_of(opened: Any, tmp_path: Path) -> None:
    holder, waiter = opened(), opened()
    holder.append("app", [line(0)])
    outcome: list[BaseException] = []

    def append() -> None:
        try:
            waiter.append("app", [line(1)])
        except OSError as error:
            outcome.append(error)

    with holder._hold():
        thread = threading.Thread(target=append)
        thread.start()
        thread.join(30)
    assert "another process holds the folder's lock" in str(outcome[0])
    waiter.append("app", [line(2)])
    assert read_all(tmp_path / "logs") == [0, 2]


# Settings.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folder": ""}, "folder='': allowed is a folder's path"),
        ({"folder": 7}, "folder=7"),
        ({"max_bytes": -1}, "max_bytes=-1: allowed is a whole number >= 0"),
        ({"max_files": True}, "max_files=True"),
        ({"interval": float("inf")}, "interval=inf: allowed is a number >= 0"),
        ({"daily": 1}, "daily=1: allowed is True, False"),
        ({"compression": "bzip2"}, "compression='bzip2': allowed is gzip, zstd, none"),
        ({"ai_loggers": "ai"}, "ai_loggers='ai': allowed is a list of loggers' names"),
        ({"max_total_bytes": 1_000}, "max_total_bytes=1000 is too small for files of max_bytes=104857600"),
        ({"max_total_bytes": 1_000, "max_bytes": 0}, "max_total_bytes needs max_bytes"),
    ],
)
def test_settings_that_cannot_be_are_told(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_settings(FileSettings(**settings))
    assert str(caught.value).startswith(message)


def test_a_closed_folder_leaves_what_is_being_packed_as_it_was_and_no_thread(opened: Any, tmp_path: Path) -> None:
    folder = opened(compression="gzip", max_bytes=1024 * KIB, max_files=0)
    for _ in range(100):
        folder.append("app", [os.urandom(500).hex().encode() + b"\n" for _ in range(100)])
    folder.close()
    finish_packing()
    assert not list((tmp_path / "logs").glob("*.tmp"))
    assert sum(len(read_lines(path)) for path in logs(tmp_path / "logs")) == 10_000
