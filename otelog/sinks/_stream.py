"""Lines to one of the process's standard streams: whole, or with a word on how far it came."""

from __future__ import annotations

import io
import os
import select
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from otelog._runtime.threads import find_native, sleep

PIECE_BYTES = getattr(select, "PIPE_BUF", 512)
"""Bytes that are written at once: a pipe takes them whole, also between the writes of other processes."""

POLL_SECONDS = 0.1
"""How often a writer to a full pipe looks whether it may still wait."""

_BUSY_SECONDS = 0.01


class StreamFailure(Exception):
    """The lines are not all written; the cause says why.

    Args:
        torn: Whether a part of one is written, on a stream that is not broken.
    """

    def __init__(self, torn: bool = False) -> None:
        super().__init__(torn)
        self.torn = torn


def find_descriptor(stream: Any) -> int | None:
    """Returns the file descriptor behind a stream that is surely nothing else, or None."""
    # Others, such as a notebook's, have a descriptor that is not where their text goes.
    if type(stream) is not io.TextIOWrapper or not hasattr(select, "poll"):
        return None
    buffer: Any = stream.buffer
    raw = buffer.raw if type(buffer) is io.BufferedWriter else buffer
    return stream.fileno() if type(raw) is io.FileIO else None


def write_lines(
    stream: Any,
    lines: Sequence[bytes],
    encoding: str,
    may_wait: Callable[[], bool],
    on_written: Callable[[int], object],
) -> None:
    """Write lines to a stream, and flush it.

    Behind Python's own streams it writes to the descriptor: a thread that waits for a full pipe must not hold the
    stream's lock, for which the interpreter's end would wait in vain. Lines of up to `PIECE_BYTES` are never mixed with
    those of other processes; in a file no line is.

    Args:
        stream: Anything with ``write`` and ``flush``.
        lines: Each with its end.
        encoding: Of the lines.
        may_wait: Whether there is time left; asked before each piece, and while the stream takes nothing.
        on_written: Called meanwhile with how many lines are written from the first.

    Raises:
        StreamFailure: Not all is written.
    """
    try:
        descriptor = find_descriptor(stream)
        if descriptor is None:
            stream.write(b"".join(lines).decode(encoding))
        # What the application has written comes first.
        stream.flush()
    except Exception as error:
        raise StreamFailure from error
    if descriptor is None:
        on_written(len(lines))
        return
    try:
        # A file takes any line at once, and nobody waits for it.
        most = sys.maxsize if stat.S_ISREG(os.fstat(descriptor).st_mode) else PIECE_BYTES
    except OSError as error:
        raise StreamFailure from error
    poll = find_native("select", "poll")()
    poll.register(descriptor, select.POLLOUT)
    written = 0
    for piece in _pieces(lines):
        _write_piece(descriptor, poll, piece, most, may_wait)
        written += len(piece)
        on_written(written)


def _pieces(lines: Sequence[bytes]) -> Iterator[list[bytes]]:
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > PIECE_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield piece


def _write_piece(descriptor: int, poll: Any, piece: list[bytes], most: int, may_wait: Callable[[], bool]) -> None:
    # Only a piece that is a single long line can be torn.
    content = b"".join(piece)
    at = 0
    try:
        while at < len(content):
            if not may_wait():
                raise TimeoutError("the stream takes nothing more")
            if poll.poll(POLL_SECONDS * 1000):
                try:
                    at += os.write(descriptor, content[at : at + most])
                except BlockingIOError:
                    # Another process was faster.
                    sleep(_BUSY_SECONDS)
    except OSError as error:
        raise StreamFailure(at > 0 and isinstance(error, TimeoutError)) from error
