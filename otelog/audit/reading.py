"""The books, read from the servers of a stack."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from otelog._ledger.counters import BESIDE_COUNTS
from otelog.audit.books import Application, Books, Collector, Exporter, Loki, add_up
from otelog.audit.counters import Key, Numbers, Series, sort_labels
from otelog.audit.exposition import parse
from otelog.audit.files import UNKNOWN_SERVICE, FileCount, name_service
from otelog.audit.http import Client, SourceError
from otelog.audit.prometheus import read_history

LOKI_WINDOW_NS = 30 * 86400 * 10**9
"""How far it is counted back where no beginning is given: Loki's own limit for a query is a day more than that."""

FUTURE_NS = 600 * 10**9
"""Records may be so far ahead of the clock. Source: Loki's limit `creation_grace_period`."""

OTLP_PORTS = frozenset({"4317", "4318"})
"""Where a Collector listens, if nobody says otherwise."""

_CREATED = "otel_sdk_log_created_total"
_EXPORTED = "otel_sdk_exporter_log_exported_total"
_IN_FLIGHT = "otel_sdk_exporter_log_inflight"
_QUEUED = "otel_sdk_processor_log_queue_size"
_WAITING = "otelog_log_waiting"
_COUNTED = "otelog_collector_log_records_total"
_BESIDE = {name: f"otelog_log_{name}_total" for name in BESIDE_COUNTS}
_OF_EXPORTER = ("otelog_log_filtered_total", *_BESIDE.values())
_OF_PROCESS = ("otelog_log_refused_total", "otelog_log_removed_total")
APPLICATION_COUNTERS = (_CREATED, _EXPORTED, *_OF_EXPORTER, *_OF_PROCESS, _COUNTED)
APPLICATION_LEVELS = (_IN_FLIGHT, _QUEUED, _WAITING)

_ACCEPTED, _REFUSED, _FAILED = (
    f"otelcol_receiver_{what}_log_records_total" for what in ("accepted", "refused", "failed")
)
_SENT, _SEND_FAILED, _ENQUEUE_FAILED = (
    f"otelcol_exporter_{what}_log_records_total" for what in ("sent", "send_failed", "enqueue_failed")
)
_PASSED = "otelcol_processor_outgoing_items_total"
_UPTIME = "otelcol_process_uptime_seconds_total"
_QUEUE_SIZE = "otelcol_exporter_queue_size"
COLLECTOR_COUNTERS = (_ACCEPTED, _REFUSED, _FAILED, _SENT, _SEND_FAILED, _ENQUEUE_FAILED, _PASSED, _UPTIME)
COLLECTOR_LEVELS = (_QUEUE_SIZE,)

