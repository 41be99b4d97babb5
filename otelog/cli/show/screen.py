"""What the commands show on a terminal: pure functions from figures to rich renderables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from otelog._record.severity import severity_range
from otelog.cli.show.filters import severity_of, sort_by_time
from otelog.cli.show.readable import fields_of, safe
from otelog.sinks._readable import describe_exception
from otelog.sinks._stack_text import STACK_KEYS, fold_stack, read_stack

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console, RenderableType

    from otelog.cli.demo.reconciliation import Figures, Reconciliation
    from otelog.cli.show.filters import Record

UNKNOWN = "unknown here"
WIDE_COLUMNS = 110
MAX_ROWS = 12
KEPT_RECORDS = 200
LEAST_TRACE_ROWS = 4
"""Fewer lines of a stack trace say nothing."""

_LEVEL_STYLES = {
    "TRACE": "dim",
    "DEBUG": "dim",
    "INFO": "green",
    "WARN": "yellow",
    "ERROR": "red",
    "FATAL": "bold red",
    "UNSPECIFIED": "default",
}
_SEVERITIES = tuple(_LEVEL_STYLES)
# Quiet colours that are none of the levels', so that the lines of one trace are seen to belong together.
_TRACE_STYLES = ("cyan", "magenta", "blue", "bright_cyan", "bright_magenta", "bright_blue")
# Of use in the file, noise on a screen.
_HIDDEN_FIELDS = ("code.", "thread.", "process.", "exception.", "service.")


@dataclass(slots=True)
class View:
    """What `otelog demo` knows at one moment; None stands for what it cannot know."""

    shop_url: str = ""
    target: str = ""
    seconds: float | None = None
    elapsed: float = 0.0
    phase: str = "starting"
    requests: int = 0
    figures: Figures | None = None
    received: int | None = None
    in_file: int | None = None
    records: Sequence[Record] = field(default_factory=tuple)
    trace_id: str | None = None


def show_demo(view: View, console: Console) -> RenderableType:
    """Lay out the demo for the console's size."""
    header = Text.assemble(("otelog demo", "bold"), f"   {_clock(view.elapsed)}")
    if view.seconds is not None:
        header.append(f" of {_clock(view.seconds)}", "dim")
    header.append(f"   {view.phase}", "dim" if view.phase == "running" else "yellow")
    if view.phase == "running":
        header.append(" · Ctrl-C ends it", "dim")
    way = Text("", "dim", no_wrap=True, overflow="ellipsis")
    way.append(f"client ({view.requests:,} requests) → shop {view.shop_url} → {view.target}")
    parts: list[RenderableType] = [header, way, "", show_ledger(view), show_losses(view.figures), ""]
    if view.target and view.received is None and view.in_file is None:
        parts.append(Text("The records are at the endpoint; look at them there.", "dim"))
    else:
        rows = max(3, min(MAX_ROWS, console.size.height - 14))
        parts.append(show_records(view.records, width=console.width - 2, rows=rows))
    return Padding(Group(*parts), (1, 1))


def show_ledger(view: View) -> Table:
    """Show the way of the records as one row of figures, first to last."""
    table = Table(box=None, expand=False, padding=(0, 3, 0, 0), header_style="dim")
    own: list[int | None] = [None] * 5
    if (figures := view.figures) is not None:
        own = [figures.created, figures.pending, figures.exported, sum(figures.losses.values()), figures.resent]
    names = ("created", "queued", "exported", "dropped", "resent", "received", "in the file")
    main = {"created", "exported", "received", "in the file"}
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row(
        *(
            Text("-" if n is None else f"{n:,}", "dim" if not n else "bold" if name in main else "default")
            for name, n in zip(names, (*own, view.received, view.in_file), strict=True)
        )
    )
    return table


