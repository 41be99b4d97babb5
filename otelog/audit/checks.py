"""Whether the books agree, hop by hop: pure, from figures to verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from otelog.audit.books import (
    ERROR_SEVERITIES,
    RETRIED_DISCARDS,
    STREAMS,
    WANTED_REMOVALS,
    Application,
    Books,
    Exporter,
    FileRecords,
    add_up,
)

LOKI_EXPORTER = "otlp_http/loki"
FILE_EXPORTERS = {"app": "file/app", "errors": "file/errors", "ai_responses": "file/ai"}
FILTERS = {"errors": "filter/errors", "ai_responses": "filter/ai"}


def _passed_names() -> list[str]:
    return [f"passed by {name}" for name in FILTERS.values()]


class Kind(Enum):
    """What it means that records are at one side of a hop only."""

    LOST = "lost"
    WANTED = "removed on request"
    ON_THE_WAY = "on the way"
    AGAIN = "came more than once"
    UNSEEN = "could not be counted"


class Verdict(Enum):
    """What is to be thought of a hop, from good to bad."""

    NOT_SEEN = "not seen"
    EQUAL = "equal"
    EXPLAINED = "explained"
    ON_THE_WAY = "on the way"
    UNCERTAIN = "uncertain"
    UNEXPLAINED = "unexplained"

    @property
    def rank(self) -> int:
        """The higher, the worse."""
        return list(Verdict).index(self)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a difference whose cause is known: records missing behind the hop, or too many if below zero."""

    what: str
    count: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Hop:
    """What went in against what came out.

    Attributes:
        name: Where the records go through.
        before: Records at its beginning, with `before_name`; None if not seen.
        after: Records at its end, with `after_name`; None if not seen.
        parts: What of the difference is explained.
        rest: What is not: missing records, or too many if below zero.
        verdict: What to think of it.
        services: The figures before and after by service, where both are known by service.
        service_names: What those figures are.
        hint: What may be the cause of the rest.
    """

    name: str
    before_name: str
    before: int | None
    after_name: str
    after: int | None
    parts: tuple[Part, ...] = ()
    rest: int = 0
    verdict: Verdict = Verdict.NOT_SEEN
    services: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    service_names: tuple[str, str] = ("", "")
    hint: str = ""
    span: bool = False
    """It is the way from end to end once more, past what the other hops have counted already."""

    @property
    def difference(self) -> int | None:
        """What came out more than went in; None if one of them was not seen."""
        return None if self.before is None or self.after is None else self.after - self.before

    def count(self, *kinds: Kind) -> int:
        """Records that are missing behind the hop for such a reason."""
        return sum(part.count for part in self.parts if part.kind in kinds)

    def describe(self) -> str:
        """Say in a sentence what the hop did with the records; empty if all that went in came out."""
        if self.verdict in (Verdict.NOT_SEEN, Verdict.EQUAL) and not self.parts:
            return ""
        parts = () if self.span else self.parts
        said = [f"{part.what}: {_records(abs(part.count))} {part.kind.value}" for part in parts]
        if self.rest:
            which = "missing" if self.rest > 0 else "too many"
            figures = f"{self.before:,} {self.before_name}, {self.after:,} {self.after_name}"
            found = f"{_records(abs(self.rest))} {which} ({figures})"
            if uneven := [name for name, (one, other) in sorted(self.services.items()) if one != other]:
                found += f", of {', '.join(uneven)}"
            said.append(f"{found}; {self.hint}" if self.hint else found)
        return f"{self.name}: {'; '.join(said)}" if said else ""


def find_worst(hops: Iterable[Hop]) -> Verdict:
    """Returns the worst verdict among the hops."""
    return max((hop.verdict for hop in hops), key=lambda verdict: verdict.rank, default=Verdict.NOT_SEEN)


def list_unseen(hops: Iterable[Hop]) -> list[str]:
    """Returns the names of the hops that could not be compared: nothing is known of records lost there."""
    return [hop.name for hop in hops if hop.verdict is Verdict.NOT_SEEN]


def narrow(hops: Iterable[Hop], service: str) -> list[Hop]:
    """Returns one service's hops, and those that nobody has seen; what is only known of all services is left out."""
    return [_narrow(hop, service) for hop in hops if service in hop.services or _is_unseen_of(hop, service)]


