"""What becomes of a batch: which answers mean success, loss, another attempt, or smaller requests."""

from __future__ import annotations

import math
import os
import time
from bisect import bisect_right
from collections.abc import Callable, Generator
from datetime import datetime, timezone
from typing import Literal, Protocol

from otelog._otlp.answer import read_error_message, read_partial_success
from otelog._otlp.exchange import Answer, TransportFailure
from otelog._runtime.diagnostics import warn
from otelog._runtime.retry import Backoff, is_retryable_status, parse_http_date, parse_retry_after
from otelog._runtime.turns import halt, pause
from otelog._runtime.waiting import StopSignal

Reason = Literal["rejected", "too_large", "retry_exhausted", "encode_error", "shutdown_timeout"]
Outcome = Literal["exported", "bad_request", "settled"]

_HINTS = {
    401: "check the credentials in headers",
    403: "check the credentials in headers",
    404: "check the endpoint's path, which is usually /v1/logs",
    405: "check the endpoint's path, which is usually /v1/logs",
    415: "the server may not know this compression",
    501: "nothing takes OTLP logs here; check the endpoint",
}


_ENDS = ("retry_exhausted", "shutdown_timeout")
"""Why no more attempts are made: what the last one has failed with is the cause."""

MOST_HALVINGS = 8
"""How often a record that a server alone finds too large is cut to half, before it is lost: from 4 MiB to 16 KiB."""


READING_GRACE = 0.25
"""Seconds for an answer that has begun to come as the turn of its reader ends: else its request would be sent again."""


class EncodedBatch(Protocol):
    """Records that can be cut into requests at any place; owned by the caller."""

    def __len__(self) -> int: ...

    def payload(self, start: int, stop: int) -> bytes:
        """Return the request that holds the records from `start` up to `stop`."""

    def size_bytes(self, start: int, stop: int) -> int:
        """Return the length of that request before compression; it grows with `stop`."""

    def truncate(self, index: int, max_bytes: int) -> bool:
        """Cut a record so that a request of it alone has at most `max_bytes`; return whether it could be."""

    def count_truncated(self, start: int, stop: int) -> int:
        """Return how many of these records were cut."""


class Tally(Protocol):
    """Where the fate of each record is written, once."""

    def settle(self, start: int, stop: int, reason: Reason | None) -> None:
        """Count these records as exported (None) or dropped."""

    def settle_partly(self, start: int, stop: int, rejected: int) -> None:
        """Count these records as exported but for `rejected` of them; nobody knows which."""

    def explain(self, cause: str, reason: Reason | None = None) -> None:
        """Keep in words why the last attempt has failed (None), or why records are dropped for a reason."""

    def resend(self, count: int) -> None:
        """Count records that are sent again although an earlier request may have delivered them."""

    def leave_unknown(self, count: int) -> None:
        """Count records of a request that was sent and of whose answer nothing usable came."""

    def truncate(self, count: int) -> None:
        """Count records that were cut, and are delivered so; called before they are settled."""


class Sender(Protocol):
    """The part of `otelog._otlp.exchange.Exchanges` that is needed here."""

    @property
    def target(self) -> str:
        """The endpoint as diagnostics may show it."""

    def send(self, body: bytes, *, timeout: float, time_left: Callable[[], float]) -> None:
        """Send one request, and begin an exchange; raises only `TransportFailure`."""

    def await_answer(self) -> bool:
        """Wait until `receive` has something to do; return whether it has before the time that is left is over."""

    def prolong(self, seconds: float) -> None:
        """Give the exchange so much more time: for so long nobody was there to wait for its answer."""

    def receive(self) -> Answer:
        """Read the answer; raises only `TransportFailure`."""

    def end_exchange(self) -> None:
        """End the exchange, also where no answer was read."""


def _draw() -> float:
    # The module "random" takes long to import, for one number after a failure.
    return int.from_bytes(os.urandom(4), "big") / 2**32


