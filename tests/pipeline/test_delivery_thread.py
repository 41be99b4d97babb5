"""The thread of a worker or of an exporter queue: whatever its work raises, there is one at work."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

import pytest

from otelog._ledger.counters import Ledger
from otelog._pipeline.delivery_thread import DeliveryThread
from otelog._runtime.own_threads import own_threads
from tools.waiting import wait_until


class Work:
    """Raises what it is given, one after the other, and then waits for its end."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.threads: list[int] = []
        self.begun = threading.Event()
        self.end = threading.Event()

    def __call__(self) -> None:
        self.threads.append(threading.get_ident())
        if self.errors:
            raise self.errors.pop(0)
        self.begun.set()
        self.end.wait(20)


def start(work: Work, recover: Callable[[BaseException], None]) -> DeliveryThread:
    thread = DeliveryThread(
        "otelog-tests",
        Ledger(),
        work=work,
        recover=recover,
        is_over=work.end.is_set,
        may_start=lambda: True,
    )
    assert thread.start()
    return thread


def finish(thread: DeliveryThread, work: Work) -> None:
    work.end.set()
    assert wait_until(lambda: not thread.is_alive())
    assert not own_threads.intersection(work.threads)


@pytest.mark.parametrize("error", [MemoryError(), ValueError("odd")])
def test_a_thread_goes_on_after_an_error(error: Exception) -> None:
    work, seen = Work(error), []
    thread = start(work, seen.append)
    assert work.begun.wait(20)
    assert thread.is_alive()
    assert (seen, len(set(work.threads))) == ([error], 1)
    finish(thread, work)


def test_a_thread_goes_on_where_memory_is_short_for_the_words_about_it_too() -> None:
    def recover(error: BaseException) -> NoReturn:
        raise MemoryError

    work = Work(MemoryError(), ValueError("odd"), SystemExit())
    thread = start(work, recover)
    assert work.begun.wait(20)
    assert thread.is_alive()
    assert len(work.threads) == 4
    finish(thread, work)


def test_a_thread_that_is_ended_is_replaced() -> None:
    work, seen = Work(SystemExit()), []
    thread = start(work, seen.append)
    assert work.begun.wait(20)
    assert thread.is_alive()
    assert len(set(work.threads)) == 2 or len(work.threads) == 2
    finish(thread, work)


def test_a_thread_that_ends_at_the_end_is_not_replaced() -> None:
    work = Work()
    thread = start(work, lambda error: None)
    assert work.begun.wait(20)
    work.errors.append(SystemExit())
    finish(thread, work)
    assert len(work.threads) == 1


DIES_AS_IT_BEGINS = """
import threading, _thread
from otelog._private import standard
from otelog._runtime.threads import start_thread

standard.START_PATIENCE = 0.2
start = threading._start_new_thread if hasattr(threading, "_start_new_thread") else None
if start is None:
    joinable = threading._start_joinable_thread
    threading._start_joinable_thread = lambda function, **others: joinable(lambda: None, **others)
else:
    threading._start_new_thread = lambda function, arguments: start(lambda: None, ())
print(start_thread(lambda: None, "otelog-tests"))
"""


def test_a_thread_that_dies_before_it_has_begun_does_not_hold_up_whoever_starts_it() -> None:
    """As where there is no memory for its first step: Python's own `start` waits for it for ever."""
    done = subprocess.run(
        [sys.executable, "-c", DIES_AS_IT_BEGINS], capture_output=True, encoding="utf-8", timeout=30, check=False
    )
    assert done.stdout == "None\n", done.stderr
    assert "the thread otelog-tests cannot be started" in done.stderr
