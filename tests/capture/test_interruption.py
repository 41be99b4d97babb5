"""An exception at every instruction of a log call: a signal handler may raise anywhere, and leaves nothing behind.

CPython looks for signals at a function's entry, after a call and at a backward jump (`is_delivery_point` lists them).
There, everything must be right at once. At the other instructions, where only a tracer can raise, a mark that is left
behind may wait for the thread's next log call.
"""

from __future__ import annotations

import dis
import gc
import logging
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from random import Random
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context, attach
from opentelemetry.sdk._logs import ReadWriteLogRecord
from opentelemetry.sdk.resources import Resource

import otelog
from otelog._capture.facade import Logger
from otelog._capture.handler import LoggingHandler
from otelog._capture.port import ActivePipeline, current_span_context
from otelog._capture.queue import _waiting
from otelog._patches import log_calls
from otelog._record.row import SLOT_BYTES
from otelog._record.sdk import RowMaker
from otelog._runtime.own_threads import converting, own_threads
from otelog._runtime.quiet import quiet_turn
from otelog._runtime.threads import RLock, get_ident
from tests.capture.test_queue import Side

CALLS = frozenset(
    number
    for name, number in dis.opmap.items()
    if name in {"CALL", "CALL_KW", "CALL_FUNCTION", "CALL_FUNCTION_KW", "CALL_FUNCTION_EX", "CALL_METHOD"}
)
JUMPS = frozenset(number for name, number in dis.opmap.items() if name.startswith("POP_JUMP_IF_"))
# Whose functions a log call runs.
PARTS = ("otelog", "opentelemetry", "contextlib")


class Interrupted(Exception):
    """What the signal handler raises."""


@dataclass
class Point:
    """One instruction of a call, in the order of execution."""

    place: str
    delivers: bool


class Tracer:
    """Counts the instructions of a call, and raises in front of one of them.

    Args:
        raise_at: Which one, from 0.

    Attributes:
        point: Where it has raised, or None.
    """

    def __init__(self, raise_at: int) -> None:
        self.point: Point | None = None
        self._raise_at = raise_at
        self._count = 0
        self._last: dict[FrameType, int] = {}

    def run(self, call: Callable[[], object]) -> None:
        """Make the call under the tracer."""
        before = sys.gettrace()
        # 3.12 asks whether any frame wants to see its instructions when the tracer is set.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self._call)
        try:
            call()
        finally:
            sys.settrace(before)
            self._last.clear()

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        # By the module, since the short way of `logging` says that it is of another file.
        if not frame.f_globals.get("__name__", "").startswith(PARTS) and frame.f_code is not Odd.__str__.__code__:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event != "opcode":
            return self._step
        if self._count == self._raise_at:
            code, offset = frame.f_code, frame.f_lasti
            delivers = is_delivery_point(code.co_code, self._last.get(frame), offset)
            self.point = Point(f"{code.co_name}, line {frame.f_lineno}, offset {offset}", delivers)
            raise Interrupted
        self._count += 1
        self._last[frame] = frame.f_lasti
        return self._step


def is_delivery_point(code: bytes, before: int | None, offset: int) -> bool:
    """Returns whether CPython looks for signals between two instructions of a frame.

    It does at a function's entry, after a call and at a jump back; 3.10 also where a condition makes it jump.
    """
    if before is None or offset <= before or code[before] in CALLS:
        return True
    return sys.version_info < (3, 11) and code[before] in JUMPS and offset != before + 2


def warm_up(call: Callable[[], object]) -> None:
    """Have the next tracer see the call's instructions: 3.13 shows them from a function's second call on."""
    if sys.version_info >= (3, 13):
        Tracer(-1).run(call)


class Odd:
    """A value that has to be converted."""

    def __str__(self) -> str:
        return "odd"


@dataclass
class Way:
    """A way of capture: a call that makes one record."""

    side: Side
    call: Callable[[], object]
    undo: Callable[[], object] = lambda: None


def make_logger(side: Side) -> Logger:
    return Logger("tests", ActivePipeline(side.port))


def make_handler(side: Side) -> LoggingHandler:
    return LoggingHandler(processor=SimpleNamespace(pipeline=ActivePipeline(side.port)))  # type: ignore[arg-type]


def make_standard_logger(side: Side) -> logging.Logger:
    logger = logging.Logger("tests.interruption", logging.INFO)
    logger.addHandler(make_handler(side))
    return logger


def fail() -> None:
    raise ValueError("no")


