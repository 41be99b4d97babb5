"""The books are exact while they are written, by the test's own oracle."""

from __future__ import annotations

import dataclasses
import sys
import threading

import pytest

from otelog._ledger.counters import DROPPED_REASONS, REFUSED_REASONS, REMOVED_REASONS, AtomicCounter, Ledger
from otelog._record.severity import SEVERITY_RANGES
from tests.ledger_load import run_load, switch_interval
from tests.pipelines import check_identity
from tests.sizes import sized
from tools.waiting import wait_until

# `make soak` runs all six combinations at full size. A snapshot waits for its turn among all threads: what a run costs
# is their number, and that of the snapshots. Blocked calls are as fast as the exporter, which is slow on purpose.
THREADS = sized(12, full=32)
SNAPSHOTS = sized(100, full=300)
MANY = sized(4_000, full=100_000, brief=1_000)
QUICK = sized(2_000, full=8_000, brief=1_000)
BLOCKED = sized(300, full=800, brief=100)


@pytest.mark.parametrize("quick_switches", [False, True], ids=["switches_of_5_ms", "switches_of_10_us"])
@pytest.mark.parametrize("when_full", ["drop_newest", "drop_oldest", "block"])
def test_every_snapshot_holds_while_many_threads_log_into_a_full_queue(when_full, quick_switches):
    calls = BLOCKED if when_full == "block" else QUICK if quick_switches else MANY
    run_load(when_full, quick_switches=quick_switches, threads=THREADS, calls=calls, snapshots=SNAPSHOTS)


def test_an_atomic_counter_loses_nothing_under_many_threads():
    counter = AtomicCounter()
    add = counter.add

    def call() -> None:
        for _ in range(50_000):
            add()

    threads = [threading.Thread(target=call) for _ in range(8)]
    with switch_interval(1e-6):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counter.value == 400_000


