"""The worker: one thread that takes records out of the queue and hands them over, and all that ends it.

States: it runs from the pipeline's making; `shutdown` closes the queue and gives it the rest of the time to empty it;
what is left when that is over is counted as ``shutdown_timeout``. A forked child starts anew with nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from typing import TYPE_CHECKING, Any

from otelog._capture.port import NEVER, Port, wake_threshold
from otelog._capture.queue import RecordQueue
from otelog._ledger.counters import Ledger, Stats
from otelog._pipeline.delivery_thread import RESTART_PAUSE, DeliveryThread
from otelog._record.row import COLUMNS
from otelog._record.values import Limits, safe_str
from otelog._runtime.diagnostics import warn
from otelog._runtime.interruption import is_interruption
from otelog._runtime.lifetime import watch_pipeline
from otelog._runtime.own_threads import own_threads
from otelog._runtime.quiet import quiet_turn
from otelog._runtime.threads import RLock, SimpleQueue, get_ident, sleep
from otelog._runtime.waiting import LONGEST_WAIT, Latch, Request, Stop

if TYPE_CHECKING:
    from otelog._pipeline.outlet import Outlet

CALLER_GRACE = 1.0
"""Seconds that a shutdown waits for callers that hold a slot and have not put their record in yet.

With two hundred busy threads one of them may wait as long for the interpreter lock.
"""

LAST_WORDS_SECONDS = 0.2
LAST_WORDS_PART = 0.05
"""Of a shutdown's time so much, and so much of it at most, is for exporters to say why their last request failed."""

UNATTENDED_TIMEOUT = 30.0
"""Seconds that a worker whose pipeline nobody holds any more may take to deliver what is left."""


