"""The bounded queue between the callers and the worker: exact bounds, no lock.

The bound by records is a deque of free slots: who puts a record in must have popped a slot first, and whoever takes
the record out puts the slot back, so that the bound is not passed even for an instant. The bound by bytes works the
same way: every slot stands for `SLOT_BYTES`, and a record whose estimate is larger pops further units of `UNIT_BYTES`.

All slots are one and the same object, which travels with its record. A caller that is cut off with a slot in its hand
-- by a signal handler's exception, by a lack of memory -- drops a reference, and how many there are is known to Python:
those that are missing are put back (`recover`). No exception can come in the middle of the popping of a slot, or of the
appending of a row: each is one step of C.

A part of the slots, the *reserve*, is for records at ERROR and above: a freed slot fills the reserve first.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import chain, islice, repeat, starmap
from operator import add, length_hint
from sys import getrefcount
from typing import Any

from otelog._private.standard import is_owned
from otelog._record.row import COLUMNS, SLOT_BYTES
from otelog._record.severity import LEAST_URGENT
from otelog._runtime.interruption import is_foreign
from otelog._runtime.nesting import Nesting
from otelog._runtime.threads import RLock, get_ident
from otelog.exceptions import ConfigurationError

UNIT_BYTES = 4096
"""What a record larger than `SLOT_BYTES` takes further, in whole units."""

BLOCK_POLL = 0.001
"""Seconds between two looks for a free slot under ``when_full="block"``: a condition variable would be a lock."""

MOST_STAGED = 32_768
"""Records that are moved at a time out of the callers' reach; more of them would only lie there and grow cold."""

WIDTH = COLUMNS + 1
"""Values of a record in the queue: its columns and its slot."""

_MANY = 2**62


def _make_token(on_drop: Callable[[], Any]) -> type:
    """Returns a class whose objects call this, which must be a C function, when nobody holds them any more."""
    return type("Token", (), {"__slots__": (), "__del__": staticmethod(on_drop)})


