"""OTLP over gRPC: one call, and what it says as the answer that HTTP would give.

The library grpcio is imported when the first transport is made; its channels only live in the exporting thread.
"""

from __future__ import annotations

import math
import os
import re
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from otelog._config.proxy import parse_proxy
from otelog._config.resolve import fill_environment, is_turned_off
from otelog._otlp.answer import read_error_message, read_retry_delay
from otelog._otlp.exchange import (
    CLIENT_FILES_HINT,
    MAX_ANSWER_BYTES,
    Answer,
    Exchanges,
    TransportFailure,
    TransportSettings,
)
from otelog._otlp.http import make_context
from otelog._private.grpc import find_calls, is_connected
from otelog._runtime.end_time import END
from otelog._runtime.fork_gate import ForkGate
from otelog._runtime.late_import import load_module
from otelog._runtime.threads import is_patched, sleep
from otelog._runtime.urls import parse_endpoint
from otelog.exceptions import ConfigurationError

RETRYABLE_CODES = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"})
"""The codes after which a request may be sent again, whatever comes with them. Source: OTLP, "OTLP/gRPC Response"."""

POLL_INTERVAL = 0.1
"""Seconds after which a wait asks again how much time is left: a shutdown may have shortened it."""

FORK_PATIENCE = 1.0
"""Seconds that a fork waits at most for the library to be left by otelog's calls."""

FIRST_GRACE, LONGEST_GRACE = 0.25, 1.0
"""Seconds that a fork waits at most for the answer to a call that is out; each call that is cut gives the next more."""

END_PATIENCE = 0.5
"""Seconds that a fork waits at most for the library's end, which takes it some milliseconds."""

SHARED_PAUSE = 10.0
"""Seconds in which no further fork waits for that, after it did not come: the application uses the library, too."""

_TASKS = "/proc/self/task"
_CORE_THREADS = ("grpc_", "event_engine", "lifeguard", "timer_manager")
"""How the names of the library's own threads begin, which there is no other way to see."""

UNTOLD_PAUSE = 0.05
"""Seconds in which the library's thread surely ends, for releases of it in which that cannot be seen."""

_LOOK_AGAIN = 0.001

# That Python refuses new threads before it calls `atexit`, and the library starts one for a call that can be left.
_ENDS_WITHOUT_THREADS = sys.version_info[:2] == (3, 12)

# What grpcio reads when it is imported. Else each attempt to connect may write lines to standard error.
_LIBRARY_ENVIRONMENT = {"GRPC_VERBOSITY": "NONE"}

# What its core reads with the first channel: it then gets over forks, as it is built to do by default. While it is
# imported this is not set: its Python part would stop all of the application's threads that use it before each fork,
# and wait for locks of theirs in the child, for ever if a call is under way.
_CORE_ENVIRONMENT = {"GRPC_ENABLE_FORK_SUPPORT": "1"}

_EQUIVALENTS = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "UNIMPLEMENTED": 501,
    **dict.fromkeys(RETRYABLE_CODES, 503),
}
_TOO_LARGE, _TOO_MANY, _FINAL = 413, 429, 500

# The library has no better way to tell these than in words.
_SIZE_REFUSED = re.compile(r"larger than max|exceeds (the )?max|length too large", re.IGNORECASE)
_NEVER_SENT = re.compile(r"failed to connect to all addresses|DNS resolution failed|errors resolving|name resolution")
_CUT = re.compile(
    r"Socket closed|Stream removed|Connection (reset|closed)|Broken pipe|GOAWAY|RST_STREAM|Transport closed|"
    r"Endpoint closing|[Kk]eepalive|[Pp]ing timeout|recvmsg|Channel closed"
)
# The second is what comes of a server's alert once our side of TLS is through.
_HUNG_UP = re.compile(r"Socket closed|Unwrap failed|Connection reset|Broken pipe")
_PEER_NAME = re.compile(r"Peer name .* is not in peer certificate|Hostname Verification Check failed")
_UNKNOWN_AUTHORITY = re.compile(r"CERTIFICATE_VERIFY_FAILED(: [\w ]+)?")
_NOT_TLS = re.compile(r"WRONG_VERSION_NUMBER|HTTP_REQUEST|UNKNOWN_PROTOCOL")
_OUR_SIDE_REFUSED = re.compile(r"\w*ALERT_\w*(CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE|ACCESS_DENIED)\w*")

