"""Whichever allocation of the delivery fails, every record is counted once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from otelog.testing import OTLPServer
from tests.sizes import sized

pytest.importorskip("_testcapi")
pytestmark = [
    pytest.mark.skipif(
        not os.path.exists("/proc/self/statm"),
        reason="/proc and RLIMIT_AS of Linux see to it that no thread starts, so that the delivery is in this one",
    ),
    # Seen by faulthandler in the making of a generator, and of a function with a closure: the process ends by SIGSEGV
    # before any code of ours could count. The code that counts is the same on all Pythons.
    pytest.mark.skipif(
        sys.version_info >= (3, 12),
        reason="CPython 3.12 and 3.13 end by SIGSEGV themselves where memory fails in the making of a generator",
    ),
]

# How many allocations, and each how many-th: a delivery has its steps in the first 450. Each of 700 in `make soak`.
SPAN, STEP = str(sized(450, full=700)), str(sized(3, full=1, brief=9))

# In the caller's thread, where it can be said which allocation fails: there is no other thread.
PROGRAM = """
import gc, json, os, sys, warnings
import _testcapi
import otelog
from tests.chaos.trouble import no_threads
warnings.simplefilter("ignore")
endpoint, folder, kind, span, step = *sys.argv[1:4], *map(int, sys.argv[4:])
exporters = {
    "otlp": [{"type": "otlp", "endpoint": endpoint}],
    "file": [{"type": "file", "folder": folder}],
    "several": [
        {"type": "file", "folder": folder, "name": "all", "max_queue_size": 40},
        {"type": "otlp", "endpoint": endpoint, "level": "WARNING"},
        {"type": "file", "folder": folder + "/errors", "name": "errors", "loggers": ["memory.errors"]},
    ],
    "drop_oldest": [{"type": "file", "folder": folder}],
}[kind]
broken = []
# Integers below 257 cost no allocation.
FIRST = 1_000

def check(number):
    stats = otelog.stats()
    if stats.created != made:
        broken.append(f"{number}: {made} made, created {stats.created}")
    refused, removed = sum(stats.refused.values()), sum(stats.removed.values())
    if stats.created != refused + stats.queued + removed + stats.accepted:
        broken.append(f"{number}: {stats}")
    for name, one in stats.exporters.items():
        settled = one.filtered + one.exported + sum(one.dropped.values())
        if one.accepted != stats.accepted or one.accepted != settled:
            broken.append(f"{number}: {name} {one}")

def silence():
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)

made = 0
with no_threads() as starved:
    assert starved
    otelog.configure(
        exporters=exporters, schedule_delay_millis=600_000, max_export_batch_size=4, max_queue_size=2000,
        when_full="drop_oldest" if kind == "drop_oldest" else "drop_newest", export_timeout_millis=5_000,
        # What cannot be collected for want of memory is no call.
        capture_exceptions=False,
    )
    log, errors = otelog.get_logger("memory"), otelog.get_logger("memory.errors")
    for _ in range(FIRST):
        log.info("first")
        made += 1
        if made % 30 == 0:
            otelog.flush(10)
    assert otelog.flush(10), otelog.stats()
    check("first")
    silence()
    gc.disable()
    for number in range(0, span, step):
        for one in (log.info, log.warning, errors.error, log.info, errors.info, log.info):
            one("%s", number)
            made += 1
        try:
            # One: CPython itself may crash when several in a row fail while a context variable is set.
            _testcapi.set_nomemory(number, number + 1)
            try:
                otelog.flush(10)
            finally:
                _testcapi.remove_mem_hooks()
        except MemoryError:
            pass
        otelog.flush(10)
        check(number)
        if len(broken) > 20:
            break
print(json.dumps(broken))
"""


@pytest.mark.parametrize("kind", ["otlp", "file", "several", "drop_oldest"])
def test_whichever_allocation_of_a_delivery_fails_every_record_is_counted_once(kind: str, tmp_path: object) -> None:
    with OTLPServer() as server:
        command = [sys.executable, "-c", PROGRAM, server.endpoint, str(tmp_path), kind, SPAN, STEP]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr[-2000:]