class RecordQueue:
    """Holds records, nine values each, until the worker takes them.

    Args:
        max_records: The bound by records.
        max_bytes: The bound by estimated bytes.
        when_full: ``"drop_newest"`` refuses, ``"drop_oldest"`` evicts, ``"block"`` waits.
        block_timeout: Seconds that ``"block"`` waits at most.
        reserve: The part of the slots, 0 to 0.9, that only records at ERROR and above may take.

    Raises:
        ConfigurationError: The bound by bytes does not hold `max_records` slots.

    Thread safety: `put` and what it uses may be called by any thread, signal handler or ``__del__``; `take` by one
    thread at a time.
    """

    def __init__(
        self,
        max_records: int,
        max_bytes: int,
        *,
        when_full: str = "drop_newest",
        block_timeout: float = 1.0,
        reserve: float = 0.0,
    ) -> None:
        if max_bytes < max_records * SLOT_BYTES:
            raise ConfigurationError(
                f"max_queue_bytes={max_bytes} is too small for max_queue_size={max_records}: a record is counted with "
                f"at least {SLOT_BYTES} bytes, so at least {max_records * SLOT_BYTES} are needed"
            )
        self.max_records = max_records
        self.max_bytes = max_bytes
        self.when_full = when_full
        self.refuses_at_once = when_full == "drop_newest"
        """Whether `find_slot` has nothing to offer to a record below ERROR."""
        self.block_timeout = block_timeout
        self.reserve_size = min(int(max_records * reserve), max_records - 1)
        self.usable = max_records - self.reserve_size
        self._unit_count = (max_bytes - max_records * SLOT_BYTES) // UNIT_BYTES
        self.slots: deque[Any] = deque()
        """Free slots; who pops one holds it."""
        self.reserve: deque[Any] = deque()
        """Free slots for records at ERROR and above."""
        self._units: deque[tuple[()]] = deque()
        self.closed = False
        self._recovering = RLock()
        self.evicting = EvictingStore(max_records) if when_full == "drop_oldest" else None
        """The store, if it evicts."""
        self.store: _FlatStore | EvictingStore = self.evicting or _FlatStore()
        self.push: Callable[[tuple[Any, ...]], None] = self.store.push
        """Appends a row of `WIDTH` values; the last is the slot, or a list of the slot and the record's units."""
        self._fill()

    def _fill(self) -> None:
        # Another object: what a thread still holds that is not in a forked child concerns nobody any more.
        self.slot = object()
        """What all slots are. To refer to it is to hold one: only for who lets go of another in turn."""
        self._own_references = self._count_references()
        # The slots of a closed queue.
        self._retired: list[Any] = []
        self.reserve.clear()
        self.reserve.extend([self.slot] * self.reserve_size)
        self.slots.clear()
        self.slots.extend([self.slot] * self.usable)
        self._units.clear()
        self._units.extend([()] * self._unit_count)
        make_unit = _make_token(map(self._units.append, repeat(())).__next__)
        # Units are made when they are popped, and come back when they are dropped: large records are few.
        self._pop_unit: Callable[[], Any] = starmap(make_unit, iter(self._units.pop, None)).__next__

    def _count_references(self) -> int:
        return getrefcount(self.slot)

    def restart_after_fork(self) -> None:
        """Empty the queue in a forked child, in place: callers hold its bound methods."""
        self.store.clear()
        _waiting.clear()
        _recovering.clear()
        self._recovering = RLock()
        if not self.closed:
            self._fill()

    def count(self) -> tuple[int, int]:
        """Returns how many records are held and how many were evicted, as of one instant.

        While another thread takes records out they may be counted twice: a ledger's reader then looks again.
        """
        return self.store.count()

    def held(self) -> int:
        """Returns how many slots are held: by the records, and by callers in the middle of putting one in."""
        free = len(self.slots) + len(self.reserve) + len(self._retired)
        # Both change while they are read.
        return min(max(0, self._count_references() - self._own_references - free), self.max_records)

    def recover(self) -> bool:
        """Put back the slots that were dropped by callers who were cut off; returns whether there were any.

        Never waits; any thread, signal handler or ``__del__``.
        """
        lock = self._recovering
        missing = 0
        if self.closed or _recovering.is_inside():
            return False
        if is_owned(lock):
            # Left behind by an interruption.
            lock.release()
        me = get_ident()
        try:
            _recovering.enter(me)
            if lock.acquire(blocking=False):
                # While a row is moved it is referred to twice: then fewer are found missing, never more.
                missing = self.max_records - (self._count_references() - self._own_references)
                if missing > 0:
                    self.slots.extend([self.slot] * missing)
        finally:
            # It is not asked first whether it was acquired, since an interruption may come after the answer.
            try:
                lock.release()
            except RuntimeError:
                if is_foreign():
                    raise
            finally:
                _recovering.leave(me)
        return missing > 0

    # Callers.

    def find_slot(self, urgent: bool, may_block: bool, found: list[Any]) -> bool:
        """Look for a slot when `slots` was empty: the reserve, a wait, and what was dropped.

        Args:
            urgent: The record is at ERROR or above.
            may_block: False in otelog's own threads and at finalisation.
            found: Where the slot goes. It is never kept in a variable: a traceback that somebody keeps would keep it.

        Returns:
            Whether there was one.
        """
        if self.closed:
            return False
        if self._find_free(urgent, found):
            return True
        # Looking for what was dropped costs more than all of this: the worker does it, and callers only in need.
        if self.when_full == "drop_newest":
            return False
        if self.when_full == "block" and may_block and self._wait_for_slot(urgent, found):
            return True
        return self.recover() and self._find_free(urgent, found)

    def _find_free(self, urgent: bool, found: list[Any]) -> bool:
        for slots in (self.slots, self.reserve) if urgent else (self.slots,):
            # Asked first, since an exception costs more than all else here.
            if not slots:
                continue
            try:
                found.append(slots.pop())
            except IndexError:
                if is_foreign():
                    raise
            else:
                return True
        return False

    def _wait_for_slot(self, urgent: bool, found: list[Any]) -> bool:
        if _waiting.is_inside():
            # A signal handler or a __del__ on top of a call that waits already.
            return False
        me = get_ident()
        try:
            _waiting.enter(me)
            deadline = time.monotonic() + self.block_timeout
            while not self.closed:
                if self._find_free(urgent, found):
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                time.sleep(min(BLOCK_POLL, left))
            return False
        finally:
            _waiting.leave(me)

    def wait_for_units(self, size_bytes: int) -> list[Any] | None:
        """Wait as ``"block"`` does until `take_units` succeeds; returns what it returns."""
        if _waiting.is_inside():
            return None
        me = get_ident()
        try:
            _waiting.enter(me)
            deadline = time.monotonic() + self.block_timeout
            while not self.closed and (left := deadline - time.monotonic()) > 0:
                time.sleep(min(BLOCK_POLL, left))
                units = self.take_units(size_bytes)
                if units is not None:
                    return units
            return None
        finally:
            _waiting.leave(me)

    def fits(self, size_bytes: int) -> bool:
        """Returns whether an empty queue would have the units for a record of this estimate."""
        return size_bytes <= SLOT_BYTES + self._unit_count * UNIT_BYTES

    def take_units(self, size_bytes: int) -> list[Any] | None:
        """Pop the further units that a record of this estimate needs.

        Returns:
            The units, which come back when nobody holds them any more, or None if there are not enough.
        """
        wanted = -(-(size_bytes - SLOT_BYTES) // UNIT_BYTES)
        if wanted > self._unit_count:
            return None
        units: list[Any] = []
        try:
            while len(units) < wanted:
                units.append(self._take_unit())
                if units[-1] is None:
                    units.clear()
                    return None
        except BaseException:
            units.clear()
            raise
        return units

    def _take_unit(self) -> Any:
        if not self._units:
            return None
        try:
            return self._pop_unit()
        except IndexError:
            if is_foreign():
                raise
            return None
        except MemoryError:
            if not is_foreign():
                # An entry was popped, and there is no memory for the object.
                self._units.append(())
            raise

    def return_slot(self) -> None:
        """Give back the slot of a row that a caller has evicted, and still holds: it must not be missing meanwhile."""
        self.slots.append(self.slot)
        if self.closed:
            # Meanwhile: nobody may find it.
            self.slots.clear()

    # Whoever takes records out.

    def look(self, most: int) -> tuple[list[Any], list[Any]]:
        """Returns the columns of the oldest records, at most `most`, one record after the other, and their slots.

        They stay, out of the callers' reach; `drop` takes them out. Only under the ledger's `moving`.
        """
        self.recover()
        rows = self.store.look(most)
        slots = rows[COLUMNS::WIDTH]
        del rows[COLUMNS::WIDTH]
        if len(self._units) < self._unit_count:
            slots = [slot[0] if type(slot) is list else slot for slot in slots]
        return rows, slots

    def drop(self, count: int) -> None:
        """Take out the oldest records, which `look` has returned, or none; `release` has to follow."""
        self.store.drop(count)

    def release(self, slots: list[Any]) -> None:
        """Give back the slots of records that have left the queue; only under the ledger's `moving`."""
        if self.closed:
            self._retired += slots
        else:
            missing = self.reserve_size - len(self.reserve)
            if missing > 0:
                self.reserve.extend(slots[:missing])
                del slots[:missing]
            self.slots.extend(slots)
        slots.clear()

    def close(self) -> None:
        """Refuse from now on; idempotent, and only under the ledger's `moving`.

        Records that are in stay to be taken. `held` then says how many slots are still held: by them, or by a caller in
        the middle of putting one in.
        """
        self.closed = True
        self._units.clear()
        for slots in (self.slots, self.reserve):
            with suppress(IndexError):
                self._retired.extend(iter(slots.pop, None))


_recovering = Nesting()
_recovering.add(RecordQueue.recover.__code__)
_waiting = Nesting()
for _function in (RecordQueue._wait_for_slot, RecordQueue.wait_for_units):
    _waiting.add(_function.__code__)


class _FlatStore:
    """All values of all records, one after the other, in a list; only the worker takes any out.

    ``list.extend`` of a tuple, a slice and a slice's deletion are each one step under the interpreter lock.

    `incoming` begins with a row that is no record: CPython loses a reference to the tuple, and with it a slot, when
    there is no memory to extend a list that is empty.
    """

    def __init__(self) -> None:
        self.incoming: list[Any] = [None] * WIDTH
        # Moved here many at a time, last record first, so that taking a batch off the end does not shift what is left.
        self.staged: list[Any] = []
        self.push: Callable[[tuple[Any, ...]], None] = self.incoming.extend

    def count(self) -> tuple[int, int]:
        return (len(self.incoming) + len(self.staged)) // WIDTH - 1, 0

    def behind(self) -> int:
        """Returns what the length of `incoming` leaves out of the records that are held."""
        return len(self.staged)

    def clear(self) -> None:
        del self.incoming[WIDTH:]
        self.staged.clear()

    def look(self, most: int) -> list[Any]:
        """Returns the values of the oldest records, at most `most`, one record after the other."""
        missing = most - len(self.staged) // WIDTH
        if missing > 0:
            moved = self.incoming[WIDTH : WIDTH + max(missing, MOST_STAGED) * WIDTH]
            if moved:
                where = slice(WIDTH, WIDTH + len(moved))
                moved.reverse()
                moved += self.staged
                # Of these two the first fails, or none.
                del self.incoming[where]
                self.staged = moved
        rows = self.staged[max(0, len(self.staged) - most * WIDTH) :]
        rows.reverse()
        return rows

    def drop(self, count: int) -> None:
        """Take the oldest out, or none if it raises."""
        del self.staged[len(self.staged) - count * WIDTH :]


class EvictingStore:
    """Rows in two deques, below ERROR and from ERROR up, so that the oldest of either can be evicted by a caller.

    An eviction must leave the queue and be counted in one step, or a reader could see the record in neither or both
    places: ``map`` pops the row and advances the counter inside one call of C.
    """

    def __init__(self, max_records: int) -> None:
        self.low: deque[tuple[Any, ...]] = deque()
        self.high: deque[tuple[Any, ...]] = deque()
        # Oldest first, out of the callers' reach: those that are being taken, or could not be for want of memory.
        self.staged: list[Any] = []
        # One entry for each record since the last batch was taken, from which a caller sees when to wake the worker.
        self.incoming: deque[None] = deque(maxlen=max_records)
        self._start_count()

    def push(self, row: tuple[Any, ...]) -> None:
        # In this order: what fails after the record is in would be taken for its loss.
        self.incoming.append(None)
        (self.high if row[1].severity_number >= LEAST_URGENT else self.low).append(row)

    def behind(self) -> int:
        """Returns what the length of `incoming` leaves out of the records that are held; negative after evictions."""
        return len(self.low) + len(self.high) + len(self.staged) - len(self.incoming)

    def count(self) -> tuple[int, int]:
        while True:
            before = length_hint(self._left)
            queued = len(self.low) + len(self.high) + len(self.staged)
            if before == length_hint(self._left):
                return queued, _MANY - before

    def clear(self) -> None:
        self.low.clear()
        self.high.clear()
        self.staged.clear()
        self.incoming.clear()
        self._start_count()

    def _start_count(self) -> None:
        self._left = repeat((), _MANY)
        # A row and nothing is the row. (A zip would keep the last row alive.)
        self.evict_low = map(add, iter(self.low.popleft, None), self._left)
        self.evict_high = map(add, iter(self.high.popleft, None), self._left)

    def evict(self, victims: deque[Any]) -> bool:
        """Take the oldest record below ERROR, or the oldest, out of a caller's way, and count it.

        Args:
            victims: Where its row is added, in the same step: an interruption finds it there.

        Returns:
            Whether there was one.
        """
        for oldest in (self.evict_low, self.evict_high):
            try:
                victims.extend(islice(oldest, 1))
            except IndexError:
                if is_foreign():
                    raise
            else:
                return True
        return False

    def look(self, most: int) -> list[Any]:
        """Returns the values of the oldest records, at most `most`, one record after the other."""
        low, high, staged = self.low, self.high, self.staged
        self.incoming.clear()
        while staged and staged[-1] is None:
            # Left behind by an interruption.
            staged.pop()
        while len(staged) < most and (low or high):
            # The place first: a row that is out of the deque must not be lost for want of memory.
            staged.append(None)
            # A caller may evict the row that is looked at here: then the next one is taken, or the deque is empty.
            try:
                older = low if low and (not high or low[0][0] <= high[0][0]) else high
                staged[-1] = older.popleft()
            except IndexError:
                staged.pop()
        return list(chain.from_iterable(staged[:most]))

    def drop(self, count: int) -> None:
        """Take the oldest out, or none if it raises."""
        del self.staged[:count]


def is_urgent(source: Any) -> bool:
    """Returns whether a record of this source (or `Special`) is at ERROR or above."""
    urgent: bool = source.severity_number >= LEAST_URGENT
    return urgent
