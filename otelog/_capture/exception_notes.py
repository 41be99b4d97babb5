"""What is known of an exception: the span it was raised in, and whether it is in a record already.

Where an exception ends up unhandled, its span has ended, and somebody may have logged it on its way. So a few numbers
are kept with the exception: by a weak reference, or, as the standard library's exceptions take none, in its
``__dict__``. They keep nothing alive, neither the exception nor a traceback or span, and do not hold for a copy of it,
nor in another process.

Thread safety: all functions; any signal handler or ``__del__``. None raises, but an interruption passes.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple
from weakref import ref

from otelog._record.row import SpanIds
from otelog._record.severity import LEAST_URGENT
from otelog._runtime.interruption import is_interruption
from otelog._runtime.replacing import keep

EXCEPTION_EVENT = "exception"
"""The event name of the record of an exception that nobody has handled. Source: semantic conventions, "Exceptions"."""

_ATTRIBUTE = "_otelog_notes"


class _Notes(NamedTuple):
    """Kept as a plain tuple of numbers, which may be pickled with the exception."""

    pid: int
    number: int
    ids: tuple[int, int, int] | None
    is_recorded: bool
    is_uncaught: bool


class _Reference(ref[BaseException]):
    __slots__ = ("key", "notes")

    key: int
    notes: tuple[Any, ...]


class _Here:
    """This process's id, which would cost a system call for each."""

    pid = os.getpid()


_here = _Here()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: setattr(_here, "pid", os.getpid()))

# Not what a class may say of its own.
_attributes_of: Any = BaseException.__dict__["__dict__"].__get__
_references: dict[int, _Reference] = keep(globals(), "_references", dict)


def remember_span(error: BaseException, span_context: Any) -> None:
    """Note in which span an exception was raised: the innermost, which is the first that says so.

    Args:
        error: The exception.
        span_context: The span's ``SpanContext``, or anything with its three numbers.
    """
    try:
        ids = (int(span_context.trace_id), int(span_context.span_id), int(span_context.trace_flags))
        notes = _read(error)
        # The same object may be raised again, in another trace: then it is another exception.
        if ids[0] and (notes is None or notes.ids is None or notes.ids[0] != ids[0]):
            first = notes if notes is not None and notes.ids is None else None
            _write(
                error,
                ids,
                is_recorded=first is not None and first.is_recorded,
                is_uncaught=first is not None and first.is_uncaught,
            )
    except Exception as failure:
        if is_interruption(failure):
            raise


def find_span(error: BaseException) -> SpanIds | None:
    """Returns the ids of the span that an exception was raised in, or None."""
    notes = _read(error)
    return None if notes is None or notes.ids is None else SpanIds(*notes.ids)


def mark_recorded(error: BaseException) -> None:
    """Note that an exception is in a record: who finds it unhandled later makes no other."""
    notes = _read(error)
    if notes is None:
        _write(error, None, is_recorded=True)
    elif not notes.is_recorded:
        _write(error, notes.ids, is_recorded=True, is_uncaught=notes.is_uncaught)


def is_recorded(error: BaseException) -> bool:
    """Returns whether an exception is in a record at ERROR or above, whoever has logged it."""
    notes = _read(error)
    return notes is not None and notes.is_recorded


def mark_uncaught(error: BaseException) -> None:
    """Note that nobody handles an exception, and that somebody else is about to log it: that is then the event."""
    notes = _read(error)
    if notes is None:
        _write(error, None, is_uncaught=True)
    elif not notes.is_uncaught:
        _write(error, notes.ids, is_recorded=notes.is_recorded, is_uncaught=True)


def apply(error: BaseException, span_context: Any, event_name: str | None) -> tuple[Any, str | None]:
    """Returns the span context and the event name for a record of an exception; what the record has itself wins."""
    notes = _read(error)
    if notes is not None:
        if notes.ids is not None and not _is_valid(span_context):
            span_context = SpanIds(*notes.ids)
        if notes.is_uncaught and event_name is None:
            event_name = EXCEPTION_EVENT
    return span_context, event_name


def note_record(error: BaseException, severity_number: int) -> None:
    """Note that a record of this severity holds the exception; below ERROR it is mentioned only."""
    if severity_number >= LEAST_URGENT:
        mark_recorded(error)


def _is_valid(span_context: Any) -> bool:
    try:
        return bool(span_context is not None and span_context.trace_id)
    except Exception as failure:
        if is_interruption(failure):
            raise
        return False


def _read(error: BaseException) -> _Notes | None:
    key = id(error)
    try:
        reference = _references.get(key)
        found: Any
        if reference is not None and reference() is error:
            found = reference.notes
        else:
            found = _attributes_of(error).get(_ATTRIBUTE)
        # One that was copied, unpickled or inherited by a fork has those of another exception.
        if found is not None and found[0] == _here.pid and found[1] == key:
            return _Notes(*found)
    except Exception as failure:
        if is_interruption(failure):
            raise
    return None


def _write(
    error: BaseException, ids: tuple[int, int, int] | None, *, is_recorded: bool = False, is_uncaught: bool = False
) -> None:
    try:
        key = id(error)
        notes = (_here.pid, key, ids, is_recorded, is_uncaught)
        found = _references.get(key)
        if found is not None and found() is error:
            found.notes = notes
            return
        try:
            made = _Reference(error, _forget)
        except TypeError:
            # Past the class's own __setattr__, which may refuse it or count it.
            BaseException.__setattr__(error, _ATTRIBUTE, notes)
            return
        made.key, made.notes = key, notes
        _references[key] = made
    except Exception as failure:
        if is_interruption(failure):
            raise


# The dict is an argument: at the interpreter's end this module's names may be gone before the last exception.
def _forget(reference: Any, references: dict[int, Any] = _references) -> None:
    # Another exception may be in the same place by now.
    key: int = reference.key
    if references.get(key) is reference:
        references.pop(key, None)