def log_failure(log: Callable[..., object]) -> None:
    try:
        fail()
    except ValueError:
        log("failed with %s", Odd(), exc_info=True)


def facade_short(side: Side) -> Way:
    logger = make_logger(side)
    return Way(side, lambda: logger.info("paid %s", 1, amount=2.5, currency="EUR", count=3))


def facade_slow(side: Side) -> Way:
    logger = make_logger(side)
    return Way(side, lambda: log_failure(logger.info))


def facade_event(side: Side) -> Way:
    logger = make_logger(side)
    return Way(side, lambda: logger.event("order.paid", order={"id": [1, Odd()]}))


def facade_large(side: Side) -> Way:
    logger = make_logger(side)
    return Way(side, lambda: logger.error("x" * (SLOT_BYTES + 10_000)))


def bound_logger(side: Side) -> Way:
    logger = make_logger(side).bind(tenant="a")
    return Way(side, lambda: logger.warning("bound"))


def bound_block(side: Side) -> Way:
    logger = make_logger(side)

    def call() -> None:
        with otelog.bound(request=1):
            logger.info("inside")

    return Way(side, call)


def tracked_block(side: Side) -> Way:
    logger = make_logger(side)

    def call() -> None:
        with otelog.track("work", logger=logger, table="daily"):
            pass

    return Way(side, call)


def standard_handler(side: Side) -> Way:
    logger = make_standard_logger(side)
    return Way(side, lambda: logger.info("paid %s", 1, extra={"amount": 2.5}))


def standard_handler_slow(side: Side) -> Way:
    logger = make_standard_logger(side)
    return Way(side, lambda: log_failure(logger.info))


def standard_direct(side: Side) -> Way:
    logger = make_standard_logger(side)
    log_calls.install()
    return Way(side, lambda: logger.info("paid %s", 1, extra={"amount": 2.5}), log_calls.uninstall)


def sdk_record(side: Side) -> Way:
    rows = RowMaker()

    def call() -> None:
        record = LogRecord(
            timestamp=1, observed_timestamp=2, context=Context(), severity_number=SeverityNumber.INFO, body={"a": Odd()}
        )
        side.port.put_sized(*rows.make_safely(ReadWriteLogRecord(record, Resource.get_empty())))

    return Way(side, call)


WAYS = (
    facade_short,
    facade_slow,
    facade_event,
    facade_large,
    bound_logger,
    bound_block,
    tracked_block,
    standard_handler,
    standard_handler_slow,
    standard_direct,
    sdk_record,
)
BEHAVIOURS: dict[str, dict[str, Any]] = {
    "room": {"when_full": "drop_newest"},
    "reserve": {"when_full": "drop_newest", "reserve": 0.5},
    "drop_newest": {"when_full": "drop_newest"},
    "drop_oldest": {"when_full": "drop_oldest"},
    "block": {"when_full": "block", "block_timeout": 0.0},
}


def check_books(side: Side) -> None:
    """Every slot is held by a record, and every call is in the queue or refused."""
    stats = side.ledger.read()
    assert side.queue.held() == stats.queued == side.queue.count()[0]
    assert stats.created == sum(stats.refused.values()) + stats.queued + sum(stats.removed.values())


def fill(side: Side) -> None:
    while not side.ledger.read().refused["queue_full"]:
        side.put(size_bytes=100)


# What they do up to the queue takes seconds to go through, and is the same whatever the queue does.
LONG_WAYS = (facade_slow, facade_event, standard_handler_slow, sdk_record)
CASES = [
    pytest.param(make, behaviour, id=f"{make.__name__}-{behaviour}")
    for make in WAYS
    for behaviour in (("room",) if make in LONG_WAYS else BEHAVIOURS)
]


@pytest.mark.parametrize(("make_way", "behaviour"), CASES)
def test_an_exception_at_any_instruction_leaves_nothing_behind(make_way, behaviour):
    # A thread of its own: where an exception comes in the middle of the end of a handler, as no signal's does, Python
    # takes the thread for being in that handler for good.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(interrupt_everywhere, make_way, behaviour).result()