class Delivery:
    """Delivers batches over a transport by the rules of OTLP.

    Not thread-safe: one batch at a time, as exports are serialised.

    Args:
        transport: Sends one request.
        max_request_bytes: Bound of a request before compression; a batch above it is split, a record above it cut.
        timeout: Seconds for one attempt.
        bisect_bad_request: Look for the records that a 400 is about, with at most 2·log₂n + 2 requests a batch. Of use
            where a 400 is known to be about single records. Those that it had accepted are then sent twice.
        backoff: The waits between attempts.
        clock: Monotonic seconds; must be the clock of the deadlines.
        random: Returns a number of [0, 1), for jitter.

    Source: OTLP, "OTLP/HTTP Response", "Partial Success", "Retryable Response Codes", "OTLP/HTTP Throttling",
    "OTLP/gRPC".
    """

    def __init__(
        self,
        transport: Sender,
        *,
        max_request_bytes: int,
        timeout: float,
        bisect_bad_request: bool = False,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = _draw,
    ) -> None:
        self.transport = transport
        self.max_request_bytes = max_request_bytes
        self.timeout = timeout
        self.bisect_bad_request = bisect_bad_request
        self.backoff = backoff or Backoff()
        self.clock = clock
        self.random = random
        self.on_exchange: Callable[[float, int | str | None, str | None], None] | None = None
        """Called when a request has ended: seconds with all attempts, last status (see `OnExchange`), loss."""

    def deliver(self, batch: EncodedBatch, tally: Tally, *, deadline: float, stop: StopSignal) -> bool:
        """Settle every record of a batch, each exactly once.

        Before a shutdown, attempts go on until `deadline`. Once it has begun, no wait is begun or ended: each request
        has one more attempt, until `stop.stop_deadline`.

        Args:
            batch: The records.
            tally: Counts each record's fate, in this thread.
            deadline: Monotonic moment up to which requests are sent again.
            stop: The shutdown.

        Returns:
            Whether all records were exported. Never raises; what cannot be sent is counted in `tally`.

        `stop` must not have turns, which only `begin` knows.
        """
        delivery = self.begin(batch, tally, deadline=deadline, stop=stop)
        while True:
            try:
                next(delivery)
            except StopIteration as end:
                return bool(end.value)

    def begin(
        self, batch: EncodedBatch, tally: Tally, *, deadline: float, stop: StopSignal
    ) -> Generator[bool, None, bool]:
        """Return the delivery of a batch as an iterator, which halts whenever a request is out and unanswered.

        So the caller can prepare the next batch meanwhile. It must take the iterator to its end before it begins
        another delivery. What the iterator gives is True where it has halted because the turn is over
        (`StopSignal.turn_deadline`): there is no use in going on before the next one, and the time until then does not
        count for `deadline`. See `deliver` for the rest.
        """
        return _BatchDelivery(self, batch, tally, deadline, stop).run()