def _is_unseen_of(hop: Hop, service: str) -> bool:
    return hop.verdict is Verdict.NOT_SEEN and (
        not hop.name.startswith(_INSIDE) or hop.name in (_INSIDE, f"{_INSIDE} {service}")
    )


def _narrow(hop: Hop, service: str) -> Hop:
    if hop.name.startswith(_INSIDE) or service not in hop.services:
        return hop
    before, after = hop.services[service]
    # What explains the difference of all services together explains that of one.
    bad = before != after and hop.verdict in (Verdict.UNEXPLAINED, Verdict.UNCERTAIN)
    kinds = {part.kind for part in hop.parts}
    why = Part(
        ", ".join(part.what for part in hop.parts),
        before - after,
        Kind.LOST if Kind.LOST in kinds else hop.parts[0].kind if hop.parts else Kind.UNSEEN,
    )
    return replace(
        hop,
        before=before,
        after=after,
        before_name=hop.service_names[0],
        after_name=hop.service_names[1],
        rest=before - after if bad else 0,
        parts=() if bad or before == after else (why,),
        verdict=Verdict.EQUAL if before == after else hop.verdict,
        services={service: (before, after)},
    )


def reconcile(books: Books) -> list[Hop]:
    """Compare each hop's figures with those of the hop before it.

    A figure that only a source has which was not seen is taken from the nearest one before it that was; a hop without
    any is NOT_SEEN, and so is the inside of an application of which there are records, but no ledger. After a restart
    of the Collector or Loki, counters may lack what came after the last scrape: what that makes differ is UNCERTAIN,
    and what the applications exported is compared with what the files and Loki have.
    """
    return _Reconciliation(books).run()


