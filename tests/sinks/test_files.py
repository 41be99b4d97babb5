"""The file exporter in a pipeline: which record goes where, and what becomes of it when the disk does not take it."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor as StockProcessor
from opentelemetry.sdk._logs.export import (
    InMemoryLogRecordExporter,
    LogRecordExportResult,
    SimpleLogRecordProcessor,
)

from otelog import BatchLogRecordProcessor
from otelog.sinks._folder_lock import FolderLock
from otelog.sinks.files import FileLogExporter
from tests.pipelines import check_identity, make_logger, running
from tools.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
SOON = 5.0


def messages(path: Path) -> list[Any]:
    return [json.loads(line)["message"] for line in path.read_text(encoding="utf-8").splitlines()]


def found(folder: Path) -> dict[str, list[Any]]:
    return {path.stem: messages(path) for path in sorted(folder.glob("*.log"))}


@contextlib.contextmanager
def pipeline(folder: Path, *, export_timeout_millis: float = 30_000, **options: Any) -> Iterator[Any]:
    exporter = FileLogExporter(folder=folder, **options)
    processor = BatchLogRecordProcessor(exporter, 10, 100, export_timeout_millis, max_queue_size=10_000)
    with running(processor):
        yield processor


# Which record goes where.


def test_errors_and_language_models_have_files_of_their_own_beside_the_one_for_all(tmp_path: Path) -> None:
    with pipeline(tmp_path, ai_loggers=["shop.ai"]) as processor:
        shop, ai = make_logger(processor, "shop"), make_logger(processor, "shop.ai.chat")
        shop.info("plain", amount=1)
        shop.error("broken")
        shop.info("answer", **{"gen_ai.request.model": "m-1"})
        ai.info("by logger")
        ai.critical("both")
        make_logger(processor, "shop.airport").info("not that one")
        assert processor.force_flush(5_000)
        assert found(tmp_path) == {
            "app": ["plain", "broken", "answer", "by logger", "both", "not that one"],
            "errors": ["broken", "both"],
            "ai_responses": ["answer", "by logger", "both"],
        }
        stats = processor.stats()
        check_identity(stats)
        assert (stats.exported, list(stats.exporters)) == (6, ["file"])


def test_by_option_language_models_records_are_in_no_other_file_but_that_of_errors(tmp_path: Path) -> None:
    with pipeline(tmp_path, ai_only=True) as processor:
        log = make_logger(processor)
        log.info("plain")
        log.info("answer", **{"gen_ai.request.model": "m-1"})
        log.error("no answer", **{"gen_ai.request.model": "m-1"})
        assert processor.force_flush(5_000)
    assert found(tmp_path) == {
        "app": ["plain"],
        "errors": ["no answer"],
        "ai_responses": ["answer", "no answer"],
    }


def test_records_of_the_sdks_loggers_are_sorted_the_same_way(tmp_path: Path) -> None:
    with pipeline(tmp_path, ai_loggers=["ai"]) as processor:
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(processor)
        for name, severity, attributes in (
            ("plain", SeverityNumber.INFO, {}),
            ("ai", SeverityNumber.INFO, {}),
            ("plain", SeverityNumber.ERROR, {"gen_ai.system": "x"}),
        ):
            provider.get_logger(name).emit(LogRecord(body=name, severity_number=severity, attributes=attributes))
        assert processor.force_flush(5_000)
    assert found(tmp_path) == {
        "app": ["plain", "ai", "plain"],
        "errors": ["plain"],
        "ai_responses": ["ai", "plain"],
    }


def test_a_file_is_made_when_its_first_record_comes(tmp_path: Path) -> None:
    with pipeline(tmp_path) as processor:
        make_logger(processor).info("one")
        assert processor.force_flush(5_000)
        assert {path.name for path in tmp_path.iterdir()} == {"app.log", ".otelog.lock"}


def test_it_works_under_the_stock_processor(tmp_path: Path) -> None:
    exporter = FileLogExporter(folder=tmp_path)
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(StockProcessor(exporter))
    provider.get_logger("shop").emit(LogRecord(body={"nested": [1]}, severity_number=SeverityNumber.WARN))
    assert provider.force_flush()
    provider.shutdown()
    (line,) = [json.loads(line) for line in (tmp_path / "app.log").read_text().splitlines()]
    assert (line["level"], line["logger"], line["message"]) == ("WARN", "shop", {"nested": [1]})
    assert exporter.stats().exported == 1
    assert exporter.export([]) is LogRecordExportResult.FAILURE, "it is shut down"


# Forks.

HAS_FORK = "fork" in multiprocessing.get_all_start_methods()


def log_and_flush(processor: BatchLogRecordProcessor, message: str) -> None:
    make_logger(processor).info(message)
    assert processor.force_flush(10_000)


@pytest.mark.skipif(not HAS_FORK, reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_lines_of_a_forked_child_have_its_own_process_id(tmp_path: Path) -> None:
    with pipeline(tmp_path) as processor:
        log_and_flush(processor, "parent")
        child = multiprocessing.get_context("fork").Process(target=log_and_flush, args=(processor, "child"))
        child.start()
        child.join(30)
        assert child.exitcode == 0
        log_and_flush(processor, "parent again")
    lines = [json.loads(line) for line in (tmp_path / "app.log").read_text().splitlines()]
    assert [(line["message"], line["process"]) for line in lines] == [
        ("parent", os.getpid()),
        ("child", child.pid),
        ("parent again", os.getpid()),
    ]


def export_one(exporter: FileLogExporter, records: list[Any]) -> None:
    assert exporter.export(records) is LogRecordExportResult.SUCCESS


@pytest.mark.skipif(not HAS_FORK, reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_exports_though_another_thread_of_the_parent_was_in_the_middle_of_it(tmp_path: Path) -> None:
    exporter = FileLogExporter(folder=tmp_path)
    provider = LoggerProvider(shutdown_on_exit=False)
    kept = InMemoryLogRecordExporter()
    provider.add_log_record_processor(SimpleLogRecordProcessor(kept))
    provider.get_logger("shop").emit(LogRecord(body="one", severity_number=SeverityNumber.INFO))
    provider.shutdown()
    records = list(kept.get_finished_logs())
    lock = FolderLock(str(tmp_path))
    with lock:
        thread = threading.Thread(target=export_one, args=(exporter, records))
        thread.start()
        wait_until(lambda: exporter.stats().in_flight == 1)
        child = multiprocessing.get_context("fork").Process(target=export_one, args=(exporter, records))
        child.start()
    child.join(30)
    thread.join(30)
    lock.close()
    exporter.shutdown()
    assert child.exitcode == 0
    assert messages(tmp_path / "app.log") == ["one", "one"]


# Trouble.


def test_a_record_that_no_folder_could_keep_is_counted_as_too_large_and_the_others_are_written(tmp_path: Path) -> None:
    with pipeline(tmp_path, max_bytes=10_000, max_total_bytes=60_000) as processor:
        log = make_logger(processor)
        log.error("before")
        log.error("x" * 100_000)
        log.error("after")
        processor.force_flush(10_000)
        stats = processor.stats()
        check_identity(stats)
        assert (stats.exported, stats.dropped["too_large"]) == (2, 1)
    assert found(tmp_path) == {"app": ["before", "after"], "errors": ["before", "after"]}


def test_a_folder_that_may_only_be_read_is_told_of_at_once() -> None:
    with tempfile.TemporaryDirectory(prefix="otelog-tests-") as folder:
        done = run_without_privileges(
            folder,
            """
