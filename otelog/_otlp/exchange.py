"""One request and its answer, as HTTP's transport and gRPC's have it in common.

TransportFailure   there was no answer to use: it says whether to try again, and whether the records may have arrived
Exchanges          one exchange at a time, its end, forks
"""

from __future__ import annotations

import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from otelog._config.proxy import parse_proxy
from otelog._runtime.inherited import add_holder
from otelog._runtime.threads import Lock
from otelog.exceptions import ConfigurationError

COMPRESSIONS = ("gzip", "zstd", "none")

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""How much of an answer's body is read, compressed or not. Source: OTLP, limits of response bodies."""

CLIENT_FILES_HINT = "if the server asks for a client's certificate, check client_certificate_file and client_key_file"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ILLEGAL_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ILLEGAL_IN_URL = re.compile(r"[\x00-\x20\x7f]")
_OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "transfer-encoding",
    }
)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportSettings:
    """Where and how requests are sent, checked when it is made.

    Args:
        endpoint: The full URL, ``https://host:port/v1/logs``; left out of the `repr`, as its query may be secret.
        headers: Sent with each request; may hold secrets and is left out of the `repr`.
        compression: "gzip", "zstd" (needs the package ``zstandard`` before Python 3.14) or "none".
        timeout: Seconds for a whole exchange, from connecting to the answer's last byte.
        certificate_file: PEM file of the authorities to trust instead of the system's.
        client_certificate_file: PEM file that proves who we are (mTLS).
        client_key_file: PEM file of its key; may be left out if the certificate's file holds it.
        proxy: URL of the HTTP proxy that the endpoint is reached by; may hold a password and is left out of the `repr`.
        user_agent: Header ``User-Agent``, unless `headers` has one.
        grpc_method: Called by gRPC, ``/package.Service/Method``, whatever the endpoint's path; None: HTTP.

    Raises:
        ConfigurationError: A value cannot be used.
    """

    endpoint: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    compression: str = "gzip"
    timeout: float = 10.0
    certificate_file: str | None = None
    client_certificate_file: str | None = None
    client_key_file: str | None = None
    proxy: str | None = field(default=None, repr=False)
    user_agent: str = "otelog"
    grpc_method: str | None = None

    def __post_init__(self) -> None:
        split_endpoint(self.endpoint)
        if self.compression not in COMPRESSIONS:
            raise ConfigurationError(f"compression is {self.compression!r}; allowed are {', '.join(COMPRESSIONS)}")
        if not (0.0 < self.timeout < math.inf):
            raise ConfigurationError(f"timeout is {self.timeout!r}; allowed are seconds above 0")
        if self.client_key_file and not self.client_certificate_file:
            raise ConfigurationError("client_key_file is set without client_certificate_file; both are needed")
        if self.proxy is not None:
            try:
                parse_proxy(self.proxy)
            except ValueError as error:
                raise ConfigurationError(f"proxy: {error}; it must be http(s)://[user:password@]host:port") from None
        object.__setattr__(self, "headers", dict(self.headers))
        for name, value in [*self.headers.items(), ("user-agent", self.user_agent)]:
            _check_header(name, value)


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


def split_endpoint(endpoint: str) -> tuple[bool, str, int, str]:
    """Returns whether it is TLS, the host, the port, and path with query.

    Raises:
        ConfigurationError: It is no such URL.
    """
    problem = "the endpoint must be http://host:port/path or https://…"
    if _ILLEGAL_IN_URL.search(endpoint):
        raise ConfigurationError(f"{problem}; it has a space or a control character")
    try:
        parts = urlsplit(endpoint)
        port = parts.port
        # The look-up, the header Host and a certificate all want it in this form.
        host = (parts.hostname or "").encode("ascii" if (parts.hostname or "").isascii() else "idna").decode("ascii")
    except ValueError:
        raise ConfigurationError(f"{problem}; it cannot be read") from None
    if parts.scheme not in ("http", "https"):
        raise ConfigurationError(f"{problem}; its scheme is {parts.scheme!r}")
    if not host:
        raise ConfigurationError(f"{problem}; it has no host")
    if "@" in parts.netloc:
        raise ConfigurationError(f"{problem}; a user and password belong in headers (Authorization)")
    if not endpoint.isascii() and not (parts.path + parts.query).isascii():
        raise ConfigurationError(f"{problem}; its path must be percent-encoded")
    secure = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return secure, host, port or (443 if secure else 80), path


def _check_header(name: object, value: object) -> None:
    # The value may be a secret: no message shows it.
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ConfigurationError(f"headers: {name!r} is not a header's name")
    if name.lower() in _OWN_HEADERS:
        raise ConfigurationError(f"headers: {name} is set by otelog itself")
    if not isinstance(value, str):
        raise ConfigurationError(f"headers: the value of {name} must be a str, not {type(value).__name__}")
    if _ILLEGAL_IN_VALUE.search(value) or any(ord(character) > 0xFF for character in value):
        raise ConfigurationError(f"headers: the value of {name} has characters that a header cannot carry")
