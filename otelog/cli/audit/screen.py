"""What `otelog audit` shows: pure functions from hops to rich renderables, and to JSON-ready data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.columns import Columns
from rich.console import Group
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from otelog.audit.books import ERROR_SEVERITIES
from otelog.audit.checks import Hop, Kind, Verdict, find_worst, list_unseen
from otelog.cli.show.readable import safe

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

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
_FIGURES = ("in", "out", "difference")
_UNBOUNDED = 100_000
# What a figure is compared with: each with the one whose place this is in the row.
_COMPARED = {
    "counted": "exported",
    "held": "counted",
    "app.jsonl": "counted",
    "errors.jsonl": "errors",
    "ai file": "ai",
}


class Fitting:
    """The first of two layouts where it fits as a whole, else the second: no word and no number is cut."""

    def __init__(self, wide: RenderableType, narrow: RenderableType) -> None:
        self._wide = wide
        self._narrow = narrow

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Choose by the width that there is."""
        unbounded = options.update(width=_UNBOUNDED)
        fits = Measurement.get(console, unbounded, self._wide).maximum <= options.max_width
        yield self._wide if fits else self._narrow


def show_audit(
    hops: Sequence[Hop], services: Mapping[str, Mapping[str, int | None]], stale: Collection[str] = ()
) -> RenderableType:
    """Lay out the hops, the services, and a sentence for every hop that did not let all through."""
    parts: list[RenderableType] = [show_hops(hops), "", show_services(services), ""]
    parts += [Text(safe(said), _style_of(hop)) for hop in hops if (said := hop.describe())]
    parts += [
        Text(f"{safe(service)}: {cut:,} records were cut to fit into a request (see their otelog.truncated)", "yellow")
        for service, figures in services.items()
        if (cut := figures.get("truncated"))
    ]
    unsure = list_unseen(hops) or stale
    style = _STYLES[Verdict.UNCERTAIN if unsure and _is_good(hops) else find_worst(hops)]
    parts.append(Text(safe(conclude(hops, stale)), style))
    return Group(*parts)


def show_hops(hops: Sequence[Hop]) -> RenderableType:
    """Show what went into each hop and what came out of it."""
    wide, narrow = _make_table(), _make_table()
    for heading in ("hop", "in", "", "out", "", "difference", ""):
        wide.add_column(heading, justify="right" if heading in _FIGURES else "left", no_wrap=True)
    narrow.add_column("hop", overflow="fold")
    narrow.add_column("difference", justify="right", no_wrap=True)
    narrow.add_column("", no_wrap=True)
    for hop in hops:
        style = _style_of(hop)
        name, verdict = Text(safe(hop.name)), Text(hop.verdict.value, style)
        difference = Text("-" if hop.difference is None else f"{hop.difference:+,}" if hop.difference else "0", style)
        before, after = _number(hop.before), _number(hop.after)
        before_name, after_name = Text(hop.before_name, "dim"), Text(hop.after_name, "dim")
        wide.add_row(name, before, before_name, after, after_name, difference, verdict)
        figures = Text.assemble(before, " ", before_name, ", ", after, " ", after_name)
        narrow.add_row(Group(name, Padding(figures, (0, 0, 0, 2))), difference, verdict)
    return Fitting(wide, narrow)


def show_services(services: Mapping[str, Mapping[str, int | None]]) -> RenderableType:
    """Show each service's figures along the way, with the difference to what they are compared with."""
    wide = _make_table()
    wide.add_column("service", no_wrap=True)
    for name in _SERVICE_COLUMNS:
        wide.add_column(name, justify="right", no_wrap=True)
    narrow: list[RenderableType] = []
    for service, figures in services.items():
        found = {name: _figure(name, figures) for name in _SERVICE_COLUMNS}
        wide.add_row(Text(safe(service)), *found.values())
        named = [Text.assemble((name, "dim"), " ", figure) for name, figure in found.items()]
        narrow += [Text(safe(service)), Padding(Columns(named, padding=(0, 2)), (0, 0, 0, 2))]
    return Fitting(wide, Group(*narrow))


def _make_table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)


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


def conclude(hops: Sequence[Hop], stale: Collection[str] = ()) -> str:
    """Say in a few sentences what all hops together come to, and what was not seen.

    Args:
        hops: They.
        stale: Sources that do not answer now, and whose figures are older.
    """
    worst, unseen = find_worst(hops), list_unseen(hops)
    if worst is Verdict.NOT_SEEN:
        return "No two hops were seen, so there is nothing to compare."
    said = []
    if _is_good(hops):
        lost = sum(hop.count(Kind.LOST) for hop in hops if not hop.span)
        known = f"{lost:,} lost, each counted with its reason" if lost else "nothing lost"
        who = "Where it was seen, every record" if unseen or stale else "Every record"
        way = sum(abs(hop.count(Kind.ON_THE_WAY)) for hop in hops if not hop.span)
        where = f", {way:,} of them as on the way" if worst is Verdict.ON_THE_WAY else ""
        came = any(hop.before or hop.after for hop in hops)
        said.append(f"{who} is accounted for{where}: {known}." if came else "No records have come.")
    else:
        bad = [hop.name for hop in hops if hop.verdict is worst]
        said.append(f"{worst.value.capitalize()}: {'; '.join(bad)}.")
    if unseen:
        said.append(f"Not seen, {len(unseen)} of {len(hops)} hops: {'; '.join(unseen)}.")
    if stale:
        said.append(f"Not answering now: {', '.join(stale)}.")
    return " ".join(said)


def _is_good(hops: Iterable[Hop]) -> bool:
    return find_worst(hops) in (Verdict.EQUAL, Verdict.EXPLAINED, Verdict.ON_THE_WAY)


def to_json(
    hops: Sequence[Hop], services: Mapping[str, Mapping[str, int | None]], stale: Collection[str] = ()
) -> dict[str, Any]:
    """Returns the same as JSON-ready data."""
    return {
        "verdict": find_worst(hops).value,
        "conclusion": conclude(hops, stale),
        "not_seen": list_unseen(hops),
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
