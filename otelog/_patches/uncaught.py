"""Exceptions that nobody handles: each is one record before the process, the thread or the finalizer is done with it.

`sys.excepthook`, `threading.excepthook` and `sys.unraisablehook` are replaced by hooks that record and then call what
stood there before, exactly once, whatever becomes of the record. A child of `multiprocessing` calls none of them: what
ends it is found when it ends, or, from Python 3.13 on, by the child's own `run`, which is called through ours. Without
them an exception that ends a process is on its standard error only.

Once: an exception that somebody has logged at ERROR or above before is not recorded again; and where an earlier hook
is not the interpreter's own, it may be about to log the exception, so ours is put in after it. What another library
has put on top of our hooks stays, and calls ours, which then pass everything on.

KeyboardInterrupt and SystemExit are how a process is ended, and no errors.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from threading import get_ident
from time import time_ns
from types import FrameType
from typing import Any, NamedTuple

from opentelemetry.context import attach

from otelog._capture import exception_notes
from otelog._capture.active_pipeline import ACTIVE_PIPELINE, UnconfiguredPort
from otelog._capture.exception_notes import EXCEPTION_EVENT
from otelog._private.standard import thread_of
from otelog._private.threading_instrumentation import find_context
from otelog._record.row import Source
from otelog._record.stacktrace import STR_FAILED, CapturedException, capture_exception
from otelog._record.values import safe_str, type_names
from otelog._runtime import lifetime
from otelog._runtime.contexts import leave
from otelog._runtime.interruption import STOPPING, is_interruption
from otelog._runtime.own_threads import own_threads
from otelog._runtime.replacing import find_original, is_ours, keep, mark

ERROR, FATAL = (40, 17, "ERROR"), (50, 21, "CRITICAL")
"""Level, severity number and severity text."""

IGNORED_IN = "exception.ignored_in"
"""The attribute that names the finalizer or callback whose exception the interpreter has ignored."""


class _State:
    """What outlives a reload of this module."""

    def __init__(self) -> None:
        self.is_on = False
        self.pending: list[_Report] = []


class _Report:
    """An exception's record, captured, until it is put into the queue."""

    __slots__ = ("captured", "context", "error", "fields", "is_put", "level", "scope", "time_ns")

    def __init__(self, scope: str, error: BaseException, level: tuple[int, int, str], fields: dict[str, Any]) -> None:
        self.time_ns = time_ns()
        self.scope = scope
        self.error = error
        self.level = level
        self.fields = fields
        self.context: Any = None
        """That of the thread, where it is another than the current one."""
        self.captured = _capture(error)
        self.is_put = False

    def put(self) -> None:
        """Make the record, unless somebody else has logged the exception by now."""
        if self.is_put:
            return
        self.is_put = True
        port = ACTIVE_PIPELINE.port
        if isinstance(port, UnconfiguredPort) or port.level > self.level[0]:
            return
        if exception_notes.is_recorded(self.error):
            return
        link = self.captured.links[0]
        name = link.name if link.module == "builtins" else f"{link.module}.{link.name}"
        code, offset = link.frames[-1][:2] if link.frames else (None, 0)
        token = None if self.context is None else attach(self.context)
        try:
            port.capture(
                self.time_ns,
                Source(self.scope, *self.level[1:]),
                f"{name}: {link.message}" if link.message else name,
                None,
                self.fields,
                code=code,
                offset=offset,
                error=self.error,
                captured=self.captured,
                event_name=EXCEPTION_EVENT,
                # Where it was raised, and not where it ends up.
                ids=exception_notes.find_span(self.error),
            )
        except MemoryError as shortage:
            port.refuse_for_memory(Source(self.scope, *self.level[1:]), shortage)
        finally:
            if token is not None:
                leave(self.context, token)


_state: _State = keep(globals(), "_state", _State)


def _capture(error: BaseException) -> CapturedException:
    try:
        return capture_exception(error)
    except BaseException as failure:
        # Its own __str__ may want to end the process, which the interpreter's hook does not let it either.
        if is_interruption(failure) and not isinstance(failure, SystemExit):
            raise
        return capture_exception(_Unreadable(type(error)).with_traceback(error.__traceback__))


class _Unreadable(Exception):
    """Stands for an exception that cannot be read."""

    def __init__(self, kind: type[BaseException]) -> None:
        module, name = type_names(kind)
        super().__init__(f"{module}.{name}: {STR_FAILED}")


class _Place(NamedTuple):
    """A hook of the interpreter's."""

    module: Any
    name: str
    default: Any
    report: Callable[..., _Report | None]
    """Called with what the hook is; returns what is to be recorded."""


