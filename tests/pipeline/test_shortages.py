"""What is short for a while costs time, and at most the records that are told: no caller is told by an exception."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from otelog.sinks._stream import PIECE_BYTES
from otelog.testing import OTLPServer

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the limits are Linux's")

WITHOUT_DESCRIPTORS = """
import sys, otelog
from tests.chaos.trouble import no_descriptors, no_threads
from contextlib import nullcontext
starved = sys.argv[2] == "no thread"
with no_threads() if starved else nullcontext():
    otelog.configure(
        endpoint=sys.argv[1], schedule_delay_millis=600_000, export_timeout_millis=3_000 if starved else 30_000
    )
otelog.get_logger("short").info("kept")
with no_descriptors() as short:
    assert short
    # Nothing of HTTP is imported yet.
    assert not otelog.flush(10 if starved else 0.3)
stats = otelog.stats()
if starved:
    # The caller itself has done what it could in the time for a batch.
    assert (stats.dropped["retry_exhausted"], stats.worker_restarts, stats.lost) == (1, 0, 1), stats
    otelog.get_logger("short").info("kept")
assert otelog.flush(10), otelog.stats()
stats = otelog.stats()
assert (stats.exported, stats.worker_restarts) == (1, 0), stats
"""


@pytest.mark.parametrize("worker", ["its thread", "no thread"])
def test_a_first_export_without_descriptors_is_tried_again(worker: str) -> None:
    with OTLPServer() as server:
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_DESCRIPTORS, server.endpoint, worker],
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert [record.body.string_value for record in server.records] == ["kept"]


FAILS_ONCE = """
import otelog
from otelog import BatchLogRecordProcessor
from otelog._pipeline.batch_export import SdkBatchExport, BatchExporter
from otelog._capture.facade import Logger
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from tests.chaos.trouble import no_threads

class Failing(InMemoryLogRecordExporter, BatchExporter):
    default_name = "failing"
    failed = False

    def make_batch_export(self, context):
        batch_export = SdkBatchExport(self, lambda rows: rows[::10], "failing")
        deliver = batch_export.deliver
        def fail_once(*arguments):
            if not self.failed:
                self.failed = True
                raise RuntimeError("once")
            deliver(*arguments)
        batch_export.deliver = fail_once
        return batch_export

with no_threads() as starved:
    assert starved
    processor = BatchLogRecordProcessor(Failing(), 600_000)
    log = Logger("short", processor.pipeline)
    log.info("lost")
    assert not processor.force_flush(1_000)
    log.info("kept")
    assert processor.force_flush(1_000)
stats = processor.stats()
assert (stats.created, stats.exported, stats.dropped["worker_crash"]) == (2, 1, 1), stats
assert processor.shutdown()
"""


def test_what_fails_in_a_flush_that_does_the_workers_work_is_counted_and_not_raised() -> None:
    done = subprocess.run([sys.executable, "-c", FAILS_ONCE], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert "the worker was stopped by RuntimeError: once; it continues" in done.stderr


LONG_LINES = """
import sys, otelog
otelog.configure(exporters=["console"], console_format="json", console_stream="stdout", schedule_delay_millis=5)
log = otelog.get_logger("long")
for number in range(200):
    log.info(sys.argv[1] * int(sys.argv[2]))
assert otelog.flush(20)
"""


def test_long_lines_of_several_processes_in_a_file_are_whole(tmp_path: object) -> None:
    path = f"{tmp_path}/console.log"
    length = 10 * PIECE_BYTES
    with open(path, "ab") as file:
        writers = [
            subprocess.Popen([sys.executable, "-c", LONG_LINES, letter, str(length)], stdout=file) for letter in "abc"
        ]
        assert [writer.wait() for writer in writers] == [0, 0, 0]
    with open(path, encoding="utf-8") as lines:
        messages = [line.partition('"message":"')[2][:length] for line in lines]
    assert sorted(messages) == sorted(letter * length for letter in "abc" for _ in range(200))
