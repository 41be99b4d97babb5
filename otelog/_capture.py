"""The caller's thread: what is taken of a log call, and how it gets into the queue.

Everything here may run in a signal handler, in ``__del__``, or on top of itself: no lock, no I/O, nothing that waits
(unless ``when_full="block"`` was chosen). The facade's and the handler's methods hold the shortest way themselves; what
is here is the way for whatever is unusual.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from threading import get_ident
from types import FrameType
from typing import Any

from opentelemetry.context import _RUNTIME_CONTEXT, create_key, get_current
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.trace.propagation import _SPAN_KEY

from otelog._attributes import show_unfilled
from otelog._ledger import Ledger
from otelog._queue import UNIT_BYTES, RecordQueue, is_urgent
from otelog._record import COLUMNS, FIELD_BYTES, SLOT_BYTES, Source, Special
from otelog._replacing import keep
from otelog._severity import severity_range
from otelog._stacktrace import CapturedException, CapturedStack, capture_exception, capture_stack
from otelog._values import (
    DEFAULT_LIMITS,
    STOPPING,
    AnyValue,
    Limits,
    clean_text,
    estimate_bytes,
    safe_str,
    to_any_value,
    to_attributes,
)

SMALL_BYTES = 600
"""A record whose strings and attributes stay below this is small: it takes one slot and no units."""

NEVER = sys.maxsize
"""A wake-up threshold that is never reached, while the worker is awake."""

SPAN_KEY = _SPAN_KEY
BOUND_KEY: str = create_key("otelog-bound")
"""Where the current Context keeps what `otelog.bound` has put there."""

# The ContextVar itself, two calls below get_current(); another runtime context keeps the public way.
current_context: Callable[[], Mapping[str, Any]] = (
    _RUNTIME_CONTEXT._current_context.get if type(_RUNTIME_CONTEXT) is ContextVarsRuntimeContext else get_current
)

FIXED_SIZE = frozenset({bool, float, type(None)})
"""Exact types that are immutable, small and never need a look at the value."""

own_threads: set[int] = keep(globals(), "own_threads", set)
"""The ids of otelog's own threads."""

_converting: set[int] = keep(globals(), "_converting", set)


def begin_conversion() -> bool:
    """Returns whether this thread may convert values now: not on top of a conversion of its own."""
    me = get_ident()
    if me in _converting:
        return False
    _converting.add(me)
    return True


def end_conversion() -> None:
    """End what `begin_conversion` has begun."""
    _converting.discard(get_ident())


def forget_threads() -> None:
    """Forget the parent's threads in a forked child, where their ids may come back."""
    own_threads.clear()
    _converting.clear()


ODD = 2**60
"""Larger than any size: there is a value that has to be converted."""

_LEAST_INT = -(2**63)
_MOST_INT = 2**63 - 1


def measure(message: str, arguments: Any, fields: dict[str, Any] | None) -> int:
    """Returns an estimate of a record's size in bytes, or at least `ODD` if any value is not a plain scalar."""
    size = len(message)
    if arguments:
        if type(arguments) is not tuple:
            return ODD
        size += FIELD_BYTES * len(arguments)
        for value in arguments:
            kind = type(value)
            if kind is str:
                size += len(value)
            elif kind is float:
                continue
            elif kind is int:
                if not -0x4000_0000 < value < 0x4000_0000 and not _LEAST_INT <= value <= _MOST_INT:
                    return ODD
            elif kind not in FIXED_SIZE:
                return ODD
    if fields:
        size += FIELD_BYTES * len(fields)
        for value in fields.values():
            kind = type(value)
            if kind is str:
                size += len(value)
            elif kind is float:
                continue
            elif kind is int:
                if not -0x4000_0000 < value < 0x4000_0000 and not _LEAST_INT <= value <= _MOST_INT:
                    return ODD
            elif kind not in FIXED_SIZE:
                return ODD
    return size


class BoundFields:
    """Fields that `bound` or `bind` attached, already converted."""

    __slots__ = ("discarded", "fields", "size_bytes")

    def __init__(self, fields: Mapping[Any, Any], limits: Limits = DEFAULT_LIMITS) -> None:
        self.fields, self.discarded = to_attributes(fields, limits)
        self.size_bytes = sum(FIELD_BYTES + estimate_bytes(value) for value in self.fields.values())

    def merged_with(self, inner: BoundFields) -> BoundFields:
        """Returns both, `inner` winning."""
        return BoundFields({**self.fields, **inner.fields})


