"""TLS over any stream of bytes: a socket, or another TLS.

`ssl` could put it on a socket by itself. Where gevent has patched, that socket would be one of gevent's, which waits in
a hub; and TLS inside of TLS it could not do at all. Here it only computes: all waiting is done by the stream below.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeVar, cast

__all__ = ["Stream", "TlsStream"]

PIECE_BYTES = 64 * 1024
"""About how much is read and sent at a time."""

Result = TypeVar("Result")


class Stream(Protocol):
    """A connection; its owner bounds the time of each call that waits, by an OSError."""

    def sendall(self, data: bytes | memoryview) -> None:
        """Send everything."""

    def receive_into(self, buffer: memoryview) -> int:
        """Wait for bytes and returns how many there are now; 0: the other side sends no more."""

    def has_input(self) -> bool:
        """Returns whether something can be read, or the other side has hung up; waits for nothing."""


class TlsStream:
    """The client's side of TLS, to be begun by `shake_hands`.

    It has nothing to close, and says no goodbye. After an error only reading may go on. Not thread-safe.

    Args:
        below: What carries it.
        context: Whom to trust, and who we are.
        server_hostname: The name that the other side's certificate must hold.
    """

    def __init__(self, below: Stream, context: ssl.SSLContext, server_hostname: str) -> None:
        self._below = below
        self._input, self._output = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._input, self._output, server_hostname=server_hostname)
        self._piece = memoryview(bytearray(PIECE_BYTES))

    def shake_hands(self) -> None:
        """Agree with the other side on everything.

        Raises:
            OSError: It failed; `ssl.SSLError` (an OSError too) if one side refused the other.
        """
        self._run(self._tls.do_handshake)
        self._flush()

    def sendall(self, data: bytes | memoryview) -> None:
        """See `Stream`."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._run(self._tls.write, rest) :]
            # One record holds no more than 16 KiB.
            if self._output.pending >= PIECE_BYTES or not rest:
                self._flush()

    def receive_into(self, buffer: memoryview) -> int:
        """See `Stream`."""
        try:
            # What TLS has to say itself goes out with what is sent next: a failure of that must not cost the bytes.
            count: int = self._run(cast("Callable[..., int]", self._tls.read), len(buffer), buffer)
        except ssl.SSLEOFError:
            # An end without TLS's own goodbye is usual; HTTP knows whether an answer is whole.
            return 0
        return count

    def has_input(self) -> bool:
        """See `Stream`. What TLS sends for itself is taken in: tickets may come at any time, and are no answer.

        The byte by which it is found out is lost: a stream that has input where none is expected is of no more use.
        """
        while True:
            try:
                self._tls.read(1)
            except ssl.SSLWantReadError:
                if not self._below.has_input():
                    return False
                try:
                    self._fill()
                except OSError:
                    return True
            except ssl.SSLError:
                return True
            else:
                return True

    def _run(self, operation: Callable[..., Result], *arguments: object) -> Result:
        while True:
            try:
                return operation(*arguments)
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            except ssl.SSLError:
                # The other side is sent the reason.
                with suppress(OSError):
                    self._flush()
                raise

    def _flush(self) -> None:
        if self._output.pending:
            self._below.sendall(self._output.read())

    def _fill(self) -> None:
        count = self._below.receive_into(self._piece)
        if count:
            self._input.write(self._piece[:count])
        else:
            self._input.write_eof()