class _Reconciliation:
    """One run over the books; each method is a stretch of the way."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._collector = books.collector
        self._collector_restarts = books.collector.restarts if books.collector else 0
        self._loki_restarts = books.loki.restarts if books.loki else 0
        self._restarted = self._collector_restarts > 0 or self._loki_restarts > 0
        self._counted = (
            None if books.counted is None else {name: sum(by.values()) for name, by in books.counted.items()}
        )
        # Where no ledger has come, nobody knows what was sent: it is not zero.
        self._exported = (
            add_up({one.service: one.exported} for one in books.applications) if books.applications else None
        )
        self._files = self._find_files()
        self._resent = sum(one.resent + one.outcome_unknown for one in books.applications or ())
        # The Collector took these before it found that it had no room for them, and asked the sender to try again.
        self._refused_late = sum(one.enqueue_failed for one in self._exporters().values())

    def run(self) -> list[Hop]:
        hops = [*self._inside_applications(), self._to_collector(), self._to_counts()]
        hops += [self._to_loki_exporter(), self._to_loki(), self._inside_loki(), *self._to_files()]
        if self._restarted:
            hops = [self._doubt(hop) for hop in hops]
            spans = [*self._spans(), *self._between_files()]
            # What went in at one end came out at the other: so it is the counters that lack something.
            if any(span.verdict is not Verdict.NOT_SEEN for span in spans) and all(
                span.verdict is not Verdict.UNEXPLAINED for span in spans
            ):
                hops = [_blame_counters(hop) if hop.verdict is Verdict.UNCERTAIN else hop for hop in hops]
            hops += [span for span in spans if span.verdict is not Verdict.NOT_SEEN]
        return hops

    def _find_files(self) -> Mapping[str, FileRecords] | None:
        """What is in the files; a kind without a file has no records, if there are files at all."""
        files = self._books.files
        if not files and not (files is not None and self._collector is not None and self._collector.accepted == 0):
            return None
        return {**dict.fromkeys(STREAMS, FileRecords()), **files}

    def _exporters(self) -> Mapping[str, Exporter]:
        return self._collector.exporters if self._collector else {}

    def _doubt(self, hop: Hop) -> Hop:
        """Make a difference uncertain that may be due to counters, which lack what came after their last scrape."""
        side = hop.before_name if hop.rest < 0 else hop.after_name
        for who, times, names in (
            ("the Collector", self._collector_restarts, _COLLECTOR_COUNTERS),
            ("Loki", self._loki_restarts, _LOKI_COUNTERS),
        ):
            if hop.rest and times and side in names:
                often = f"{times} times" if times > 1 else "once"
                hint = f"{who} has begun again {often}, and what it counted after its last scrape is not known"
                return replace(hop, verdict=Verdict.UNCERTAIN, hint=hint)
        return hop

    # The stretches, in the order of the way.

    def _inside_applications(self) -> list[Hop]:
        services: dict[str, list[Application]] = {}
        for one in self._books.applications or ():
            services.setdefault(one.service, []).append(one)
        if not services:
            return [Hop(_INSIDE, "created", None, "exported", None)]
        hops = [self._inside_application(name, ledgers) for name, ledgers in sorted(services.items())]
        silent = sorted({name for counts in self._seen_by_service() for name, n in counts.items() if n} - {*services})
        return hops + [Hop(f"{_INSIDE} {name}", "created", None, "exported", None) for name in silent]

    def _inside_application(self, service: str, ledgers: list[Application]) -> Hop:
        parts = [Part(f"refused, {why}", n, Kind.LOST) for why, n in _sorted(one.refused for one in ledgers)]
        parts += [
            Part(f"removed, {why}", n, Kind.WANTED if why in WANTED_REMOVALS else Kind.LOST)
            for why, n in _sorted(one.removed for one in ledgers)
        ]
        parts += [Part(f"dropped, {why}", n, Kind.LOST) for why, n in _sorted(one.dropped for one in ledgers)]
        parts += [
            Part("the exporter's own filter", sum(one.filtered for one in ledgers), Kind.WANTED),
            Part("queued or in flight", sum(one.pending for one in ledgers), Kind.ON_THE_WAY),
        ]
        before, after = sum(one.created for one in ledgers), sum(one.exported for one in ledgers)
        # Each process for itself: one that lacks a record and one that has it twice are two errors.
        wrong = [one.unaccounted for one in ledgers if one.unaccounted]
        rest = sum(wrong) or sum(abs(n) for n in wrong)
        # The instruments are read one after the other, so the ledger of a busy process is not of one moment.
        unsteady = rest and self._books.moving
        if unsteady:
            parts, rest = [*parts, Part("read while it was working", rest, Kind.ON_THE_WAY)], 0
        return _judge(
            Hop(
                f"{_INSIDE} {service}",
                "created",
                before,
                "exported",
                after,
                services={service: (before, after)},
                service_names=("created", "exported"),
            ),
            parts,
            rest,
            hint="its own ledger does not add up",
        )

    def _to_collector(self) -> Hop:
        accepted = self._accepted()
        exported = None if self._exported is None else sum(self._exported.values())
        name = "application -> Collector"
        # However many: a ledger may be as old as the metrics' interval.
        newer = Part("newer than the ledger", _UNBOUNDED if self._books.moving else 0, Kind.ON_THE_WAY)
        if accepted is None or exported is None or self._exported is None:
            return Hop(name, "exported", exported, "accepted", accepted)
        strangers = self._strangers()
        hop = Hop(
            name,
            "exported",
            exported,
            "accepted",
            accepted - strangers,
            service_names=("exported", "counted"),
            services=self._pair_known(self._counted),
        )
        hint = "a running process sends its ledger every minute, a killed one never sent its last"
        if exported > accepted - strangers:
            hint = "the Collector has not got what the application has an answer for"
        return self._compare(hop, surplus=[Part("sent again", self._resent, Kind.AGAIN), newer], hint=hint)

    def _to_counts(self) -> Hop:
        name = "Collector, receiver -> counts"
        accepted = self._collector.accepted if self._collector else None
        counted = None if self._counted is None else sum(self._counted.values())
        hop = Hop(name, "accepted", accepted, "counted", counted)
        return self._compare(
            hop,
            missing=self._newer(),
            surplus=[Part("refused when they had been counted", self._refused_late, Kind.AGAIN), *self._newer()],
        )

    def _to_loki_exporter(self) -> Hop:
        exporter = self._exporters().get(LOKI_EXPORTER)
        done = None if exporter is None else exporter.sent + exporter.failed
        hop = Hop("Collector, receiver -> Loki's exporter", "accepted", self._accepted(), "sent or failed", done)
        queued = exporter.queued if exporter else 0
        return self._compare(
            hop,
            exact=[Part("in its queue", queued, Kind.ON_THE_WAY)],
            missing=self._newer(),
            surplus=self._newer(),
        )

    def _to_loki(self) -> Hop:
        exporter, loki = self._exporters().get(LOKI_EXPORTER), self._books.loki
        done = None if exporter is None else exporter.sent + exporter.failed
        hop = Hop("Loki's exporter -> Loki", "sent or failed", done, "received", loki.received if loki else None)
        return self._compare(
            hop,
            # Whatever a request came to, Loki has counted its lines if it could read it.
            missing=[Part("send_failed, and Loki never read them", exporter.failed if exporter else 0, Kind.LOST)],
            # The Collector has no count of its attempts: each that Loki has read more is one.
            surplus=[*self._newer(), Part("sent again by the Collector", _UNBOUNDED, Kind.AGAIN)],
            hint="Loki says that it never read what it was given",
        )

    def _inside_loki(self) -> Hop:
        loki, exporter = self._books.loki, self._exporters().get(LOKI_EXPORTER)
        name = "in Loki"
        if loki is None or loki.held is None:
            return Hop(name, "received", loki.received if loki else None, "held", None)
        before_name, before = "received", loki.received
        again = 0
        if before is not None and exporter is not None:
            again = max(0, before - exporter.sent - exporter.failed)
        elif before is None and exporter is not None:
            before_name, before = "sent or failed", exporter.sent + exporter.failed
        elif before is None:
            before_name, before = "accepted", self._accepted()
            if before is None and self._exported is not None:
                before_name, before = "exported", sum(self._exported.values())
        parts = [Part(f"discarded, {why}", n, Kind.LOST) for why, n in _final(loki.discarded)]
        retried = [Part(f"discarded, {why}", n, Kind.AGAIN) for why, n in _retried(loki.discarded)]
        if before_name != "received":
            # These have come again, and of what is compared here only the last time counts.
            retried = []
        parts += retried
        twice = again + self._twice_at_collector() - sum(part.count for part in retried)
        held = sum(loki.held.values())
        hop = Hop(
            name,
            before_name,
            before,
            "held",
            held,
            service_names=("counted", "held"),
            services=_pair(self._counted, loki.held),
        )
        failed = exporter.failed if exporter and before_name == "sent or failed" else 0
        hint = "Loki keeps one of equal lines of one nanosecond, but so many were not sent again"
        if before is not None and held > before - sum(part.count for part in parts):
            hint = "it holds more than it says it was given: is the window too long, or was it restarted?"
        return self._compare(
            hop,
            exact=parts,
            missing=[
                Part("equal lines of one nanosecond, kept once", max(0, twice), Kind.AGAIN),
                Part("send_failed, and Loki's metrics were not seen", failed, Kind.LOST),
            ],
            surplus=self._newer(),
            hint=hint,
        )

    def _to_files(self) -> list[Hop]:
        hops = []
        for stream, exporter_name in FILE_EXPORTERS.items():
            exporter = self._exporters().get(exporter_name)
            if exporter is None and self._passed(stream) == 0:
                # What nothing has come to has no counter.
                exporter = Exporter()
            if exporter is None and self._files is None:
                hops.append(Hop(f"Collector -> {stream}.jsonl", "accepted", None, "in the file", None))
                continue
            if exporter is not None:
                hops.append(self._to_file_exporter(stream, exporter))
            hops.append(self._into_file(stream, exporter))
        hops.append(self._errors_filter())
        if not self._restarted and all(self._agree(hop) for hop in hops):
            # Each hop is right by itself; are the filters, too?
            hops += self._between_files()
        return hops

    def _to_file_exporter(self, stream: str, exporter: Exporter) -> Hop:
        before_name, before = "accepted", self._accepted()
        surplus = [Part("refused when they were on their way to the file", self._refused_late, Kind.AGAIN)]
        if stream in FILTERS:
            before_name, surplus = f"passed by {FILTERS[stream]}", []
            before = self._passed(stream)
        hop = Hop(f"Collector -> {FILE_EXPORTERS[stream]}", before_name, before, "written", exporter.sent)
        return self._compare(
            hop,
            exact=[Part("the file could not be written", exporter.failed, Kind.LOST)],
            missing=self._newer(),
            surplus=[*surplus, *self._newer()],
        )

    def _into_file(self, stream: str, exporter: Exporter | None) -> Hop:
        records = (self._files or {}).get(stream)
        after = None if records is None else sum(records.records.values())
        before_name, before = "written", None if exporter is None else exporter.sent
        surplus = list(self._newer())
        counted = self._counted if stream == "app" else self._count_errors() if stream == "errors" else None
        if before is None and counted is not None:
            before_name, before = "counted", sum(counted.values())
        elif before is None and stream == "app" and self._exported is not None:
            before_name, before = "exported", sum(self._exported.values())
            surplus.append(Part("sent again", self._resent, Kind.AGAIN))
        hint = "rotation removes the oldest files"
        if records is not None and records.torn:
            hint = f"{records.torn} line{'s' if records.torn > 1 else ''} end in the middle; {hint}"
        if before is not None and after is not None and after > before:
            hint = "the files are older than the counters: give --since"
        services = _pair(counted, records.records) if records else {}
        hop = Hop(
            f"{stream}.jsonl",
            before_name,
            before,
            "in the file",
            after,
            service_names=("counted", "in the file"),
            services=services,
        )
        return self._compare(hop, missing=self._newer(), surplus=surplus, hint=hint)

    def _errors_filter(self) -> Hop:
        """The errors' filter by the counts of severities, where those are known to be right."""
        counted = self._count_errors()
        passed = self._passed("errors")
        before = None if counted is None else sum(counted.values())
        hop = Hop("filter/errors", "counted as error or fatal", before, "passed", passed)
        if not self._agree(self._to_counts()):
            return replace(hop, before=None)
        return self._compare(hop, missing=self._newer(), surplus=self._newer())

    def _between_files(self) -> list[Hop]:
        """What app.jsonl has of each kind against the file of that kind; no counter has a part in it."""
        files = self._files or {}
        hops = []
        if app := files.get("app"):
            for stream, expected, what in (
                ("errors", app.errors, "errors in app.jsonl"),
                ("ai_responses", app.ai, "with gen_ai.* in app.jsonl"),
            ):
                records = files[stream].records
                hop = Hop(
                    f"app.jsonl -> {stream}.jsonl",
                    what,
                    sum(expected.values()),
                    "in the file",
                    sum(records.values()),
                    services=_pair(expected, records),
                    service_names=(what, "in the file"),
                    span=self._restarted,
                )
                hops.append(self._compare(hop, missing=self._newer(), surplus=self._newer()))
        return hops

    def _spans(self) -> list[Hop]:
        """The way from end to end, past counters that may lack something."""
        exported = None if self._exported is None else sum(self._exported.values()) + self._strangers()
        loki, app = self._books.loki, (self._files or {}).get("app")
        again = [Part("sent again", self._resent, Kind.AGAIN), *self._newer()]
        late = Part("refused when they were on their way to the file", self._refused_late, Kind.AGAIN)
        to_file = Hop(
            "application -> app.jsonl",
            "exported",
            exported,
            "in the file",
            None if app is None else sum(app.records.values()),
            services=self._pair_known(app.records if app else None),
            service_names=("exported", "in the file"),
            span=True,
        )
        held = loki.held if loki else None
        to_loki = Hop(
            "application -> Loki",
            "exported",
            exported,
            "held",
            None if held is None else sum(held.values()),
            services=self._pair_known(held),
            service_names=("exported", "held"),
            span=True,
        )
        queued = sum(one.queued for one in self._exporters().values())
        return [
            self._compare(
                to_file,
                surplus=[*again, late],
                hint="what a Collector holds for a file when it is killed (200 ms) is lost",
            ),
            self._compare(
                to_loki,
                exact=[Part(f"discarded, {why}", n, Kind.LOST) for why, n in _final(loki.discarded if loki else {})],
                missing=[Part("in the Collector's queue", queued, Kind.ON_THE_WAY)],
                surplus=again,
            ),
        ]

    # What the stretches share.

    def _accepted(self) -> int | None:
        if self._collector is not None:
            return self._collector.accepted
        return None if self._counted is None else sum(self._counted.values())

    def _passed(self, stream: str) -> int | None:
        """What the Collector has given to a kind of file; None if not seen."""
        if self._collector is None:
            return None
        if stream not in FILTERS or not self._collector.accepted:
            return self._collector.accepted
        return self._collector.passed.get(FILTERS[stream])

    def _seen_by_service(self) -> list[Mapping[str, int]]:
        """What came behind the applications, by service, as each source has it."""
        held = self._books.loki.held if self._books.loki else None
        app = (self._files or {}).get("app")
        return [counts for counts in (self._counted, held, app.records if app else None) if counts is not None]

    def _strangers(self) -> int:
        """Records of services without a ledger: nobody knows what they sent, so it is what fits best."""
        known, accepted = self._exported or {}, self._accepted() or 0
        sums = [sum(n for name, n in counts.items() if name not in known) for counts in self._seen_by_service()]
        return min(sums, key=lambda strangers: abs(accepted - strangers - sum(known.values())), default=0)

    def _pair_known(self, after: Mapping[str, int] | None) -> dict[str, tuple[int, int]]:
        """What services with a ledger exported, with what came of it."""
        if after is None or self._exported is None:
            return {}
        return {name: (n, after.get(name, 0)) for name, n in sorted(self._exported.items())}

    def _twice_at_collector(self) -> int:
        """Records that the Collector has accepted more than once, as far as the ledgers explain that."""
        accepted = self._accepted()
        if accepted is None or self._exported is None:
            return self._resent
        more = accepted - self._strangers() - sum(self._exported.values())
        # Where some are missing already, or not counted, nobody knows how many of the others came twice.
        return self._resent if more < 0 or self._collector_restarts else min(self._resent, more)

    def _count_errors(self) -> dict[str, int] | None:
        if self._books.counted is None:
            return None
        return {
            service: sum(n for severity, n in by.items() if severity in ERROR_SEVERITIES)
            for service, by in self._books.counted.items()
        }

    def _newer(self) -> list[Part]:
        """What may differ while records come: the figures were read one after the other."""
        return [Part("still coming", self._books.moving, Kind.ON_THE_WAY)]

    def _compare(
        self,
        hop: Hop,
        *,
        exact: Iterable[Part] = (),
        missing: Iterable[Part] = (),
        surplus: Iterable[Part] = (),
        hint: str = "",
    ) -> Hop:
        """Explain a hop's difference: by `exact` as a whole, then by `missing` or `surplus` as far as each goes."""
        if hop.before is None or hop.after is None:
            return hop
        parts = [part for part in exact if part.count]
        rest = hop.before - hop.after - sum(part.count for part in parts)
        sign = 1 if rest > 0 else -1
        for part in missing if rest > 0 else surplus:
            taken = min(abs(rest), part.count)
            if taken:
                parts.append(replace(part, count=sign * taken))
                rest -= sign * taken
        return _judge(hop, parts, rest, hint=hint)

    @staticmethod
    def _agree(hop: Hop) -> bool:
        return hop.verdict in (Verdict.EQUAL, Verdict.EXPLAINED, Verdict.NOT_SEEN)