os.mkdir("in")
open("in/.otelog.lock", "w").close()
os.chmod("in", 0o500)
FileLogExporter(folder="in")
os.chmod("in", 0o700)
print("ok")
""",
        )
    assert done.stdout.strip() == "ok", done.stderr
    assert "/in cannot be written: Permission denied" in done.stderr


class Disk:
    """A small disk of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.filler = path / "filler"

    def fill(self) -> None:
        with self.filler.open("wb") as file, contextlib.suppress(OSError):
            while True:
                os.write(file.fileno(), b"x" * 4096)

    def free(self) -> None:
        self.filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a small disk cannot be mounted here: it needs root")
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)


def test_a_disk_that_is_full_is_waited_for_and_then_has_every_record(
    disk: Disk, capfd: pytest.CaptureFixture[str]
) -> None:
    with pipeline(disk.path / "logs") as processor:
        log = make_logger(processor)
        log.info("before")
        assert processor.force_flush(5_000)
        disk.fill()
        for number in range(2_000):
            (log.error if number % 2 else log.info)("m%d", number)
        assert processor.force_flush(100) is False
        check_identity(processor.stats())
        assert processor.stats().lost == 0
        disk.free()
        # 2,000 lines are more than the disk's quarter megabyte: what fits is there, in its order, and whole.
        wait_until(lambda: processor.stats().exported > 200)
        written = messages(disk.path / "logs" / "app.log")
        assert written == ["before", *(f"m{number}" for number in range(len(written) - 1))]
    error = capfd.readouterr().err
    assert "app.log cannot be written: No space left on device; it is tried again" in error


