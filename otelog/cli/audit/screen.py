"""What `otelog audit` shows: pure functions from hops to rich renderables, and to JSON-ready data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from otelog.audit.books import ERROR_SEVERITIES
from otelog.audit.checks import Hop, Kind, Verdict, find_worst
from otelog.cli.show.readable import safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import RenderableType

    from otelog.audit.books import Books

_STYLES = {
    Verdict.NOT_SEEN: "dim",
    Verdict.EQUAL: "green",
    Verdict.EXPLAINED: "green",
    Verdict.ON_THE_WAY: "yellow",
    Verdict.UNCERTAIN: "yellow",
    Verdict.UNEXPLAINED: "bold red",
}
_SERVICE_COLUMNS = (
    "created",
    "lost",
    "exported",
    "counted",
    "held",
    "app.jsonl",
    "errors",
    "errors.jsonl",
    "ai",
    "ai file",
)
# What a figure is compared with: each with the one whose place this is in the row.
_COMPARED = {
    "counted": "exported",
    "held": "counted",
    "app.jsonl": "counted",
    "errors.jsonl": "errors",
    "ai file": "ai",
}


def show_audit(hops: Sequence[Hop], services: Mapping[str, Mapping[str, int | None]]) -> RenderableType:
    """Lay out the hops, the services, and a sentence for every hop that did not let all through."""
    parts: list[RenderableType] = [show_hops(hops), "", show_services(services), ""]
    parts += [Text(safe(said), _style_of(hop)) for hop in hops if (said := hop.describe())]
    parts += [
        Text(f"{safe(service)}: {cut:,} records were cut to fit into a request (see their otelog.truncated)", "yellow")
        for service, figures in services.items()
        if (cut := figures.get("truncated"))
    ]
    parts.append(Text(conclude(hops), _STYLES[find_worst(hops)]))
    return Group(*parts)


def show_hops(hops: Iterable[Hop]) -> Table:
    """Show what went into each hop and what came out of it."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("hop", no_wrap=True, overflow="ellipsis")
    table.add_column("in", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, style="dim", overflow="ellipsis")
    table.add_column("out", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, style="dim", overflow="ellipsis")
    table.add_column("difference", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for hop in hops:
        table.add_row(
            Text(safe(hop.name)),
            _number(hop.before),
            hop.before_name,
            _number(hop.after),
            hop.after_name,
            Text("-" if hop.difference is None else f"{hop.difference:+,}" if hop.difference else "0", _style_of(hop)),
            Text(hop.verdict.value, _style_of(hop)),
        )
    return table


def show_services(services: Mapping[str, Mapping[str, int | None]]) -> Table:
    """Show each service's figures along the way, with the difference to what they are compared with."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("service", no_wrap=True, overflow="ellipsis", max_width=32)
    for name in _SERVICE_COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for service, figures in services.items():
        table.add_row(Text(safe(service)), *(_figure(name, figures) for name in _SERVICE_COLUMNS))
    return table


def list_services(books: Books, service: str | None = None) -> dict[str, dict[str, int | None]]:
    """Returns the figures by service, None where they are not seen.

    Args:
        books: The figures.
        service: Only this one.
    """
    held = books.loki.held if books.loki else None
    files = books.files or {}
    app, errors, ai = (files.get(stream) for stream in ("app", "errors", "ai_responses"))
    ledgers = books.applications or ()
    sources = [books.counted, held, *(one.records if one else None for one in (app, errors, ai))]
    names = {one.service for one in ledgers}.union(*(counts for counts in sources if counts))
    found: dict[str, dict[str, int | None]] = {}
    for name in sorted(names):
        if service is not None and name != service:
            continue
        own = [one for one in ledgers if one.service == name]
        by = None if books.counted is None else books.counted.get(name, {})
        found[name] = {
            "created": sum(one.created for one in own) if own else None,
            "lost": sum(one.lost for one in own) if own else None,
            "exported": sum(one.exported for one in own) if own else None,
            "truncated": sum(one.truncated for one in own) if own else None,
            "counted": None if by is None else sum(by.values()),
            "held": None if held is None else held.get(name, 0),
            "app.jsonl": None if app is None else app.records.get(name, 0),
            "errors": None if by is None else sum(n for severity, n in by.items() if severity in ERROR_SEVERITIES),
            "errors.jsonl": None if errors is None else errors.records.get(name, 0),
            "ai": None if app is None else app.ai.get(name, 0),
            "ai file": None if ai is None else ai.records.get(name, 0),
        }
    return found


def conclude(hops: Sequence[Hop]) -> str:
    """Say what all hops together come to, in a sentence."""
    worst = find_worst(hops)
    lost = sum(hop.count(Kind.LOST) for hop in hops if not hop.span)
    known = f"{lost:,} lost, each counted with its reason" if lost else "nothing lost"
    if worst is Verdict.NOT_SEEN:
        return "No two hops were seen, so there is nothing to compare."
    if worst in (Verdict.EQUAL, Verdict.EXPLAINED):
        return f"Every record is accounted for: {known}."
    if worst is Verdict.ON_THE_WAY:
        way = sum(abs(hop.count(Kind.ON_THE_WAY)) for hop in hops if not hop.span)
        return f"Every record is accounted for, {way:,} of them as on the way: {known}."
    bad = [hop.name for hop in hops if hop.verdict is worst]
    return f"{worst.value.capitalize()}: {', '.join(bad)}."


def to_json(hops: Sequence[Hop], services: Mapping[str, Mapping[str, int | None]]) -> dict[str, Any]:
    """Returns the same as JSON-ready data."""
    return {
        "verdict": find_worst(hops).value,
        "conclusion": conclude(hops),
        "hops": [
            {
                "hop": hop.name,
                "before": {"name": hop.before_name, "records": hop.before},
                "after": {"name": hop.after_name, "records": hop.after},
                "difference": hop.difference,
                "parts": [{"what": one.what, "records": one.count, "kind": one.kind.value} for one in hop.parts],
                "unexplained": hop.rest,
                "verdict": hop.verdict.value,
                "services": {name: {"before": one, "after": other} for name, (one, other) in hop.services.items()},
                "sentence": hop.describe(),
            }
            for hop in hops
        ],
        "services": services,
    }


def _figure(name: str, figures: Mapping[str, int | None]) -> Text:
    number = figures[name]
    text = _number(number)
    if name == "lost" and number:
        text.stylize("red")
    before = figures[_COMPARED[name]] if name in _COMPARED else None
    if number is not None and before is not None and number != before:
        text.append(f" ({number - before:+,})", "yellow")
    return text


def _number(number: int | None) -> Text:
    return Text("-", "dim") if number is None else Text(f"{number:,}")


def _style_of(hop: Hop) -> str:
    return "red" if hop.verdict is Verdict.EXPLAINED and hop.count(Kind.LOST) else _STYLES[hop.verdict]
