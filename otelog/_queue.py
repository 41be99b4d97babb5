"""The bounded queue between the callers and the worker: exact bounds, no lock.

The bound by records is a deque of free slots: who puts a record in must have popped a slot first, and whoever takes
the record out puts the slot back, so that the bound is not passed even for an instant. The bound by bytes works the
same way: every slot stands for `SLOT_BYTES`, and a record whose estimate is larger pops further units of `UNIT_BYTES`.

A part of the slots, the *reserve*, is for records at ERROR and above: a freed slot fills the reserve first.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import repeat
from operator import length_hint
from typing import Any

from otelog._record import COLUMNS, SLOT_BYTES
from otelog._severity import LEAST_URGENT
from otelog._threads import get_ident
from otelog.exceptions import ConfigurationError

UNIT_BYTES = 4096
"""What a record larger than `SLOT_BYTES` takes further, in whole units."""

DEFAULT_BYTES_PER_RECORD = 4096
"""The default bound by bytes is this times the bound by records, and at least `LEAST_DEFAULT_BYTES`."""

LEAST_DEFAULT_BYTES = 64 * 1024 * 1024

WHEN_FULL = ("drop_newest", "drop_oldest", "block")

BLOCK_POLL = 0.001
"""Seconds between two looks for a free slot under ``when_full="block"``: a condition variable would be a lock."""

MOST_STAGED = 32_768
"""Records that are moved at a time out of the callers' reach; more of them would only lie there and grow cold."""

_MANY = 2**62


