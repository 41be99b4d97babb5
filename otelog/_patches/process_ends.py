"""Ends of a process that Python does not see coming: what is held is delivered first.

`atexit` runs when the interpreter ends. It does not when uvicorn, after its own shutdown, puts back what was set for
SIGTERM and raises the signal once more; when a parent that has made a daemon of itself, or a watchdog, calls
``os._exit``; when a reloader replaces the program by ``os.execv``. All of these are calls in Python, so otelog puts
functions of its own in the places of those of `os` and `signal` that may end a process. They deliver, within what is
left of ``shutdown_timeout``, and then do what the ones in whose places they are do. In a process that has made no
record they have nothing to do.

A SIGTERM that comes from outside needs a handler. Where the application wants the default, which is to die, ours stands
in its place, delivers and dies by the signal. The application never sees it: `signal.getsignal` and `signal.signal`
tell what it has set itself.

A reloader that is asked to end kills the process that has the application: that one has time to end in an orderly way.

SIGKILL from elsewhere, and a library in C that ends the process, cannot be seen.
"""

from __future__ import annotations

import contextlib
import operator
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any, NoReturn

from otelog._runtime.diagnostics import warn
from otelog._runtime.end_time import END
from otelog._runtime.lifetime import Pipeline, end_all, find_pipelines, say_last_words
from otelog._runtime.own_threads import own_threads
from otelog._runtime.threads import get_ident, join, make_thread

SIGTERM = signal.SIGTERM

MAIN_THREAD_PATIENCE = 1.0
"""Seconds that a thread which has sent SIGTERM to its own process waits for the main thread to die of it."""

OWN_THREAD_GRACE = 1.0
"""Seconds beside what is left, for the counters and the last metrics."""

CHILD_GRACE = 1.0
"""Seconds that a child has for its own end, beside what it waits for deliveries: as much as is left to its parent."""

# Signals that do not end a process that has set nothing for them. Whoever sends SIGKILL wants nothing to be done first.
_NOT_DEADLY = frozenset(
    getattr(signal, name)
    for name in ("SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGWINCH", "SIGKILL")
    if hasattr(signal, name)
)


class _Replaced:
    """Functions of `os` and `signal`, and ours in their places."""

    def __init__(self) -> None:
        self.active = False
        self._places: list[tuple[Any, str, Any, Any]] = []

    def put(self, module: Any, name: str, make: Callable[[Any], Callable[..., Any]]) -> None:
        """Put a function in the place of the one that is there, if there is one."""
        before = getattr(module, name, None)
        if before is None:
            return
        ours: Any = wraps(before)(make(before))
        # What pickles it finds it where everybody does.
        if not isinstance(module, type):
            ours.__module__, ours.__qualname__ = module.__name__, name
        setattr(module, name, ours)
        self._places.append((module, name, before, ours))

    def take_back(self) -> None:
        """Put back what was there, but for a place where somebody else has put something on top of ours."""
        self.active = False
        for module, name, before, ours in self._places:
            if getattr(module, name) is ours:
                setattr(module, name, before)
        self._places.clear()


class _Sigterm:
    """What the application has set for SIGTERM, as far as it knows, while our handler stands there."""

    def __init__(self) -> None:
        self.application: Any = signal.SIG_DFL
        self.chained: Any = None
        """The handler that was there before ours, and is called by it."""
        self.handler: Any = None
        """Ours."""
        self.set: Callable[[int, Any], Any] = signal.signal
        self.get: Callable[[int], Any] = signal.getsignal
        self.kill: Callable[[int, int], None] = os.kill
        self.wake: Callable[[int, int], None] = signal.pthread_kill


# The same when this module is loaded again: what is in place is in place.
_exits: _Replaced = globals().get("_exits") or _Replaced()
_signals: _Replaced = globals().get("_signals") or _Replaced()
_sigterm: _Sigterm = globals().get("_sigterm") or _Sigterm()


# The process ends itself.


