"""What forks and ends of processes mean for the pipelines that are alive."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any, Protocol

# First of all, so that its hook comes before ours: what is the parent's is let go before anything begins anew.
import otelog._runtime.inherited  # noqa: F401
from otelog._runtime.diagnostics import warn
from otelog._runtime.end_time import END
from otelog._runtime.own_threads import forget_threads
from otelog._runtime.replacing import keep


class Forkable(Protocol):
    """Something that starts anew in a forked child."""

    def restart_after_fork(self) -> None:
        """Begin with nothing."""


class Pipeline(Forkable, Protocol):
    """Something that holds what is to be delivered."""

    ends_last: bool
    """Whether it reports on the others, and so ends after them."""

    def has_work(self) -> bool:
        """Returns whether anything was given to it in this process, and it has not ended yet."""

    def nudge(self) -> None:
        """Have another thread begin to deliver, and wait for nothing."""

    def deliver(self, deadline: float, *, last: bool) -> bool:
        """Deliver what is there until this monotonic moment, and go on.

        Args:
            deadline: The moment.
            last: Nothing may come after this: those who publish what has become of it do it now.

        Returns:
            Whether everything was delivered.
        """

    def end_with_process(self, deadline: float) -> None:
        """Deliver what is there until this monotonic moment, and end. Idempotent."""


_alive: weakref.WeakSet[Forkable] = keep(globals(), "_alive", weakref.WeakSet)
_pipelines: weakref.WeakSet[Pipeline] = keep(globals(), "_pipelines", weakref.WeakSet)


class _Known:
    """This process, as far as Python's fork hooks have run."""

    pid = os.getpid()


class _Multiprocessing:
    """What is registered with `multiprocessing` in this process."""

    after_fork_known = False
    finalizer: Any = None
    finalizer_pid = 0


class _LastWords:
    """Who is to be asked before all ends."""

    say: Callable[[BaseException | None], None] | None = None
    begin_child: Callable[[], None] | None = None


def have_last_words(say: Callable[[BaseException | None], None] | None, begin_child: Callable[[], None] | None) -> None:
    """Have something called before the pipelines of a process end.

    Args:
        say: Called with the exception that ends a child of `multiprocessing`, where that is known at the end.
        begin_child: Called as such a child begins.
    """
    _LastWords.say = staticmethod(say) if say is not None else None
    _LastWords.begin_child = staticmethod(begin_child) if begin_child is not None else None


def say_last_words(error: BaseException | None = None) -> None:
    """Have whoever wants to be heard before the end say so. Never raises."""
    if _LastWords.say is not None:
        try:
            _LastWords.say(error)
        except Exception as failure:
            warn("last_words", f"{type(failure).__name__} while the process ended: {failure}")


def watch(one: Forkable) -> None:
    """Tell this object of forks, for as long as it lives."""
    _alive.add(one)
    _watch_multiprocessing()


def unwatch(one: Forkable) -> None:
    """Tell this object no more."""
    _alive.discard(one)
    _pipelines.discard(one)  # type: ignore[arg-type]


def watch_pipeline(one: Pipeline) -> None:
    """Tell this one of forks, and have it deliver at the process's end, for as long as it lives."""
    _pipelines.add(one)
    watch(one)


def find_pipelines() -> list[Pipeline]:
    """Returns all that are alive, in the order in which they are to end."""
    return sorted(_pipelines, key=lambda one: one.ends_last)


def end_all() -> None:
    """End every pipeline, because this process ends: all within what is left of its time. Never raises."""
    if os.getpid() != _Known.pid:
        warn(
            "fork",
            "this process was forked without Python's fork hooks, and nothing was delivered from it: "
            "uWSGI needs the options enable-threads and py-call-osafterfork",
        )
    say_last_words()
    with END.spend() as deadline:
        pipelines = find_pipelines()
        if len(pipelines) > 1:
            # They deliver beside each other: one that hangs costs the others none of their time.
            for pipeline in pipelines:
                pipeline.nudge()
        for one in pipelines:
            try:
                one.end_with_process(deadline)
            except Exception as error:
                warn("end", f"{type(error).__name__} while the process ended: {error}")


def _after_fork_in_child() -> None:
    _Known.pid = os.getpid()
    END.restart()
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
    if _LastWords.begin_child is not None:
        _LastWords.begin_child()
    finalizer, pid = _Multiprocessing.finalizer, os.getpid()
    if finalizer is not None and _Multiprocessing.finalizer_pid == pid and finalizer.still_active():
        return
    # A low priority: the child's own finalizers may still log.
    _Multiprocessing.finalizer = sys.modules["multiprocessing.util"].Finalize(None, _end_child, exitpriority=-100)
    _Multiprocessing.finalizer_pid = pid


def _end_child() -> None:
    # multiprocessing writes out what ends a child, without any hook. It calls this while that passes through.
    say_last_words(sys.exc_info()[1])
    end_all()


# At import, before nearly everything of the application: what is registered first is called last, so that the
# application's own atexit callbacks may still log.
atexit.register(end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