def test_a_snapshot_is_frozen_and_names_every_reason():
    stats = Ledger().read()
    assert set(stats.refused) == set(REFUSED_REASONS)
    assert set(stats.removed) == set(REMOVED_REASONS)
    assert set(stats.dropped) == set(DROPPED_REASONS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.created = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        stats.refused["queue_full"] = 1  # type: ignore[index]


def test_what_is_lost_is_refused_or_invalid_or_dropped():
    ledger = Ledger()
    ledger.open_exporter("one")
    ledger.refuse("reentrant", "info")
    ledger.begin_move()
    ledger.take(6, 6)
    ledger.remove("invalid", 1)
    ledger.remove("filtered", 1)
    ledger.accept(4)
    ledger.enter("one", 4)
    ledger.end_move()
    ledger.settle("one", 1, [("rejected", "error"), ("rejected", "error"), ("too_large", "info")])
    stats = ledger.read()
    check_identity(dataclasses.replace(stats, queue_capacity=1))
    assert (stats.created, stats.lost, stats.exported, stats.in_flight) == (7, 5, 1, 0)
    assert ledger.exporters["one"].dropped_by_severity == {("rejected", "error"): 2, ("too_large", "info"): 1}


def test_refusals_are_known_by_severity():
    ledger = Ledger()
    for severity in SEVERITY_RANGES:
        ledger.refuse("queue_full", severity)
    ledger.count_evicted[17]()
    assert ledger.refused_by_severity()["queue_full", "error"] == 2
    assert sum(ledger.refused_by_severity().values()) == len(SEVERITY_RANGES) + 1


def test_a_reader_waits_for_the_end_of_a_move():
    ledger = Ledger()
    ledger.open_exporter("one")
    ledger.begin_move()
    ledger.take(1, 1)
    seen: list[int] = []
    reader = threading.Thread(target=lambda: seen.append(ledger.read().accepted))
    reader.start()
    # The record has left the queue and is not accepted yet: no moment to be seen.
    reader.join(0.1)
    assert not seen
    ledger.accept(1)
    ledger.enter("one", 1)
    ledger.end_move()
    reader.join(10)
    assert seen == [1]


def test_a_snapshot_that_a_move_came_into_is_taken_again():
    ledger = Ledger()
    ledger.open_exporter("one")
    moves = [1, 1, 1]

    def count() -> tuple[int, int]:
        # The worker takes a record just after the reader has seen it in the queue.
        if moves:
            moves.pop()
            ledger.begin_move()
            ledger.take(1, 1)
            ledger.accept(1)
            ledger.enter("one", 1)
            ledger.end_move()
            return 1 + len(moves), 0
        return 0, 0

    ledger.open_queue(count, 10)
    stats = ledger.read()
    assert not moves
    assert (stats.created, stats.queued, stats.accepted) == (3, 0, 3)


def test_a_move_inside_a_move_does_not_show_the_outer_one_half_done():
    """A finalizer or a signal handler may begin a move on top of one of its own thread."""
    ledger = Ledger()
    ledger.open_exporter("one")
    ledger.begin_move()
    ledger.take(1, 1)
    ledger.begin_move()
    ledger.end_move()
    ledger.begin_move()
    seen: list[int] = []
    reader = threading.Thread(target=lambda: seen.append(ledger.read().accepted))
    reader.start()
    reader.join(0.1)
    assert not seen
    ledger.end_move()
    ledger.accept(1)
    ledger.enter("one", 1)
    ledger.end_move()
    reader.join(10)
    assert seen == [1]


def test_a_reader_on_top_of_its_own_threads_move_does_not_wait_for_itself():
    ledger = Ledger()
    ledger.begin_move()
    try:
        assert ledger.is_moving()
        assert ledger.read().created == 0
    finally:
        ledger.end_move()
    assert not ledger.is_moving()


def test_a_move_that_an_exception_cut_off_is_forgotten():
    ledger = Ledger()
    ledger.begin_move()
    ledger.begin_move()
    ledger.forget_move()
    free: list[bool] = []
    other = threading.Thread(target=lambda: free.append(ledger.moving.acquire(timeout=5)))
    other.start()
    other.join()
    assert free == [True]
    assert ledger.read().created == 0


def test_exporters_may_be_added_while_others_read():
    ledger = Ledger()
    done = threading.Event()
    errors: list[BaseException] = []
    reads = AtomicCounter()

    def read() -> None:
        try:
            while not done.is_set():
                ledger.read()
                reads.add()
        except BaseException as error:
            errors.append(error)

    with switch_interval(1e-6):
        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(100):
            ledger.open_exporter(f"exporter {number}")
        wait_until(lambda: reads.value > 10 or errors)
        done.set()
        for thread in threads:
            thread.join()
    assert not errors


def test_a_record_that_comes_into_a_closed_queue_is_counted_as_refused():
    """A caller that was cut off between its slot and its record, while the pipeline was replaced."""
    ledger = Ledger()
    old, new = [0, 3], [0, 0]
    counts = [lambda: (old[0], old[1]), lambda: (new[0], new[1])]
    ledger.open_queue(counts[0], 10)
    ledger.open_queue(counts[1], 20)
    ledger.close_queue(counts[0])
    before = ledger.read()
    assert (before.created, before.refused["queue_full"], before.queue_capacity) == (3, 3, 20)
    old[0] = 1
    after = ledger.read()
    assert (after.created, after.queued, after.refused["already_shutdown"]) == (4, 0, 1)
    check_identity(after)


def test_the_length_hint_of_a_counter_is_exact_on_this_interpreter():
    counter = AtomicCounter()
    assert counter.value == 0
    for _ in range(3):
        counter.add()
    assert counter.value == 3
    assert sys.maxsize > 2**62


def test_the_highest_length_that_was_told_is_never_taken_back():
    """An eviction makes the queue shorter for a moment without a take."""
    ledger = Ledger()
    ledger.open_exporter("one")
    length = [994]
    ledger.open_queue(lambda: (length[0], 1), 1_000)
    assert ledger.read().max_queued == 994
    length[0] = 988
    assert ledger.read().max_queued == 994
    ledger.begin_move()
    ledger.take(200, 990)
    ledger.end_move()
    length[0] = 700
    assert ledger.read().max_queued == 994
    length[0] = 996
    assert ledger.read().max_queued == 996
