"""Many records into rotating files, a million in `make soak`: each in one file, in order; and a kill -9."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelog.sinks._folder_lock import LOCK_NAME
from otelog.sinks.files import FileLogExporter
from tests.pipelines import check_identity, make_logger
from tests.sinks.test_folder import finish_packing, logs
from tests.sizes import sized
from tools.waiting import wait_until

RECORDS = sized(40_000, full=1_000_000)
THREADS = 4
MAX_BYTES = 1_000_000
ROOT = Path(__file__).resolve().parents[2]

WRITER = """
import sys, threading
import otelog
folder, records, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
otelog.configure(exporters=["file"], file_folder=folder, file_max_bytes=1_000_000, file_max_files=0,
                 when_full="block", block_timeout=60.0, install_handler=False)
log = otelog.get_logger("load")
def call(name):
    for number in range(records // threads):
        log.info("m", worker=name, number=number)
print("ready", flush=True)
for name in range(threads):
    threading.Thread(target=call, args=(name,), daemon=True).start()
sys.stdin.readline()
"""


def read_lines(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in logs(folder):
        content = path.read_bytes()
        for line in (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines(keepends=True):
            yield path, line


def test_many_records_are_each_in_one_file_in_their_order_and_within_the_limits(tmp_path: Path) -> None:
    from otelog import BatchLogRecordProcessor

    exporter = FileLogExporter(folder=tmp_path, max_bytes=MAX_BYTES, max_files=0)
    processor = BatchLogRecordProcessor(
        exporter, 100, 2048, max_queue_size=10_000, when_full="block", block_timeout=60.0
    )
    log = make_logger(processor)

    def call(worker: int) -> None:
        for number in range(RECORDS // THREADS):
            log.info("order %d paid", number, worker=worker, number=number)

    callers = [threading.Thread(target=call, args=(worker,)) for worker in range(THREADS)]
    for caller in callers:
        caller.start()
    samples = 0
    too_large = []
    while any(caller.is_alive() for caller in callers):
        check_identity(processor.stats())
        for entry in os.scandir(tmp_path):
            try:
                size = entry.stat().st_size
            except FileNotFoundError:
                continue
            if size > MAX_BYTES and entry.name != LOCK_NAME:
                too_large.append((entry.name, size))
        samples += 1
    assert processor.force_flush(60_000)
    finish_packing()
    assert processor.shutdown(60_000)
    assert too_large == []
    assert samples > 10
    stats = processor.stats()
    check_identity(stats)
    assert stats.exported == stats.created == RECORDS
    following = [0] * THREADS
    for _, line in read_lines(tmp_path):
        record = json.loads(line)
        assert record["number"] == following[record["worker"]]
        following[record["worker"]] += 1
    assert following == [RECORDS // THREADS] * THREADS
    rotated = [path for path in logs(tmp_path) if path.name != "app.log"]
    assert len(rotated) > 5
    assert all(path.suffix == ".gz" for path in rotated)


@pytest.mark.parametrize("rotated", [1, 6, 25])
def test_a_kill_in_the_middle_costs_the_tail_and_tears_no_line_but_the_last(tmp_path: Path, rotated: int) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path), str(10 * RECORDS), str(THREADS)]
    writer = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        # Some files are rotated, and one of them perhaps in the middle of being packed.
        wait_until(lambda: len(list(tmp_path.glob("app.*-*.log*"))) >= rotated, 60.0)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    # The next process finishes what this one has left.
    exporter = FileLogExporter(folder=tmp_path, max_bytes=MAX_BYTES, max_files=0)
    exporter.folder.append("app", [b'{"worker":-1}\n'])
    finish_packing()
    exporter.shutdown()
    lines = list(read_lines(tmp_path))
    assert lines.pop()[1] == b'{"worker":-1}\n'
    following = [0] * THREADS
    torn = 0
    for at, (_, line) in enumerate(lines):
        try:
            record = json.loads(line)
        except ValueError:
            torn += 1
            assert at == len(lines) - 1, "a torn line in the middle"
            continue
        # What is there is the beginning of what each thread has logged, without a gap: only the tail is missing.
        assert record["number"] == following[record["worker"]]
        following[record["worker"]] += 1
    assert torn <= 1
    assert sum(following) > 1_000 * rotated
    assert not list(tmp_path.glob("*.tmp"))
    assert all(path.suffix == ".gz" for path in logs(tmp_path)[:-1])
