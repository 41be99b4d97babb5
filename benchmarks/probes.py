"""The small measures: a disabled call, the import, a full queue. ``python -m benchmarks.probes NAME`` runs one."""

from __future__ import annotations

import compileall
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import timeit
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.rounds import clean_environment
from benchmarks.trial import rss_bytes

FULL_QUEUE_RECORDS = 10_000
WAIT_SECONDS = 20.0
# Nothing listens there; the probes that use it never wait for a delivery.
_DEAD_ENDPOINT = "http://127.0.0.1:9"

Figures = dict[str, float]


class _Empty:
    def bare(self, message: str) -> None:
        return None

    def full(self, message: str, /, *args: object, **fields: object) -> None:
        return None


def _best_ns(statement: Callable[[int], object], loops: int = 100_000, repeats: int = 15) -> float:
    def loop() -> None:
        for i in range(loops):
            statement(i)

    # The fastest repeat: whatever else runs on the machine only ever adds.
    return min(timeit.repeat(loop, number=1, repeat=repeats)) / loops * 1e9


def _disabled() -> Figures:
    import otelog

    otelog.configure(service_name="bench", endpoint=_DEAD_ENDPOINT, level="INFO", handle_exit=False)
    log, empty = otelog.get_logger("shop.checkout"), _Empty()
    return {
        "message_ns": _best_ns(lambda i: log.debug("cache miss")),
        "empty_message_ns": _best_ns(lambda i: empty.bare("cache miss")),
        "record_ns": _best_ns(lambda i: log.debug("order %s paid by %s", i, "alice", amount=12.5, currency="EUR")),
        "empty_record_ns": _best_ns(
            lambda i: empty.full("order %s paid by %s", i, "alice", amount=12.5, currency="EUR")
        ),
    }


# As text for ``python -c``: a process that has imported this module has imported half of what they measure.
_IMPORT = """
import time
begin = time.perf_counter()
{work}
taken = time.perf_counter() - begin
import os
print('{{"ms": %f}}' % (taken * 1e3), flush=True)
os._exit(0)
"""
IMPORTS = {
    "import-sdk": _IMPORT.format(work="import opentelemetry.sdk._logs"),
    "import-otelog": _IMPORT.format(
        work=f"import otelog; otelog.configure(service_name='bench', endpoint='{_DEAD_ENDPOINT}')"
    ),
}


def _fill_queue(measure: Callable[[], int]) -> Figures:
    """Fill the facade's queue while its worker waits for a server that never answers.

    Each record is logged under a span of its own, so that no span context is shared.
    """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    import otelog

    trace.set_tracer_provider(TracerProvider())
    tracer = trace.get_tracer("benchmarks")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        otelog.configure(
            service_name="bench",
            endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}",
            max_queue_size=FULL_QUEUE_RECORDS,
            reserve_for_errors=0.0,
            schedule_delay_millis=10,
            timeout=600.0,
            handle_exit=False,
        )
        log = otelog.get_logger("shop.checkout")

        def record(i: int) -> None:
            with tracer.start_as_current_span("order"):
                log.info("order %s paid by %s", i, "alice", amount=12.5, currency="EUR")

        # One record keeps the worker busy with the silent server, and everything it imports is imported.
        record(0)
        _wait_for(lambda: otelog.stats().in_flight == 1)
        before = measure()
        i = 0
        while not otelog.stats().refused.get("queue_full"):
            i += 1
            record(i)
        return {"mb": (measure() - before) / 1e6, "records": float(otelog.stats().queued)}


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("otelog's worker did not take the first record")
        time.sleep(0.01)


def _full_queue_rss() -> Figures:
    return _fill_queue(rss_bytes)


def _full_queue_heap() -> Figures:
    tracemalloc.start()
    return _fill_queue(lambda: tracemalloc.get_traced_memory()[0])


PROBES: dict[str, Callable[[], Figures]] = {
    "disabled": _disabled,
    "full-queue-rss": _full_queue_rss,
    "full-queue-heap": _full_queue_heap,
}


def run_probes(rounds: int, *, report: Callable[[str], None] = lambda line: None) -> list[dict[str, Any]]:
    """Run every probe ``rounds`` times (the imports three times as often), interleaved, in fresh processes.

    Returns: one dict a run: ``probe``, ``error`` (None, or why there are no figures) and the probe's figures.
    """
    # As an installed package is; otherwise, where Python writes no bytecode, otelog alone would be compiled each time.
    compileall.compile_dir(Path(__file__).resolve().parent.parent / "otelog", quiet=1)
    if importlib.util.find_spec("otelog") is None:
        return []
    names = [*IMPORTS] * 3 * rounds + [*PROBES] * rounds
    # Once unmeasured, so that every module is compiled and in the page cache.
    for name in IMPORTS:
        _spawn(name)
    runs = []
    for name in names:
        report(f"probe · {name}")
        runs.append({"probe": name, **_spawn(name)})
    return runs


def _spawn(name: str) -> dict[str, Any]:
    arguments = ["-c", IMPORTS[name]] if name in IMPORTS else ["-m", "benchmarks.probes", name]
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parent.parent,
        env=clean_environment(),
        check=False,
        timeout=120,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no output"]
        return {"error": f"failed: {lines[-1][:200]}"}
    return {"error": None, **json.loads(done.stdout.splitlines()[-1])}


if __name__ == "__main__":
    print(json.dumps(PROBES[sys.argv[1]]()), flush=True)
    # What is left in the queue is no part of the measure, and its endpoint is dead: do not wait for it.
    os._exit(0)