def default_queue_bytes(max_queue_size: int) -> int:
    """Returns the default bound by bytes for a bound by records."""
    return max(LEAST_DEFAULT_BYTES, DEFAULT_BYTES_PER_RECORD * max_queue_size)


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
        self.slots: deque[None] = deque()
        self._reserve: deque[None] = deque()
        self._units: deque[None] = deque()
        self._blocked: set[int] = set()
        self.closed = False
        self.outstanding = 0
        self.store: _FlatStore | _EvictingStore = (
            _EvictingStore(max_records) if when_full == "drop_oldest" else _FlatStore()
        )
        self.push: Callable[[tuple[Any, ...]], None] = self.store.push
        """Appends a row; who calls it holds a slot."""
        self._fill()

    def _fill(self) -> None:
        self.slots.clear()
        self._reserve.clear()
        self._units.clear()
        self.slots.extend([None] * self.usable)
        self._reserve.extend([None] * self.reserve_size)
        self._units.extend([None] * self._unit_count)

    def restart_after_fork(self) -> None:
        """Empty the queue in a forked child, in place: callers hold its bound methods."""
        self.store.clear()
        self._blocked.clear()
        self.outstanding = 0
        if not self.closed:
            self._fill()

    def count(self) -> tuple[int, int]:
        """Returns how many records are held and how many were evicted, as of one instant.

        While another thread takes records out they may be counted twice: a ledger's reader then looks again.
        """
        return self.store.count()

    def held(self) -> int:
        """Returns how many slots are held: by the records, and by callers in the middle of putting one in."""
        return self.outstanding if self.closed else self.max_records - len(self.slots) - len(self._reserve)

    # Callers.

    def find_slot(self, urgent: bool, may_block: bool) -> tuple[bool, Any]:
        """Look for a slot when `slots` was empty: the reserve, an eviction, a wait.

        Args:
            urgent: The record is at ERROR or above.
            may_block: False in otelog's own threads and at finalisation.

        Returns:
            Whether the caller now holds a slot, and the row that was evicted for it, or None.
        """
        if self.closed:
            return False, None
        if urgent:
            try:
                self._reserve.pop()
            except IndexError:
                pass
            else:
                return True, None
        if self.when_full == "drop_oldest":
            victim = self.store.evict()
            if victim is not None:
                return True, victim
        elif self.when_full == "block" and may_block:
            return self._wait_for_slot(urgent), None
        return False, None

    def _wait_for_slot(self, urgent: bool) -> bool:
        me = get_ident()
        if me in self._blocked:
            # A signal handler or a __del__ on top of a call that waits already.
            return False
        try:
            self._blocked.add(me)
            deadline = time.monotonic() + self.block_timeout
            while not self.closed:
                try:
                    self.slots.pop()
                except IndexError:
                    pass
                else:
                    return True
                if urgent:
                    try:
                        self._reserve.pop()
                    except IndexError:
                        pass
                    else:
                        return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                time.sleep(min(BLOCK_POLL, left))
            return False
        finally:
            self._blocked.discard(me)

    def wait_for_units(self, size_bytes: int) -> int:
        """Wait as ``"block"`` does until `take_units` succeeds; returns what it returns."""
        me = get_ident()
        if me in self._blocked:
            return -1
        try:
            self._blocked.add(me)
            deadline = time.monotonic() + self.block_timeout
            while not self.closed and (left := deadline - time.monotonic()) > 0:
                time.sleep(min(BLOCK_POLL, left))
                units = self.take_units(size_bytes)
                if units >= 0:
                    return units
            return -1
        finally:
            self._blocked.discard(me)

    def fits(self, size_bytes: int) -> bool:
        """Returns whether an empty queue would have the units for a record of this estimate."""
        return size_bytes <= SLOT_BYTES + self._unit_count * UNIT_BYTES

    def return_slot(self) -> None:
        """Give back the slot of a record that a caller has evicted without taking its place. Free of locks."""
        self.slots.append(None)
        if self.closed:
            # The queue was closed meanwhile: nobody may find the slot.
            with suppress(IndexError):
                self.slots.pop()

    def take_units(self, size_bytes: int) -> int:
        """Pop the further units that a record of this estimate needs.

        Returns:
            How many, 0 for a small record, or -1 if there are not enough (then none is held).
        """
        if size_bytes <= SLOT_BYTES:
            return 0
        wanted = -(-(size_bytes - SLOT_BYTES) // UNIT_BYTES)
        if wanted > self._unit_count:
            return -1
        held = 0
        try:
            while held < wanted:
                self._units.pop()
                held += 1
        except IndexError:
            self._units.extend([None] * held)
            return -1
        return wanted

    # Whoever takes records out.

    def release_units(self, units: int) -> None:
        """Give back units; any thread may, without a lock."""
        self._units.extend([None] * units)

    def units_are_out(self) -> bool:
        """Returns whether any record in the queue may hold units."""
        return len(self._units) < self._unit_count

    def release(self, slots: int) -> None:
        """Give back the slots of records that have left the queue; only under the ledger's `moving`."""
        if self.closed:
            self.outstanding -= slots
            return
        missing = self.reserve_size - len(self._reserve)
        if missing > 0:
            first = min(missing, slots)
            self._reserve.extend([None] * first)
            slots -= first
        if slots:
            self.slots.extend([None] * slots)

    def close(self) -> None:
        """Refuse from now on; idempotent, and only under the ledger's `moving`.

        Records that are in stay to be taken. `outstanding` then says how many slots are still held: by them, or by a
        caller in the middle of putting one in.
        """
        if self.closed:
            return
        self.closed = True
        self._units.clear()
        free = 0
        for slots in (self.slots, self._reserve):
            try:
                while True:
                    slots.pop()
                    free += 1
            except IndexError:
                pass
        self.outstanding = self.max_records - free


class _FlatStore:
    """All values of all records, one after the other, in a list; only the worker takes any out.

    ``list.extend`` of a tuple, a slice and a slice's deletion are each one step under the interpreter lock.
    """

    def __init__(self) -> None:
        self.incoming: list[Any] = []
        # Moved here many at a time, last record first, so that taking a batch off the end does not shift what is left.
        self.staged: list[Any] = []
        self.push: Callable[[tuple[Any, ...]], None] = self.incoming.extend

    def count(self) -> tuple[int, int]:
        return (len(self.incoming) + len(self.staged)) // COLUMNS, 0

    def behind(self) -> int:
        """Returns what the length of `incoming` leaves out of the records that are held."""
        return len(self.staged)

    def clear(self) -> None:
        self.incoming.clear()
        self.staged.clear()

    def evict(self) -> None:
        return None

    def take(self, most: int) -> list[Any]:
        """Take the oldest records, at most `most`; returns their values, one record after the other."""
        rows = self._take_staged(most)
        missing = most - len(rows) // COLUMNS
        if missing:
            moved = self.incoming[: max(missing, MOST_STAGED) * COLUMNS]
            del self.incoming[: len(moved)]
            moved.reverse()
            self.staged = moved
            rows += self._take_staged(missing)
        return rows

    def _take_staged(self, most: int) -> list[Any]:
        first = max(0, len(self.staged) - most * COLUMNS)
        rows = self.staged[first:]
        del self.staged[first:]
        rows.reverse()
        return rows


class _EvictingStore:
    """Rows in two deques, below ERROR and from ERROR up, so that the oldest of either can be evicted by a caller.

    An eviction must leave the queue and be counted in one step, or a reader could see the record in neither or both
    places: ``zip`` pops the row and advances the counter inside one call of C.
    """

    def __init__(self, max_records: int) -> None:
        self._low: deque[tuple[Any, ...]] = deque()
        self._high: deque[tuple[Any, ...]] = deque()
        # One entry for each record since the last batch was taken, from which a caller sees when to wake the worker.
        self.incoming: deque[None] = deque(maxlen=max_records)
        self._start_count()

    def push(self, row: tuple[Any, ...]) -> None:
        (self._high if is_urgent(row[1]) else self._low).append(row)
        self.incoming.append(None)

    def behind(self) -> int:
        """Returns what the length of `incoming` leaves out of the records that are held; negative after evictions."""
        return len(self._low) + len(self._high) - len(self.incoming)

    def count(self) -> tuple[int, int]:
        while True:
            before = length_hint(self._left)
            queued = len(self._low) + len(self._high)
            if before == length_hint(self._left):
                return queued, _MANY - before

    def clear(self) -> None:
        self._low.clear()
        self._high.clear()
        self.incoming.clear()
        self._start_count()

    def _start_count(self) -> None:
        self._left = repeat(None, _MANY)
        nobody = object()
        self._evict_low = zip(iter(self._low.popleft, nobody), self._left, strict=False)
        self._evict_high = zip(iter(self._high.popleft, nobody), self._left, strict=False)

    def evict(self) -> tuple[Any, ...] | None:
        try:
            return next(self._evict_low)[0]
        except IndexError:
            pass
        try:
            return next(self._evict_high)[0]
        except IndexError:
            return None

    def take(self, most: int) -> list[Any]:
        rows: list[Any] = []
        low, high = self._low, self._high
        self.incoming.clear()
        while most:
            # A caller may evict the row that is looked at here: then the next one is taken, or the deque is empty.
            try:
                older = low if low and (not high or low[0][0] <= high[0][0]) else high
                row = older.popleft()
            except IndexError:
                if not low and not high:
                    break
                continue
            rows += row
            most -= 1
        return rows


def is_urgent(source: Any) -> bool:
    """Returns whether a record of this source (or `Special`) is at ERROR or above."""
    urgent: bool = source.severity_number >= LEAST_URGENT
    return urgent
