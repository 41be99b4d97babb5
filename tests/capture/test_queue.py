"""The queue's bounds hold at every instant, and each policy does what it says when the queue is full."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelog import ConfigurationError
from otelog._capture.port import Port
from otelog._capture.queue import COLUMNS, SLOT_BYTES, UNIT_BYTES, RecordQueue, _waiting
from otelog._ledger.counters import Ledger
from otelog._record.row import Source
from otelog._runtime.own_threads import own_threads
from tools.waiting import wait_until

INFO = Source("tests", 9, "INFO")
ERROR = Source("tests", 17, "ERROR")


class Side:
    """A queue with its caller's side, and no worker."""

    def __init__(self, max_records: int, *, units: int = 0, **options: Any) -> None:
        max_bytes = max_records * SLOT_BYTES + units * UNIT_BYTES
        self.queue = RecordQueue(max_records, max_bytes, **options)
        self.ledger = Ledger()
        self.ledger.open_queue(self.queue.count, max_records)
        self.wakes = 0
        self.port = Port(self.queue, self.ledger, wake=self._wake, wake_at=sys.maxsize)
        self.made = 0

    def _wake(self) -> None:
        self.wakes += 1

    def put(self, source: Source = INFO, size_bytes: int = 100) -> None:
        self.made += 1
        self.port.put_sized((self.made, source, None, f"m{self.made}", None, None, None, 0, 1), size_bytes)

    def take(self, most: int = 10**6) -> list[str]:
        """What the worker does with the queue."""
        ledger = self.ledger
        ledger.begin_move()
        held = self.queue.held()
        rows, slots = self.queue.look(most)
        self.queue.drop(len(rows) // COLUMNS)
        self.queue.release(slots)
        ledger.take(len(rows) // COLUMNS, held)
        ledger.remove("filtered", len(rows) // COLUMNS)
        ledger.end_move()
        return rows[3::COLUMNS]

    def refused(self, reason: str = "queue_full") -> int:
        return self.ledger.read().refused[reason]

    def free_units(self) -> int:
        return len(self.queue._units)


@pytest.fixture
def quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_a_bound_by_bytes_that_cannot_hold_the_records_is_refused():
    with pytest.raises(ConfigurationError, match="max_queue_bytes"):
        RecordQueue(10, 10 * SLOT_BYTES - 1)


@pytest.mark.parametrize("when_full", ["drop_newest", "drop_oldest", "block"])
def test_records_come_out_in_the_order_they_went_in(when_full):
    side = Side(10, when_full=when_full)
    for _ in range(7):
        side.put()
    assert side.take(3) == ["m1", "m2", "m3"]
    side.put()
    assert side.take(4) == ["m4", "m5", "m6", "m7"]
    assert side.take() == ["m8"]
    assert side.take() == []
    assert side.queue.held() == 0


def test_drop_newest_refuses_when_full_and_takes_again_when_there_is_room():
    side = Side(3)
    for _ in range(5):
        side.put()
    assert side.refused() == 2
    assert side.take(1) == ["m1"]
    side.put()
    assert side.take() == ["m2", "m3", "m6"]
    assert side.refused() == 2


@pytest.mark.parametrize("source", [INFO, ERROR], ids=["info", "error"])
def test_a_refusal_of_any_severity_tells_who_waits_for_one(source):
    side = Side(1)
    side.put()
    told: list[None] = []
    side.ledger.miss_thread("worker", lambda: told.append(None))
    side.put(source)
    assert (len(told), side.refused()) == (1, 1)
    side.ledger.find_thread("worker")
    side.put(source)
    assert (len(told), side.refused()) == (1, 2)


def test_drop_oldest_evicts_the_oldest_below_error_first_and_then_the_oldest():
    side = Side(4, when_full="drop_oldest")
    for source in (ERROR, INFO, INFO, ERROR):
        side.put(source)
    side.put(ERROR)
    assert side.refused() == 1
    side.put(INFO)
    # m2 and m3 were the two below ERROR.
    side.put(ERROR)
    assert side.refused() == 3
    side.put(ERROR)
    assert side.take() == ["m4", "m5", "m7", "m8"]
    assert side.refused() == 4
    assert side.ledger.refused_by_severity()["queue_full", "info"] == 3
    assert side.ledger.refused_by_severity()["queue_full", "error"] == 1


def test_drop_oldest_gives_the_units_of_the_evicted_record_back():
    side = Side(2, units=4, when_full="drop_oldest")
    side.put(size_bytes=SLOT_BYTES + 3 * UNIT_BYTES)
    side.put()
    assert side.free_units() == 1
    side.put()
    assert side.free_units() == 4
    assert side.take() == ["m2", "m3"]


def test_what_a_large_record_evicts_leaves_room_for_others_before_the_worker_comes():
    side = Side(20, units=4, when_full="drop_oldest")
    for number in range(20):
        side.put(size_bytes=SLOT_BYTES + 3 * UNIT_BYTES if number == 10 else 100)
    # It needs the units of the eleventh, and those before it go first.
    side.put(size_bytes=SLOT_BYTES + 3 * UNIT_BYTES)
    assert (side.refused(), side.queue.held()) == (11, 10)
    for _ in range(10):
        side.put()
    assert (side.refused(), side.queue.held()) == (11, 20)
    assert len(side.take()) == 20
    assert (side.queue.held(), len(side.queue.slots), side.free_units()) == (0, 20, 4)


@pytest.mark.parametrize("source", [INFO, ERROR], ids=["info", "error"])
def test_drop_oldest_wakes_the_worker_whatever_the_severity(source):
    side = Side(10, when_full="drop_oldest")
    side.port.wake_at = 5
    for _ in range(5):
        side.put(source)
    assert side.wakes == 1


def test_an_eviction_and_its_count_are_one_step(quick_switches):
    """Readers see the evicted record in the queue or counted, never in both or neither."""
    side = Side(50, when_full="drop_oldest")
    for _ in range(50):
        side.put()
    done = threading.Event()
    begun, returned = [0] * 4, [0] * 4

    def evict(number: int) -> None:
        while not done.is_set():
            victims: deque[Any] = deque()
            assert side.queue.store.evict(victims)
            begun[number] += 1
            side.queue.store.push((1, INFO, None, "again", None, None, None, 0, 1, victims[0][COLUMNS]))
            returned[number] += 1

    threads = [threading.Thread(target=evict, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        evicted = 0
        began = time.monotonic()
        # Longer where the machine does not get so far in that time.
        while (now := time.monotonic()) < began + 1.5 or (evicted <= 100 and now < began + 30):
            least = sum(returned)
            queued, evicted = side.queue.count()
            # An eviction leaves the sum as it is, a record that comes raises it.
            assert least <= queued + evicted - 50 <= sum(begun)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert evicted > 100


def test_the_reserve_is_for_errors_and_is_filled_first():
    side = Side(10, reserve=0.3)
    assert side.queue.usable == 7
    for _ in range(9):
        side.put(INFO)
    assert side.refused() == 2
    for _ in range(4):
        side.put(ERROR)
    assert side.refused() == 3
    assert side.queue.held() == 10
    # What is freed fills the reserve, so that the next error finds room before the next info does.
    assert len(side.take(2)) == 2
    side.put(INFO)
    assert side.refused() == 4
    side.put(ERROR)
    assert side.refused() == 4
    assert len(side.take()) == 9
    assert side.queue.held() == 0


def test_the_reserve_leaves_at_least_one_slot_to_the_others():
    side = Side(1, reserve=0.9)
    side.put(INFO)
    assert side.refused() == 0


def test_block_waits_until_there_is_room():
    side = Side(1, when_full="block", block_timeout=20.0)
    side.put()
    thread = threading.Thread(target=side.put)
    thread.start()
    wait_until(lambda: _waiting._threads)
    assert side.take() == ["m1"]
    thread.join(10)
    assert not thread.is_alive()
    assert side.take() == ["m2"]
    assert side.refused() == 0


def test_block_waits_no_longer_than_its_timeout():
    side = Side(1, when_full="block", block_timeout=0.1)
    side.put()
    began = time.monotonic()
    side.put()
    assert 0.1 <= time.monotonic() - began < 5.0
    assert side.refused() == 1


def test_block_lets_an_error_take_the_reserve_while_it_waits():
    side = Side(2, reserve=0.5, when_full="block", block_timeout=20.0)
    side.put(INFO)
    side.put(ERROR)
    assert side.queue.held() == 2
    thread = threading.Thread(target=side.put, args=(ERROR,))
    thread.start()
    wait_until(lambda: _waiting._threads)
    # One slot is free: it belongs to the reserve.
    assert side.take(1) == ["m1"]
    thread.join(10)
    assert side.take() == ["m2", "m3"]


def test_block_never_waits_in_a_thread_of_our_own():
    side = Side(1, when_full="block", block_timeout=20.0)
    side.put()
    own_threads.add(threading.get_ident())
    try:
        began = time.monotonic()
        side.put()
        assert time.monotonic() - began < 5.0
    finally:
        own_threads.discard(threading.get_ident())
    assert side.refused() == 1


def test_block_never_waits_on_top_of_a_wait():
    """A signal handler that logs while the thread waits for a slot is refused at once."""
    side = Side(1, when_full="block", block_timeout=1.0)
    side.put()
    nested: list[float] = []

    def handle(number: int, frame: Any) -> None:
        began = time.monotonic()
        side.put()
        nested.append(time.monotonic() - began)

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        side.put()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert nested
    assert nested[0] < 0.5
    assert side.refused() == 2


def test_a_shutdown_ends_the_wait_of_a_blocked_call():
    side = Side(1, when_full="block", block_timeout=20.0)
    side.put()
    thread = threading.Thread(target=side.put)
    thread.start()
    wait_until(lambda: _waiting._threads)
    side.queue.close()
    thread.join(10)
    assert not thread.is_alive()
    assert side.refused("already_shutdown") == 1


def test_after_close_everything_is_refused_and_what_is_in_stays():
    side = Side(5, units=2)
    side.put()
    side.put()
    side.queue.close()
    side.queue.close()
    side.put()
    side.put(ERROR, size_bytes=SLOT_BYTES + UNIT_BYTES)
    assert side.refused("already_shutdown") == 2
    assert side.queue.held() == 2
    assert side.take() == ["m1", "m2"]
    assert side.queue.held() == 0
    side.put()
    assert side.refused("already_shutdown") == 3


def test_close_knows_of_a_caller_in_the_middle_of_a_call():
    side = Side(5)
    in_hand = [side.port.slots.pop()]
    side.queue.close()
    assert side.queue.held() == 1
    side.port.push((1, INFO, None, "late", None, None, None, 0, 1, in_hand.pop()))
    assert side.take() == ["late"]
    assert side.queue.held() == 0


@pytest.mark.parametrize("when_full", ["drop_newest", "drop_oldest", "block"])
@pytest.mark.parametrize("severity", [INFO, ERROR])
def test_a_record_larger_than_the_queue_is_too_large_and_costs_no_other_one_anything(when_full, severity):
    # A wait of this length would be the test's end.
    side = Side(5, units=2, when_full=when_full, block_timeout=10_000.0)
    side.put()
    side.put(size_bytes=SLOT_BYTES + UNIT_BYTES)
    side.put(severity, size_bytes=SLOT_BYTES + 2 * UNIT_BYTES + 1)
    assert (side.refused("too_large"), side.refused()) == (1, 0)
    assert (side.free_units(), side.queue.held()) == (1, 2)
    # The largest that can ever be in it is another matter: it is full.
    side.queue.when_full = "drop_newest"
    side.put(severity, size_bytes=SLOT_BYTES + 2 * UNIT_BYTES)
    assert (side.refused("too_large"), side.refused()) == (1, 1)
    side.queue.close()
    side.put(severity, size_bytes=SLOT_BYTES + 2 * UNIT_BYTES + 1)
    assert (side.refused("too_large"), side.refused("already_shutdown")) == (1, 1)
    stats = side.ledger.read()
    assert stats.created == sum(stats.refused.values()) + stats.queued
    assert side.take() == ["m1", "m2"]


def test_units_come_back_when_the_record_has_no_slot():
    side = Side(1, units=2)
    side.put()
    side.put(size_bytes=SLOT_BYTES + UNIT_BYTES)
    assert side.refused() == 1
    assert side.free_units() == 2


def test_a_forked_childs_queue_is_empty_and_whole():
    for when_full in ("drop_newest", "drop_oldest"):
        side = Side(5, units=2, reserve=0.4, when_full=when_full)
        side.put(size_bytes=SLOT_BYTES + UNIT_BYTES)
        side.put(ERROR)
        side.queue.restart_after_fork()
        assert side.queue.count() == (0, 0)
        assert side.queue.held() == 0
        assert side.free_units() == 2
        side.put()
        assert side.take() == ["m3"]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([INFO, ERROR]), st.integers(1, 4 * UNIT_BYTES)),
        st.tuples(st.just("take"), st.integers(1, 6), st.none()),
        st.tuples(st.just("close"), st.none(), st.none()),
    ),
    max_size=60,
)


@given(
    steps=STEPS,
    max_records=st.integers(1, 6),
    units=st.integers(0, 5),
    when_full=st.sampled_from(["drop_newest", "drop_oldest", "block"]),
    reserve=st.floats(0, 0.9),
)
def test_slots_and_units_are_neither_lost_nor_made(steps, max_records, units, when_full, reserve):
    """Whatever is put and taken: slots held = records in, units held = what those records hold, the bounds are kept."""
    side = Side(max_records, units=units, when_full=when_full, reserve=reserve, block_timeout=0.0)
    closed = False
    for kind, one, two in steps:
        if kind == "put":
            side.put(one, two)
        elif kind == "take":
            side.take(one)
        elif not closed:
            side.queue.close()
            closed = True
        stats = side.ledger.read()
        assert side.made == stats.created
        assert stats.queued == side.queue.held() <= max_records
        assert stats.queued + sum(stats.refused.values()) + stats.removed["filtered"] == side.made
        if not closed:
            assert 0 <= side.free_units() <= units
    side.take()
    assert side.queue.held() == 0
    if not closed:
        assert side.free_units() == units


@pytest.mark.parametrize("when_full", ["drop_newest", "drop_oldest", "block"])
def test_neither_bound_is_passed_for_an_instant_under_many_threads(when_full, quick_switches):
    side = Side(20, units=10, when_full=when_full, reserve=0.2, block_timeout=0.002)
    done = threading.Event()
    sizes = [100, SLOT_BYTES + UNIT_BYTES, 100, SLOT_BYTES + 3 * UNIT_BYTES, 300]
    worst_records = worst_units = 0

    def call(number: int) -> None:
        turn = number
        while not done.is_set():
            side.put(ERROR if turn % 7 == 0 else INFO, sizes[turn % len(sizes)])
            turn += 1

    def work() -> None:
        while not done.is_set():
            side.take(6)
            time.sleep(0)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    threads.append(threading.Thread(target=work))
    for thread in threads:
        thread.start()
    try:
        began = time.monotonic()
        # Longer where the machine does not get the queue full in that time.
        while (now := time.monotonic()) < began + 1.5 or ((worst_records < 15 or worst_units < 5) and now < began + 30):
            # A snapshot: the queue's own lengths are of one moment only while nobody takes records out.
            worst_records = max(worst_records, side.ledger.read().queued)
            worst_units = max(worst_units, side.queue._unit_count - side.free_units())
            # More slots than there are would let more records in than there may be.
            with side.ledger.moving:
                assert len(side.queue.slots) + len(side.queue.reserve) <= 20
            assert len(side.queue.reserve) <= side.queue.reserve_size
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert 15 <= worst_records <= 20
    assert 5 <= worst_units <= 10
    side.take()
    # Every slot and unit is back: none was lost, none made.
    side.queue.recover()
    assert side.queue.held() == 0
    assert len(side.queue.slots) + len(side.queue.reserve) == 20
    assert side.free_units() == 10
    stats = side.ledger.read()
    assert stats.created == sum(stats.refused.values()) + stats.removed["filtered"]
    assert stats.max_queued <= 20