def interrupt_everywhere(make_way: Callable[[Side], Way], behaviour: str) -> None:
    side = Side(8, units=8, **BEHAVIOURS[behaviour])
    way = make_way(side)
    full = behaviour not in ("room", "reserve")
    try:
        way.call()
        if full:
            fill(side)
        delivery_points = 0
        for number in count():
            warm_up(way.call)
            if not full:
                side.take()
            # Only between two instructions that no signal comes in between, a block's fields may stay.
            attach(Context())
            tracer = Tracer(number)
            with suppress(Interrupted):
                tracer.run(way.call)
                # It was not raised, or nobody saw it.
                assert tracer.point is None
                break
            point = tracer.point
            assert point is not None
            if point.delivers:
                delivery_points += 1
                check_books(side)
                assert not converting._threads, point
                assert not _waiting._threads, point
                assert not current_span_context(None)[1], point
            before = side.ledger.read().created
            way.call()
            assert side.ledger.read().created == before + 1, point
            check_books(side)
            assert not converting._threads, point
            assert not _waiting._threads, point
        assert delivery_points > 3
        side.take()
        assert side.free_units() == 8
        created = side.ledger.read().created
        for _ in range(100):
            way.call()
            assert len(side.take()) == 1
        assert side.ledger.read().created == created + 100
        assert side.queue.held() == 0
        assert side.free_units() == 8
    finally:
        way.undo()


MEMORY_WAYS = [facade_short, facade_large, standard_handler, standard_direct]
if sys.version_info < (3, 12):
    # Later Pythons themselves crash in places where there is no memory: in the making of a generator, for one.
    MEMORY_WAYS += [facade_event, tracked_block]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("make_way", MEMORY_WAYS)
def test_a_lack_of_memory_at_any_allocation_costs_that_record_alone(make_way, behaviour):
    """Each allocation of a call fails once: the record is in the queue or refused, and no slot is lost."""
    memory = pytest.importorskip("_testcapi")
    side = Side(8, units=8, **BEHAVIOURS[behaviour])
    way = make_way(side)
    full = behaviour not in ("room", "reserve")
    try:
        way.call()
        if full:
            fill(side)
        raised = 0
        for number in range(400):
            if not full:
                side.take()
            before = side.ledger.read().created
            try:
                memory.set_nomemory(number, number + 1)
                try:
                    way.call()
                finally:
                    memory.remove_mem_hooks()
            except (MemoryError, SystemError):
                # What the caller and the standard library themselves need. (LogRecord's may end in a SystemError.)
                raised += 1
                assert side.ledger.read().created == before
            else:
                assert side.ledger.read().created == before + 1, number
            check_books(side)
        assert raised < 40
    finally:
        way.undo()


def test_an_exception_in_work_of_our_own_leaves_no_lock_taken_and_no_thread_deaf():
    """A flush that does the worker's work in its caller, and is cut off by Ctrl-C."""
    lock = RLock()

    def work() -> None:
        with quiet_turn(lock, time.monotonic() + 1) as ours:
            assert ours

    def interrupt() -> int:
        delivery_points = 0
        for number in count():
            warm_up(work)
            tracer = Tracer(number)
            with suppress(Interrupted):
                tracer.run(work)
                return delivery_points
            assert tracer.point is not None
            if tracer.point.delivers:
                delivery_points += 1
                assert get_ident() not in own_threads, tracer.point
                assert not lock._is_owned(), tracer.point
            own_threads.discard(get_ident())
            if lock._is_owned():
                lock.release()
            attach(Context())
        raise AssertionError

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(interrupt).result() > 10


FIRED = 1_000


@pytest.mark.parametrize("make_way", [facade_short, facade_slow, standard_direct, bound_block])
def test_what_a_real_signal_handler_raises_is_seen_each_time(make_way):
    """Of the exceptions raised in the middle of the standard library's own handlers, about a quarter vanishes.

    (So do some in the making of its LogRecord, which swallows them.)
    """
    side = Side(8, units=8, when_full="drop_oldest")
    way = make_way(side)
    random = Random(1)
    fired = seen = 0

    def handle(number: int, frame: object) -> None:
        nonlocal fired
        fired += 1
        raise Interrupted

    def call_until(expected: int) -> None:
        while fired < expected:
            way.call()

    before = signal.signal(signal.SIGALRM, handle)
    # What is raised in somebody's callback of the collector is nobody's.
    gc.disable()
    try:
        while fired < FIRED:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 1e-4))
                call_until(fired + 1)
            except Interrupted:
                seen += 1
    finally:
        gc.enable()
        signal.signal(signal.SIGALRM, before)
        way.undo()
    assert seen == fired
    # contextlib of 3.10 may leave a block's generator in a cycle.
    gc.collect()
    check_books(side)
    assert not current_span_context(None)[1]
    side.take()
    for _ in range(100):
        way.call()
        assert len(side.take()) == 1
    assert side.queue.held() == 0
    assert side.free_units() == 8
