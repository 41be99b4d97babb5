"""The ledger as `prometheus_client` metrics, in one process and in the library's multi-process mode."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, LogRecordExporter, LogRecordExportResult

import otelog
from otelog._ledger.counters import DROPPED_REASONS, REFUSED_REASONS, REMOVED_REASONS, Stats
from otelog._setup.configure import reset

prometheus_client = pytest.importorskip("prometheus_client")
prometheus = pytest.importorskip("otelog.prometheus")

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 60.0
PREFIX = "otelog_log_records_"
NEVER = 600_000


class Refuser(LogRecordExporter):
    """An exporter that fails."""

    def export(self, batch: object) -> LogRecordExportResult:
        return LogRecordExportResult.FAILURE

    def shutdown(self) -> None:
        """Nothing to do."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True


@pytest.fixture
def registry() -> Iterator[prometheus_client.CollectorRegistry]:
    yield prometheus_client.CollectorRegistry()
    reset()


def read(registry: prometheus_client.CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"{PREFIX}{name}", labels)


def assert_same(registry: prometheus_client.CollectorRegistry, stats: Stats) -> None:
    assert read(registry, "created_total") == stats.created
    assert read(registry, "lost_total") == stats.lost
    assert read(registry, "queue_size") == stats.queued
    assert read(registry, "queue_capacity") == stats.queue_capacity
    for reason in REFUSED_REASONS:
        assert read(registry, "refused_total", reason=reason) == stats.refused[reason]
    for reason in REMOVED_REASONS:
        assert read(registry, "removed_total", reason=reason) == stats.removed[reason]
    for name, exporter in stats.exporters.items():
        assert read(registry, "waiting", exporter=name) == exporter.waiting
        assert read(registry, "filtered_total", exporter=name) == exporter.filtered
        assert read(registry, "exported_total", exporter=name) == exporter.exported
        assert read(registry, "resent_total", exporter=name) == exporter.resent
        assert read(registry, "outcome_unknown_total", exporter=name) == exporter.outcome_unknown
        assert read(registry, "truncated_total", exporter=name) == exporter.truncated
        for reason in DROPPED_REASONS:
            assert read(registry, "dropped_total", exporter=name, reason=reason) == exporter.dropped[reason]


def publish_and_configure(registry: prometheus_client.CollectorRegistry, first: str) -> None:
    if first == "publish":
        prometheus.publish(registry)
    otelog.configure(exporter=InMemoryLogRecordExporter(), schedule_delay_millis=NEVER)
    if first == "configure":
        prometheus.publish(registry)


@pytest.mark.parametrize("first", ["publish", "configure"])
def test_counters_are_exact_when_a_flush_returns(registry: prometheus_client.CollectorRegistry, first: str) -> None:
    publish_and_configure(registry, first)
    log = otelog.get_logger("tests")
    for round_number in range(1, 4):
        for _ in range(10):
            log.info("x")
        assert otelog.flush()
        # Read from the counter itself: a scrape would bring it up to date.
        counters = [c for c in registry._collector_to_names if getattr(c, "_name", "") == f"{PREFIX}exported"]
        assert [c.labels("InMemoryLogRecordExporter")._value.get() for c in counters] == [10.0 * round_number]
        assert_same(registry, otelog.stats())


@pytest.mark.parametrize("first", ["publish", "configure"])
def test_all_series_begin_with_zero(registry: prometheus_client.CollectorRegistry, first: str) -> None:
    publish_and_configure(registry, first)
    assert otelog.stats().exporters
    assert_same(registry, otelog.stats())


def test_a_scrape_is_current_without_a_flush(registry: prometheus_client.CollectorRegistry) -> None:
    otelog.configure(exporter=InMemoryLogRecordExporter(), schedule_delay_millis=NEVER)
    prometheus.publish(registry)
    otelog.flush()
    otelog.get_logger("tests").info("x")
    scraped = prometheus_client.generate_latest(registry).decode()
    assert f"{PREFIX}created_total 1.0\n" in scraped
    assert f"{PREFIX}queue_size 1.0\n" in scraped
    assert_same(registry, otelog.stats())


def test_a_queue_that_fills_and_empties_between_two_scrapes_shows_its_peak_to_each(
    registry: prometheus_client.CollectorRegistry,
) -> None:
    prometheus.publish(registry)
    otelog.configure(exporter=InMemoryLogRecordExporter(), schedule_delay_millis=NEVER, max_queue_size=1000)
    log = otelog.get_logger("tests")
    for _ in range(250):
        log.info("x")
    assert otelog.flush()
    assert read(registry, "queue_size") == 0
    assert [read(registry, "queue_peak") for _ in range(2)] == [250, 250]
    assert read(registry, "queue_peak_ratio") == 0.25


def test_losses_are_published_with_their_reasons(registry: prometheus_client.CollectorRegistry) -> None:
    prometheus.publish(registry)
    otelog.configure(exporter=Refuser(), schedule_delay_millis=NEVER)
    log = otelog.get_logger("tests")
    for _ in range(3):
        log.info("x")
    assert not otelog.flush()
    assert read(registry, "dropped_total", exporter="Refuser", reason="export_failed") == 3
    assert read(registry, "dropped_total", exporter="Refuser", reason="rejected") == 0
    otelog.shutdown()
    log.info("too late")
    assert read(registry, "refused_total", reason="already_shutdown") == 1
    assert_same(registry, otelog.stats())


