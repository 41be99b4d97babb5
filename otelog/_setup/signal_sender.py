"""Requests of metrics and traces over otelog's own transport: bounded in time, and quiet."""

from __future__ import annotations

import math
import random
import threading
import time
from typing import NamedTuple

from otelog._otlp.exchange import Exchanges, TransportFailure
from otelog._runtime.retry import Backoff, is_retryable_status


class Failure(NamedTuple):
    """Why a request was not taken; the status is 0 where there was no answer."""

    cause: str
    status: int = 0


class SignalSender:
    """Sends requests, each again within its time where that may help.

    Args:
        transport: To the signal's endpoint; may be replaced while it works.
        timeout: Seconds for a request with all its attempts.

    Thread safety: `hurry` and `calm_down` may be called by any thread; requests are for one thread at a time.
    Source: OTLP.
    """

    def __init__(self, transport: Exchanges, timeout: float) -> None:
        self.transport = transport
        self._timeout = timeout
        self._backoff = Backoff()
        self._limit = math.inf
        self._hurried = threading.Event()

    def hurry(self, deadline: float) -> None:
        """Let no request go on past this monotonic moment, nor wait for another attempt."""
        self._limit = deadline
        self._hurried.set()

    def calm_down(self) -> None:
        """Take `hurry` back; also in a forked child, which may have inherited the old event's lock taken."""
        self._hurried = threading.Event()
        self._limit = math.inf

    def _send(self, body: bytes, deadline: float) -> Failure | None:
        def time_left() -> float:
            return min(deadline, self._limit) - time.monotonic()

        attempt = 0
        while True:
            try:
                answer = self.transport.post(body, timeout=max(0.0, time_left()), time_left=time_left)
            except TransportFailure as error:
                failure, retryable = Failure(error.detail), error.retryable
            else:
                if 200 <= answer.status < 300:
                    return None
                said = answer.rpc_status or answer.status
                failure = Failure(f"{self.transport.target} answered {said}", answer.status)
                retryable = is_retryable_status(answer.status)
            wait = self._backoff.delay(attempt, random.random())
            if not retryable or wait >= time_left() or self._hurried.wait(wait):
                return failure
            attempt += 1
