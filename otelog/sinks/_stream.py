"""Lines to one of the process's standard streams: whole, or with a word on how far it came."""

from __future__ import annotations

import io
import os
import select
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

PIECE_BYTES = getattr(select, "PIPE_BUF", 512)
"""Bytes that are written at once: a pipe takes them whole, also between the writes of other processes."""

POLL_SECONDS = 0.1
"""How often a writer to a full pipe looks whether it may still wait."""

_BUSY_SECONDS = 0.01


class StreamFailure(Exception):
    """The lines are not all written.

    Args:
        written: How many whole ones are.
        torn: Whether a part of the next one is, too, on a stream that is not broken.
    """

    def __init__(self, written: int, torn: bool = False) -> None:
        super().__init__(written, torn)
        self.written = written
        self.torn = torn


def find_descriptor(stream: Any) -> int | None:
    """Returns the file descriptor behind a stream that is surely nothing else, or None."""
    # Others, such as a notebook's, have a descriptor that is not where their text goes.
    if type(stream) is not io.TextIOWrapper or not hasattr(select, "poll"):
        return None
    buffer: Any = stream.buffer
    raw = buffer.raw if type(buffer) is io.BufferedWriter else buffer
    return stream.fileno() if type(raw) is io.FileIO else None


def write_lines(stream: Any, lines: Sequence[bytes], encoding: str, may_wait: Callable[[], bool]) -> None:
    """Write lines to a stream, and flush it.

    Behind Python's own streams it writes to the descriptor: a thread that waits for a full pipe must not hold the
    stream's lock, for which the interpreter's end would wait in vain. Lines of up to `PIECE_BYTES` are never mixed with
    those of other processes.

    Args:
        stream: Anything with ``write`` and ``flush``.
        lines: Each with its end.
        encoding: Of the lines.
        may_wait: Asked while the stream takes nothing.

    Raises:
        StreamFailure: Not all is written; the reason is its cause.
    """
    try:
        descriptor = find_descriptor(stream)
        if descriptor is None:
            stream.write(b"".join(lines).decode(encoding))
        # What the application has written comes first.
        stream.flush()
    except Exception as error:
        raise StreamFailure(0) from error
    if descriptor is not None:
        written = 0
        for piece, count in _pieces(lines):
            _write_piece(descriptor, piece, written, may_wait)
            written += count


def _pieces(lines: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > PIECE_BYTES:
            yield b"".join(piece), len(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield b"".join(piece), len(piece)


def _write_piece(descriptor: int, piece: bytes, written: int, may_wait: Callable[[], bool]) -> None:
    at = 0
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    try:
        while at < len(piece):
            while not poll.poll(POLL_SECONDS * 1000):
                if not may_wait():
                    raise TimeoutError("nobody takes what is written")
            try:
                at += os.write(descriptor, piece[at : at + PIECE_BYTES])
            except BlockingIOError:
                # Ready, but not for so much.
                if not may_wait():
                    raise
                time.sleep(_BUSY_SECONDS)
    except OSError as error:
        whole = piece.count(b"\n", 0, at)
        waits = isinstance(error, (BlockingIOError, TimeoutError))
        raise StreamFailure(written + whole, waits and at > 0 and piece[at - 1 : at] != b"\n") from error
