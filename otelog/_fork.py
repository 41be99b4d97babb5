"""What forks and ends of processes mean for the pipelines that are alive."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import Any, Protocol

from otelog._capture import forget_threads
from otelog._diagnostics import warn
from otelog._replacing import keep


class Forkable(Protocol):
    """Something that starts anew in a forked child and ends with its process."""

    def restart_after_fork(self) -> None:
        """Begin with nothing."""

    def end_with_process(self) -> None:
        """Deliver what is there within a time of one's own, and end. Idempotent."""


_alive: weakref.WeakSet[Forkable] = keep(globals(), "_alive", weakref.WeakSet)


class _Known:
    """This process, as far as Python was told of forks."""

    pid = os.getpid()


class _Multiprocessing:
    """What `multiprocessing` was told in this process."""

    after_fork_known = False
    finalizer: Any = None
    finalizer_pid = 0


def watch(one: Forkable) -> None:
    """Tell this object of forks and of the process's end, for as long as it lives."""
    _alive.add(one)
    _watch_multiprocessing()


def unwatch(one: Forkable) -> None:
    """Tell this object no more."""
    _alive.discard(one)


def end_all() -> None:
    """End everything that is watched, because this process ends; each has its own time. Never raises."""
    if os.getpid() != _Known.pid:
        warn(
            "fork",
            "this process was forked without Python being told, and nothing was delivered from it: "
            "uWSGI needs the options enable-threads and py-call-osafterfork",
        )
    for one in list(_alive):
        try:
            one.end_with_process()
        except Exception as error:
            warn("end", f"{type(error).__name__} while the process ended: {error}")


def _after_fork_in_child() -> None:
    _Known.pid = os.getpid()
    forget_threads()
    for one in list(_alive):
        one.restart_after_fork()
    if _alive:
        _watch_multiprocessing()


def _watch_multiprocessing() -> None:
    # Children of multiprocessing leave through os._exit: they skip atexit, but run their finalizers. One that is
    # forked clears those that it inherited, and then calls what register_after_fork knows.
    util = sys.modules.get("multiprocessing.util")
    if util is None:
        return
    if not _Multiprocessing.after_fork_known:
        _Multiprocessing.after_fork_known = True
        util.register_after_fork(end_all, _finalize)
    if sys.modules["multiprocessing"].parent_process() is not None:
        _finalize()


def _finalize(_: object = None) -> None:
    finalizer, pid = _Multiprocessing.finalizer, os.getpid()
    if finalizer is not None and _Multiprocessing.finalizer_pid == pid and finalizer.still_active():
        return
    # A low priority: the child's own finalizers may still log.
    _Multiprocessing.finalizer = sys.modules["multiprocessing.util"].Finalize(None, end_all, exitpriority=-100)
    _Multiprocessing.finalizer_pid = pid


# At import, before nearly everything of the application: what is registered first is called last, so that the
# application's own atexit callbacks may still log.
atexit.register(end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
