"""Whether the books, the oracle and the receivers agree. Pure: plain data in, the disagreements out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tests.chaos.identities import find_broken_identities
from tests.chaos.oracle import BELOW, Calls
from tests.chaos.plan import Plan, Receiver
from tests.chaos.receivers import Arrivals

MOST_EXAMPLES = 3
SDK_SAYS = "logger configurator failed for scope"
"""A record of the SDK's own: a signal handler has raised while a logger was being made."""
EXACT = ("file", "console")
"""Receivers that cannot keep a record and lose the answer."""


def reconcile(
    plan: Plan,
    made: Mapping[str, str],
    reports: Mapping[str, Mapping[str, Any]],
    calls: Mapping[str, Calls],
    arrivals: Mapping[str, Arrivals],
) -> list[str]:
    """Return what does not agree.

    Args:
        plan: What the program should do.
        made: How each child that was made should leave, by process.
        reports: What each process said at its end.
        calls: What each process called.
        arrivals: What each receiver has kept.
    """
    problems: list[str] = []
    killed = sum(end == "kill" for end in made.values())
    for process in ("m", *made):
        report = reports.get(process)
        if report is None:
            if made.get(process) != "kill":
                problems.append(f"{process} left without a report")
            continue
        problems += [f"{process}: {problem}" for problem in report["problems"]]
        problems += _hold_process(plan, process, report["stats"], calls.get(process, Calls()), arrivals)
        problems += [
            f"{process}: {count} exceptions of the signal handler did not come to the application: raised in {place}"
            for place, count in report["signals"].items()
        ]
    for process, one in calls.items():
        problems += [f"{process}: a call raised {escaped}" for escaped in one.escaped[:MOST_EXAMPLES]]
    for name, kept in arrivals.items():
        torn = kept.torn
        if len(torn) <= killed:
            # Each may have been in the middle of a line.
            torn = []
        problems += [f"{name}: a line that cannot be read: {line}" for line in torn[:MOST_EXAMPLES]]
        problems += [f"{name}: a request that cannot be read: {one}" for one in kept.corrupt[:MOST_EXAMPLES]]
        problems += [f"{name}: {problem}" for problem in _hold_receiver(name, kept, calls, plan)]
    problems += find_unfired(plan, reports, arrivals)
    return problems


def find_unfired(plan: Plan, reports: Mapping[str, Mapping[str, Any]], arrivals: Mapping[str, Arrivals]) -> list[str]:
    """Return which planned faults did not happen."""
    fired = count_fired(reports, arrivals)
    return [
        f"{name} was planned and did not happen" for name, count in plan.planned_faults().items() if fired[name] < count
    ]


def count_fired(reports: Mapping[str, Mapping[str, Any]], arrivals: Mapping[str, Arrivals]) -> Counter[str]:
    """Return how often each fault has happened."""
    fired: Counter[str] = Counter()
    for report in reports.values():
        fired.update(report["fired"])
    for name, kept in arrivals.items():
        fired.update({f"{name}:{fault}": count for fault, count in kept.fired.items()})
    return fired


def _hold_process(
    plan: Plan, process: str, pipelines: Mapping[str, Any], calls: Calls, arrivals: Mapping[str, Arrivals]
) -> list[str]:
    problems: list[str] = []
    for pipeline, stats in pipelines.items():
        where = f"{process}, {pipeline}"
        problems += [f"{where}: {broken}" for broken in find_broken_identities(stats)]
        returned = len(calls.returned.get(pipeline, ()))
        begun = len(calls.begun.get(pipeline, ()))
        if not returned <= stats["created"] <= begun:
            problems.append(f"{where}: created {stats['created']}, but {returned} calls returned of {begun}")
        if stats["queued"] or stats["waiting"] or stats["in_flight"]:
            left = {name: stats[name] for name in ("queued", "waiting", "in_flight")}
            problems.append(f"{where}: records are left at the end: {left}")
        receivers: Iterable[Receiver] = plan.receivers if pipeline == "main" else filter(None, [plan.second])
        for receiver in receivers:
            books = stats["exporters"].get(receiver.name) if pipeline == "main" else _only(stats["exporters"])
            if books is None:
                problems.append(f"{where}: no books of {receiver.name}")
                continue
            kept = arrivals[receiver.name]
            problems += [f"{where}, {receiver.name}: {one}" for one in _hold_exporter(process, receiver, books, kept)]
    return problems


def _only(exporters: Mapping[str, Any]) -> Any:
    (books,) = exporters.values()
    return books


def _hold_exporter(process: str, receiver: Receiver, books: Mapping[str, Any], kept: Arrivals) -> list[str]:
    problems = []
    ids = {id: count for id, count in kept.ids.items() if _process_of(id) == process}
    answered = sum(_process_of(id) == process for id in kept.answered)
    exported, dropped = books["exported"], sum(books["dropped"].values())
    # Records that came without their id may be this process's, and so may the rest of a line that was torn by a kill.
    if exported > answered + len(kept.without_id) + len(kept.torn):
        problems.append(f"exported {exported}, but only {answered} were answered with success")
    if len(ids) > exported + dropped:
        problems.append(f"{len(ids)} arrived, but exported are {exported} and dropped {dropped}")
    if receiver.kind in EXACT and not dropped and len(ids) + len(kept.without_id) + len(kept.torn) < exported:
        problems.append(f"{len(ids)} lines, but exported are {exported}")
    twice = sum(ids.values()) - len(ids)
    if twice > books["resent"]:
        examples = [id for id, count in ids.items() if count > 1][:MOST_EXAMPLES]
        problems.append(f"{twice} arrived once more, but resent are {books['resent']}: {', '.join(examples)}")
    return problems


def _hold_receiver(name: str, kept: Arrivals, calls: Mapping[str, Calls], plan: Plan) -> list[str]:
    problems = []
    pipeline = "second" if name == "second" else "main"
    given: set[str] = set()
    for one in calls.values():
        given |= one.begun.get(pipeline, set())
    unknown = sorted(kept.ids.keys() - given)
    if unknown:
        below = [id for one in calls.values() for id in one.begun.get(BELOW, ()) if id in kept.ids]
        why = "below the level" if below else "that nobody has made for it"
        problems.append(f"{len(unknown)} ids {why}: {', '.join(unknown[:MOST_EXAMPLES])}")
    foreign = [text for text in kept.without_id if not text.startswith(SDK_SAYS)]
    if foreign and not plan.memory_windows:
        problems.append(f"{len(foreign)} records have no id: {foreign[:MOST_EXAMPLES]}")
    if name != "second":
        problems += _hold_instances(kept)
    return problems


def _hold_instances(kept: Arrivals) -> list[str]:
    """Each process has an instance of its own, and one only."""
    several = [f"{process} has {len(found)} instances" for process, found in kept.instances.items() if len(found) > 1]
    owners = Counter(instance for found in kept.instances.values() for instance in found)
    return several + [f"{count} processes are the instance {one}" for one, count in owners.items() if count > 1]


def _process_of(id: str) -> str:
    return id.partition("/")[0]
