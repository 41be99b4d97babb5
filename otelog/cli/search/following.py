"""Log files that grow: the lines that come, whatever is rotated meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from otelog.cli.search.log_files import SUFFIXES, LogFileError
from otelog.sinks._names import parse_name

MAX_READ_BYTES = 1024 * 1024
"""How much of one file is read at a time."""


class Following:
    """The lines that are added to files, and to those that come to a folder.

    A rotated file is known by what it is, not by its name, and read to its end. A file that is new is read from its
    beginning. What is rotated and packed between two calls is not seen.

    Args:
        paths: Files, or folders.
        streams: Which kinds of files that otelog writes are meant in a folder; of others, all.

    Raises:
        LogFileError: A path does not exist, or is packed.

    Thread safety: for one thread.
    """

    def __init__(self, paths: list[Path], streams: tuple[str, ...]) -> None:
        self._paths = paths
        self._streams = frozenset(streams)
        self._open: dict[tuple[int, int], _Growing] = {}
        for path in paths:
            if not path.exists():
                raise LogFileError(f"{path} does not exist")
            if path.suffix in (".gz", ".zst"):
                raise LogFileError(f"{path} is packed: nothing is added to it")
        for path in self._find():
            self._begin(path, at_end=True)

    def read(self) -> list[bytes]:
        """Returns the whole lines that have come since the last call, those of each file in their order."""
        paths = list(self._find())
        lines: list[bytes] = []
        # First what was known: what is rotated has older lines than the file in its place.
        gone = []
        for identity, growing in self._open.items():
            lines += growing.read()
            if growing.is_gone and growing.is_read:
                gone.append(identity)
        for identity in gone:
            self._open.pop(identity).close()
        for path in paths:
            if (new := self._begin(path, at_end=False)) is not None:
                lines += new.read()
        return lines

    def began_at(self, path: Path) -> int | None:
        """Returns how many bytes of a file were there before, and are not for `read`; None: it is not followed."""
        try:
            status = path.stat()
        except OSError:
            return None
        growing = self._open.get((status.st_dev, status.st_ino))
        return None if growing is None else growing.began_at

    def close(self) -> None:
        """Let the files go; idempotent."""
        while self._open:
            self._open.popitem()[1].close()

    def _find(self) -> Iterator[Path]:
        for path in self._paths:
            if not path.is_dir():
                yield path
                continue
            try:
                names = sorted(os.listdir(path))
            except OSError:
                continue
            for name in names:
                if not name.endswith((".gz", ".zst")) and self._is_meant(name):
                    yield path / name

    def _is_meant(self, name: str) -> bool:
        ours = parse_name(name)
        if ours is None:
            return any(f"{suffix}." in f"{name}." for suffix in SUFFIXES)
        return ours.stream in self._streams and not ours.unfinished

    def _begin(self, path: Path, *, at_end: bool) -> _Growing | None:
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in self._open:
                return None
            file = path.open("rb")
        except OSError:
            # Between two names, or not for us.
            return None
        growing = _Growing(file, at_end=at_end)
        if growing.identity in self._open:
            growing.close()
            return None
        self._open[growing.identity] = growing
        return growing


class _Growing:
    """One open file, and the beginning of a line whose end has not come."""

    def __init__(self, file: BinaryIO, *, at_end: bool) -> None:
        self._file = file
        status = os.fstat(file.fileno())
        self.identity = (status.st_dev, status.st_ino)
        self.is_read = False
        self._rest = b""
        if at_end:
            # Not in the middle of a line that is just being written.
            self._skip_to_line(status.st_size)
        self.began_at = file.tell()

    @property
    def is_gone(self) -> bool:
        """Whether no name leads to the file any more."""
        return os.fstat(self._file.fileno()).st_nlink == 0

    def read(self) -> list[bytes]:
        """Returns the lines that have come."""
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            # Emptied in its place.
            self._file.seek(0)
            self._rest = b""
        data = self._file.read(MAX_READ_BYTES)
        self.is_read = len(data) < MAX_READ_BYTES
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines

    def close(self) -> None:
        self._file.close()

    def _skip_to_line(self, end: int) -> None:
        position = end
        while position > 0:
            start = max(0, position - MAX_READ_BYTES)
            self._file.seek(start)
            found = self._file.read(position - start).rfind(b"\n")
            if found >= 0:
                self._file.seek(start + found + 1)
                return
            position = start
        self._file.seek(0)
