"""An exporter that hangs beside a file beside OTLP, under many records: a million in `make soak`."""

from __future__ import annotations

import gzip
import threading
from pathlib import Path
from typing import Any

from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult

import otelog
from tests.arrivals import configured
from tests.pipeline.test_exporter_queue import check_books
from tests.sizes import sized
from tools.waiting import wait_until

RECORDS = sized(20_000, full=1_000_000)
THREADS = 4
HELD = sized(2_000, full=10_000)


def count_lines(folder: Path) -> int:
    total = 0
    for path in sorted(folder.glob("app*.log*")):
        content = path.read_bytes()
        total += (gzip.decompress(content) if path.suffix == ".gz" else content).count(b"\n")
    return total


class HangingExporter(LogRecordExporter):
    """Takes a batch, and gives it back when it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.count = 0

    def export(self, batch: Any) -> LogRecordExportResult:
        self.released.wait(600.0)
        self.count += len(batch)
        return LogRecordExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True

    def shutdown(self) -> None:
        self.released.set()


def test_an_exporter_that_hangs_costs_the_others_nothing(tmp_path: Path) -> None:
    hanging = HangingExporter()
    options = {
        "exporters": ["otlp", "file", {"exporter": hanging, "name": "hanging", "max_queue_size": HELD}],
        "file_folder": tmp_path / "logs",
        "file_max_files": 0,
        "when_full": "block",
        "block_timeout": 20.0,
        "install_handler": False,
        "shutdown_timeout": 60.0,
    }
    log = otelog.get_logger("load")

    def call(name: int) -> None:
        for number in range(RECORDS // THREADS):
            log.info("order %d paid by %s", number, "alice", thread=name)

    # It is waited for once, half of block_timeout; a hang that was seen before costs nothing any more.
    with configured(**options) as server:
        threads = [threading.Thread(target=call, args=(name,)) for name in range(THREADS)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            check_books(otelog.stats())
            threads[0].join(0.05)
        wait_until(lambda: otelog.stats().exporters["file"].exported == RECORDS, 120.0)
        wait_until(lambda: otelog.stats().exporters["otlp"].exported == RECORDS, 120.0)
        stats = otelog.stats()
        check_books(stats)
        assert stats.created == stats.accepted == RECORDS
        books = stats.exporters["hanging"]
        assert books.exported == 0
        assert books.waiting <= HELD
        assert books.waiting + books.in_flight + books.dropped["handoff_full"] == RECORDS
        assert sum(len(request.records) for request in server.requests) == RECORDS
        assert count_lines(tmp_path / "logs") == RECORDS
        hanging.released.set()
        assert otelog.flush(60.0)
        check_books(otelog.stats())
        assert hanging.count == otelog.stats().exporters["hanging"].exported == books.waiting + books.in_flight