def test_a_replaced_pipeline_is_published_on(registry: prometheus_client.CollectorRegistry) -> None:
    prometheus.publish(registry)
    otelog.configure(exporter=InMemoryLogRecordExporter(), schedule_delay_millis=NEVER)
    otelog.get_logger("tests").info("x")
    otelog.configure(exporter=Refuser(), schedule_delay_millis=NEVER)
    otelog.get_logger("tests").info("y")
    otelog.shutdown()
    assert read(registry, "created_total") == 2
    assert read(registry, "exported_total", exporter="InMemoryLogRecordExporter") == 1
    assert read(registry, "dropped_total", exporter="Refuser", reason="export_failed") == 1
    assert_same(registry, otelog.stats())


def test_publishing_twice_counts_once(registry: prometheus_client.CollectorRegistry) -> None:
    prometheus.publish(registry)
    prometheus.publish(registry)
    otelog.configure(exporter=InMemoryLogRecordExporter())
    otelog.get_logger("tests").info("x")
    otelog.shutdown()
    assert read(registry, "created_total") == 1


def test_a_registry_that_has_such_metrics_is_refused(registry: prometheus_client.CollectorRegistry) -> None:
    prometheus_client.Counter(f"{PREFIX}created", "Another.", registry=registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        prometheus.publish(registry)


def run(code: str, folder: Path) -> str:
    """Run a program in multi-process mode; its prelude has all that is needed to log and to scrape."""
    prelude = """
        import multiprocessing, os, sys
        import otelog, otelog.prometheus
        from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
        from prometheus_client import CollectorRegistry, generate_latest, multiprocess

        def configure():
            otelog.configure(exporter=InMemoryLogRecordExporter(), max_queue_size=100, max_export_batch_size=10)
            otelog.prometheus.publish()

        def log(count):
            for _ in range(count):
                otelog.get_logger("x").info("y")
            assert otelog.flush()

        def scrape(*names):
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
            for name in names:
                print(int(sum(s.value for m in registry.collect() for s in m.samples if s.name.endswith(name))))
    """
    program = folder / "program.py"
    program.write_text(textwrap.dedent(prelude) + textwrap.dedent(code), encoding="utf-8")
    values = folder / "values"
    values.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(program)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(values), "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_forked_processes_add_up_and_a_dead_one_gives_its_queue_back(tmp_path: Path) -> None:
    code = """
        def work(ready, finish):
            log(7)
            ready.release()
            finish.acquire()

        configure()
        log(5)
        context = multiprocessing.get_context("fork")
        ready, finish = context.Semaphore(0), context.Semaphore(0)
        children = [context.Process(target=work, args=(ready, finish)) for _ in range(2)]
        for child in children:
            child.start()
        for child in children:
            assert ready.acquire(timeout=30)
        scrape("created_total", "exported_total", "lost_total", "queue_capacity")
        for child in children:
            finish.release()
        for child in children:
            child.join()
            assert child.exitcode == 0
            multiprocess.mark_process_dead(child.pid)
        log(1)
        scrape("created_total", "exported_total", "queue_capacity")
    """
    assert run(code, tmp_path).split() == ["19", "19", "0", "300", "20", "20", "100"]


def test_the_peak_of_several_processes_is_that_of_the_fullest_queue(tmp_path: Path) -> None:
    code = """
        def work(count, ready, finish):
            log(count)
            ready.release()
            finish.acquire()

        configure()
        log(5)
        context = multiprocessing.get_context("fork")
        ready, finish = context.Semaphore(0), context.Semaphore(0)
        children = [context.Process(target=work, args=(count, ready, finish)) for count in (6, 4)]
        for child in children:
            child.start()
        for child in children:
            assert ready.acquire(timeout=30)
        scrape("queue_peak", "queue_capacity")
        for child in children:
            finish.release()
        for child in children:
            child.join()
            multiprocess.mark_process_dead(child.pid)
        scrape("queue_peak")
    """
    peak, capacity, left = map(int, run(code, tmp_path).split())
    # A worker may have taken some of them before the last was there, but not ten, which are a batch.
    assert 1 <= left <= 5
    assert left <= peak <= 6
    assert capacity == 300


def test_spawned_processes_add_up(tmp_path: Path) -> None:
    code = """
        def work():
            configure()
            log(7)

        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            children = [context.Process(target=work) for _ in range(2)]
            for child in children:
                child.start()
            for child in children:
                child.join()
                assert child.exitcode == 0
                multiprocess.mark_process_dead(child.pid)
            scrape("created_total", "exported_total", "queue_capacity")
    """
    assert run(code, tmp_path).split() == ["14", "14", "0"]


def test_a_fork_in_the_midst_of_publishing_leaves_no_lock_taken(tmp_path: Path) -> None:
    code = """
        import threading
        from prometheus_client import REGISTRY

        configure()
        going = True
        def keep_publishing():
            while going:
                generate_latest(REGISTRY)
        thread = threading.Thread(target=keep_publishing)
        thread.start()
        failed = 0
        for _ in range(30):
            pid = os.fork()
            if not pid:
                log(1)
                os._exit(0)
            failed += os.waitpid(pid, 0)[1] != 0
        going = False
        thread.join()
        print(failed)
    """
    assert run(code, tmp_path).split() == ["0"]
