"""What must hold between the requests that were sent, the records that arrived, and the ledgers of their senders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tools.real_apps.receiving import Record
from tools.real_apps.traffic import Phase, Target, Visit

TWICE_NS = 1_000
"""Two equal records of a process that are no further apart are one call that came by two ways: two take longer."""

SHOWN = 5
_NUMBER = re.compile(r"[0-9a-f]{8,}|\d+")
_TRACE_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


@dataclass(slots=True)
class Report:
    """What was counted, and what does not agree.

    Args:
        in_requests: Records with a request's trace, by phase.
        marked: Those among them that have the request's address or agent in them.
        strangers: Records at once whose message, but for its numbers, came one at a time with other targets only. A
            first request to a worker explains some; many are records with another request's trace.
        outside: Records that belong to no request: the start, the end, threads of the application's own.
        by_logger: Records by logger.
        differences: Each in words; empty if all holds.
    """

    in_requests: Counter[Phase] = field(default_factory=Counter)
    marked: int = 0
    strangers: int = 0
    outside: int = 0
    by_logger: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def add(self, what: str, examples: Sequence[object]) -> None:
        """Note a difference, if there are examples of it."""
        if examples:
            shown = "".join(f"\n    {one}" for one in examples[:SHOWN])
            self.differences.append(f"{len(examples)} {what}{shown}")


def check_traces(visits: Sequence[Visit], records: Sequence[Record], background: Iterable[str] = ()) -> Report:
    """Compare each record's trace with the requests that were under way when it was made.

    A record that is made between a request's connection and its close, while no other is under way, is that request's.
    Where several are, it must be of one of them, and of none but that whose trace id is written in it. Before, between
    and after, no record has a trace.

    Args:
        visits: The requests.
        records: What arrived, in any order.
        background: Loggers (with those below them) of threads that work for no request.
    """
    report = Report()
    known = {visit.trace_id: visit for visit in visits}
    prefixes = tuple(f"{name}." for name in background)
    open_at = _Windows(visits)
    without, foreign, late, other = [], [], [], []
    for record in records:
        report.by_logger[record.logger] += 1
        named = {one for one in _TRACE_ID.findall(record.text) if one in known}
        if record.trace_id:
            visit = known.get(record.trace_id)
            if visit is None:
                foreign.append(record)
                continue
            if not visit.began_ns <= record.time_ns <= visit.ended_ns:
                late.append(record)
            if named - {record.trace_id}:
                other.append(record)
            report.in_requests[visit.phase] += 1
            report.marked += bool(named)
        elif named or (open_at(record.time_ns) and not f"{record.logger}.".startswith(prefixes)):
            without.append(record)
        else:
            report.outside += 1
    report.strangers = _count_strangers(known, records)
    report.add("records were made in a request, but have no trace", without)
    report.add("records have the trace id of no request", foreign)
    report.add("records were made before or after the request that they say they belong to", late)
    report.add("records have one request's trace id, and another's in their text", other)
    report.add("requests were not answered", [visit for visit in visits if not visit.status])
    if not sum(report.in_requests.values()):
        report.differences.append("no record at all was made in a request: there is nothing that could be wrong")
    return report


def _count_strangers(known: Mapping[str, Visit], records: Iterable[Record]) -> int:
    usual: dict[str, set[Target]] = {}
    at_once: list[tuple[str, Target]] = []
    for record in records:
        visit = known.get(record.trace_id)
        if visit is not None:
            message = _NUMBER.sub("#", f"{record.logger} {record.text}")
            if visit.phase == "at once":
                at_once.append((message, visit.target))
            else:
                usual.setdefault(message, set()).add(visit.target)
    return sum(message in usual and target not in usual[message] for message, target in at_once)


class _Windows:
    """Whether a request was under way at a time."""

    def __init__(self, visits: Iterable[Visit]) -> None:
        self._spans = sorted((visit.began_ns, visit.ended_ns) for visit in visits)

    def __call__(self, time_ns: int) -> bool:
        return any(began <= time_ns <= ended for began, ended in self._spans)


def check_once(report: Report, records: Sequence[Record]) -> None:
    """See that no record came twice: none sent twice, and no call taken by two handlers."""
    seen = Counter((record.instance, record.time_ns) for record in records)
    report.add("records came twice", [key for key, count in seen.items() if count > 1])
    twice = []
    previous: dict[tuple[str, ...], int] = {}
    for record in sorted(records, key=lambda one: one.time_ns):
        key = (record.instance, record.trace_id, record.logger, record.severity, record.text)
        if key in previous and 0 < record.time_ns - previous[key] <= TWICE_NS:
            twice.append(record)
        previous[key] = record.time_ns
    report.add("calls were taken twice", twice)


def check_ledgers(
    report: Report, ledgers: Sequence[Mapping[str, Any]], records: Sequence[Record], counted: int
) -> Counter[str]:
    """Compare the ledgers, process by process, with what arrived; returns their sums.

    Args:
        report: Gets the differences.
        ledgers: As `otelog.cli.dev.ledgers.Ledgers.show` gives them, after the end of all processes.
        records: What arrived.
        counted: What the far end says it has taken.
    """
    arrived = Counter(record.instance for record in records)
    sums: Counter[str] = Counter()
    for ledger in ledgers:
        for name in ("created", "exported", "queued", "in_flight"):
            sums[name] += ledger[name]
        sums["lost"] += sum(ledger["lost"].values())
        received = arrived.pop(ledger["instance"], 0)
        if not ledger["created"] == ledger["exported"] == received or ledger["lost"]:
            report.differences.append(
                f"process {ledger['instance']}: {ledger['created']} created, {ledger['exported']} exported, "
                f"{received} arrived, lost: {dict(ledger['lost'])}"
            )
    report.add("processes sent records but no ledger", list(arrived.items()))
    if not sums["exported"] == len(records) == counted:
        report.differences.append(
            f"the ledgers say {sums['exported']} exported, the far end counted {counted} and holds {len(records)}"
        )
    return sums


def check_own_log(report: Report, lines: Iterable[str], pattern: str, logger: str) -> int:
    """Compare the application's own log with what arrived; returns how many records it has.

    Args:
        report: Gets the differences.
        lines: Its lines.
        pattern: A regular expression that is found in the first line of each of its records, and in no other.
        logger: Whose records those are; loggers below it included.
    """
    wanted = re.compile(pattern)
    own = sum(bool(wanted.search(line)) for line in lines)
    came = sum(count for name, count in report.by_logger.items() if f"{name}.".startswith(f"{logger}."))
    if own != came:
        report.differences.append(f"its own log has {own} records of {logger}, and {came} arrived")
    return own


def check_made(
    report: Report, visits: Sequence[Visit], records: Sequence[Record], made: Callable[[Visit], int]
) -> None:
    """Compare the records of each request with what the application says it has made.

    Args:
        report: Gets the differences.
        visits: The requests.
        records: What arrived.
        made: Reads the number from a request's answer.
    """
    came = Counter(record.trace_id for record in records)
    wrong = [(visit, came[visit.trace_id]) for visit in visits if made(visit) != came[visit.trace_id]]
    report.add("requests have another number of records than the application made", wrong)
