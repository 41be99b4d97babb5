"""Files of several processes, read beside each other: their records in the order of their times."""

from __future__ import annotations

import heapq
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from otelog.cli.show.filters import LONG_AGO, Record, moment_of
from otelog.sinks._names import parse_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    Read = Callable[[Sequence[int]], Iterator[tuple[int, Record]]]

MOST_BESIDE = 32
"""Processes with files of their own that are read beside each other, a file of each; more are read one by one."""


def read_beside(paths: Sequence[Path], read: Read) -> Iterator[Record]:
    """Returns the records of files in the order of the files, and those of several processes by their times.

    A file's own lines stay in their order.

    Args:
        paths: The files, those of each process oldest first.
        read: Returns, for the places of some files among `paths`, their records one after the other, each with the
            place of its file.
    """
    writers: dict[tuple[Path, str], list[int]] = {}
    for at, path in enumerate(paths):
        ours = parse_name(path.name)
        writers.setdefault((path.parent, ours.owner) if ours else (Path(), ""), []).append(at)
    if 1 < len(writers) <= MOST_BESIDE:
        found = heapq.merge(*(_add_keys(read(places)) for places in writers.values()), key=itemgetter(0))
        return (record for _, record in found)
    return (record for _, record in read(range(len(paths))))


def _add_keys(found: Iterator[tuple[int, Record]]) -> Iterator[tuple[tuple[datetime, int], Record]]:
    """Returns records with what they are sorted by: their times, and then their files."""
    last = LONG_AGO
    for at, record in found:
        last = moment_of(record) or last
        yield (last, at), record