def install_exits() -> None:
    """Deliver before a call of this process ends it. Idempotent."""
    if _exits.active:
        return
    _exits.active = True
    _exits.put(os, "_exit", _make_exit)
    _exits.put(os, "abort", _make_abort)
    _exits.put(os, "execv", _make_exec)
    # The other ways to replace the program go through these two.
    _exits.put(os, "execve", _make_exec)
    _exits.put(os, "kill", lambda before: _make_sender(before, _is_us))
    _exits.put(os, "killpg", lambda before: _make_sender(before, _is_our_group))
    _exits.put(signal, "pthread_kill", lambda before: _make_sender(before, lambda _: True))
    _exits.put(signal, "raise_signal", _make_raiser)


def uninstall_exits() -> None:
    """Take it back."""
    _exits.take_back()


def _make_exit(before: Callable[[int], NoReturn]) -> Callable[[int], NoReturn]:
    def _exit(status: int) -> NoReturn:
        number = operator.index(status)
        try:
            _deliver_last()
        finally:
            before(number)

    return _exit


def _make_abort(before: Callable[[], NoReturn]) -> Callable[[], NoReturn]:
    def abort() -> NoReturn:
        try:
            _deliver_last()
        finally:
            before()

    return abort


def _make_exec(before: Callable[..., Any]) -> Callable[..., Any]:
    def execute(path: Any, *arguments: Any, **keywords: Any) -> Any:
        # The standard library tries one folder of PATH after the other.
        if not _exits.active or not _can_be_executed(path):
            return before(path, *arguments, **keywords)
        _deliver_before_another_program()
        try:
            return before(path, *arguments, **keywords)
        finally:
            # Nothing has come of it.
            END.renew()

    return execute


def _make_sender(before: Callable[[int, int], None], is_us: Callable[[int], bool]) -> Callable[[int, int], None]:
    def send(target: int, number: int, /) -> None:
        ours = is_us(target)
        if ours and _is_deadly(number):
            _deliver_last()
        before(target, number)
        if ours:
            _die_in_main_thread(number)

    return send


def _make_raiser(before: Callable[[int], None]) -> Callable[[int], None]:
    def raise_signal(signalnum: int, /) -> None:
        if _is_deadly(signalnum):
            _deliver_last()
        before(signalnum)
        _die_in_main_thread(signalnum)

    return raise_signal


def _is_us(process: int) -> bool:
    return process in (os.getpid(), 0, -os.getpgrp())


def _is_our_group(group: int) -> bool:
    return group in (0, os.getpgrp())


def _is_deadly(number: int) -> bool:
    """Returns whether this process ends as soon as it is sent this signal, with no handler called."""
    try:
        return (
            number not in _NOT_DEADLY
            and _sigterm.get(number) == signal.SIG_DFL
            and number not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        )
    except (TypeError, ValueError, OSError):
        # What this is a signal's number for is said by the function that it was given to.
        return False


def _die_in_main_thread(number: Any) -> None:
    """Where the default would have killed at once, do not go on: our handler needs the main thread, which may sleep.

    A signal that a thread has sent to itself wakes nobody else.
    """
    if number != SIGTERM or _sigterm.get(number) is not _sigterm.handler or callable(_sigterm.application):
        return
    main = threading.main_thread()
    if threading.current_thread() is not main and main.ident is not None:
        _sigterm.wake(main.ident, number)
        time.sleep(MAIN_THREAD_PATIENCE)


def _can_be_executed(path: Any) -> bool:
    try:
        return os.access(path, os.X_OK)
    except (TypeError, ValueError):
        # A descriptor, perhaps.
        return isinstance(path, int)


def _deliver_last() -> None:
    """End everything: the process is about to. Never raises, but what a signal handler does."""
    if _exits.active:
        # It may make the first record.
        say_last_words()
    if not _exits.active or not any(one.has_work() for one in find_pipelines()):
        return
    if get_ident() not in own_threads:
        end_all()
        return
    # An exporter, or a filter of one, ends the process: its thread cannot wait for itself, but count what is lost.
    with contextlib.suppress(RuntimeError):
        thread = make_thread(end_all, "otelog-end")
        thread.start()
        join(thread, END.left() + OWN_THREAD_GRACE)


def _deliver_before_another_program() -> None:
    pipelines = find_pipelines()
    if not any(one.has_work() for one in pipelines):
        return
    if not _deliver_all(pipelines, last=True):
        warn("exec", "not every log record was delivered before this process becomes another program")


