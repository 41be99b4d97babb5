"""The caller's thread: what is taken of a log call, and how it gets into the queue.

Everything here may run in a signal handler, in ``__del__``, or on top of itself: no lock, no I/O, nothing that waits
(unless ``when_full="block"`` was chosen). The facade's and the handler's methods hold the shortest way themselves; what
is here is the way for whatever is unusual.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from threading import get_ident
from types import FrameType
from typing import Any
from weakref import WeakSet

from opentelemetry.context import create_key

from otelog._capture.once import Once
from otelog._capture.queue import UNIT_BYTES, WIDTH, RecordQueue
from otelog._capture.remembered import find_span
from otelog._ledger.counters import Ledger
from otelog._private.opentelemetry import SPAN_KEY as SPAN_KEY
from otelog._private.opentelemetry import current_context as current_context
from otelog._record.attributes import show_unfilled
from otelog._record.row import FIELD_BYTES, SLOT_BYTES, Source, SpanIds, Special
from otelog._record.severity import LEAST_URGENT, severity_range
from otelog._record.stacktrace import CapturedException, CapturedStack, capture_exception, capture_stack
from otelog._record.values import (
    DEFAULT_LIMITS,
    AnyValue,
    Limits,
    clean_text,
    estimate_bytes,
    safe_str,
    to_any_value,
    to_attributes,
)
from otelog._runtime.interruption import is_foreign, is_interruption
from otelog._runtime.own_threads import converting, may_block

SMALL_BYTES = 600
"""A record whose strings and attributes stay below this is small: it takes one slot and no units."""

NEVER = sys.maxsize
"""A wake-up threshold that is never reached, while the worker is awake."""

BOUND_KEY: str = create_key("otelog-bound")
"""Where the current Context keeps what `otelog.bound` has put there."""

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
            elif kind is not bool and value is not None:
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
            elif kind is not bool and value is not None:
                return ODD
    return size


class BoundFields:
    """Fields that `bound` or `bind` attached, already converted."""

    __slots__ = ("__weakref__", "_heirs", "_outer", "discarded", "fields", "is_ended", "size_bytes")

    def __init__(self, fields: Mapping[Any, Any], limits: Limits = DEFAULT_LIMITS) -> None:
        self.fields, self.discarded = to_attributes(fields, limits)
        self.size_bytes = sum(FIELD_BYTES + estimate_bytes(value) for value in self.fields.values())
        self.is_ended = False
        """Whether `end` was called."""
        self._outer: BoundFields | None = None
        self._heirs: WeakSet[BoundFields] | None = None

    @classmethod
    def of_converted(cls, fields: dict[str, AnyValue]) -> BoundFields:
        """Returns fields that another `BoundFields` had, as they are."""
        bound = cls({})
        bound.fields = fields
        bound.size_bytes = sum(FIELD_BYTES + estimate_bytes(value) for value in fields.values())
        return bound

    def merged_with(self, inner: BoundFields) -> BoundFields:
        """Returns both, `inner` winning."""
        return BoundFields({**self.fields, **inner.fields})

    def end(self, outer: BoundFields | None) -> None:
        """Have only the outer block's fields from now on, wherever a Context still holds this."""
        self.is_ended = True
        self._outer = outer
        self.fields = {} if outer is None else outer.fields
        self.size_bytes = 0 if outer is None else outer.size_bytes
        heirs = list(self._heirs or ())
        if outer is not None:
            if outer._heirs is None:
                outer._heirs = WeakSet()
            outer._heirs.update([self, *heirs])
        for heir in heirs:
            heir.end(outer)

    def find_open(self) -> BoundFields | None:
        """Returns the innermost block, of this one and those around it, that has not ended."""
        found: BoundFields | None = self
        while found is not None and found.is_ended:
            found = found._outer
        return found


class ActivePipeline:
    """What loggers and handlers hold on to; `port` changes in one step when a pipeline replaces another."""

    __slots__ = ("once", "port")

    def __init__(self, port: Port) -> None:
        self.port = port
        self.once = Once()
        """Which records its handlers have had."""