_METADATA_KEY = re.compile(r"[0-9a-z_.-]+")
_METADATA_VALUE = re.compile(r"[\x20-\x7e]*")
_OWN_METADATA = frozenset({"host", "te", "trailers"})

_inherited: list[Any] = []
"""Channels of a parent process: even to forget them could touch threads that the child does not have."""


class GrpcTransport(Exchanges):
    """Sends request bodies to one method by gRPC, as they are, over one channel.

    Nothing is sent twice. The library opens a tunnel through the settings' proxy; what the environment says of proxies
    is not asked again. A call that got no answer takes its channel with it, so that each attempt connects anew and no
    waiting of the library's own comes on top of ours.

    Args:
        settings: Where and how; `grpc_method` must be set.
        clock: Monotonic seconds.

    Raises:
        ConfigurationError: grpcio is missing, a certificate's file cannot be used, or gRPC cannot carry a header or
            has no such compression.

    Source: OTLP, "OTLP/gRPC".
    """

    def __init__(self, settings: TransportSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._secure, host, port, _ = parse_endpoint(settings.endpoint)
        self._address = f"{f'[{host}]' if ':' in host else host}:{port}"
        super().__init__(f"{'https' if self._secure else 'http'}://{self._address}", settings.timeout, clock)
        if settings.compression == "zstd":
            raise ConfigurationError('compression "zstd" does not work with protocol "grpc"; allowed are gzip, none')
        self._library = _library.load()
        self._compression = (
            self._library.Compression.Gzip
            if settings.compression == "gzip"
            else self._library.Compression.NoCompression
        )
        self._method = settings.grpc_method
        user_agent = settings.user_agent
        self._metadata: list[tuple[str, str]] = []
        for name, value in settings.headers.items():
            if name.lower() == "user-agent":
                user_agent = value
            else:
                self._metadata.append(_check_metadata(name.lower(), value))
        self._options = [
            ("grpc.primary_user_agent", user_agent),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
            ("grpc.enable_retries", 0),
            # Its own reading of the environment knows less than ours, and nothing of NO_PROXY in capitals.
            ("grpc.enable_http_proxy", int(settings.proxy is not None)),
            ("grpc.service_config_disable_resolution", 1),
            # Else the wait after a failed attempt to connect would be shared with channels that are closed.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if settings.proxy is not None:
            self._options.append(("grpc.http_proxy", _check_proxy(settings.proxy)))
        self._certificates = _read_certificates(settings) if self._secure else None
        self._channel: Any = None
        self._call: Any = None
        self._cut: bool | None = None
        """Whether the call that a fork has cut had a connection, and so may have arrived; None: it was not cut."""
        self._grace = FIRST_GRACE
        self._exchange_left: Callable[[], float] = lambda: 0.0
        _library.add(self)

    def await_answer(self) -> bool:
        """See `Exchanges.await_answer`."""
        while self._call is not None:
            left = self._exchange_left()
            try:
                self._call.exception(timeout=max(0.0, min(left, POLL_INTERVAL)))
            except self._library.FutureTimeoutError:
                if left <= 0.0:
                    return False
            except Exception:
                return True
            else:
                return True
        return True

    def receive(self) -> Answer:
        """See `Exchanges.receive`."""
        if self._call is None:
            raise TransportFailure(f"{self.target}: nothing was sent", retryable=True, outcome_unknown=False)
        try:
            self._await(self._call)
            answer = self._read_answer(self._call)
        except TransportFailure:
            self._disconnect()
            raise
        except Exception as error:
            self._disconnect()
            raise self._fail(f"{type(error).__name__}: {error}", retryable=False, outcome_unknown=True) from error
        self._unanswered = False
        self._call = None
        self._grace = FIRST_GRACE
        return answer

    def _send(self, body: bytes, exchange_left: Callable[[], float]) -> None:
        self._exchange_left = exchange_left
        if _library.first_pid != os.getpid() and is_turned_off("GRPC_ENABLE_FORK_SUPPORT"):
            raise self._fail(
                "gRPC cannot be used in this forked process: the environment says GRPC_ENABLE_FORK_SUPPORT=0; unset it",
                retryable=False,
                outcome_unknown=False,
            )
        try:
            with _library.gate.lock:
                _library.keep(self._library)
                self._cut = None
                if self._channel is None:
                    self._channel = self._open_channel()
                method = self._channel.unary_unary(self._method)
                how: dict[str, Any] = {"metadata": self._metadata, "compression": self._compression}
                if is_patched() or (_ENDS_WITHOUT_THREADS and END.is_running()):
                    self._call = _BlockingCall(lambda: method.with_call(body, timeout=max(0.0, exchange_left()), **how))
                else:
                    # Not `exchange_left`: whoever waits may leave before that, and another one come.
                    self._call = method.future(body, timeout=max(0.0, self._end - self._clock()), **how)
        except Exception as error:
            self._disconnect()
            raise self._fail(f"{type(error).__name__}: {error}", retryable=False, outcome_unknown=False) from error

    def _open_channel(self) -> Any:
        # Spelled out, because a host's name alone could be taken for a scheme.
        address = f"dns:///{self._address}"
        if self._certificates is None:
            return self._library.insecure_channel(address, options=self._options)
        credentials = self._library.ssl_channel_credentials(*self._certificates)
        return self._library.secure_channel(address, credentials, options=self._options)

    def _await(self, call: Any) -> None:
        while True:
            left = self._exchange_left()
            try:
                call.exception(timeout=max(0.0, min(left, POLL_INTERVAL)))
            except self._library.FutureTimeoutError:
                if left <= 0.0:
                    raise self._explain_timeout() from None
            except self._library.FutureCancelledError:
                return
            else:
                return

    def _read_answer(self, call: Any) -> Answer:
        code, details = call.code().name, call.details() or ""
        if code == "OK":
            return Answer(200, {}, call.result(), code)
        if self._cut is not None:
            raise self._fail("cut off by a fork of this process", retryable=True, outcome_unknown=self._cut)
        if code == "DEADLINE_EXCEEDED":
            raise self._explain_timeout()
        if _NEVER_SENT.search(details):
            said, retryable = self._explain_connection(details)
            raise self._fail(said, retryable=retryable, outcome_unknown=False)
        if code == "CANCELLED" or _CUT.search(details):
            raise self._fail(f"{code}: {details}", retryable=code in RETRYABLE_CODES, outcome_unknown=True)
        headers = {"content-type": "text/plain"}
        trailers = dict(call.trailing_metadata() or ())
        delay = read_retry_delay(trailers.get("grpc-status-details-bin", b""))
        if delay is not None:
            headers["retry-after"] = f"{delay:.9f}"
        status = _EQUIVALENTS.get(code, _FINAL)
        if code in ("RESOURCE_EXHAUSTED", "OUT_OF_RANGE") and _SIZE_REFUSED.search(details):
            status = _TOO_LARGE
        elif code == "RESOURCE_EXHAUSTED" and delay is not None:
            status = _TOO_MANY
        return Answer(status, headers, details.encode("utf-8", "replace"), code)

    def _explain_timeout(self) -> TransportFailure:
        sent = self._is_connected()
        said = "no complete answer in time" if sent else "no connection in time"
        return self._fail(said, retryable=True, outcome_unknown=sent)

    def _is_connected(self) -> bool:
        return is_connected(self._channel, self._library.ChannelConnectivity.READY)

    def _explain_connection(self, details: str) -> tuple[str, bool]:
        """Say why there is no connection, and whether another attempt may have one."""
        if _PEER_NAME.search(details):
            hint = "the endpoint's host must be a name that the certificate holds"
            return f"the server's certificate was refused: it holds another name; {hint}", False
        if found := _UNKNOWN_AUTHORITY.search(details):
            reason = (found[1] or "")[2:] or "it cannot be verified"
            hint = "set certificate_file to the authority that signed it"
            return f"the server's certificate was refused: {reason}; {hint}", False
        if _NOT_TLS.search(details):
            return "the server does not speak TLS here; use http:// or another port", False
        if found := _OUR_SIDE_REFUSED.search(details):
            hint = "check client_certificate_file and client_key_file"
            return f"the server refused our side of TLS ({found[0]}); {hint}", False
        hint = ""
        if "http1" in details or "SETTINGS frame" in details:
            hint = "; is this an HTTP port (4318)? OTLP over gRPC usually has 4317"
        elif _HUNG_UP.search(details):
            hint = f"; {CLIENT_FILES_HINT if self._secure else 'if the server speaks TLS here, use https://'}"
        said = details.partition("last error: ")[2] or details
        return f"no connection: {_tidy(said)}{hint}", True

    def _fail(self, said: str, *, retryable: bool, outcome_unknown: bool) -> TransportFailure:
        return TransportFailure(f"{self.target}: {said}", retryable=retryable, outcome_unknown=outcome_unknown)

    def _disconnect(self) -> None:
        self._call = None
        # A fork in the middle of it would leave the child a lock of the library's that is taken for ever.
        with _library.gate.lock:
            channel, self._channel = self._channel, None
            if channel is not None:
                _close(channel)

    def leave_library(self, deadline: float) -> None:
        """Close the channel before a fork, and be out of the library when this returns; with the gate's lock held.

        A call that is out has a short time for its answer; then it is cut, and may be sent again.

        Args:
            deadline: Monotonic moment until which the library may be waited for.
        """
        channel, call = self._channel, self._call
        if channel is None:
            return
        if call is not None and not _await_answer(call, min(deadline, time.monotonic() + self._grace)):
            self._grace = min(2 * self._grace, LONGEST_GRACE)
            call.cancel()
            self._cut = self._is_connected()
        self._channel = None
        _close(channel)
        _await_library(channel, call, deadline)

    def _abandon(self) -> None:
        if self._channel is not None or self._call is not None:
            _inherited.append((self._channel, self._call))
        self._channel = self._call = self._cut = None
        self._grace = FIRST_GRACE

    def _forget(self) -> None:
        self._abandon()


class _Library:
    """grpcio in this process: loaded once, kept from ending, and left by all transports while the process forks.

    What a thread of the parent holds in the middle of a call, the library's or one of ours, is held in the child for
    ever, and the library's own handling of forks, where it is on, waits for that inside of `os.fork`.
    """

    gate: ForkGate
    """Held by whoever opens or closes a channel, or begins a call; there when it is loaded."""

    _open_keeper: Callable[[], Any]

    def __init__(self) -> None:
        self.first_pid: int | None = None
        """The process in which it was loaded."""
        self._keeper: Any = None
        self._keeper_pid = os.getpid()
        self._next_end = -math.inf
        self._transports: weakref.WeakSet[GrpcTransport] = weakref.WeakSet()

    def load(self) -> Any:
        """Returns it.

        Raises:
            ConfigurationError: It is not installed.
        """
        try:
            with fill_environment(_LIBRARY_ENVIRONMENT):
                library: Any = load_module("grpc")
                if self.first_pid is None:
                    # Older releases read the one above with it, too, and its hooks for forks are there from then on.
                    with fill_environment(_CORE_ENVIRONMENT):
                        self.keep(library)
        except ImportError as error:
            raise ConfigurationError(
                f"protocol \"grpc\" needs the package grpcio: pip install 'otelog[grpc]' ({error})"
            ) from None
        if self.first_pid is None:
            # After the library's own hooks, so that ours is called before them.
            self.gate = ForkGate(FORK_PATIENCE, self._leave)
            self.first_pid = os.getpid()
        return library

    def add(self, transport: GrpcTransport) -> None:
        """Have this transport leave the library, too."""
        with self.gate.lock:
            self._transports.add(transport)

    def keep(self, library: Any) -> None:
        """Keep the library from ending with its last channel; with the gate's lock held.

        It ends in a thread of its own. A child that is forked meanwhile waits for that thread at its first call.
        """
        if self._keeper_pid != os.getpid():
            # Some releases close a parent's channels in its child.
            _inherited.append(self._keeper)
            self._keeper, self._keeper_pid = None, os.getpid()
        if self._keeper is None:
            # Nothing is ever sent over it, so that it connects to nothing.
            self._open_keeper = partial(library.insecure_channel, "localhost:1")
            self._keeper = self._open_keeper()

    def _leave(self) -> None:
        if self._keeper_pid != os.getpid() or self._keeper is None:
            # It has not been used in this process, or not since the fork before.
            return
        deadline = time.monotonic() + FORK_PATIENCE
        # Where the patience has ended, a thread that opens a transport may change the set meanwhile.
        with suppress(RuntimeError):
            for transport in list(self._transports):
                transport.leave_library(deadline)
        if time.monotonic() >= self._next_end and _can_see_threads():
            self._end()

    def _end(self) -> None:
        """End the library, so that the child has none of its descriptors, threads and locks."""
        _close(self._keeper)
        self._keeper = None
        patience_ends = time.monotonic() + END_PATIENCE
        while _is_up():
            if time.monotonic() >= patience_ends:
                # The application uses it, too. It must not end in the middle of the fork.
                self._next_end = time.monotonic() + SHARED_PAUSE
                self._keeper = self._open_keeper()
                return
            sleep(_LOOK_AGAIN)


_library = _Library()


class _BlockingCall:
    """A call that is made when its end is waited for, in that very thread, and that nothing can cut short.

    The library's other way takes threads and locks of the standard library's. Where gevent has replaced them, a process
    that was forked waits for ever, for a greenlet that its parent had. At the end of Python 3.12 none can be started.
    """

    def __init__(self, make: Callable[[], tuple[bytes, Any]]) -> None:
        self._make = make
        self._begun = self._over = False

    def exception(self, timeout: float) -> None:
        """Make the call, in its own time; how it went is asked for later."""
        del timeout
        self._begun = True
        try:
            self._answer, self._ended = self._make()
        except Exception as error:
            if not hasattr(error, "trailing_metadata"):
                raise
            self._ended = error
        finally:
            self._over = True

    def done(self) -> bool:
        """Returns whether it has ended; one that has not begun waits for its thread, and is cut at once."""
        return self._over

    def is_at_work(self) -> bool:
        """Returns whether it is being made."""
        return self._begun and not self._over

    def cancel(self) -> None:
        """Nothing: its channel is closed, which ends it."""

    def code(self) -> Any:
        """Returns the status that the call has ended with."""
        return self._ended.code()

    def details(self) -> str | None:
        """Returns what is said about it."""
        details: str | None = self._ended.details()
        return details

    def trailing_metadata(self) -> Any:
        """Returns what came with it."""
        return self._ended.trailing_metadata()

    def result(self) -> bytes:
        """Returns the answer of a call that was "OK"."""
        return self._answer


def _can_see_threads() -> bool:
    return os.path.isdir(_TASKS)


def _is_up() -> bool:
    """Returns whether the library still runs, or is about to end: it does that in one of its threads, too."""
    for task in os.listdir(_TASKS):
        with suppress(OSError), open(f"{_TASKS}/{task}/comm") as file:
            if file.read().startswith(_CORE_THREADS):
                return True
    return False


def _await_answer(call: Any, deadline: float) -> bool:
    while not call.done():
        if time.monotonic() >= deadline:
            return False
        sleep(_LOOK_AGAIN)
    return True


def _close(channel: Any) -> None:
    with suppress(Exception):
        channel.close()


def _await_library(channel: Any, call: Any, deadline: float) -> None:
    """Wait until no thread is in the library for a channel that is closed, whose last call this was."""
    is_at_work = call.is_at_work if isinstance(call, _BlockingCall) else find_calls(channel)
    if is_at_work is None:
        deadline = min(deadline, time.monotonic() + UNTOLD_PAUSE)
    while (is_at_work is None or is_at_work()) and time.monotonic() < deadline:
        sleep(_LOOK_AGAIN)


def _check_metadata(name: str, value: str) -> tuple[str, str]:
    # The value may be a secret: no message shows it.
    if name in _OWN_METADATA or name.startswith("grpc-"):
        raise ConfigurationError(f"headers: {name} is set by gRPC itself")
    if name.endswith("-bin"):
        raise ConfigurationError(f"headers: {name} cannot be sent by gRPC: names that end in -bin carry binary values")
    if not _METADATA_KEY.fullmatch(name):
        raise ConfigurationError(
            f"headers: {name!r} cannot be sent by gRPC; allowed are letters, digits, '_', '-', '.'"
        )
    if not _METADATA_VALUE.fullmatch(value):
        raise ConfigurationError(f"headers: the value of {name} has characters that gRPC cannot carry")
    return name, value


def _check_proxy(url: str) -> str:
    if parse_proxy(url).secure:
        raise ConfigurationError("proxy: gRPC cannot use an https:// proxy")
    return url if "://" in url else f"http://{url}"


def _read_certificates(settings: TransportSettings) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Returns the authorities, the client's key and its certificates, as `grpc.ssl_channel_credentials` takes them."""
    # The library says nothing of files that it cannot use; this one does.
    make_context(settings)
    authorities, certificate = _read(settings.certificate_file), _read(settings.client_certificate_file)
    return authorities, _read(settings.client_key_file) or certificate, certificate


def _read(path: str | None) -> bytes | None:
    if not path:
        return None
    try:
        if os.path.isdir(path):
            # Of a folder the library knows nothing.
            return b"\n".join(content for name in sorted(os.listdir(path)) if (content := _read(f"{path}/{name}")))
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigurationError(f"{path!r} cannot be read: {error}") from None


def _tidy(text: str) -> str:
    return read_error_message({"content-type": "text/plain"}, text.encode("utf-8", "replace"))