def _deliver_all(pipelines: list[Pipeline], *, last: bool) -> bool:
    """Deliver what is there, and go on; returns whether everything was delivered."""
    delivered = True
    with END.spend() as deadline:
        # They deliver beside each other: one that hangs costs the others none of their time.
        for one in pipelines:
            one.nudge()
        for one in pipelines:
            try:
                delivered &= one.deliver(deadline, last=last)
            except Exception as error:
                warn("end", f"{type(error).__name__} while the process ended: {error}")
                delivered = False
    return delivered


# SIGTERM comes from outside.


def install_sigterm() -> None:
    """Deliver when SIGTERM comes, unless the application ignores it. Idempotent; for the main thread."""
    if _signals.active:
        return
    if threading.current_thread() is not threading.main_thread():
        warn("sigterm", "handle_sigterm needs configure() to be called in the main thread")
        return
    _sigterm.set, _sigterm.get = signal.signal, signal.getsignal
    previous = signal.getsignal(SIGTERM)
    if previous is None:
        warn("sigterm", "handle_sigterm leaves a SIGTERM handler alone that was not installed from Python")
        return
    _signals.active = True
    _sigterm.handler = _sigterm.handler or _on_sigterm
    _sigterm.chained = previous if callable(previous) else None
    _signals.put(signal, "signal", _make_setter)
    _signals.put(signal, "getsignal", _make_getter)
    _signals.put(subprocess.Popen, "kill", _make_killer)
    # What is ignored stays so, in programs that this one starts, too: they would not inherit a handler.
    if previous != signal.SIG_IGN:
        signal.signal(SIGTERM, previous)


def uninstall_sigterm() -> None:
    """Take it back; for the main thread."""
    if not _signals.active:
        return
    if _sigterm.get(SIGTERM) is _sigterm.handler and threading.current_thread() is threading.main_thread():
        _sigterm.set(SIGTERM, _sigterm.application)
    _signals.take_back()


def _make_setter(before: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def set_signal(signalnum: Any, handler: Any) -> Any:
        if signalnum != SIGTERM or not _signals.active:
            return before(signalnum, handler)
        told = signal.getsignal(signalnum)
        if _wants_default(handler) or (_sigterm.chained is not None and handler == _sigterm.chained):
            before(signalnum, _sigterm.handler)
            _sigterm.application = signal.SIG_DFL if _wants_default(handler) else handler
        else:
            before(signalnum, handler)
        return told

    return set_signal


def _make_getter(before: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def get_signal(signalnum: Any) -> Any:
        found = before(signalnum)
        return _sigterm.application if found is _sigterm.handler else found

    return get_signal


def _make_killer(before: Callable[[Any], None]) -> Callable[[Any], None]:
    """A reloader waits in `subprocess.run` or `subprocess.call` for the process that has the application.

    When it is asked to end, these kill that one, at once, and it had no time for what it held.
    """
    callers = (subprocess.run.__code__, subprocess.call.__code__)

    def kill(self: subprocess.Popen[Any]) -> None:
        try:
            if (
                _signals.active
                and isinstance(sys.exc_info()[1], (SystemExit, KeyboardInterrupt))
                and sys._getframe(1).f_code in callers
                and _runs_our_python(self.args)
            ):
                with END.spend() as deadline, contextlib.suppress(subprocess.TimeoutExpired):
                    self.send_signal(SIGTERM)
                    self.wait(max(0.0, deadline - time.monotonic()) + CHILD_GRACE)
        finally:
            before(self)

    return kill


def _runs_our_python(arguments: Any) -> bool:
    return isinstance(arguments, (list, tuple)) and bool(arguments) and arguments[0] == sys.executable


def _wants_default(handler: Any) -> bool:
    return isinstance(handler, int) and handler == signal.SIG_DFL


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    application = _sigterm.application
    if callable(application):
        # It decides what ends, and when; what it logs is still taken.
        _deliver_all(find_pipelines(), last=False)
        application(number, frame)
    elif not END.call_when_over(_die):
        end_all()
        _die()


def _die() -> None:
    _sigterm.set(SIGTERM, signal.SIG_DFL)
    _sigterm.kill(os.getpid(), SIGTERM)
