"""All entries of a time, read a page at a time: none lost and none twice, whatever falls on a page's border.

Loki gives the first (or last) so many entries of a time, and a page's last nanosecond may go on behind it. So the next
page begins with that nanosecond again, and as many entries as were there before are left out. Where one nanosecond has
more entries than a page, it is asked for in parts: by what the lines begin with, or by a label. No I/O of its own.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from otelog.loki._http import LokiError, TooLargeError, TooManyEntriesError

MOST_ENTRIES = 5000
"""Entries of a page; Loki's own limit unless it is configured otherwise."""

FIRST_ENTRIES = 1000
PAGE_BYTES = 2 * 1024 * 1024
"""About how large a page may be: a Loki with default settings cannot send more than 4 MB."""

_MAX_REPEAT = 1000
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of Loki's.

    Args:
        timestamp_ns: Nanoseconds since 1970.
        line: The line.
        labels: The stream's labels.
        metadata: Structured metadata: what the record had besides.
        parsed: What the query itself has found in the line (``| json`` and the like).

    The mappings are shared and must not be changed.
    """

    timestamp_ns: int
    line: str
    labels: Mapping[str, str]
    metadata: Mapping[str, str] = field(default_factory=dict)
    parsed: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> Hashable:
        """What two entries have in common only if they are the same to Loki."""
        return (
            self.timestamp_ns,
            self.line,
            frozenset(self.labels.items()),
            frozenset(self.metadata.items()),
            frozenset(self.parsed.items()),
        )


Fetch = Callable[[str, int, int, int, bool], "tuple[list[Entry], int]"]
"""Asks for a page: query, start (included), end (not), limit, whether the oldest come first. Returns the entries in
that order, and the size of the answer in bytes."""


class Pages:
    """Reads all entries of a time.

    Args:
        fetch: Asks for a page.

    Thread safety: for one thread.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._most = MOST_ENTRIES
        self._limit = FIRST_ENTRIES

    def read(self, query: str, start: int, end: int, *, forward: bool, limit: int | None = None) -> Iterator[Entry]:
        """Returns the entries from `start` up to, but not including, `end`, in their order.

        Those of one nanosecond may come in any order.

        Args:
            query: LogQL that gives lines.
            start: Nanoseconds since 1970.
            end: Likewise.
            forward: Whether the oldest come first.
            limit: How many at most.

        Raises:
            LokiError: Loki refused, did not answer, or has more entries of one nanosecond than it can give.
        """
        found = self._read(query, start, end, forward, limit)
        if limit is None:
            yield from found
            return
        for _, entry in zip(range(limit), found, strict=False):
            yield entry

    def _read(self, query: str, start: int, end: int, forward: bool, limit: int | None) -> Iterator[Entry]:
        given: Counter[Hashable] = Counter()
        rest = limit
        while start < end:
            # Of a page, those that were given already are not new.
            page, full = self._ask(query, start, end, forward, None if rest is None else rest + given.total())
            if not full:
                yield from _without(page, given)
                return
            last = page[-1].timestamp_ns
            if page[0].timestamp_ns == last:
                fresh: Iterable[Entry] = _without(self._read_moment(query, last, forward), given)
                given = Counter()
                start, end = (last + 1, end) if forward else (start, last)
            else:
                fresh = _without(page, given)
                given = Counter(entry.key for entry in page if entry.timestamp_ns == last)
                start, end = (last, end) if forward else (start, last + 1)
            for entry in fresh:
                if rest is not None:
                    rest -= 1
                yield entry

    def _read_moment(self, query: str, moment: int, forward: bool) -> Iterator[Entry]:
        parts = [query]
        while parts:
            part = parts.pop()
            self._limit = self._most
            page, full = self._ask(part, moment, moment + 1, forward, None)
            if full:
                parts += split(part, page)
            else:
                yield from page

    def _ask(self, query: str, start: int, end: int, forward: bool, wanted: int | None) -> tuple[list[Entry], bool]:
        """Returns a page, and whether there may be more."""
        while True:
            limit = self._limit if wanted is None else max(1, min(wanted, self._limit))
            try:
                page, size = self._fetch(query, start, end, limit, forward)
            except TooManyEntriesError as error:
                if not 0 < error.most < limit:
                    raise
                self._most = error.most
                self._limit = min(self._limit, self._most)
            except TooLargeError:
                if limit == 1:
                    raise
                self._limit = limit // 2
            else:
                if page:
                    self._limit = max(1, min(self._most, 4 * self._limit, PAGE_BYTES * len(page) // max(size, 1)))
                return page, len(page) >= limit


def split(query: str, entries: list[Entry]) -> list[str]:
    """Split a query in two that together give the same entries, and each at least one of these not.

    Raises:
        LokiError: These entries are all the same.
    """
    if pattern := _find_pattern([entry.line for entry in entries]):
        # On a line of its own: the query may end with a comment.
        return [f"{query}\n|~ {quote(pattern)}", f"{query}\n!~ {quote(pattern)}"]
    labels = [{**entry.labels, **entry.metadata, **entry.parsed} for entry in entries]
    for name in sorted({name for each in labels for name in each if _LABEL_NAME.fullmatch(name)}):
        if pattern := _find_pattern([each.get(name, "") for each in labels]):
            # Of a label the whole value must match.
            whole = quote(pattern if pattern.endswith("$") else f"{pattern}.*")
            return [f"{query}\n| {name}=~{whole}", f"{query}\n| {name}!~{whole}"]
    raise LokiError(
        f"Loki has {len(entries):,} or more entries of the nanosecond {entries[0].timestamp_ns} that are all the same "
        "to this query, and gives no more at a time; raise max_entries_limit_per_query, or leave `line_format` out"
    )


def _find_pattern(texts: list[str]) -> str | None:
    """Returns a regular expression that about half of the texts match, and not all; None if they are all equal."""
    at = _common_length(min(texts), max(texts))
    characters = sorted(text[at : at + 1] for text in texts)
    if characters[0] == characters[-1]:
        return None
    # In the middle, but not the last one: that one must be on the other side.
    middle = characters[len(characters) // 2]
    if middle == characters[-1]:
        middle = max(character for character in characters if character != middle)
    start = f".{{{_MAX_REPEAT}}}" * (at // _MAX_REPEAT) + f".{{{at % _MAX_REPEAT}}}"
    return f"(?s)^{start}" + (f"[\\x{{0}}-\\x{{{ord(middle):x}}}]" if middle else "$")


def _common_length(first: str, last: str) -> int:
    pairs = zip(first, last, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(first), len(last)))


def quote(text: str) -> str:
    """Returns a string of LogQL."""
    return json.dumps(text, ensure_ascii=False)


def _without(entries: Iterable[Entry], given: Counter[Hashable]) -> Iterator[Entry]:
    for entry in entries:
        if given:
            key = entry.key
            if given[key] > 0:
                given[key] -= 1
                continue
        yield entry


def read_streams(streams: Iterable[Mapping[str, Any]]) -> Iterator[Entry]:
    """Read the streams of an answer, whose labels are categorised or not.

    Raises:
        ValueError, TypeError, KeyError: They are not what Loki gives.
    """
    for stream in streams:
        labels = stream["stream"]
        for value in stream["values"]:
            more: Mapping[str, Any] = value[2] if len(value) > 2 else _NOTHING
            yield Entry(
                int(value[0]), value[1], labels, more.get("structuredMetadata", _NOTHING), more.get("parsed", _NOTHING)
            )
