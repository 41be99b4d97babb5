"""A live tail of Loki's over its websocket, made complete by asking for what did not come.

Loki sends what comes in, as long as its small buffers last: of a burst it drops most, and tells of some of it only. So
every few seconds the entries of the last half minute are counted and, where Loki holds more than came, asked for. The
same makes up for a connection that was cut.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from otelog._runtime.retry import Backoff
from otelog.exceptions import ConfigurationError
from otelog.loki._http import LokiError, LokiHttp
from otelog.loki._pages import MOST_ENTRIES, Entry, read_streams

if TYPE_CHECKING:
    from types import TracebackType

SWEEP_INTERVAL = 5.0
"""Seconds between two counts of what Loki holds."""

SETTLE_SECONDS = 2.0
"""What is younger than this may still be on its way."""

LOOKBACK_SECONDS = 30.0
"""How much is counted again: entries that came late are among it."""

MOST_SEEN = 500_000
"""Entries that are remembered as given; where the last half minute has more, less than that is counted again."""

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
MAX_DELAY = 5
CONNECT_TIMEOUT = 5.0
CLOSE_TIMEOUT = 1.0

_MS = 1_000_000
_SECOND = 1_000_000_000
_BACKLOG_ENTRIES = 1000


class Reader(Protocol):
    """As much of `otelog.loki.client.LokiClient` as is needed here: what Loki holds, asked for."""

    def count(self, query: str, *, start: int, end: int) -> int:
        """Returns how many entries there are from `start` up to, but not including, `end`."""

    def query_range(
        self,
        query: str,
        *,
        start: int,
        end: int,
        limit: int | None = None,
        direction: Literal["backward", "forward"] = "backward",
    ) -> Iterator[Entry]:
        """Returns the entries of a time."""


class Tail:
    """The entries of a query as they come; iterate over it, or call `poll`, and close it. See `LokiClient.tail`.

    Two entries that are equal in time, line, labels and metadata are given once, as Loki keeps them once.

    Thread safety: for one thread; `close` may be called by any.
    """

    def __init__(
        self,
        http: LokiHttp,
        reader: Reader,
        query: str,
        *,
        start: int | None,
        delay_for: int,
        limit: int | None,
        on_notice: Callable[[str], object],
    ) -> None:
        if not 0 <= delay_for <= MAX_DELAY:
            raise ConfigurationError(f"delay_for is {delay_for!r}; allowed are 0 to {MAX_DELAY} seconds")
        self.dropped = 0
        """Entries that Loki reported as left out; all of them are asked for afterwards."""
        self.recovered = 0
        """Entries that did not come by themselves and were asked for."""
        self.reconnects = 0
        """Connections after the first."""
        self._http = http
        self._reader = reader
        self._query = query
        self._delay_for = delay_for
        self._on_notice = on_notice
        self._closing = threading.Event()
        self._backoff = Backoff()
        self._failures = 0
        self._retry_at = 0.0
        self._told_lost = self._told_dropped = False
        # When the entries that are given were, by their keys' hashes: whole keys would be whole lines.
        self._seen: dict[int, int] = {}
        now = time.time_ns()
        self._floor = _round_up(now if start is None else start)
        """Nothing before this is asked for: a whole millisecond, because counts are of those."""
        self._complete_to = self._floor
        self._backlog: Iterator[Entry] | None = None if start is None else self._read_history(start, now, limit)
        self._sweep_at = time.monotonic() + SETTLE_SECONDS + delay_for
        self._connection: ClientConnection | None = self._connect()

    def __enter__(self) -> Tail:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Entry]:
        while not self._closing.is_set():
            yield from self.poll(1.0)

    def close(self) -> None:
        """End the connection, and a `poll` of another thread with it; idempotent."""
        self._closing.set()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def poll(self, timeout: float) -> list[Entry]:
        """Returns what has come, after waiting for it at most so many seconds; an answer of Loki's may take longer.

        Raises:
            LokiError: Loki refuses the query.
        """
        found = self._take_backlog()
        if self._closing.is_set():
            return found
        if self._connection is None:
            self._reconnect(0.0 if found else timeout)
        if self._connection is not None:
            found += self._receive(0.0 if found or self._backlog is not None else timeout)
        if self._backlog is None and time.monotonic() >= self._sweep_at:
            self._begin_sweep()
        return found

    # The connection.

    def _connect(self) -> ClientConnection:
        parameters = {
            "query": self._query,
            # Its past, Loki sends incompletely: that is asked for elsewhere.
            "start": time.time_ns(),
            "delay_for": self._delay_for,
            "limit": MOST_ENTRIES,
        }
        scheme, _, rest = self._http.url.partition(":")
        url = f"{'wss' if scheme == 'https' else 'ws'}:{rest}/loki/api/v1/tail?{urlencode(parameters)}"
        agent = {"user_agent_header": self._http.headers["User-Agent"]}
        try:
            return connect(
                url,
                additional_headers={name: value for name, value in self._http.headers.items() if name != "User-Agent"},
                **agent,  # type: ignore[arg-type]
                proxy=None,
                open_timeout=CONNECT_TIMEOUT,
                close_timeout=CLOSE_TIMEOUT,
                max_size=MAX_MESSAGE_BYTES,
            )
        except InvalidStatus as error:
            self._refuse(error)
        except (OSError, WebSocketException) as error:
            raise self._http.explain(error) from error

    def _refuse(self, error: InvalidStatus) -> NoReturn:
        self._http.refuse(error.response.status_code, bytes(error.response.body or b""))

    def _reconnect(self, timeout: float) -> None:
        wait = self._retry_at - time.monotonic()
        if wait > 0.0:
            self._closing.wait(min(wait, timeout))
            if wait > timeout:
                return
        if self._closing.is_set():
            return
        try:
            self._connection = self._connect()
        except LokiError as error:
            if not error.passing:
                raise
            self._lose(str(error))
            return
        if self._closing.is_set():
            self.close()
            return
        self.reconnects += 1
        # What came meanwhile, soon.
        self._sweep_at = time.monotonic() + SETTLE_SECONDS
        if self._told_lost:
            self._told_lost = False
            self._on_notice("connected to Loki again; what came meanwhile follows")

    def _lose(self, cause: str) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._retry_at = time.monotonic() + self._backoff.delay(self._failures, random.random())
        self._failures += 1
        if not self._told_lost:
            self._told_lost = True
            self._on_notice(f"the live stream has ended ({cause}); trying again")

    def _receive(self, timeout: float) -> list[Entry]:
        connection = self._connection
        if connection is None:
            return []
        try:
            message = connection.recv(timeout=timeout)
        except TimeoutError:
            return []
        except ConnectionClosed as error:
            if not self._closing.is_set():
                self._lose(str(error))
            return []
        try:
            document: dict[str, Any] = json.loads(message)
            entries = list(read_streams(document.get("streams") or ()))
            dropped = len(document.get("dropped_entries") or ())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._lose("what came is no answer of Loki's")
            return []
        self._failures = 0
        if dropped:
            self.dropped += dropped
            if not self._told_dropped:
                self._told_dropped = True
                self._on_notice("too much for the live stream: Loki has left entries out; they follow")
            self._sweep_at = min(self._sweep_at, time.monotonic() + SETTLE_SECONDS)
        return [entry for entry in entries if self._is_new(entry)]

    # What did not come by itself.

    def _read_history(self, start: int, end: int, limit: int | None) -> Iterator[Entry]:
        if limit is None:
            yield from self._reader.query_range(self._query, start=start, end=end, direction="forward")
        else:
            latest = list(self._reader.query_range(self._query, start=start, end=end, limit=limit))
            if len(latest) == limit:
                # What is older is not wanted.
                self._floor = max(self._floor, _round_up(latest[-1].timestamp_ns if latest else end))
            yield from reversed(latest)
        self._complete_to = _round_up(end)

    def _take_backlog(self) -> list[Entry]:
        if self._backlog is None:
            return []
        try:
            found = list(islice(self._backlog, _BACKLOG_ENTRIES))
        except LokiError as error:
            # The next sweep begins where the last whole one has ended.
            self._backlog = None
            if not error.passing:
                raise
            self._retry_sweep()
            return []
        if len(found) < _BACKLOG_ENTRIES:
            self._backlog = None
        return [entry for entry in found if self._is_new(entry)]

    def _begin_sweep(self) -> None:
        self._sweep_at = time.monotonic() + SWEEP_INTERVAL
        self._backlog = self._sweep()

    def _sweep(self) -> Iterator[Entry]:
        end = time.time_ns() - int((SETTLE_SECONDS + self._delay_for) * _SECOND)
        end -= end % _MS
        start = max(self._floor, self._complete_to - int(LOOKBACK_SECONDS * _SECOND))
        if start >= end:
            return
        for entry in self._find_missing(start, end):
            self.recovered += 1
            yield entry
        self._complete_to = max(self._complete_to, end)
        self._told_dropped = False
        self._forget()

    def _find_missing(self, start: int, end: int) -> Iterator[Entry]:
        times = [(start, end)]
        while times:
            since, until = times.pop()
            seen = sum(since <= timestamp < until for timestamp in self._seen.values())
            held = self._reader.count(self._query, start=since, end=until)
            if held <= seen:
                continue
            middle = (since + until) // 2 // _MS * _MS
            if held > MOST_ENTRIES and since < middle:
                # Where only some are missing, only those are asked for; the earlier ones first.
                times += [(middle, until), (since, middle)]
                continue
            for entry in self._reader.query_range(self._query, start=since, end=until, direction="forward"):
                if hash(entry.key) not in self._seen:
                    yield entry

    def _retry_sweep(self) -> None:
        self._sweep_at = time.monotonic() + self._backoff.delay(self._failures, random.random())

    def _is_new(self, entry: Entry) -> bool:
        key: Hashable = entry.key
        if hash(key) in self._seen:
            return False
        self._seen[hash(key)] = entry.timestamp_ns
        return True

    def _forget(self) -> None:
        oldest = self._complete_to - int(LOOKBACK_SECONDS * _SECOND)
        if len(self._seen) > MOST_SEEN:
            oldest = max(oldest, sorted(self._seen.values())[-MOST_SEEN // 2])
        self._floor = max(self._floor, _round_up(oldest))
        self._seen = {key: timestamp for key, timestamp in self._seen.items() if timestamp >= self._floor}


def _round_up(moment: int) -> int:
    return -(-moment // _MS) * _MS