def caused_by_ourselves() -> bool:
    """Returns whether the log call, made in one of otelog's own threads, is ours: urllib3's debug lines and the like.

    The cyclic collector runs in any thread, ours too; a record of a ``__del__`` that it calls is the application's.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or code.co_filename == _WEAKREF_FILE:
            return False
        frame = frame.f_back
    return True


_WEAKREF_FILE = __import__("weakref").finalize.__call__.__code__.co_filename


def may_block() -> bool:
    """Returns whether a call may wait here: not in otelog's own threads, and not at the interpreter's end."""
    return get_ident() not in own_threads and not sys.is_finalizing()


class Gate:
    """What loggers and handlers hold on to; `port` changes in one step when a pipeline replaces another."""

    __slots__ = ("port",)

    def __init__(self, port: Port) -> None:
        self.port = port


class Port:
    """Where callers put records: one queue's caller side, with what they need at hand."""

    __slots__ = (
        "incoming",
        "ledger",
        "level",
        "limits",
        "nudge",
        "pop",
        "push",
        "queue",
        "successor",
        "wake",
        "wake_at",
    )

    def __init__(
        self,
        queue: RecordQueue,
        ledger: Ledger,
        *,
        level: int = 0,
        limits: Limits = DEFAULT_LIMITS,
        wake: Callable[[], None],
        wake_at: int,
        nudge: Callable[[], None] | None = None,
    ) -> None:
        self.level = level
        self.limits = limits
        self.queue = queue
        self.ledger = ledger
        self.pop = queue.slots.pop
        self.push = queue.push
        self.incoming = queue.store.incoming
        self.wake = wake
        self.wake_at = wake_at
        self.nudge = nudge or wake
        """Has the worker export whatever is there, without waiting for it."""
        self.successor: Port | None = None
        """Where a call goes that finds this port's queue closed because another pipeline has replaced it."""

    def put_when_full(self, row: tuple[Any, ...], size_units: int = 0) -> None:
        """Put a row in although no slot was free: by the reserve, an eviction or a wait; else count it as refused."""
        source = row[1]
        queue = self.queue
        if not size_units and queue.refuses_at_once and not queue.closed:
            # Where a Collector is away, this is every call: it may cost no more than one that is accepted.
            count = self.ledger.refuse_ordinary.get(source.severity_number)
            if count is not None:
                count()
                return
        held, victim = queue.find_slot(is_urgent(source), may_block())
        if not held:
            if size_units:
                queue.release_units(size_units)
            self._refuse(row, SLOT_BYTES + size_units * UNIT_BYTES)
            return
        if victim is not None:
            self._account_for(victim)
        self.push(row)
        if len(self.incoming) >= self.wake_at:
            self.wake()

    def put_sized(self, row: tuple[Any, ...], size_bytes: int) -> None:
        """Put a row in that may be large.

        Args:
            row: The nine columns.
            size_bytes: An estimate of what it holds in memory.
        """
        source = row[1]
        units = self.queue.take_units(size_bytes)
        if units < 0:
            units = self._make_room(size_bytes)
            if units < 0:
                self._refuse(row, size_bytes)
                return
        if units:
            if not source.special:
                source = Special(source)
                row = (row[0], source, *row[2:])
            source.extra_units = units
        try:
            self.pop()
        except IndexError:
            self.put_when_full(row, units)
            return
        self.push(row)
        if len(self.incoming) >= self.wake_at:
            self.wake()

    def _refuse(self, row: tuple[Any, ...], size_bytes: int) -> None:
        if self.queue.closed and self.successor is not None:
            self.successor.put_sized(row, size_bytes)
            return
        self.ledger.refuse("already_shutdown" if self.queue.closed else "queue_full", _range_of(row[1]))

    def _account_for(self, victim: tuple[Any, ...]) -> None:
        lost = victim[1]
        if lost.special and lost.extra_units:
            self.queue.release_units(lost.extra_units)
        self.ledger.note_evicted(_range_of(lost))

    def _make_room(self, size_bytes: int) -> int:
        """Find the units of a large record when there were not enough; returns them, or -1."""
        queue = self.queue
        if queue.closed or not queue.fits(size_bytes):
            return -1
        if queue.when_full == "block" and may_block():
            return queue.wait_for_units(size_bytes)
        if queue.when_full == "drop_oldest":
            while (victim := queue.store.evict()) is not None:
                self._account_for(victim)
                queue.return_slot()
                units = queue.take_units(size_bytes)
                if units >= 0:
                    return units
        return -1

    def capture(
        self,
        time_ns: int,
        source: Source,
        message: object,
        arguments: Any,
        fields: Mapping[Any, Any] | None,
        *,
        code: Any = None,
        offset: int = 0,
        thread: int | None = None,
        error: BaseException | None = None,
        stack: FrameType | str | None = None,
        event_name: str | None = None,
        given_time: bool = False,
    ) -> None:
        """Take a call with anything in it: convert what is mutable or odd, capture the exception, put the row in.

        A nested call, from a ``__str__`` that this conversion runs, is taken too unless it needs a conversion itself:
        that one is counted as refused, ``reentrant``, or it might never end. Never raises.

        Args:
            time_ns: When it happened.
            source: The logger and level.
            message: The template, or a body.
            arguments: The template's arguments.
            fields: The user's attributes.
            code: The caller's code object, or None where `source` knows the place.
            offset: The instruction in it.
            thread: The thread that logged; by default this one.
            error: An exception to keep.
            stack: A frame whose stack is kept, or its text.
            event_name: Makes the record an event.
            given_time: Whether the time was given with the record, and is not this process's clock.
        """
        body: AnyValue
        kept: tuple[Any, ...] | None
        attributes: dict[str, AnyValue] | None
        captured_stack: CapturedStack | str | None
        me = get_ident()
        thread = me if thread is None else thread
        if not begin_conversion():
            self.ledger.refuse("reentrant", severity_range(source.severity_number))
            return
        captured: CapturedException | None = None
        captured_stack = None
        try:
            if message is None and event_name is not None:
                body, kept, size = None, None, 0
            else:
                body, kept, size = _convert_message(message, arguments, self.limits)
            attributes, discarded, fields_size = _convert_fields(fields, self.limits)
            if error is not None:
                captured = capture_exception(error)
            captured_stack = stack if stack is None or isinstance(stack, str) else capture_stack(stack)
        except Exception as failure:
            # What is guarded everywhere below should not get here; if it does, the record still says that it was.
            body, kept, size = f"a log record could not be converted: {type(failure).__name__}", None, 0
            attributes, discarded, fields_size = None, 0, 0
        finally:
            end_conversion()
        span_context, attributes, bound_size = current_span_context(attributes)
        size += fields_size + bound_size
        if captured is not None:
            size += CAPTURED_BYTES
        if captured_stack is not None:
            size += CAPTURED_BYTES
        entry: Source | Special = source
        if captured is not None or captured_stack is not None or event_name is not None or discarded or given_time:
            entry = Special(
                source,
                exception=captured,
                stack=captured_stack,
                event_name=event_name,
                discarded=discarded,
                given_time=given_time,
            )
        self.put_sized((time_ns, entry, span_context, body, kept, attributes, code, offset, thread), size)


