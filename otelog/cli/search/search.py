"""A question about records in files: DuckDB answers where that is faster and certain, reading everywhere else."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from otelog.cli.search.beside import read_beside
from otelog.cli.search.log_files import READ_ERRORS, LogFileError, open_file, read_line, zstandard
from otelog.cli.show.filters import Filters, Record, to_text, value_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otelog.cli.search.duck import Duck, Values

DUCKDB_FROM_BYTES = 8 * 1024 * 1024
"""Smaller files are read before DuckDB has been imported."""

SAMPLED_LINES = 2000
MOST_MATCHING = 0.3
"""If more of a file's first lines match, its records are read: each of them is parsed in any case."""

PACKED_RATIO = 8
_HEAD_BYTES = 1024


class Search:
    """One question, for one answer: `records`, `count` or `group`.

    Args:
        paths: The files, in order; what is no record in them is counted.
        filters: What is asked of the records.
        duckdb_from_bytes: From which size on a file is left to DuckDB, if it is there and few of the records match;
            0 for always, None for never.

    Raises:
        LogFileError: From the answers: a file cannot be read.

    Thread safety: for one thread.
    """

    def __init__(
        self, paths: list[Path], filters: Filters, *, duckdb_from_bytes: int | None = DUCKDB_FROM_BYTES
    ) -> None:
        self.unreadable = 0
        """Lines so far that are no record: torn, or something else."""
        self._read_records = 0
        self._by_duckdb: list[Path] = []
        self._paths = paths
        self._filters = filters
        self._duckdb_from_bytes = duckdb_from_bytes

    def records(self) -> Iterator[Record]:
        """Returns the records that match, in the order of the files; those of several processes by their times."""
        return read_beside(self._paths, self._find_all)

    def count_looked_at(self) -> int:
        """Returns how many records the answer was looked for in, all of them if it has been read to its end."""
        return self._read_records + sum(map(_count_lines, map(_where_now, self._by_duckdb)))

    def count(self) -> int:
        """Returns how many records match."""
        return sum(self.group(()).values())

    def group(self, fields: Values) -> Counter[Values]:
        """Returns how many records match, by the text of their fields."""
        duck = self._make_duck(fields)
        counts: Counter[Values] = Counter()
        for path in map(_where_now, self._paths):
            if duck is not None and self._is_for_duckdb(path) and self._group_by_duckdb(path, duck, fields, counts):
                continue
            counts.update(count_by((record for record in self._read(path) if self._filters.matches(record)), fields))
        return counts

    def _find_all(self, places: Sequence[int]) -> Iterator[tuple[int, Record]]:
        # Without a filter every line is shown, and so read, in any case.
        duck = self._make_duck(()) if self._filters else None
        for at in places:
            for record in self._find(_where_now(self._paths[at]), duck):
                yield at, record

    def _find(self, path: Path, duck: Duck | None) -> Iterator[Record]:
        from_before, read_before, given = self.unreadable, self._read_records, 0
        if duck is not None and self._is_for_duckdb(path) and not self._match_many(path):
            from otelog.cli.search.duck import DuckError

            try:
                with _unpacked(path) as plain:
                    for line, certain in duck.select(plain):
                        for record in self._take(line.encode()):
                            if certain or self._filters.matches(record):
                                given += 1
                                yield record
                self._read_records = read_before
                self._by_duckdb.append(path)
                return
            except (DuckError, OSError, LogFileError):
                # Reading finds the same records again, in the same order.
                self.unreadable, self._read_records = from_before, read_before
        for record in self._read(path):
            if self._filters.matches(record):
                given -= 1
                if given < 0:
                    yield record

    def _group_by_duckdb(self, path: Path, duck: Duck, fields: Values, counts: Counter[Values]) -> bool:
        from otelog.cli.search.duck import DuckError

        try:
            with _unpacked(path) as plain:
                certain, lines = duck.group(plain)
        except (DuckError, OSError, LogFileError):
            return False
        counts.update(certain)
        read_before = self._read_records
        records = (record for line in lines for record in self._take(line.encode()))
        counts.update(count_by((record for record in records if self._filters.matches(record)), fields))
        self._read_records = read_before
        self._by_duckdb.append(path)
        return True

    def _read(self, path: Path) -> Iterator[Record]:
        try:
            with open_file(path) as file:
                for line in file:
                    yield from self._take(line)
        except READ_ERRORS as error:
            raise LogFileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error

    def _match_many(self, path: Path) -> bool:
        if not self._duckdb_from_bytes:
            return False
        try:
            with open_file(path) as file:
                records = [record for line in islice(file, SAMPLED_LINES) for record in read_line(line) or ()]
        except READ_ERRORS:
            return False
        matching = sum(map(self._filters.matches, records))
        return matching > MOST_MATCHING * len(records)

    def _take(self, line: bytes) -> list[Record]:
        records = read_line(line)
        if records is None:
            self.unreadable += 1
            return []
        self._read_records += len(records)
        return records

    def _make_duck(self, fields: Values) -> Duck | None:
        if self._duckdb_from_bytes is None:
            return None
        if not any(_size_of(path) >= self._duckdb_from_bytes for path in self._paths):
            return None
        try:
            from otelog.cli.search.duck import Duck, DuckError
        except ImportError:
            return None
        try:
            return Duck(self._filters, fields)
        except DuckError:
            return None

    def _is_for_duckdb(self, path: Path) -> bool:
        if self._duckdb_from_bytes is None or _size_of(path) < self._duckdb_from_bytes:
            return False
        if path.suffix == ".zst" and zstandard is None:
            return False
        try:
            with open_file(path) as file:
                head = file.read(_HEAD_BYTES)
        except READ_ERRORS:
            return False
        # The Collector's documents and older lines are all for reading.
        return head.startswith((b'{"timestamp":', b'{"timestamp" :')) and b'"severity_number"' not in head


def count_by(records: Iterable[Record], fields: Values) -> Counter[Values]:
    """Returns how many records there are, by the text of their fields."""
    return Counter(_values(record, fields) for record in records)


def _values(record: Record, fields: Values) -> Values:
    return tuple(to_text(value_of(record, field)) for field in fields)


def _where_now(path: Path) -> Path:
    """Returns the packed file that a rotated one has become since it was found."""
    packed = [path.with_name(path.name + suffix) for suffix in (".gz", ".zst")]
    return path if path.exists() else next((one for one in packed if one.exists()), path)


def _count_lines(path: Path) -> int:
    try:
        with open_file(path) as file:
            return sum(1 for line in file if line.strip())
    except READ_ERRORS:
        return 0


def _size_of(path: Path) -> int:
    try:
        size = path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0
    return size * PACKED_RATIO if path.suffix in (".gz", ".zst") else size


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """Give a packed file as one that is not, for as long as it is needed; Python's own readers tell what is damaged."""
    if path.suffix not in (".gz", ".zst"):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="otelog-query-") as folder:
        plain = Path(folder) / "plain.log"
        try:
            with open_file(path) as packed, plain.open("wb") as file:
                shutil.copyfileobj(packed, file, 1024 * 1024)
        except READ_ERRORS as error:
            raise OSError(str(error)) from error
        yield plain
