"""The thread of a worker or of an exporter queue: whatever its work raises, there is one at work."""

from __future__ import annotations

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