CAPTURED_BYTES = 1024
"""What an exception or a stack counts in the estimate: pairs of code and offset, and its message."""


def current_span_context(attributes: dict[str, AnyValue] | None) -> tuple[Any, dict[str, AnyValue] | None, int]:
    """Returns the current SpanContext, the attributes with the Context's bound fields beneath, and their size."""
    try:
        context = current_context()
        if not context:
            return None, attributes, 0
        bound: BoundFields | None = context.get(BOUND_KEY)
        size = 0
        if bound is not None:
            attributes = {**bound.fields, **attributes} if attributes else bound.fields
            size = bound.size_bytes
        span = context.get(SPAN_KEY)
        return (None if span is None else span.get_span_context()), attributes, size
    except Exception:
        # A foreign Span or runtime context that raises costs the ids, not the record.
        return None, attributes, 0


def _convert_message(message: object, arguments: Any, limits: Limits) -> tuple[AnyValue, tuple[Any, ...] | None, int]:
    if type(message) is not str:
        if not arguments and issubclass(type(message), (dict, list, tuple, bytes, bytearray)):
            body = to_any_value(message, limits)
            return body, None, estimate_bytes(body)
        message = safe_str(message)
    if not arguments:
        return message, None, len(message)
    size = len(message)
    if type(arguments) is tuple:
        for value in arguments:
            kind = type(value)
            if kind is str:
                size += len(value)
            elif kind is int:
                size += value.bit_length() >> 3
            elif kind not in FIXED_SIZE:
                break
        else:
            return message, arguments, size + FIELD_BYTES * len(arguments)
    text = format_message(message, arguments)
    return text, None, len(text)


def format_message(message: str, arguments: Any) -> str:
    """Fill in a template in the caller's thread, whatever its arguments do; returns encodable text. Never raises."""
    try:
        if type(arguments) is tuple and len(arguments) == 1 and isinstance(arguments[0], Mapping) and arguments[0]:
            # The rule of the standard library: a single mapping is for %(name)s.
            arguments = arguments[0]
        return clean_text(message % arguments)
    except STOPPING:
        raise
    except BaseException:
        return show_unfilled(message, arguments)


def _convert_fields(fields: Mapping[Any, Any] | None, limits: Limits) -> tuple[dict[str, AnyValue] | None, int, int]:
    if not fields:
        return None, 0, 0
    attributes, discarded = to_attributes(fields, limits)
    return (
        attributes,
        discarded,
        sum(FIELD_BYTES + len(key) + estimate_bytes(value) for key, value in attributes.items()),
    )


def _range_of(source: Any) -> str:
    return severity_range(source.severity_number)


def wake_threshold(queue: RecordQueue, max_export_batch_size: int) -> int:
    """Returns the length of `Port.incoming` at which the worker is woken: a batch, or half of the usable queue."""
    records = max(1, min(max_export_batch_size, queue.usable // 2))
    return records * COLUMNS if isinstance(queue.store.incoming, list) else records
