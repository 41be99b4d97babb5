"""Threads of our own: what ends one for want of memory is no exception of the application's."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from otelog._runtime.threads import join, start_thread
from otelog.sinks._packing import Packer

SECONDS = 10.0


@pytest.fixture
def uncaught(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the application's hook for threads is called with."""
    seen: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    return seen


def run_out_of_memory() -> None:
    raise MemoryError


@pytest.mark.parametrize("plainly", [False, True])
def test_a_thread_that_lacks_memory_ends_without_the_applications_hooks(plainly: bool, uncaught: list[Any]) -> None:
    thread = start_thread(run_out_of_memory, "otelog-test", plainly=plainly)
    assert thread is not None
    join(thread, SECONDS)
    assert not thread.is_alive()
    assert uncaught == []


class _Retention:
    """A folder without rotated files."""

    def scan(self) -> list[Any]:
        return []


class Unspeakable(Exception):
    """There is no memory for what is to be said about it."""

    def __getattr__(self, name: str) -> Any:
        raise MemoryError


def test_a_packer_that_lacked_memory_packs_again(tmp_path: Path, uncaught: list[Any]) -> None:
    failures: list[BaseException] = [Unspeakable()]
    held = threading.Event()

    def hold() -> AbstractContextManager[object]:
        if failures:
            raise failures.pop()
        held.set()
        return nullcontext()

    packer = Packer(str(tmp_path), "gzip", _Retention(), hold)  # type: ignore[arg-type]
    packer.wake()
    first = packer._thread
    if first is not None:
        join(first, SECONDS)
    packer.wake()
    assert held.wait(SECONDS)
    packer.close(SECONDS)
    assert uncaught == []