class Worker:
    """Runs one pipeline.

    Args:
        queue: Where records come from.
        ledger: The counters; may be older than this worker.
        outlet: Where the records go.
        max_export_batch_size: Records of a batch at most.
        schedule_delay: Seconds that a record waits at most for a batch to fill.
        limits: Bounds of attributes.
        level: The least level of the facade.
        observers: Called with the ledger after each batch, at each delay, before a flush returns, and at the end
            with True.
        shutdown_timeout: Seconds that the process's end may take for the records that are left.
        name: The thread's name.

    Thread safety: every public method may be called by any thread.
    """

    def __init__(
        self,
        queue: RecordQueue,
        ledger: Ledger,
        outlet: Outlet,
        *,
        max_export_batch_size: int,
        schedule_delay: float,
        limits: Limits,
        level: int = 0,
        observers: tuple[Callable[[Ledger, bool], None], ...] = (),
        shutdown_timeout: float = 5.0,
        name: str = "otelog-worker",
    ) -> None:
        self.shutdown_timeout = shutdown_timeout
        self.queue = queue
        self.ledger = ledger
        self.outlet = outlet
        self.observers = observers
        self._max_export_batch_size = max_export_batch_size
        self._schedule_delay = schedule_delay
        self._name = name
        self._threshold = wake_threshold(queue, max_export_batch_size)
        self._least_of_wake = max(1, min(max_export_batch_size, queue.usable // 2))
        for batch_export in outlet.batch_exports:
            ledger.open_exporter(batch_export.name)
        ledger.open_queue(queue.count, queue.max_records)
        self.port = Port(
            queue, ledger, level=level, limits=limits, wake=self.wake, wake_at=self._threshold, nudge=self.nudge
        )
        self._start_anew()
        watch_pipeline(self)

    def _start_anew(self) -> None:
        self._inbox: SimpleQueue[Request | None] = SimpleQueue()
        self._stop = Stop()
        self._draining = RLock()
        self._ended = Latch()
        # Whoever pops the entry may shut it down.
        self._first = [None]
        self._due = time.monotonic() + self._schedule_delay
        self._unattended = False
        self._abandoned = False
        self._delivered_all = True
        self._losses_before = 0
        # Where none can be had, each record is an occasion to try again: who puts one in, or is refused, calls `wake`.
        self._thread = DeliveryThread(
            self._name,
            self.ledger,
            work=self._run,
            recover=self._recover,
            is_over=self._ended.is_set,
            may_start=lambda: not self._stop.is_set(),
            on_missing=self._wake_at_each,
            on_refusal=self.wake,
        )
        self.outlet.open(self._stop)
        self._thread.start()

    def _wake_at_each(self) -> None:
        self.port.wake_at = 1

    def restart_after_fork(self) -> None:
        """Begin with nothing in a forked child."""
        self.queue.restart_after_fork()
        self.ledger.restart_after_fork()
        self.outlet.forget()
        self.port.wake_at = self._threshold
        if self.queue.closed:
            # The thread that was shutting it down is not in this process.
            self._first.clear()
            self._ended = Latch()
            self._ended.set()
        else:
            self._start_anew()

    # Callers.

    def wake(self) -> None:
        """Tell the worker that a batch is there. Re-entrant and free of locks."""
        if self._thread.is_missing() and not self._thread.try_again():
            return
        self.port.wake_at = NEVER
        try:
            # What is in the inbox will be seen after this moment: one word is enough.
            if self._inbox.empty():
                self._inbox.put(None)
        except BaseException:
            # An interruption between the two would leave the worker asleep until its schedule.
            self._inbox.put(None)
            raise

    def nudge(self) -> None:
        """Have whatever is there exported, and wait for nothing. Re-entrant and free of locks."""
        self._inbox.put(Request())

    # Those who wait.

    def flush(self, timeout: float) -> bool:
        """Export all that is in the queue now.

        Args:
            timeout: Seconds to wait.

        Returns:
            Whether everything was delivered in that time: nothing of what was queued or in flight is waiting or lost.
        """
        if get_ident() in own_threads:
            return False
        deadline = time.monotonic() + timeout
        before = self._losses()
        if self._ended.is_set():
            self.sweep()
            return self._losses() == before
        if self._thread.is_missing():
            self._thread.try_again()
        if not self._thread.is_alive():
            drained = self._drain_here(deadline) and self.outlet.flush(deadline)
        elif (drained := self._ask(deadline)) and not self.outlet.is_settled():
            drained = self.outlet.flush(deadline)
            # Observers see what has become of the records.
            self._ask(deadline)
        return drained and self._losses() == before

    def _ask(self, deadline: float) -> bool:
        """Have the worker's thread empty the queue; returns whether it has in time."""
        request = Request()
        self._inbox.put(request)
        if self._ended.is_set():
            # It may have ended before the request was there to be answered.
            self._answer_requests()
        timeout = min(max(0.0, deadline - time.monotonic()), LONGEST_WAIT)
        return request.done.acquire(timeout=timeout) and request.drained

    def shutdown(self, timeout: float) -> bool:
        """Refuse records from now on, deliver what is there, and end. Idempotent; a second caller waits for the first.

        Args:
            timeout: Seconds, for everything.

        Returns:
            Whether all that was in the queue and in flight was delivered.
        """
        timeout = min(max(0.0, timeout), LONGEST_WAIT)
        deadline = time.monotonic() + timeout
        own = get_ident() in own_threads
        try:
            self._first.pop()
        except IndexError:
            return not own and self._ended.wait(timeout) and self._delivered_all
        if own:
            # An exporter that shuts its own pipeline down: the worker does the rest when the call returns.
            self._end_unattended(timeout)
            return False
        self._losses_before = self._losses()
        try:
            self._close_queue()
            words = min(LAST_WORDS_SECONDS, timeout * LAST_WORDS_PART)
            self._stop.begin(timeout - words)
            deadline = self._stop.stop_deadline + words
            self._inbox.put(None)
            self._thread.join(deadline)
            while not self._thread.is_alive() and not self._is_done() and self._drain_here(deadline):
                pass
            self.outlet.end(deadline)
        finally:
            self._finish()
        return self._delivered_all

    ends_last = False

    def has_work(self) -> bool:
        """Returns whether a record was made in this process, and this pipeline has not ended yet."""
        return not self._ended.is_set() and self.ledger.read().created > 0

    def deliver(self, deadline: float, *, last: bool) -> bool:
        """Deliver what is there, and go on: the process may end here, and may as well not."""
        delivered = self.flush(min(self.shutdown_timeout, max(0.0, deadline - time.monotonic())))
        if last:
            self.ledger.ended = time.time()
            self._notify(last=True)
        return delivered

    def end_with_process(self, deadline: float) -> None:
        """Shut down at the process's end."""
        self.shutdown(min(self.shutdown_timeout, deadline - time.monotonic()))

    def let_go(self) -> None:
        """End without waiting, when nobody holds the pipeline any more: the worker empties the queue and ends.

        The cyclic collector may call this anywhere, so it takes no lock while there is a worker.
        """
        try:
            self._first.pop()
        except IndexError:
            return
        self._end_unattended(UNATTENDED_TIMEOUT)

    def _end_unattended(self, timeout: float) -> None:
        self._losses_before = self._losses()
        self._unattended = True
        self._stop.begin(timeout)
        self._inbox.put(None)
        if not self._thread.is_alive():
            self._finish()

    @property
    def is_running(self) -> bool:
        """Whether records are taken, and there is a thread to deliver them."""
        return not self.queue.closed and self._thread.is_alive()

    def _close_queue(self) -> None:
        with self.ledger.moving:
            self.queue.close()

    def _finish(self) -> None:
        """End for good: nothing changes in the counters of this pipeline from here on."""
        try:
            self._close_queue()
            self._abandon()
            self.outlet.close(hanging=self._thread.is_alive())
            self._delivered_all = self._losses() == self._losses_before
            self.ledger.ended = time.time()
            self._notify(last=True)
        finally:
            self._ended.set()
            self._answer_requests()
            # The word that should end the worker's wait may have been taken for an answered request.
            self._inbox.put(None)

    def _answer_requests(self) -> None:
        while True:
            try:
                request = self._inbox.get_nowait()
            except Empty:
                return
            if request is not None:
                request.drained = self._delivered_all
                request.done.release()

    def sweep(self) -> None:
        """After the end, count a record that a caller put in too late."""
        if self._ended.is_set() and self.queue.count()[0]:
            self._abandon()

    def _losses(self) -> int:
        stats = self.ledger.read()
        return sum(stats.dropped.values()) + stats.removed["invalid"] + self.queue.count()[1]

    def _drain_here(self, deadline: float) -> bool:
        with quiet_turn(self._draining, deadline) as ours:
            if not ours:
                return False
            try:
                drained = self._drain(1, deadline)
                self._notify()
                return drained
            except Exception as error:
                # As in the worker's own thread: what is under way is settled. No caller gets an exception, but
                # one of its own signal handlers'.
                self._recover(error, deadline)
                if is_interruption(error):
                    raise
                return False

    def _abandon(self) -> None:
        """Count what was not delivered in time; a late answer changes nothing any more."""
        with self.ledger.moving:
            self._abandoned = True
            self.outlet.abandon()
        while self._take(self.queue.max_records):
            pass

    # The worker's thread.

    def _run(self) -> None:
        while not self._is_over():
            try:
                self._work_once()
            except Exception as error:
                self._recover(error)
        if self._unattended:
            self.outlet.end(self._stop.stop_deadline)
        self.outlet.leave()
        if self._unattended:
            self._finish()

    def _is_over(self) -> bool:
        if not self._stop.is_set():
            return False
        self._close_queue()
        return self._is_done()

    def _is_done(self) -> bool:
        now = time.monotonic()
        if now >= self._stop.stop_deadline:
            return True
        give_up = min(now + CALLER_GRACE, self._stop.stop_deadline)
        while self.queue.held() > 0 and not self.queue.count()[0] and time.monotonic() < give_up:
            sleep(0.001)
        return not self.queue.count()[0] and not self.outlet.is_halted()

    def _work_once(self) -> None:
        request: Request | None = None
        self.port.wake_at = max(1, self._threshold - self.queue.store.behind())
        # A caller that saw the old threshold has put a word into the inbox; who comes now sees the new one.
        busy = self.queue.count()[0] >= self._least_of_wake or self._stop.is_set()
        try:
            if not busy:
                request = self._inbox.get(timeout=max(0.0, self._due - time.monotonic()))
            while request is None:
                request = self._inbox.get_nowait()
        except Empty:
            pass
        self.port.wake_at = NEVER
        everything = request is not None or self._stop.is_set() or time.monotonic() >= self._due
        try:
            with self._draining:
                drained = self._drain(1 if everything else self._least_of_wake)
            if everything:
                self._due = time.monotonic() + self._schedule_delay
                self.outlet.tend()
            self._notify()
            if request is not None:
                request.drained = drained
        finally:
            if request is not None:
                request.done.release()

    def _drain(self, least: int, deadline: float = math.inf) -> bool:
        """Export batches while at least `least` records are there, but not those that come meanwhile without end.

        Returns:
            Whether there was time for all of them.
        """
        self.queue.recover()
        left = self.queue.count()[0]
        try:
            if self.outlet.is_halted() and not self.outlet.finish(deadline):
                return False
            while left >= least:
                if time.monotonic() >= min(deadline, self._stop.stop_deadline):
                    return False
                most = min(self._max_export_batch_size, left)
                self.outlet.make_room(most, deadline)
                rows = self._take(most, deliver=True)
                if not rows:
                    break
                left -= len(rows) // COLUMNS
                self.outlet.carry(rows, deadline)
                if self.observers and left:
                    self._notify()
        finally:
            finished = self.outlet.finish(deadline)
        return finished and not self._abandoned

    def _take(self, most: int, *, deliver: bool = False) -> list[Any]:
        """Move records from the queue to the exporters' accounts; returns them."""
        ledger = self.ledger
        queue = self.queue
        rows: list[Any] = []
        with ledger.moving:
            # On top of a move of this very thread, or after the rest was given up, there is nothing to take.
            if not ledger.is_moving() and not (deliver and self._abandoned):
                ledger.begin_move()
                try:
                    held = queue.held()
                    rows, slots = queue.look(most)
                    if rows:
                        self._move(rows, held)
                        queue.release(slots)
                finally:
                    ledger.end_move()
        return rows

    def _move(self, rows: list[Any], held: int) -> None:
        """Move the queue's oldest records, which are these: a lack of memory leaves them in the queue."""
        count = len(rows) // COLUMNS
        commit = self.outlet.prepare(rows)
        self.ledger.take(count, held, accepted=count, drop=self.queue.drop)
        commit()

    def _recover(self, error: BaseException, deadline: float = math.inf) -> None:
        self.ledger.forget_move()
        with suppress(Exception):
            self.outlet.finish(deadline)
        # What was short for the work may be short for its words: the thread must not end for them.
        with suppress(MemoryError):
            with self.ledger.moving:
                self.ledger.worker_restarts += 1
            warn("worker", f"the worker was stopped by {type(error).__name__}: {safe_str(error)}; it continues")
        self._stop.wait(min(RESTART_PAUSE, max(0.0, deadline - time.monotonic())))

    def _notify(self, last: bool = False) -> None:
        for observer in self.observers:
            self.notify(observer, last)

    def notify(self, observer: Callable[[Ledger, bool], None], last: bool = False) -> None:
        """Have one observer publish the counters as they are; never raises."""
        try:
            observer(self.ledger, last)
        except Exception as error:
            warn("observer", f"{type(error).__name__} while publishing the ledger: {safe_str(error)}")

    def stats(self) -> Stats:
        """Returns a consistent snapshot of the counters."""
        self.sweep()
        return self.ledger.read()
