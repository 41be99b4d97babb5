"""An HTTP connection that keeps one deadline over a whole exchange, however slowly the other side speaks.

A socket's own timeout starts again with every byte that arrives, so that a server which sends one byte a second would
hold a client for ever. Here each wait on the socket is given what is left of the exchange's time.
"""

from __future__ import annotations

import errno
import io
import os
import select
import socket
import ssl
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, TypeVar, cast

from otelog._config.proxy import Proxy
from otelog._otlp.tls_stream import Stream, TlsStream
from otelog._runtime.inherited import Identity, identify, is_open, opening
from otelog._runtime.threads import find_native, look_up

POLL_INTERVAL = 0.1
"""Seconds after which a wait asks again how much time is left: a shutdown may have shortened it."""

_CONNECT_STARTED = (0, errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", errno.EINPROGRESS))

Result = TypeVar("Result")
TimeLeft = Callable[[], float]
"""Seconds until the exchange must be over; zero or less: it is over."""


class DeadlineError(TimeoutError):
    """The exchange's time is used up."""


class ProxyRefusalError(OSError):
    """A proxy did not open the tunnel.

    Args:
        message: One line, without secrets.
        status: What it answered.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.proxy_status = status


class OnTheWayError(OSError):
    """It failed between us and a proxy, not with the endpoint; the cause says what."""

    of_proxy = True


class DeadlineSocket:
    """A socket with every wait cut at the exchange's deadline."""

    def __init__(self, sock: socket.socket, time_left: TimeLeft) -> None:
        self._socket = sock
        # Windows knows no forks, and tells nothing of a socket.
        self._identity: Identity | None = identify(os.fstat(sock.fileno())) if hasattr(os, "fork") else None
        self.time_left = time_left

    def bound(self, operation: Callable[..., Result], *arguments: object) -> Result:
        """Run one operation of the socket until it succeeds, fails or the time is used up."""
        while True:
            self._socket.settimeout(min(_require_time(self.time_left), POLL_INTERVAL))
            if not self.is_ours():
                raise OSError(errno.EBADF, "the application has closed the connection's descriptor")
            try:
                return operation(*arguments)
            except TimeoutError as error:
                # With an errno it is the network that timed out, which is final; without, our own short wait.
                if error.errno is not None:
                    raise

    def sendall(self, data: bytes | memoryview) -> None:
        """Send everything."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.bound(self._socket.send, rest) :]

    def receive_into(self, buffer: memoryview) -> int:
        """Wait for bytes; returns how many, 0 at the end."""
        return self.bound(self._socket.recv_into, buffer)

    def has_input(self) -> bool:
        """Whether something can be read, or the other side has hung up."""
        return _is_ready(self._socket, write=False, timeout=0.0)

    def hold(self) -> io.RawIOBase:
        """Keep the socket open, even if it is closed, until what this returns is closed."""
        return self._socket.makefile("rb", buffering=0)

    def is_ours(self) -> bool:
        """Whether the descriptor still is this socket: an application may have closed it, and have another by now."""
        return self._identity is None or is_open(self._socket.fileno(), self._identity)

    def close(self) -> None:
        """Let the socket go; it is closed when no reader has it any more."""
        if self.is_ours():
            self._socket.close()
        else:
            self.forget()

    def abandon(self) -> None:
        """Close this process's descriptor and nothing else: the connection belongs to the parent of the fork."""
        ours = self.is_ours()
        descriptor = self._socket.detach()
        if ours:
            os.close(descriptor)

    def forget(self) -> None:
        """Leave the descriptor as it is, for good: its number may be somebody else's."""
        self._socket.detach()


class Line:
    """What `http.client` takes for a socket: a socket that is connected, with TLS on top as often as it is wanted."""

    def __init__(self, bounded: DeadlineSocket) -> None:
        self._bounded = bounded
        self._stream: Stream = bounded
        self._ahead = b""
        """The first byte of an answer, where it was waited for."""

    def secure(self, context: ssl.SSLContext, server_hostname: str) -> None:
        """Put TLS on top."""
        stream = TlsStream(self._stream, context, server_hostname)
        stream.shake_hands()
        self._stream = stream

    def sendall(self, data: bytes) -> None:
        """Send everything."""
        self._stream.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return a reader for one answer. The socket stays open for it even if the connection lets go."""
        return io.BufferedReader(_Reader(self, self._bounded.hold()))

    def await_input(self) -> bool:
        """Wait until there is something to read; returns whether there is, or the end, before the time is used up.

        TLS has input of its own that is nothing to read: only to read tells.
        """
        if not self._ahead:
            piece = bytearray(1)
            try:
                count = self._stream.receive_into(memoryview(piece))
            except DeadlineError:
                return False
            except OSError:
                # To be met again by whoever reads.
                return True
            self._ahead = bytes(piece[:count])
        return True

    def read_into(self, buffer: memoryview) -> int:
        """Read what there is, at least one byte but at the end."""
        if self._ahead:
            buffer[:1], self._ahead = self._ahead, b""
            return 1
        return self._stream.receive_into(buffer)

    def has_input(self) -> bool:
        """Whether something can be read, or the other side has hung up."""
        return self._stream.has_input()

    def close(self) -> None:
        """Let the socket go; it is closed when no reader has it any more."""
        self._bounded.close()


class _Reader(io.RawIOBase):
    def __init__(self, line: Line, held: io.RawIOBase) -> None:
        self._line = line
        self._held = held

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._line.read_into(memoryview(buffer))

    def close(self) -> None:
        if not self.closed:
            self._held.close()
        super().close()


class DeadlineConnection(HTTPConnection):
    """A kept-alive connection whose exchanges each have their own `time_left`.

    The look-up of the host's name is the operating system's and cannot be cut; everything after it can.
    Not thread-safe: one exchange at a time.

    Args:
        host: Name or address, without brackets.
        port: TCP port.
        context: For TLS to the host; None: plain HTTP.
        proxy: Connected to instead. With TLS to the host it opens a tunnel.
        proxy_context: For TLS to the proxy; None: plain HTTP.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        context: ssl.SSLContext | None,
        proxy: Proxy | None = None,
        proxy_context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(host, port)
        # As bytes, for which the look-up needs no codec.
        self._address = (host.encode("ascii"), port) if proxy is None else (proxy.host.encode("ascii"), proxy.port)
        self._context = context
        self._proxy = proxy
        self._proxy_context = proxy_context
        self._time_left: TimeLeft = lambda: 0.0
        self._bounded: DeadlineSocket | None = None
        """The socket, also while it is connecting."""

    def start_exchange(self, time_left: TimeLeft) -> None:
        """Set the deadline of the next request and its answer."""
        self._time_left = time_left
        if self._bounded is not None:
            self._bounded.time_left = time_left

    def is_usable(self) -> bool:
        """Whether the next request can go over it: a server that has something to say between two has hung up.

        To be asked within the next exchange: TLS may have to take in what it sends for itself.
        """
        line = cast("Line | None", self.sock)
        if line is None or self._bounded is None:
            return False
        return self._bounded.is_ours() and not line.has_input()

    def await_answer(self) -> bool:
        """Wait for the first byte of the answer; returns whether it, or an end, has come in the exchange's time."""
        line = cast("Line | None", self.sock)
        return line is None or line.await_input()

    def abandon(self) -> None:
        """Give up what a fork has copied. An answer's reader may be locked by a thread that only the parent has."""
        if self._bounded is not None:
            self._bounded.abandon()

    def forget(self) -> None:
        """Give it up without touching it."""
        if self._bounded is not None:
            self._bounded.forget()

    def connect(self) -> None:
        """Connect to the first of the host's addresses that answers, each given an even share of the time.

        Raises:
            OSError: No address could be reached; `ssl.SSLError` (an OSError too) if TLS could not be set up.
        """
        addresses = look_up(*self._address)
        for untried in range(len(addresses), 0, -1):
            family, kind, protocol, _, address = addresses[-untried]
            share = _require_time(self._time_left) / untried
            with opening.lock:
                # gevent's would wait in a hub of its own.
                sock = find_native("socket", "socket")(family, kind, protocol)
                bounded = self._bounded = DeadlineSocket(sock, self._time_left)
            try:
                self._reach(sock, address, share)
                break
            except OSError:
                bounded.close()
                if untried == 1:
                    raise
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line = Line(bounded)
            if self._proxy is not None:
                self._pass_proxy(line, self._proxy)
            if self._context is not None:
                line.secure(self._context, _name_of(self.host))
        except BaseException:
            bounded.close()
            raise
        self.sock = cast("socket.socket", line)

    def _pass_proxy(self, line: Line, proxy: Proxy) -> None:
        try:
            if self._proxy_context is not None:
                line.secure(self._proxy_context, _name_of(proxy.host))
            if self._context is not None:
                self._open_tunnel(line, proxy)
        except OSError as error:
            raise OnTheWayError(str(error)) from error

    def _open_tunnel(self, line: Line, proxy: Proxy) -> None:
        target = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        line.sendall("".join(f"{one}\r\n" for one in (*lines, "")).encode("ascii"))
        answer = HTTPResponse(cast("socket.socket", line), method="CONNECT")
        try:
            answer.begin()
            if not 200 <= answer.status < 300:
                reason = "".join(one if one.isprintable() else "?" for one in answer.reason[:100])
                raise ProxyRefusalError(
                    f"the proxy {proxy.url} answered {answer.status} {reason}".rstrip(), answer.status
                )
        except HTTPException as error:
            raise OSError(f"the proxy {proxy.url} did not answer by HTTP ({type(error).__name__})") from None
        finally:
            # Nothing of the tunnel's has been read: its other end only answers.
            answer.close()

    def _reach(self, sock: socket.socket, address: object, share: float) -> None:
        sock.setblocking(False)
        code = sock.connect_ex(cast("tuple[str, int]", address))
        if code not in _CONNECT_STARTED:
            raise OSError(code, os.strerror(code))
        reserved = _require_time(self._time_left) - share
        while True:
            left = _require_time(self._time_left) - reserved
            if left <= 0.0:
                raise DeadlineError("no answer to the attempt to connect")
            if _is_ready(sock, write=True, timeout=min(left, POLL_INTERVAL)):
                break
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))


def _name_of(host: str) -> str:
    # The dot that ends a full name for the look-up is in no certificate.
    return host.rstrip(".")


def _require_time(time_left: TimeLeft) -> float:
    left = time_left()
    if left <= 0.0:
        raise DeadlineError("the time for the exchange is used up")
    return left


def _is_ready(sock: socket.socket, *, write: bool, timeout: float) -> bool:
    """Wait so many seconds for room to write, or for something to read."""
    if hasattr(select, "poll"):
        # select() has no place for a descriptor above 1023.
        waiting = find_native("select", "poll")()
        waiting.register(sock, select.POLLOUT if write else select.POLLIN)
        return bool(waiting.poll(timeout * 1000))
    readers, writers = ([], [sock]) if write else ([sock], [])
    # Windows calls a connection that has failed exceptional.
    return any(find_native("select", "select")(readers, writers, writers, timeout))