def test_what_a_full_disk_never_takes_is_counted_and_no_line_is_torn(disk: Disk) -> None:
    with pipeline(disk.path / "logs", export_timeout_millis=200, compression="none", max_bytes=0) as processor:
        log = make_logger(processor)
        calls: list[float] = []
        for number in range(3_000):
            began = time.perf_counter()
            log.info("m%d", number)
            calls.append(time.perf_counter() - began)
        wait_until(lambda: processor.stats().dropped["retry_exhausted"] > 0)
        processor.force_flush(20_000)
        stats = processor.stats()
        check_identity(stats)
        assert stats.created == 3_000
        written = messages(disk.path / "logs" / "app.log")
        assert len(written) == stats.exported
        assert stats.exported + stats.dropped["retry_exhausted"] == 3_000
        assert written == sorted(written, key=lambda text: int(text[1:]))
        # Nobody waited for the disk.
        assert sorted(calls)[len(calls) // 2] < 0.05


def test_a_shutdown_with_a_full_disk_is_bounded_and_counts_the_rest(disk: Disk) -> None:
    with pipeline(disk.path / "logs") as processor:
        disk.fill()
        log = make_logger(processor)
        for number in range(500):
            log.info("m%d", number)
        began = time.monotonic()
        assert processor.shutdown(500) is False
        assert time.monotonic() - began < SOON
        stats = processor.stats()
        check_identity(stats)
        assert stats.exported + stats.dropped["shutdown_timeout"] == 500


def test_a_record_that_is_in_one_of_its_files_is_not_written_there_again(tmp_path: Path) -> None:
    (tmp_path / "errors.log").mkdir()
    with pipeline(tmp_path) as processor:
        log = make_logger(processor)
        log.info("plain")
        log.error("broken")
        wait_until(lambda: (tmp_path / "app.log").exists() and len(messages(tmp_path / "app.log")) == 2)
        # The one that is where it belongs is counted, the other waits.
        wait_until(lambda: processor.stats().exported == 1)
        assert processor.stats().in_flight == 1
        (tmp_path / "errors.log").rmdir()
        wait_until(lambda: processor.stats().exported == 2)
        assert found(tmp_path) == {"app": ["plain", "broken"], "errors": ["broken"]}


def test_a_folder_that_is_removed_under_load_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    with pipeline(folder, max_bytes=20_000, max_files=0) as processor:
        done = threading.Event()

        def remove() -> None:
            while not done.is_set():
                for path in list(folder.glob("*")) + list(folder.glob(".*")):
                    with contextlib.suppress(OSError):
                        path.unlink()
                with contextlib.suppress(OSError):
                    folder.rmdir()

        remover = threading.Thread(target=remove)
        remover.start()
        log = make_logger(processor)
        for number in range(5_000):
            log.info("m%d", number)
        done.set()
        remover.join()
        processor.force_flush(20_000)
        log.info("last")
        assert processor.force_flush(20_000)
        stats = processor.stats()
        check_identity(stats)
        assert stats.exported == stats.created == 5_001
        assert messages(folder / "app.log")[-1] == "last"


def test_a_folder_that_cannot_be_written_is_told_at_once_and_recovers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "logs"
    # Something else is in its place; permissions mean nothing to root, who runs tests in containers.
    folder.write_text("a file")
    with pipeline(folder) as processor:
        assert f"log files in {folder} cannot be written: Not a directory" in capfd.readouterr().err
        make_logger(processor).info("one")
        wait_until(lambda: processor.stats().in_flight == 1)
        folder.unlink()
        assert processor.force_flush(20_000)
        assert messages(folder / "app.log") == ["one"]


TAKE_PERMISSION_AWAY = """
processor = BatchLogRecordProcessor(FileLogExporter(folder="in", compression="none"), 10)
log = Logger("child", processor.pipeline)
log.info("one")
assert processor.force_flush(10_000)
os.rename("in", "away")
os.mkdir("in", 0o500)
log.info("two")
assert processor.force_flush(300) is False
assert (processor.stats().lost, processor.stats().in_flight) == (0, 1)
os.chmod("in", 0o700)
assert processor.force_flush(10_000)
assert processor.stats().exported == 2
for folder, message in (("away", "one"), ("in", "two")):
    with open(os.path.join(folder, "app.log")) as file:
        assert [json.loads(line)["message"] for line in file] == [message]
assert processor.shutdown(5_000)
print("ok")
"""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no users here")
def test_a_permission_that_is_taken_away_and_given_back_loses_nothing() -> None:
    """In a child that is no superuser, to whom permissions mean something."""
    # pytest's own folders are not for others.
    with tempfile.TemporaryDirectory(prefix="otelog-tests-") as folder:
        done = run_without_privileges(folder, TAKE_PERMISSION_AWAY)
    assert done.stdout.strip() == "ok", done.stderr
    assert "cannot be written: Permission denied" in done.stderr


def run_without_privileges(folder: str, body: str) -> subprocess.CompletedProcess[str]:
    script = f"""
import json, os, sys
from otelog import BatchLogRecordProcessor
from otelog._capture.facade import Logger
from otelog.sinks.files import FileLogExporter
os.chdir({folder!r})
if os.geteuid() == 0:
    # All that is imported is imported by now: that user may have no way to the interpreter, or to this folder.
    os.chown(".", 65534, 65534)
    os.setgid(65534)
    os.setuid(65534)
{body}"""
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


def test_the_exporter_ends_its_threads_and_closes_its_files(tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir())) if descriptors.exists() else 0
    with pipeline(tmp_path, max_bytes=1_000, max_files=0) as processor:
        for number in range(100):
            make_logger(processor).error("m%d", number)
        assert processor.force_flush(5_000)
    if before:
        wait_until(lambda: len(list(descriptors.iterdir())) <= before)
