"""The client: questions to Loki, page by page, and what comes in."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from otelog._runtime.shown_text import hide_secrets
from otelog.exceptions import ConfigurationError
from otelog.loki._pages import Entry, Pages, read_streams

try:
    from otelog.loki._http import LokiError, LokiHttp
except ModuleNotFoundError as error:
    if error.name != "urllib3":
        raise
    raise ImportError("otelog.loki needs urllib3: python -m pip install 'otelog[loki]'") from error

if TYPE_CHECKING:
    from otelog.loki._tail import Tail

__all__ = ["Entry", "LokiClient", "LokiError", "Sample"]

DEFAULT_TIMEOUT = 30.0
"""Seconds for one question to Loki; a long answer is several questions."""

_MS = 1_000_000
_TOO_MANY_SERIES = "maximum number of series"
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_PATH = "/loki/api/v1"


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric query, and the labels it is for."""

    labels: Mapping[str, str]
    value: float


class LokiClient:
    """Asks one Loki.

    Args:
        url: Where it is, such as ``http://localhost:3100``.
        timeout: Seconds for one question.
        headers: Sent with each question, such as an ``Authorization``.
        tenant: The ``X-Scope-OrgID`` of a Loki with several tenants.

    No proxy is used, whatever the environment says; redirects are refused; answers are read up to 64 MiB.

    Raises:
        ConfigurationError: An argument cannot be used. LokiError: from the methods, where there is no answer to use.

    Thread safety: any thread may call anything; an iterator is for one thread.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        headers: Mapping[str, str] | None = None,
        tenant: str | None = None,
    ) -> None:
        self._http = LokiHttp(url, timeout=timeout, headers=headers, tenant=tenant)

    @property
    def url(self) -> str:
        """Where the Loki is, without a last slash."""
        return self._http.url

    def __enter__(self) -> LokiClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the connections go; idempotent. Tails are closed on their own."""
        self._http.close()

    def is_ready(self) -> bool:
        """Returns whether Loki takes questions. Never raises."""
        return self._http.is_ready()

    def query_range(
        self,
        query: str,
        *,
        start: int,
        end: int,
        limit: int | None = None,
        direction: Literal["backward", "forward"] = "backward",
    ) -> Iterator[Entry]:
        """Returns the entries of a time, read from Loki as they are taken.

        None is lost and none comes twice, however many there are, as long as nothing is added to that time meanwhile.
        Entries of one nanosecond may come in any order.

        Args:
            query: LogQL that gives lines: ``{service_name="checkout"} |= "paid"``.
            start: Nanoseconds; included.
            end: Nanoseconds; not included.
            limit: How many at most; None: all of them.
            direction: "backward": the latest first.

        Raises:
            LokiError: When the entries are taken.
        """
        if direction not in ("backward", "forward"):
            raise ConfigurationError(f"direction is {direction!r}; allowed are backward and forward")
        return Pages(self._fetch).read(query, start, end, forward=direction == "forward", limit=limit)

    def query_instant(self, query: str, *, time: int | None = None) -> list[Sample]:
        """Ask a metric query for its values at one moment.

        A range ``[5m]`` is five minutes up to and with that moment: its first nanosecond is not in it.

        Args:
            query: LogQL that gives numbers: ``sum by (service_name) (count_over_time({…}[5m]))``.
            time: Nanoseconds; None: now.

        Raises:
            LokiError: Loki refused or did not answer, or the query gives lines.
        """
        data = self._http.get_json(f"{_PATH}/query", {"query": query, "time": time})
        try:
            if data["resultType"] == "scalar":
                return [Sample({}, float(data["result"][1]))]
            if data["resultType"] != "vector":
                raise LokiError(f"a metric query is needed here, and this one gives {data['resultType']}: {query}")
            return [Sample(one["metric"], float(one["value"][1])) for one in data["result"]]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise self._no_answer() from error

    def count(self, query: str, *, start: int, end: int) -> int:
        """Returns how many entries Loki counts from `start` up to, but not including, `end`; to the nanosecond.

        Of entries that came twice, as in a request that was sent again, Loki may keep and count both, though
        `query_range` gives one.

        Raises:
            LokiError: Loki refused or did not answer.
        """
        return self.count_by(query, (), start=start, end=end)[()]

    def count_by(self, query: str, labels: Sequence[str], *, start: int, end: int) -> Counter[tuple[str, ...]]:
        """Returns how many entries there are by the values of labels or of structured metadata.

        Args:
            query: LogQL that gives lines.
            labels: Their names as Loki has them (``service_name``); where an entry lacks one, its value is "".
            start: Nanoseconds; included.
            end: Nanoseconds; not included.

        Raises:
            ConfigurationError: What is asked for cannot be a label's name.
            LokiError: Loki refused or did not answer.
        """
        for name in labels:
            if not _LABEL_NAME.fullmatch(name):
                raise ConfigurationError(f"{name!r} is no name of a label")
        counts: Counter[tuple[str, ...]] = Counter()
        if start >= end:
            return counts
        # A range is in whole milliseconds, and without its first nanosecond; what is over is counted one by one.
        milliseconds, over = divmod(end - start, _MS)
        rest = [(start, start + over)]
        if milliseconds:
            grouping = f"sum by ({', '.join(labels)})" if labels else "sum"
            metric = f"{grouping} (count_over_time({query}\n[{milliseconds}ms]))"
            try:
                for sample in self.query_instant(metric, time=end - 1):
                    counts[tuple(sample.labels.get(name, "") for name in labels)] += round(sample.value)
            except LokiError as error:
                if _TOO_MANY_SERIES not in error.detail:
                    raise
                counts.clear()
                rest = [(start, end)]
        for since, until in rest:
            for entry in self.query_range(query, start=since, end=until, direction="forward"):
                held = {**entry.labels, **entry.metadata, **entry.parsed}
                counts[tuple(held.get(name, "") for name in labels)] += 1
        return counts

    def labels(self, *, start: int | None = None, end: int | None = None) -> list[str]:
        """Returns the names of the streams' labels, sorted; by default those of the last hours.

        Raises:
            LokiError: Loki refused or did not answer.
        """
        names = self._http.get_json(f"{_PATH}/labels", {"start": start, "end": end})
        return sorted(name for name in names or () if not name.startswith("__"))

    def tail(
        self,
        query: str,
        *,
        start: int | None = None,
        delay_for: int = 0,
        limit: int | None = None,
        on_notice: Callable[[str], object] | None = None,
    ) -> Tail:
        """Follow a query: what is there from `start` on, and then what comes.

        Loki's live stream alone loses entries when many come at once, and when the connection is cut. So this counts
        what Loki holds every few seconds and asks for what did not come: late, then, and so not in the order of time.

        Args:
            query: LogQL that gives lines.
            start: Nanoseconds; None: from now on.
            delay_for: Seconds, up to 5, that Loki waits for slow senders.
            limit: How many entries of the past at most, the latest.
            on_notice: Called with a sentence when entries were dropped or the connection was lost, by the thread that
                takes the entries.

        Returns:
            The tail, to iterate over and to close.

        Raises:
            ConfigurationError: ``websockets`` is missing, or a value cannot be used.
            LokiError: Loki refused or is not there; later only if it refuses.
        """
        try:
            from otelog.loki._tail import Tail
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "websockets":
                raise
            raise ConfigurationError("a live tail needs websockets: python -m pip install 'otelog[loki]'") from error
        return Tail(
            self._http,
            self,
            query,
            start=start,
            delay_for=delay_for,
            limit=limit,
            on_notice=on_notice or (lambda _: None),
        )

    def _fetch(self, query: str, start: int, end: int, limit: int, forward: bool) -> tuple[list[Entry], int]:
        data, size = self._http.ask(
            f"{_PATH}/query_range",
            {
                "query": query,
                "start": start,
                "end": end,
                "limit": limit,
                "direction": "forward" if forward else "backward",
            },
        )
        try:
            if data["resultType"] != "streams":
                raise LokiError(f"a query that gives lines is needed here, and this one gives numbers: {query}")
            entries = list(read_streams(data["result"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._no_answer() from error
        entries.sort(key=lambda entry: entry.timestamp_ns, reverse=not forward)
        return entries, size

    def _no_answer(self) -> LokiError:
        return LokiError(f"{hide_secrets(self.url)} answered what is no answer of Loki's: is this its address?")
