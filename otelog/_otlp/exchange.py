"""One request and its answer, as HTTP's transport and gRPC's have it in common.

TransportFailure   there was no answer to use: it says whether to try again, and whether the records may have arrived
Exchanges          one exchange at a time, its end, forks
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from otelog._config.proxy import DIRECT
from otelog._config.table import OTLPOptions, check_key_pair
from otelog._runtime.inherited import add_holder
from otelog._runtime.threads import Lock
from otelog._runtime.urls import UnusableError, check_header
from otelog.exceptions import ConfigurationError

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""How much of an answer's body is read, compressed or not. Source: OTLP, limits of response bodies."""

CLIENT_FILES_HINT = "if the server asks for a client's certificate, check client_certificate_file and client_key_file"


class TransportFailure(Exception):
    """A request got no answer that can be used.

    Args:
        detail: What happened, and what to set where that is known; one line, without secrets.
        retryable: Whether another attempt may succeed.
        outcome_unknown: Whether the whole request had been sent, so that its records may have arrived.
    """

    def __init__(self, detail: str, *, retryable: bool, outcome_unknown: bool) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retryable = retryable
        self.outcome_unknown = outcome_unknown


class Answer(NamedTuple):
    """What a server said.

    Args:
        status: HTTP's; after a call of gRPC the one that asks a client for the same.
        headers: By their names in small letters.
        body: Decoded.
        rpc_status: What gRPC said, such as "UNAVAILABLE"; None for HTTP.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    rpc_status: str | None = None


class TransportSettings(OTLPOptions, without=("protocol", "max_request_bytes")):
    """Where and how requests are sent, checked when it is made. The `repr` shows neither URLs nor headers: secrets.

    Args:
        endpoint: The full URL, ``https://host:port/v1/logs``.
        user_agent: Header ``User-Agent``, unless `headers` has one.
        grpc_method: Called by gRPC, ``/package.Service/Method``, whatever the endpoint's path; None: HTTP.
        options: Of the table; `proxy` is the one that the endpoint is reached by, whatever the environment says.

    Raises:
        ConfigurationError: A value cannot be used.
    """

    user_agent: str
    grpc_method: str | None

    def __init__(
        self, *, endpoint: str, user_agent: str = "otelog", grpc_method: str | None = None, **options: Any
    ) -> None:
        super().__init__(endpoint=endpoint, **options)
        self._hold(vars(self.checked()))
        check_key_pair(vars(self))
        try:
            check_header("user-agent", user_agent)
        except UnusableError as error:
            raise ConfigurationError(f"user_agent: {error}") from None
        proxy = None if self.proxy == DIRECT else self.proxy
        self._hold({"proxy": proxy, "user_agent": user_agent, "grpc_method": grpc_method})

    def __repr__(self) -> str:
        shown = {name: value for name, value in vars(self).items() if name not in ("endpoint", "headers", "proxy")}
        return f"TransportSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @classmethod
    def of_options(cls, options: OTLPOptions, **others: Any) -> TransportSettings:
        """Returns what an exporter with these options sends by, but for the others, which are given by name."""
        return cls(**{**cls.pick(vars(options)), **others})


class Exchanges(ABC):
    """One exchange after the other over one connection.

    Thread safety: any thread may call anything; there is one exchange at a time. A forked child opens a connection of
    its own, even if the fork came in the middle of an exchange.

    Args:
        target: The endpoint as diagnostics may show it.
        timeout: Seconds for a whole exchange, where a call does not say.
        clock: Monotonic seconds.
    """

    def __init__(self, target: str, timeout: float, clock: Callable[[], float]) -> None:
        self.target = target
        self._timeout = timeout
        self._clock = clock
        self._exchanging = Lock()
        """Owned by the exchange under way; `close` only tries it."""
        self._close_wanted = False
        self._unanswered = False
        """Whether an exchange is under way whose answer is still to be read."""
        self._end = 0.0
        """The moment at which the time of the exchange under way ends, whoever may wait for it."""
        self._owner_pid = os.getpid()
        add_holder(self)

    @abstractmethod
    def _send(self, body: bytes, exchange_left: Callable[[], float]) -> None:
        """Send a request, for whose whole exchange there are `exchange_left()` seconds, or raise TransportFailure."""

    @abstractmethod
    def await_answer(self) -> bool:
        """Wait until the answer begins to come, or cannot come any more, as long as `time_left` of `send` lets it.

        Returns:
            Whether `receive` has something to do. If not, the exchange goes on, and this may be called again. Never
            raises.
        """

    @abstractmethod
    def receive(self) -> Answer:
        """Read the answer to the request that this thread has sent.

        Returns:
            The answer, whatever its status. The body of a failure may be incomplete.

        Raises:
            TransportFailure: There was no answer, or a success whose body could not be read. Nothing else is raised.
        """

    @abstractmethod
    def _disconnect(self) -> None:
        """Let the connection go, with what is under way on it. Never raises."""

    @abstractmethod
    def _abandon(self) -> None:
        """Let go a connection that belongs to the parent of the fork: close this process's copies, and nothing else."""

    @abstractmethod
    def _forget(self) -> None:
        """Never touch a connection again that belongs to the parent of the fork, nor have it closed when it is freed.

        Its descriptors' numbers may be somebody else's by now.
        """

    def post(
        self, body: bytes, *, timeout: float | None = None, time_left: Callable[[], float] | None = None
    ) -> Answer:
        """Send one request and read its answer: `send`, then `receive`."""
        self.send(body, timeout=timeout, time_left=time_left)
        try:
            return self.receive()
        finally:
            self.end_exchange()

    def send(self, body: bytes, *, timeout: float | None = None, time_left: Callable[[], float] | None = None) -> None:
        """Send one request. Its exchange lasts until `end_exchange`, which must follow if this returns.

        Args:
            body: An ``ExportLogsServiceRequest``, not compressed.
            timeout: Seconds for the whole exchange; None: as in the settings.
            time_left: Asked again while it waits; a shutdown may so cut the exchange short. Seconds, zero: it is over.

        Raises:
            TransportFailure: It could not be sent. Nothing else is raised.
        """
        end = self._clock() + (self._timeout if timeout is None else timeout)
        ours = False

        def exchange_left() -> float:
            left = (self._end if ours else end) - self._clock()
            return left if time_left is None else min(left, time_left())

        self._see_fork()
        if not self._exchanging.acquire(timeout=max(0.0, exchange_left())):
            raise TransportFailure(
                f"{self.target}: another request took all the time", retryable=True, outcome_unknown=False
            )
        self._end, ours = end, True
        try:
            self._send(body, exchange_left)
            self._unanswered = True
        except BaseException:
            self._release()
            raise

    def prolong(self, seconds: float) -> None:
        """Give the exchange under way so much more time: nobody was there to wait for its answer."""
        self._end += seconds

    def end_exchange(self) -> None:
        """End what `send` has begun; an answer that was not read ends with its connection."""
        self._see_fork()
        if not self._exchanging.locked():
            # The exchange was the parent's.
            return
        if self._unanswered:
            self._disconnect()
        self._release()

    def _release(self) -> None:
        self._unanswered = False
        self._exchanging.release()
        if self._close_wanted:
            self.close()

    def close(self) -> None:
        """Let the connection go, or have the exchange under way do so at its end; a later `post` opens a new one.

        Waits for nothing and never raises.
        """
        self._see_fork()
        # In this order: whoever releases the lock afterwards sees the wish.
        self._close_wanted = True
        if self._exchanging.acquire(blocking=False):
            self._disconnect()
            self._close_wanted = False
            self._exchanging.release()

    def let_go_in_child(self) -> None:
        """See `otelog._runtime.inherited.Holder`."""
        if os.getpid() != self._owner_pid:
            self._start_anew()
            self._abandon()

    def _see_fork(self) -> None:
        # Python's fork hooks did not run for this one, and so neither did `let_go_in_child`.
        if os.getpid() != self._owner_pid:
            self._start_anew()
            self._forget()

    def _start_anew(self) -> None:
        # The lock may be held by a thread that the child does not have.
        self._owner_pid = os.getpid()
        self._exchanging = Lock()
        self._close_wanted = False
        self._unanswered = False