class _BatchDelivery:
    """The delivery of one batch; its generators halt where an answer is waited for."""

    def __init__(self, rules: Delivery, batch: EncodedBatch, tally: Tally, deadline: float, stop: StopSignal) -> None:
        self._rules = rules
        self._batch = batch
        self._tally = tally
        self._deadline = deadline
        self._stop = stop
        self._all_exported = True
        self._pending = [(0, len(batch))]
        self._halvings: dict[int, int] = {}
        # floor(2·log₂n) + 1, exactly: the requests that a search may add to the one that every batch has.
        self._search_requests = (len(batch) * len(batch)).bit_length()
        self._status: int | str | None = None
        self._reading_until = -math.inf

    def run(self) -> Generator[bool, None, bool]:
        while self._pending:
            start, stop = self._pending.pop()
            end = self._cut(start, stop)
            if start < end and (yield from self._send(start, end)) == "bad_request":
                yield from self._search(start, end)
        return self._all_exported

    def _drop(self, start: int, stop: int, reason: Reason, detail: str | None = None) -> None:
        self._all_exported = False
        if detail is not None and reason not in _ENDS:
            self._tally.explain(detail, reason)
        self._tally.settle(start, stop, reason)
        if detail is not None:
            records = "1 record" if stop - start == 1 else f"{stop - start} records"
            warn(f"delivery.{reason}", f"{records} lost ({reason}): {detail}")

    def _time_left(self) -> float:
        turn_deadline = max(self._stop.turn_deadline, self._reading_until)
        return min(self._deadline, self._stop.stop_deadline, turn_deadline) - self._rules.clock()

    def _end_reason(self) -> Reason | None:
        now = self._rules.clock()
        if now >= self._stop.stop_deadline:
            return "shutdown_timeout"
        return "retry_exhausted" if now >= self._deadline else None

    def _cut(self, start: int, stop: int) -> int:
        """Return the end of the first request that a range needs; what is left over becomes pending."""
        limit = self._rules.max_request_bytes
        if start == stop or self._batch.size_bytes(start, stop) <= limit:
            return stop
        end = start + bisect_right(range(start + 1, stop), limit, key=lambda end: self._batch.size_bytes(start, end))
        self._pending.append((max(end, start + 1), stop))
        if end > start:
            return end
        if self._batch.truncate(start, limit):
            _warn_truncated(f"it alone was over max_request_bytes ({limit})")
            return start + 1
        self._drop(start, start + 1, "too_large", f"a record alone is over max_request_bytes ({limit})")
        return start

    def _is_turn_over(self) -> bool:
        return self._rules.clock() >= self._stop.turn_deadline

    def _await_answer(self) -> Generator[bool, None, None]:
        """Wait for the answer as long as the turn lasts, and in the next ones: to send again would be to send twice."""
        while self._stop.turn_deadline < math.inf:
            if self._rules.transport.await_answer():
                self._reading_until = self._rules.clock() + READING_GRACE
                return
            if not self._is_turn_over():
                return
            halted = yield from halt(self._stop, self._rules.clock)
            self._deadline += halted
            self._rules.transport.prolong(halted)
            if self._end_reason():
                return

    def _send(self, start: int, stop: int, *, again: bool = False) -> Generator[bool, None, Outcome]:
        """Send a range in one request until something is final; all but a bad request is then settled or pending."""
        if reason := self._end_reason():
            self._drop(start, stop, reason, f"{self._rules.transport.target}: the time for delivery is used up")
            return "settled"
        try:
            body = self._batch.payload(start, stop)
        except Exception as error:
            if stop - start == 1:
                self._drop(start, stop, "encode_error", type(error).__name__)
            else:
                self._halve(start, stop)
            return "settled"
        began = self._rules.clock()
        result = yield from self._exchange(body, stop - start, again=again)
        if self._rules.on_exchange is not None:
            self._rules.on_exchange(self._rules.clock() - began, self._status, _find_error(result))
        if isinstance(result, Answer):
            return self._conclude(start, stop, result)
        self._drop(start, stop, *result)
        return "settled"

    def _halve(self, start: int, stop: int) -> None:
        middle = (start + stop) // 2
        self._pending += [(middle, stop), (start, middle)]

    def _exchange(
        self, body: bytes, count: int, *, again: bool
    ) -> Generator[bool, None, Answer | tuple[Reason, str | None]]:
        """Send one request as often as it takes; return the answer that ends it, or why there is none."""
        attempt = 0
        cause: str | None = None
        self._status = None
        while True:
            if self._is_turn_over():
                self._deadline += yield from halt(self._stop, self._rules.clock)
            if reason := self._end_reason():
                return reason, cause
            last = self._stop.is_set()
            if attempt or again:
                self._tally.resend(count)
            wait: float | None = None
            try:
                self._reading_until = -math.inf
                left = min(self._deadline, self._stop.stop_deadline) - self._rules.clock()
                transport = self._rules.transport
                transport.send(body, timeout=min(self._rules.timeout, left), time_left=self._time_left)
                try:
                    yield False
                    yield from self._await_answer()
                    answer = transport.receive()
                finally:
                    transport.end_exchange()
            except TransportFailure as failure:
                if failure.outcome_unknown:
                    self._tally.leave_unknown(count)
                self._status, cause = None, failure.detail
                self._tally.explain(cause)
                if not failure.retryable:
                    return "rejected", cause
                if self._is_turn_over() and not self._end_reason():
                    # It is that which has cut it: the attempt is made again.
                    attempt += 1
                    continue
            else:
                self._status = answer.rpc_status or answer.status
                if not is_retryable_status(answer.status):
                    return answer
                cause = self._describe(answer)
                self._tally.explain(cause)
                wait = _read_wait(answer)
            if reason := self._end_reason():
                return reason, cause
            if last:
                return "shutdown_timeout", cause
            # A wait of zero would let the server be asked without a pause.
            wait = wait or self._rules.backoff.delay(attempt, self._rules.random())
            if self._rules.clock() + wait >= self._deadline:
                return "retry_exhausted", cause
            self._deadline += yield from pause(self._stop, wait, self._rules.clock)
            attempt += 1

    def _conclude(self, start: int, stop: int, answer: Answer) -> Outcome:
        if 200 <= answer.status < 300:
            self._accept(start, stop, answer)
            return "exported"
        if answer.status == 413 and stop - start > 1:
            self._halve(start, stop)
            return "settled"
        if answer.status == 413 and self._truncate_to_half(start):
            _warn_truncated(self._describe(answer))
            self._pending.append((start, stop))
            return "settled"
        if answer.status == 400 and self._rules.bisect_bad_request and stop - start > 1:
            return "bad_request"
        self._drop(start, stop, "too_large" if answer.status == 413 else "rejected", self._describe(answer))
        return "settled"

    def _truncate_to_half(self, index: int) -> bool:
        """Cut a record that the server finds too large, alone in its request, unless that was done often enough."""
        halvings = self._halvings[index] = self._halvings.get(index, 0) + 1
        if halvings > MOST_HALVINGS:
            return False
        return self._batch.truncate(index, self._batch.size_bytes(index, index + 1) // 2)

    def _accept(self, start: int, stop: int, answer: Answer) -> None:
        counted, message = read_partial_success(answer.body)
        rejected = min(counted, stop - start)
        truncated = min(self._batch.count_truncated(start, stop), stop - start - rejected)
        if truncated:
            self._tally.truncate(truncated)
        said = f"{self._rules.transport.target} rejected {rejected} of {stop - start} records: {message or '-'}"
        if rejected:
            self._all_exported = False
            self._tally.explain(said, "rejected")
            self._tally.settle_partly(start, stop, rejected)
        else:
            self._tally.settle(start, stop, None)
        if rejected or message:
            warn("delivery.partial_success", said)

    def _search(self, start: int, stop: int) -> Generator[bool, None, None]:
        """Find the records that a 400 is about; when the requests for it are used up, the rest is rejected.

        If the first part of a bad range was accepted, the other part is bad and need not be sent to be known as such.
        The first part is the smaller one because its refusal costs one request more: so a lone bad record is found
        with about 1.4·log₂n requests.
        """
        bad = [(start, stop)]
        while bad:
            # The largest range first: its good part is the most that one request can save.
            start, stop = bad.pop(max(range(len(bad)), key=lambda i: bad[i][1] - bad[i][0]))
            if stop - start == 1 or not self._search_requests:
                self._drop(start, stop, "rejected", f"{self._rules.transport.target} answered 400")
                continue
            middle = start + max(1, (stop - start) * 3 // 8)
            outcome = yield from self._send_part(start, middle)
            if outcome == "bad_request":
                bad.append((start, middle))
            if outcome == "exported":
                bad.append((middle, stop))
            elif not self._search_requests:
                self._drop(middle, stop, "rejected", f"{self._rules.transport.target} answered 400")
            elif (yield from self._send_part(middle, stop)) == "bad_request":
                bad.append((middle, stop))

    def _send_part(self, start: int, stop: int) -> Generator[bool, None, Outcome]:
        self._search_requests -= 1
        # Some servers keep the good records of a request that they answer with 400.
        return (yield from self._send(start, stop, again=True))

    def _describe(self, answer: Answer) -> str:
        words = [f"{self._rules.transport.target} answered {answer.rpc_status or answer.status}"]
        if 300 <= answer.status < 400:
            words.append("redirects are not followed: set the endpoint to where the records should go")
        words += [text for text in (read_error_message(answer.headers, answer.body), _HINTS.get(answer.status)) if text]
        return "; ".join(words)


def _warn_truncated(cause: str) -> None:
    warn("delivery.truncated", f"a record is cut to fit into a request: {cause}; its otelog.truncated says what of it")


def _find_error(result: Answer | tuple[Reason, str | None]) -> Reason | None:
    if not isinstance(result, Answer):
        return result[0]
    if 200 <= result.status < 300:
        return "rejected" if read_partial_success(result.body)[0] else None
    return "too_large" if result.status == 413 else "rejected"


def _read_wait(answer: Answer) -> float | None:
    # A date is measured with the server's own clock where it tells it: ours may be wrong by more than the wait.
    now = parse_http_date(answer.headers.get("date")) or datetime.now(timezone.utc)
    return parse_retry_after(answer.headers.get("retry-after"), now=now)
