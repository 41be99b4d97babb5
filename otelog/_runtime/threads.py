"""Threads by their ids, and what otelog's own threads start and wait with: always the operating system's.

`gevent.monkey` makes greenlets of threads, and locks and queues that only greenlets can wait for. It may do so before
otelog is imported, after, or in a process that was forked later. A worker that is a greenlet and waits for a lock of
the operating system would stop the whole process; one that waits as greenlets do could not be waited for in a signal
handler or at the end of the process. So otelog never has anything of gevent's here, whatever was patched when.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
from _queue import SimpleQueue
from collections.abc import Callable
from threading import get_ident
from typing import Any, Protocol

from otelog._private.standard import bound_start, thread_of
from otelog._runtime.diagnostics import warn

__all__ = [
    "LateStart",
    "Lock",
    "RLock",
    "SimpleQueue",
    "Thread",
    "find_native",
    "find_thread_name",
    "get_ident",
    "join",
    "look_up",
    "make_thread",
    "sleep",
    "start_thread",
]

START_PAUSE = 1.0
"""Seconds between two attempts to start a thread that could not be started."""

_POLL = 0.002


def find_native(module: str, name: str) -> Any:
    """Returns what a module of the standard library has under a name when gevent has not put its own there.

    gevent's own makes a hub in the thread that calls it, and switches to it. otelog's threads are the operating
    system's: one that is in its hub when the interpreter ends crashes the process.
    """
    # One that another thread is still importing has put nothing anywhere yet.
    get_original = getattr(sys.modules.get("gevent.monkey"), "get_original", None)
    if get_original is not None:
        return get_original(module, name)
    return getattr(importlib.import_module(module), name)


Lock: Callable[[], threading.Lock] = find_native("_thread", "allocate_lock")
RLock: Callable[[], Any] = find_native("_thread", "RLock")
sleep: Callable[[float], None] = find_native("time", "sleep")


class Thread(Protocol):
    """The part of `threading.Thread` that otelog uses; to wait for one, use `join`."""

    name: str

    @property
    def ident(self) -> int | None:
        """Its id."""

    def start(self) -> None:
        """Start it, or raise RuntimeError."""

    def is_alive(self) -> bool:
        """Returns whether it runs."""


class _NativeThread:
    """A thread that `threading` knows nothing of, in a process where its threads are greenlets."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        self.name = name
        self.ident: int | None = None
        self._target = target
        self._alive = False

    def start(self) -> None:
        self._alive = True
        try:
            find_native("_thread", "start_new_thread")(self._run, ())
        except BaseException:
            self._alive = False
            raise

    def _run(self) -> None:
        self.ident = get_ident()
        try:
            _run(self._target)
        finally:
            self._alive = False

    def is_alive(self) -> bool:
        return self._alive


def _run(target: Callable[[], None]) -> None:
    try:
        target()
    except MemoryError:
        # Memory was short for the words about it, too. It is no uncaught exception of the application's, and none of
        # its hooks is to see it; whoever needs the thread starts another.
        return


def make_thread(target: Callable[[], None], name: str) -> Thread:
    """Returns a daemon thread of the operating system, not started yet."""
    if is_patched():
        return _NativeThread(target, name)

    def run() -> None:
        try:
            _run(target)
        finally:
            if is_patched():
                # Since then it has another id, and Python misses it under that one as it ends: this puts it there.
                threading.current_thread()

    thread = threading.Thread(target=run, name=name, daemon=True)
    bound_start(thread)
    return thread


def start_thread(
    target: Callable[[], None],
    name: str,
    *,
    plainly: bool = False,
    keep: Callable[[Thread], None] | None = None,
) -> Thread | None:
    """Start a daemon thread of the operating system.

    Args:
        target: What it runs.
        name: Its name.
        plainly: Take no lock of `threading`'s: for whoever may be a signal handler.
        keep: Called with the thread before it is started: it may itself start the next one before this returns.

    Returns:
        The thread, or None where none can be had, which is reported on standard error unless the process is about to
        end.
    """
    try:
        thread = _NativeThread(target, name) if plainly else make_thread(target, name)
        if keep is not None:
            keep(thread)
        thread.start()
        if isinstance(thread, threading.Thread) and thread.ident is None:
            raise MemoryError("it has not begun")
    except (RuntimeError, MemoryError) as error:
        # At the interpreter's end none can be started, which is no news.
        if "shutdown" not in str(error) and not sys.is_finalizing():
            warn(
                f"thread:{name}",
                f"the thread {name} cannot be started ({error or 'no memory'}): it delivers nothing until it can, "
                "which is tried again; otelog.flush() delivers meanwhile. Is there a limit of processes or threads "
                "(ulimit -u, pids.max)?",
            )
        return None
    return thread


class LateStart:
    """Further attempts to start a thread that could not be started, at most one each `START_PAUSE`.

    Args:
        start: Makes one attempt, and returns whether there is a thread now.

    Thread safety: any thread, signal handler or finalizer; without locks.
    """

    def __init__(self, start: Callable[[], bool]) -> None:
        self._start = start
        self._next = time.monotonic() + START_PAUSE
        # Whoever pops the entry may try.
        self._turn = [None]

    def try_again(self) -> bool:
        """Try, if it is time; returns whether there is a thread now."""
        if time.monotonic() < self._next:
            return False
        try:
            self._turn.pop()
        except IndexError:
            return False
        try:
            self._next = time.monotonic() + START_PAUSE
            return self._start()
        finally:
            self._turn.append(None)


def join(thread: Thread, timeout: float) -> None:
    """Wait for a thread's end, at most this many seconds; no other greenlet runs meanwhile."""
    if isinstance(thread, threading.Thread) and not is_patched():
        thread.join(timeout)
        return
    # A thread that was there before gevent came can only be joined as greenlets do.
    deadline = time.monotonic() + timeout
    while thread.is_alive() and (left := deadline - time.monotonic()) > 0:
        sleep(min(_POLL, left))


def look_up(host: bytes, port: int) -> list[tuple[Any, Any, int, str, Any]]:
    """Returns the addresses of a name for TCP, as `socket.getaddrinfo` does; no other greenlet runs meanwhile.

    gevent's way takes a thread of its pool, and none can be started at the interpreter's end.

    Raises:
        OSError: The name cannot be found.
    """
    import socket

    addresses: list[tuple[Any, Any, int, str, Any]]
    addresses = find_native("socket", "getaddrinfo")(host, port, type=socket.SOCK_STREAM)
    return addresses


def is_patched() -> bool:
    """Returns whether gevent has put its own threads and locks into the standard library."""
    # As above.
    ask = getattr(sys.modules.get("gevent.monkey"), "is_module_patched", None)
    return ask is not None and bool(ask("threading") or ask("_thread"))


def find_thread_name(thread_id: int) -> str | None:
    """Returns the name of a thread that is alive, or None. Takes no lock; safe in any thread."""
    thread = thread_of(thread_id)
    return None if thread is None else str(thread.name)
