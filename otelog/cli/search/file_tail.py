"""The records in log files, those that are there and those that come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

from otelog.cli.search.beside import read_beside
from otelog.cli.search.following import Following
from otelog.cli.search.log_files import READ_ERRORS, LogFileError, find_files, open_file, read_line
from otelog.cli.show.filters import Filters, Record, sort_by_time


class FileTail:
    """The records in files that are meant, as they come; for one thread."""

    def __init__(self, paths: list[Path], filters: Filters, streams: tuple[str, ...]) -> None:
        self.unreadable = 0
        """Lines so far that are no record."""
        self._paths = paths
        self._filters = filters
        self._streams = streams
        self._following = Following(paths, streams)

    def read_past(self) -> Iterator[Record]:
        """Returns the records that were there at the beginning, oldest file first, those of processes by their times.

        Raises:
            LogFileError: A file cannot be read.
        """
        try:
            paths = find_files(self._paths, self._streams)
        except LogFileError:
            # Nothing is there yet.
            return
        yield from read_beside(paths, lambda places: ((at, one) for at in places for one in self._read_past(paths[at])))

    def _read_past(self, path: Path) -> Iterator[Record]:
        is_packed = path.suffix in (".gz", ".zst")
        end = self._following.began_at(path)
        if end is None and not is_packed:
            # It has come meanwhile, and is followed from its beginning.
            return
        try:
            with open_file(path) as file:
                for line in file if is_packed else _lines_before(file, end or 0):
                    yield from self._take(line)
        except READ_ERRORS as error:
            raise LogFileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error

    def read(self) -> list[Record]:
        """Returns the records that have come since the last call, in the order of their times."""
        # Files are read one after the other.
        return sort_by_time(record for line in self._following.read() for record in self._take(line))

    def close(self) -> None:
        """Let the files go; idempotent."""
        self._following.close()

    def _take(self, line: bytes) -> list[Record]:
        records = read_line(line)
        if records is None:
            self.unreadable += 1
            return []
        return [record for record in records if self._filters.matches(record)]


def _lines_before(file: IO[bytes], end: int) -> Iterator[bytes]:
    while file.tell() < end:
        yield file.readline()