_RECEIVED = "loki_distributor_lines_received_total"
_DISCARDED = "loki_discarded_samples_total"
LOKI_COUNTERS = (_RECEIVED, _DISCARDED)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the books are; None for what is not to be asked.

    Attributes:
        applications: The Collector's endpoint with what the applications have sent.
        collector: The endpoint of its own metrics.
        loki: Loki.
        prometheus: Prometheus.
        folder: The folder of the Collector's files.
        otlp_ports: The ports where the Collector listens, to know a process's exporter by, if it has several.
    """

    applications: str | None = None
    collector: str | None = None
    loki: str | None = None
    prometheus: str | None = None
    folder: Path | None = None
    otlp_ports: frozenset[str] = OTLP_PORTS


@dataclass(slots=True)
class Reading:
    """What was read, and what there is to say of it.

    Attributes:
        books: The figures.
        missing: The sources that could not be read, with the reason; by the name of their attribute in `Sources`.
        stale: Those that do not answer, and whose figures are those of Prometheus's last scrape; with the reason.
        notes: What limits the figures.
    """

    books: Books
    missing: dict[str, str] = field(default_factory=dict)
    stale: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Reader:
    """Read the books as often as wanted. Not thread-safe: one thread at a time.

    Args:
        sources: Where they are.
        since_ns: The beginning of the window, in nanoseconds since 1970; None for all that there is.
        ai_loggers: A regular expression; records of such loggers are in ai_responses.jsonl, too.
        now: The clock, in seconds since 1970.
    """

    def __init__(
        self,
        sources: Sources,
        *,
        since_ns: int | None = None,
        ai_loggers: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._sources = sources
        self._since_ns = since_ns
        self._now = now
        self._clients = {
            name: Client(url)
            for name in ("applications", "collector", "loki", "prometheus")
            if (url := getattr(sources, name))
        }
        self._files = FileCount(sources.folder, since_ns=since_ns, ai_loggers=ai_loggers) if sources.folder else None

    def close(self) -> None:
        """Close the connections. Idempotent."""
        for client in self._clients.values():
            client.close()

    def read_counters(self) -> Reading:
        """Read everything but the files and the count in Loki, which cost most.

        The beginning of the way is read first, so that what is read later is never behind for that alone.
        """
        reading = Reading(Books())
        applications = self._read_numbers("applications", APPLICATION_COUNTERS, APPLICATION_LEVELS, reading)
        if applications is not None:
            reading.books = replace(
                reading.books,
                applications=_find_applications(applications, self._sources),
                counted=_find_counts(applications),
            )
        if (collector := self._read_numbers("collector", COLLECTOR_COUNTERS, COLLECTOR_LEVELS, reading)) is not None:
            reading.books = replace(reading.books, collector=_find_collector(collector, applications))
        if (loki := self._read_numbers("loki", LOKI_COUNTERS, (), reading)) is not None:
            reading.books = replace(reading.books, loki=_find_loki(loki))
        return reading

    def read_records(self, reading: Reading, progress: Callable[[int], None] = lambda _: None) -> None:
        """Add what Loki holds, and the records in the files.

        Args:
            reading: What was read of the counters just before.
            progress: Called with each further stretch's bytes of the files.
        """
        if "loki" in self._clients and "loki" not in reading.missing:
            try:
                held = self._count_in_loki(self._clients["loki"])
                reading.books = replace(reading.books, loki=replace(reading.books.loki or Loki(), held=held))
            except SourceError as error:
                reading.missing["loki"] = str(error)
        if self._files is not None:
            try:
                reading.books = replace(reading.books, files=self._files.read_on(progress))
            except OSError as error:
                reading.missing["folder"] = f"{self._sources.folder}: {error.strerror or error}"

    def size_bytes(self) -> int:
        """Returns how much there is to read of the files. Never raises."""
        try:
            return self._files.size_bytes() if self._files else 0
        except OSError:
            return 0

    def _read_numbers(
        self, source: str, counters: tuple[str, ...], levels: tuple[str, ...], reading: Reading
    ) -> Numbers | None:
        now = self._now()
        since = None if self._since_ns is None else self._since_ns / 1e9
        series: dict[Key, Series] = {}
        known = False
        if "prometheus" in self._clients and "prometheus" not in reading.missing:
            try:
                for key, histories in read_history(self._clients["prometheus"], counters, since=since, now=now).items():
                    series.setdefault(key, Series()).histories = histories
                    known = True
            except SourceError as error:
                reading.missing["prometheus"] = str(error)
        if source not in self._clients:
            return None
        found: dict[Key, float] = {}
        try:
            text = self._clients[source].get("/metrics").decode("utf-8", errors="replace")
            for sample in parse(text, {*counters, *levels}):
                key = (sample.name, sort_labels(sample.labels))
                if sample.name in levels:
                    found[key] = sample.value
                else:
                    series.setdefault(key, Series()).live = sample.value
        except SourceError as error:
            if not known:
                reading.missing[source] = str(error)
                return None
            reading.stale[source] = (
                f"{error}: its figures are those of the last scrape; what came later, or waits there, is not seen"
            )
        else:
            if not known and series and "prometheus" in self._clients and "prometheus" not in reading.missing:
                reading.notes.append(
                    f"Prometheus has not scraped the {source} yet: what was counted before a restart is not seen"
                )
        numbers = Numbers({key: one.add_up() for key, one in series.items()}, found)
        self._note_limits(source, numbers, reading)
        return numbers

    def _note_limits(self, source: str, numbers: Numbers, reading: Reading) -> None:
        whose = {"applications": "the Collector's counts or a ledger", "collector": "the Collector", "loki": "Loki"}[
            source
        ]
        if times := numbers.reset_times():
            when = ", ".join(datetime.fromtimestamp(at, timezone.utc).strftime("%H:%M:%S") for at in times if at)
            reading.notes.append(
                f"{whose} began again {len(times)} time{'s' if len(times) > 1 else ''}"
                f"{f' (last scraped before that at {when} UTC)' if when else ''}:"
                " what it counted between that scrape and its end is not known"
            )
        if (border := numbers.border()) > 0:
            reading.notes.append(
                f"{source}: up to {border:,} came between the two scrapes around the beginning of the window,"
                " and may belong to either side"
            )

    def _count_in_loki(self, client: Client) -> dict[str, int]:
        end_ns = int(self._now() * 1e9) + FUTURE_NS
        since_ns = end_ns - LOKI_WINDOW_NS if self._since_ns is None else self._since_ns
        # A range is in whole milliseconds, and both its ends are in it, as Loki 3.7 counts.
        window_ms = max(1, -(-(end_ns - since_ns) // 10**6))
        end_ns = since_ns + window_ms * 10**6
        counted = f'count_over_time({{service_name=~".+"}}[{window_ms}ms])'
        query = f"sum by (service_name, service_namespace) ({counted})"
        held: Counter[str] = Counter()
        for one in client.get_data("/loki/api/v1/query", {"query": query, "time": str(end_ns)}):
            labels = one["metric"]
            held[name_service(labels.get("service_name"), labels.get("service_namespace"))] += int(
                float(one["value"][1])
            )
        return dict(held)


def _find_applications(numbers: Numbers, sources: Sources) -> tuple[Application, ...]:
    processes = {_identify(labels) for labels, _ in numbers.find(_CREATED)}
    return tuple(_find_application(numbers, process, sources) for process in sorted(processes))


def _identify(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels.get("job", UNKNOWN_SERVICE), labels.get("instance", "")


def _find_application(numbers: Numbers, process: tuple[str, str], sources: Sources) -> Application:
    def own(found: Iterable[tuple[Mapping[str, str], int]]) -> list[tuple[Mapping[str, str], int]]:
        return [(labels, n) for labels, n in found if _identify(labels) == process]

    exported = own(numbers.find(_EXPORTED))
    chosen = _choose_exporter(exported, sources.otlp_ports)

    def of_exporter(found: Iterable[tuple[Mapping[str, str], int]]) -> int:
        return sum(n for labels, n in own(found) if labels.get("otel_component_name") == chosen)

    dropped: Counter[str] = Counter()
    delivered = 0
    for labels, n in exported:
        if labels.get("otel_component_name") != chosen:
            continue
        if why := labels.get("error_type"):
            dropped[why] += n
        else:
            delivered += n
    return Application(
        service=process[0],
        instance=process[1],
        created=sum(n for _, n in own(numbers.find(_CREATED))),
        refused=_by_reason(own(numbers.find("otelog_log_refused_total"))),
        queued=sum(n for _, n in own(numbers.find_levels(_QUEUED))),
        removed=_by_reason(own(numbers.find("otelog_log_removed_total"))),
        filtered=of_exporter(numbers.find("otelog_log_filtered_total")),
        exported=delivered,
        dropped=dict(+dropped),
        waiting=of_exporter(numbers.find_levels(_WAITING)),
        in_flight=of_exporter(numbers.find_levels(_IN_FLIGHT)),
        **{name: of_exporter(numbers.find(counter)) for name, counter in _BESIDE.items()},
    )


def _choose_exporter(exported: list[tuple[Mapping[str, str], int]], ports: frozenset[str]) -> str | None:
    """The name of the exporter that sends to the Collector; of several that may be it, the one with most records."""
    delivered = {labels.get("otel_component_name"): n for labels, n in exported if "error_type" not in labels}
    every = [labels for labels, _ in exported]
    there = [labels for labels in every if labels.get("server_port") in ports]
    otlp = [labels for labels in every if "otlp" in labels.get("otel_component_type", "").lower()]
    names = {labels.get("otel_component_name") for labels in there or otlp or every}
    return max(names, key=lambda name: (delivered.get(name, 0), name or ""), default=None)


def _by_reason(found: Iterable[tuple[Mapping[str, str], int]]) -> dict[str, int]:
    return {why: n for why, n in add_up({labels.get("reason", ""): n} for labels, n in found).items() if n}


def _find_counts(numbers: Numbers) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for labels, n in numbers.find(_COUNTED):
        counts.setdefault(labels.get("job", UNKNOWN_SERVICE), Counter())[labels.get("severity", "")] += n
    return {service: dict(by) for service, by in counts.items()}


def _find_collector(numbers: Numbers, counts: Numbers | None) -> Collector:
    def total(name: str) -> int:
        return sum(n for _, n in numbers.find(name))

    def by(label: str, found: Iterable[tuple[Mapping[str, str], int]]) -> dict[str, int]:
        return add_up({labels.get(label, ""): n} for labels, n in found)

    sent, failed = by("exporter", numbers.find(_SENT)), by("exporter", numbers.find(_SEND_FAILED))
    late, queued = by("exporter", numbers.find(_ENQUEUE_FAILED)), by("exporter", numbers.find_levels(_QUEUE_SIZE))
    names = {*sent, *failed, *late, *queued}
    logs = [(labels, n) for labels, n in numbers.find(_PASSED) if labels.get("otel_signal", "logs") == "logs"]
    return Collector(
        accepted=total(_ACCEPTED),
        refused=total(_REFUSED),
        failed=total(_FAILED),
        exporters={
            name: Exporter(sent.get(name, 0), failed.get(name, 0), late.get(name, 0), queued.get(name, 0))
            for name in names
        },
        passed=by("processor", logs),
        restarts=max(numbers.resets(), _count_resets(counts)),
    )


def _count_resets(numbers: Numbers | None) -> int:
    """How often the counts by service began again, which are the Collector's, too."""
    if numbers is None:
        return 0
    return max((len(one.resets) for (name, _), one in numbers.counters.items() if name == _COUNTED), default=0)


def _find_loki(numbers: Numbers) -> Loki:
    return Loki(
        received=sum(n for _, n in numbers.find(_RECEIVED)),
        discarded=add_up({labels.get("reason", ""): n} for labels, n in numbers.find(_DISCARDED)),
        restarts=numbers.resets(),
    )