def _of_process(kind: Any, error: Any, traceback: Any = None, /) -> _Report | None:
    if not isinstance(error, BaseException) or isinstance(error, STOPPING):
        return None
    if error.__traceback__ is None and traceback is not None:
        error.__traceback__ = traceback
    level = FATAL if _ends_process(error) else ERROR
    return _Report("sys.excepthook", error, level, _describe_thread(threading.current_thread()))


def _of_thread(args: Any, /) -> _Report | None:
    error, thread = args.exc_value, args.thread
    if error is None or isinstance(error, STOPPING):
        return None
    report = _Report("threading.excepthook", error, ERROR, _describe_thread(thread))
    report.context = find_context(thread)
    return report


def _of_finalizer(args: Any, /) -> _Report | None:
    error = args.exc_value
    if error is None:
        # There was no memory for the object.
        error = args.exc_type()
    if isinstance(error, STOPPING):
        return None
    fields = _describe_thread(thread_of(get_ident()))
    # Its repr could do anything, in the middle of a finalizer.
    owner = args.object
    name = getattr(owner, "__qualname__", None) or getattr(type(owner), "__qualname__", None)
    if owner is not None and type(name) is str:
        fields[IGNORED_IN] = name
    return _Report("sys.unraisablehook", error, ERROR, fields)


def _describe_thread(thread: threading.Thread | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"thread.id": get_ident()}
    if thread is not None:
        fields["thread.name"] = safe_str(thread.name)
    return fields


def _ends_process(error: BaseException) -> bool:
    """Returns whether the interpreter has called the hook at its end: no code of the application is below it."""
    if sys.flags.interactive or sys.flags.inspect or hasattr(sys, "ps1"):
        return False
    frame: FrameType | None = sys._getframe()
    outermost = frame
    while frame is not None:
        outermost = frame
        frame = frame.f_back
    # That is a hook, ours or one that calls ours.
    return (
        outermost is not None
        and outermost.f_code.co_name != "<module>"
        and any(_holds(value, error) for value in list(outermost.f_locals.values()))
    )


def _holds(value: Any, error: BaseException) -> bool:
    return value is error or (type(value) is tuple and any(one is error for one in value))


_PLACES = (
    _Place(sys, "excepthook", sys.__excepthook__, _of_process),
    _Place(threading, "excepthook", getattr(threading, "__excepthook__", None), _of_thread),
    _Place(sys, "unraisablehook", sys.__unraisablehook__, _of_finalizer),
)


def install() -> None:
    """Put the hooks in place. Idempotent: what others have put on top of ours stays."""
    was_on, _state.is_on = _state.is_on, True
    lifetime.have_last_words(_say_last_words, _guard_child)
    for place in _PLACES:
        before = getattr(place.module, place.name)
        if not was_on and not is_ours(before):
            setattr(place.module, place.name, _make_hook(place, before))


def uninstall() -> None:
    """Take them off again; one that another library has put on top of finds ours passing everything on."""
    _state.is_on = False
    lifetime.have_last_words(None, None)
    for place in _PLACES:
        found = getattr(place.module, place.name)
        if is_ours(found):
            setattr(place.module, place.name, find_original(found))


def _make_hook(place: _Place, before: Any) -> Callable[..., None]:
    find_report, state, default = place.report, _state, place.default

    def hook(*args: Any) -> None:
        report: _Report | None = None
        try:
            # What otelog does for itself is neither logged nor traced.
            if state.is_on and get_ident() not in own_threads:
                report = find_report(*args)
            if report is not None:
                if before is default:
                    report.put()
                else:
                    state.pending.append(report)
        except Exception:
            # At the interpreter's end our own modules may be gone. Nobody else's hook goes without its call for that.
            pass
        finally:
            try:
                before(*args)
            finally:
                if report is not None:
                    _finish(state, report)
                report = None

    hook.__name__ = hook.__qualname__ = place.name
    mark(hook, before)
    return hook


def _finish(state: _State, report: _Report) -> None:
    try:
        if report in state.pending:
            state.pending.remove(report)
        report.put()
    except Exception:
        pass


def _say_last_words(error: BaseException | None) -> None:
    """Record what is left when the process ends: of the hooks that are at work, and what ends a child."""
    for report in list(_state.pending):
        _finish(_state, report)
    if _state.is_on and error is not None and not isinstance(error, STOPPING):
        _Report("multiprocessing", error, FATAL, _describe_thread(threading.current_thread())).put()


def _guard_child() -> None:
    """Have what ends a child of `multiprocessing` recorded where it is over before the child's end, as from 3.13 on."""
    process = sys.modules["multiprocessing.process"].current_process()
    names = getattr(getattr(type(process)._bootstrap, "__code__", None), "co_names", ())
    if "_exit_function" in names or is_ours(process.run):
        return
    run = process.run

    def guarded() -> None:
        try:
            run()
        except BaseException as error:
            _say_last_words(error)
            raise

    mark(guarded, run)
    process.run = guarded