class Port:
    """Where callers put records: one queue's caller side, with what they need at hand."""

    __slots__ = (
        "incoming",
        "ledger",
        "level",
        "limits",
        "nudge",
        "push",
        "queue",
        "slots",
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
        self.slots = queue.slots
        self.push = queue.push
        self.incoming = queue.store.incoming
        self.wake = wake
        self.wake_at = wake_at
        self.nudge = nudge or wake
        """Has the worker export whatever is there, without waiting for it."""
        self.successor: Port | None = None
        """Where a call goes that finds this port's queue closed because another pipeline has replaced it."""

    # A MemoryError that comes out of the following says that the record is neither in nor counted.

    def put_when_full(self, row: tuple[Any, ...], units: Sequence[Any] = ()) -> None:
        """Put a row in although no slot was free: by the reserve, an eviction or a wait; else count it as refused."""
        number = row[1].severity_number
        queue = self.queue
        if queue.refuses_at_once and not queue.closed:
            # Where a Collector is away, this is every call: it may cost no more than one that is accepted.
            count = self.ledger.refuse_ordinary.get(number)
            if count is None and not queue.slots and not queue.reserve:
                count = self.ledger.refuse_urgent.get(number)
            if count is not None:
                count()
                return
        urgent = number >= LEAST_URGENT
        if not queue.slots and not (urgent and queue.reserve) and self._replace_oldest(row, urgent, units):
            return
        found: list[Any] = []
        try:
            if queue.find_slot(urgent, may_block(), found):
                self.push((*row, [found.pop(), *units] if units else found.pop()))
            elif not self._replace_oldest(row, urgent, units):
                self._refuse(row, SLOT_BYTES + len(units) * UNIT_BYTES)
                return
        finally:
            found.clear()
        self.wake_if_due()

    def _replace_oldest(self, row: tuple[Any, ...], urgent: bool, units: Sequence[Any]) -> bool:
        """Put a row in for the oldest one, if the queue evicts; returns whether that is done."""
        queue = self.queue
        store = queue.evicting
        if store is None or queue.closed:
            return False
        victims: deque[Any] = deque()
        try:
            try:
                # As `evict` does, whose call would cost more.
                victims.extend(islice(store.evict_low if store.low else store.evict_high, 1))
            except IndexError:
                if is_foreign():
                    raise
                # Other threads were quicker, or there is none.
                if not store.evict(victims):
                    return False
            # In this order: what fails after the row is in would be taken for its loss.
            store.incoming.append(None)
            # All slots are one object: the oldest one's is dropped with it.
            (store.high if urgent else store.low).append((*row, [queue.slot, *units] if units else queue.slot))
        finally:
            if victims:
                self._account_for(victims)
        self.wake_if_due()
        return True

    def wake_if_due(self) -> None:
        """Wake the worker if a batch is there. A lack of memory leaves it to the schedule: the record is in."""
        try:
            if len(self.incoming) >= self.wake_at:
                self.wake()
        except MemoryError as error:
            if is_interruption(error):
                raise

    def put_sized(self, row: tuple[Any, ...], size_bytes: int) -> None:
        """Put a row in that may be large.

        Args:
            row: The nine columns.
            size_bytes: An estimate of what it holds in memory.
        """
        if size_bytes > SLOT_BYTES:
            self._put_large(row, size_bytes)
            return
        slots = self.slots
        if not slots:
            self.put_when_full(row)
            return
        try:
            self.push((*row, slots.pop()))
        except IndexError:
            if is_foreign():
                raise
            self.put_when_full(row)
            return
        self.wake_if_due()

    def _put_large(self, row: tuple[Any, ...], size_bytes: int) -> None:
        units: list[Any] | None = None
        try:
            units = self.queue.take_units(size_bytes)
            if units is None:
                units = self._make_room(size_bytes)
                if units is None:
                    self._refuse(row, size_bytes)
                    return
            source = row[1]
            if not source.special:
                source = Special(source)
                row = (row[0], source, *row[2:])
            source.extra_units = len(units)
            try:
                self.push((*row, [self.slots.pop(), *units]))
            except IndexError:
                if is_foreign():
                    raise
                self.put_when_full(row, units)
                return
        finally:
            # They are the record's now, or nobody's: no traceback that somebody keeps may keep them.
            if units is not None:
                units.clear()
        self.wake_if_due()

    def _refuse(self, row: tuple[Any, ...], size_bytes: int) -> None:
        if self.queue.closed and self.successor is not None:
            self.successor.put_sized(row, size_bytes)
            return
        queue = self.queue
        # One that can never fit is another matter than a queue that is full: the Collector has no part in it.
        reason = "already_shutdown" if queue.closed else "queue_full" if queue.fits(size_bytes) else "too_large"
        self.ledger.refuse(reason, _range_of(row[1]))

    def refuse_for_memory(self, source: Source | Special, error: MemoryError) -> None:
        """Count a record as refused for which there was no memory; raise what a signal handler has raised."""
        if is_interruption(error):
            raise error
        counts = self.ledger.refuse_full
        counts.get(source.severity_number, counts[0])()

    def _account_for(self, victims: deque[Any]) -> None:
        """Tell the severity of an evicted record, and let go of it: with it go its units."""
        try:
            counts = self.ledger.count_evicted
            counts.get(victims[-1][1].severity_number, counts[0])()
        except MemoryError as error:
            if is_interruption(error):
                raise
        victims.pop()

    def _make_room(self, size_bytes: int) -> list[Any] | None:
        """Find the units of a large record when there were not enough."""
        queue = self.queue
        if queue.closed or not queue.fits(size_bytes):
            return None
        if queue.when_full == "block" and may_block():
            return queue.wait_for_units(size_bytes)
        if queue.evicting is not None and queue.when_full == "drop_oldest":
            victims: deque[Any] = deque()
            units: list[Any] | None = None
            try:
                while units is None and queue.evicting.evict(victims):
                    queue.return_slot()
                    self._account_for(victims)
                    units = queue.take_units(size_bytes)
                return units
            finally:
                units = None
                if victims:
                    self._account_for(victims)
        return None

    # One function: a further call would cost the caller about 35 ns, and pass on nearly all of these values.
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
        ids: SpanIds | None = None,
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
            ids: Of the span that it belongs to, where that is not the current one.
        """
        body: AnyValue
        kept: tuple[Any, ...] | None
        attributes: dict[str, AnyValue] | None
        captured_stack: CapturedStack | str | None
        me = get_ident()
        thread = me if thread is None else thread
        if converting.is_inside():
            self.ledger.refuse("reentrant", severity_range(source.severity_number))
            return
        captured: CapturedException | None = None
        captured_stack = None
        try:
            converting.enter(me)
            if message is None and event_name is not None:
                body, kept, size = None, None, 0
            else:
                body, kept, size = _convert_message(message, arguments, self.limits)
            attributes, discarded, fields_size = _convert_fields(fields, self.limits)
            if error is not None:
                captured = capture_exception(error)
            captured_stack = stack if stack is None or isinstance(stack, str) else capture_stack(stack)
        except Exception as failure:
            if is_interruption(failure):
                raise
            # What is guarded everywhere below should not get here; if it does, the record still says that it was.
            body, kept, size = f"a log record could not be converted: {type(failure).__name__}", None, 0
            attributes, discarded, fields_size = None, 0, 0
        finally:
            converting.leave(me)
        span_context, attributes, bound_size = current_span_context(attributes)
        if ids is not None:
            span_context = ids
        elif error is not None and (span_context is None or not span_context.trace_id):
            # Said by a server, outside of the request's span.
            span_context = find_span(error) or span_context
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


converting.add(Port.capture.__code__)

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
    except Exception as error:
        if is_interruption(error):
            raise
        # A foreign Span or runtime context that raises costs the ids, not the record.
        return None, attributes, 0


def _convert_message(message: object, arguments: Any, limits: Limits) -> tuple[AnyValue, tuple[Any, ...] | None, int]:
    if type(message) is not str:
        if not arguments and issubclass(type(message), (dict, list, tuple, bytes, bytearray)):
            body = to_any_value(message, limits.for_body())
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
            elif kind is not float and kind is not bool and value is not None:
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
    except BaseException as error:
        if is_interruption(error):
            raise
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
    return (1 + records) * WIDTH if isinstance(queue.store.incoming, list) else records