_UNBOUNDED = 2**62
_LOKI_COUNTERS = frozenset({"received"})
_INSIDE = "in the application"
_COLLECTOR_COUNTERS = frozenset(
    {"accepted", "counted", "counted as error or fatal", "sent or failed", "written", "passed", *_passed_names()}
)


def _judge(hop: Hop, parts: Iterable[Part], rest: int, *, hint: str) -> Hop:
    kept = tuple(part for part in parts if part.count)
    verdict = Verdict.EQUAL
    if rest:
        verdict = Verdict.UNEXPLAINED
    elif any(part.kind is Kind.ON_THE_WAY for part in kept):
        verdict = Verdict.ON_THE_WAY
    elif kept:
        verdict = Verdict.EXPLAINED
    return replace(hop, parts=kept, rest=rest, verdict=verdict, hint=hint if rest else "")


def _blame_counters(hop: Hop) -> Hop:
    part = Part("lost by counters whose process ended before they were scraped", hop.rest, Kind.UNSEEN)
    return replace(hop, parts=(*hop.parts, part), rest=0, verdict=Verdict.EXPLAINED, hint="")


def _pair(before: Mapping[str, int] | None, after: Mapping[str, int] | None) -> dict[str, tuple[int, int]]:
    if before is None or after is None:
        return {}
    return {name: (before.get(name, 0), after.get(name, 0)) for name in sorted({*before, *after})}


def _sorted(counts: Iterable[Mapping[str, int]]) -> list[tuple[str, int]]:
    return sorted((name, n) for name, n in add_up(counts).items() if n)


def _final(discarded: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted((why, n) for why, n in discarded.items() if n and why not in RETRIED_DISCARDS)


def _retried(discarded: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted((why, n) for why, n in discarded.items() if n and why in RETRIED_DISCARDS)


def _records(number: int) -> str:
    return f"{number:,} record" if number == 1 else f"{number:,} records"