def show_losses(figures: Figures | None) -> Text:
    """Say what was dropped and why, in one line."""
    if figures is None:
        return Text("")
    losses = _join(figures.losses)
    text = Text(f"dropped: {losses}", "red") if losses else Text("nothing dropped", "dim")
    if figures.truncated:
        text.append(f"   cut to fit: {figures.truncated:,}", "yellow")
    if figures.removals:
        text.append(f"   removed on request: {_join(figures.removals)}", "dim")
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def show_records(records: Sequence[Record], *, width: int, rows: int) -> Table:
    """Show the latest records, the newest last.

    Args:
        records: The last KEPT_RECORDS or so, as they are in the lines of the file.
        width: Columns of the terminal that are free; trace id and time are whole if they suffice.
        rows: Lines; the table always has so many, so that the screen does not jump.
    """
    wide = width >= WIDE_COLUMNS
    time_columns = 12 if wide else 8
    table = Table(box=None, expand=True, padding=(0, 2 if wide else 1, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("time", no_wrap=True, width=time_columns)
    table.add_column("level", no_wrap=True, width=8)
    table.add_column("logger", no_wrap=True, width=14 if wide else 12, overflow="ellipsis")
    table.add_column("message", no_wrap=True, ratio=1, overflow="ellipsis")
    table.add_column("trace", no_wrap=True, width=32 if wide else 8)
    # Requests come as they like; a reader wants their records as they happened.
    shown = sort_by_time(records)[-rows:]
    for record in shown:
        style = _LEVEL_STYLES[severity_range(severity_of(record)).upper()]
        trace = _one_line(record.get("trace_id") or "")
        table.add_row(
            Text(_one_line(record.get("timestamp") or "")[11 : 11 + time_columns], "dim"),
            Text(_one_line(record.get("level") or ""), style),
            Text(_one_line(record.get("logger") or ""), "dim"),
            _describe(record, style),
            Text(trace if wide else trace[:8], _trace_style(trace)),
        )
    for _ in range(rows - len(shown)):
        table.add_row()
    return table


def show_trace(records: Iterable[Record], *, rows: int) -> Text | None:
    """Show the stack trace of the last record that has one, or None: there is none, or no room.

    Args:
        records: The latest ones.
        rows: Lines there are for it, its heading included; the frames of libraries are the first to go.
    """
    if rows < LEAST_TRACE_ROWS:
        return None
    for record in reversed(sort_by_time(records)):
        # An exception's comes last.
        fields = fields_of(record)
        stacks = [lines for key in STACK_KEYS if (lines := read_stack(fields.get(key)))]
        if stacks:
            moment = _one_line(record.get("timestamp") or "")[11:23]
            said = " ".join(_one_line(record.get(key) or "") for key in ("logger", "message"))
            text = Text.assemble(("last exception ", "bold"), (f"{moment} ", "dim"), said)
            for line in fold_stack(stacks[-1], rows - 1):
                text.append(f"\n{line.text}", line.style)
            text.no_wrap, text.overflow = True, "ellipsis"
            return text
    return None


def show_services(services: Iterable[Mapping[str, Any]]) -> Table:
    """Show the counts of a receiver: a row for each service, a column for each severity."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("service", no_wrap=True, overflow="ellipsis", max_width=32)
    table.add_column("records", justify="right", no_wrap=True)
    rows = list(services)
    seen = [name for name in _SEVERITIES if any(row["severities"].get(name) for row in rows)]
    for name in seen:
        table.add_column(name.lower(), justify="right", no_wrap=True)
    for row in rows:
        counts = [row["severities"].get(name, 0) for name in seen]
        table.add_row(
            Text(_one_line(row["service"] or "-")),
            Text(f"{row['records']:,}", "bold"),
            *(Text(f"{n:,}" if n else "", _LEVEL_STYLES[name]) for n, name in zip(counts, seen, strict=True)),
        )
    return table


def show_ledgers(ledgers: Iterable[Mapping[str, Any]]) -> Table:
    """Show what senders say of their records beside what had arrived of them by then, and where the two differ."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("sender's ledger", no_wrap=True, overflow="ellipsis", max_width=32)
    table.add_column("instance", no_wrap=True, overflow="ellipsis", max_width=12)
    for name in ("created", "queued", "lost", "exported", "received here"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in ledgers:
        lost = sum(row["lost"].values())
        table.add_row(
            Text(_one_line(row["service"] or "-")),
            Text(_one_line(row["instance"]), "dim"),
            f"{row['created']:,}",
            f"{row['queued'] + row['in_flight']:,}",
            Text(f"{lost:,}", "red" if lost else "dim"),
            f"{row['exported']:,}",
            Text(f"{row['received']:,}", "bold"),
            _show_difference(row),
        )
    return table


def _show_difference(row: Mapping[str, Any]) -> Text:
    difference = row["difference"]
    if difference is None:
        return Text("began before this receiver", "dim")
    if difference == 0:
        return Text("equal", "green")
    if difference < 0:
        return Text(f"{-difference:,} missing", "bold red")
    # Its figures are a moment older than the records, and a request that was sent again comes twice.
    return Text(f"{difference:,} more", "yellow")


def show_reconciliation(outcome: Reconciliation, *, instance: str) -> RenderableType:
    """Show the figures of every hop at the end, and whether they agree.

    Args:
        outcome: The figures.
        instance: The service.instance.id they are of.
    """
    figures = outcome.figures
    table = Table(box=None, show_header=False, padding=(0, 3, 0, 0), pad_edge=False)
    table.add_column(min_width=34)
    table.add_column(justify="right", min_width=9)
    table.add_column()
    table.add_row(Text("created in the shop", "dim"), Text(f"{figures.created:,}", "dim"), "")
    if figures.removals:
        removed = sum(figures.removals.values())
        table.add_row(
            Text("removed on request", "dim"), Text(f"{removed:,}", "dim"), Text(_join(figures.removals), "dim")
        )
    lost = sum(figures.losses.values())
    table.add_row(
        Text("dropped, by the ledger", "dim"), Text(f"{lost:,}", "red" if lost else "dim"), _join(figures.losses)
    )
    sent = figures.exported if outcome.final else None
    seen = "" if outcome.final else "when last seen"
    table.add_row("sent: exported, by the ledger", Text(f"{figures.exported:,}", "bold"), Text(seen, "red"))
    for name, number, before in (
        ("received, by the receiver", outcome.received, sent),
        ("records in the file", outcome.in_file, outcome.received),
    ):
        if number is None:
            table.add_row(name, Text("-", "dim"), Text(UNKNOWN, "dim"))
        elif before is None:
            table.add_row(name, Text(f"{number:,}", "bold"), "")
        else:
            same = number == before
            table.add_row(
                name, Text(f"{number:,}", "bold"), Text("equal" if same else "differs", "green" if same else "bold red")
            )
    differences = outcome.differences
    parts: list[RenderableType] = [
        Text.assemble(("Reconciliation", "bold"), ("   instance ", "dim"), (instance or UNKNOWN, "dim")),
        "",
        table,
        "",
    ]
    if differences:
        parts += [Text(difference, "bold red") for difference in differences]
    elif outcome.received is None:
        parts.append(Text("The ledger adds up.", "green"))
    elif lost:
        parts.append(Text("Every record that was sent has arrived; the others are counted above.", "yellow"))
    else:
        parts.append(Text("Every record has arrived.", "bold green"))
    return Padding(Group(*parts), (1, 1, 0, 1), expand=False)


def describe_progress(view: View) -> str:
    """Say the same as the live screen in one plain line, for where there is no terminal."""
    figures = view.figures
    if figures is None:
        return f"{_clock(view.elapsed)}  {view.phase}"
    phase = "" if view.phase == "running" else f"  {view.phase}"
    losses = f" ({_join(figures.losses)})" if figures.losses else ""
    truncated = f"  truncated {figures.truncated:,}" if figures.truncated else ""
    received = UNKNOWN if view.received is None else f"{view.received:,}"
    in_file = UNKNOWN if view.in_file is None else f"{view.in_file:,}"
    return (
        f"{_clock(view.elapsed)}{phase}  created {figures.created:,}  queued {figures.pending:,}"
        f"  exported {figures.exported:,}  dropped {sum(figures.losses.values()):,}{losses}"
        f"  resent {figures.resent:,}{truncated}  received {received}  in the file {in_file}"
    )


def _describe(record: Record, style: str) -> Text:
    fields = fields_of(record)
    message = record.get("message")
    text = Text(_one_line(message if message is not None else fields.get("event_name") or ""))
    if style in ("red", "bold red"):
        text.stylize(style)
    kind = fields.get("exception.type")
    short = {**fields, "exception.type": str(kind).rpartition(".")[2]} if kind else fields
    if raised := describe_exception(short, stacks=False):
        text.append(f"  {_one_line(raised)}", "red dim")
    for key, value in fields.items():
        if not key.startswith(_HIDDEN_FIELDS):
            text.append(f"  {_one_line(key)}=", "dim")
            text.append(_one_line(value), "dim")
    return text


def _one_line(value: object) -> str:
    return safe(" ".join(str(value).split()))


def _trace_style(trace: str) -> str:
    try:
        return _TRACE_STYLES[int(trace[:8], 16) % len(_TRACE_STYLES)]
    except ValueError:
        return "dim"


def _join(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {number:,}" for reason, number in counts.items())


def _clock(seconds: float | None) -> str:
    minutes, rest = divmod(int(seconds or 0), 60)
    return f"{minutes:02}:{rest:02}"
