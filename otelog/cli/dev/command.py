"""`otelog dev`: a receiver for a developer's own machine, in the foreground."""

from __future__ import annotations

import errno
import json
import time
from collections import deque
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from otelog.cli.demo.children import leave_with_parent
from otelog.cli.dev.journal import MAX_FILE_BYTES, Journal
from otelog.cli.show.filters import filter_options, sort_by_time
from otelog.cli.show.interruption import Interruption
from otelog.cli.show.printer import Form, Printer, form_options
from otelog.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, RenderableType
    from rich.live import Live

    from otelog.cli.dev.receiver import Receiver
    from otelog.cli.show.filters import Filters, Record

SCREEN_INTERVAL = 0.25
TAIL_INTERVAL = 0.1
PLAIN_INTERVAL = 5.0
MAX_SHOWN = 6
ROWS_BESIDE_TRACE = 5
"""Records that are on the screen at least, whatever a stack trace takes."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on, and to answer to.")
@click.option(
    "--allow-host",
    "hosts",
    metavar="NAME",
    multiple=True,
    help="A further host name to accept, such as a container's; may be repeated.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=4318, show_default=True, help="Port; 0 means any free one."
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("otelog-dev"),
    show_default=True,
    help="Where app.log, errors.log and ai_responses.log are written; lines that are there stay.",
)
@click.option(
    "--max-bytes",
    type=click.IntRange(0),
    default=MAX_FILE_BYTES,
    show_default=True,
    help="Size at which a file is rotated; 0 is never.",
)
@click.option(
    "--ai-logger",
    "ai_loggers",
    metavar="LOGGER",
    multiple=True,
    help="A logger whose records go to ai_responses.log as well; may be repeated.",
)
@click.option("--tail", is_flag=True, help="Print one readable line a record, instead of the screen.")
@form_options(lines_only=True)
@filter_options(times=False)
@click.option("--stop-on-eof", is_flag=True, help="Stop when standard input ends, as a child of another program.")
def dev(
    *,
    host: str,
    hosts: tuple[str, ...],
    port: int,
    folder: Path,
    max_bytes: int,
    ai_loggers: tuple[str, ...],
    tail: bool,
    form: Form,
    filters: Filters,
    stop_on_eof: bool,
) -> None:
    """Receive OTLP/HTTP logs on this machine, write them to files, and show them as they come.

    The filters choose what is shown; everything is written and counted. GET /stats has the counts by service and by
    service instance, and the senders' own ledgers; GET /records?after=0 the latest records.

    The last exception's stack trace is on the screen where there is room, and below its record with --tail.

    The records of one request are written in the order of their times. Requests are written as they come: so records
    of two senders, or of two batches, may be some seconds apart from their neighbours in time.
    """
    from rich.console import Console
    from rich.live import Live

    from otelog.cli.dev.receiver import Receiver

    try:
        journal = Journal(folder, max_bytes=max_bytes, ai_loggers=ai_loggers)
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be written: {error.strerror or error}") from error
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    try:
        receiver = Receiver(journal, host=host, port=port, hosts=hosts)
    except OSError as error:
        journal.close()
        raise click.ClickException(_explain(error, host, port)) from error
    records = Tail(receiver, filters, Printer(form, live=True))
    console = Console()
    with_screen = console.is_terminal and not console.is_dumb_terminal and not tail
    live = Live(console=console, auto_refresh=False) if with_screen else None
    with Interruption() as interruption:
        if stop_on_eof:
            leave_with_parent()
        with receiver, live or nullcontext():
            if live is None:
                click.echo(f"listening on {receiver.url} writing to {folder}")
            if tail:
                _print(records, interruption)
            else:
                _watch(receiver, records, interruption, console, live, with_traces=form.traces is not False)
        if tail:
            # What came before the last connection was closed.
            records.print_new()
    journal.close()
    click.echo(f"{receiver.stats()['records']:,} records written to {folder}")


class Tail:
    """The records of a journal that are meant, from the one before on; for one thread."""

    def __init__(self, receiver: Receiver, filters: Filters, printer: Printer) -> None:
        self._receiver = receiver
        self._filters = filters
        self._printer = printer
        self._last = 0

    def take(self) -> tuple[list[Record], int]:
        """Returns the records since the last call, and how many came in between that nobody has kept."""
        before = self._last
        self._last, lines = self._receiver.journal.after(before)
        records = [json.loads(line) for line in lines]
        return [record for record in records if self._filters.matches(record)], self._last - before - len(lines)

    def print_new(self) -> None:
        """Print them, in the order of their times: those of several senders may have come in another."""
        records, missed = self.take()
        if missed:
            click.echo(f"... {missed:,} records came too fast to be shown; they are in the files")
        self._printer.print(sort_by_time(records))


def _print(tail: Tail, interruption: Interruption) -> None:
    while not interruption.asked:
        tail.print_new()
        time.sleep(TAIL_INTERVAL)


def _watch(
    receiver: Receiver,
    tail: Tail,
    interruption: Interruption,
    console: Console,
    live: Live | None,
    *,
    with_traces: bool,
) -> None:
    from otelog.cli.show.screen import KEPT_RECORDS

    latest: deque[Record] = deque(maxlen=KEPT_RECORDS)
    said, said_records = time.monotonic(), 0
    while not interruption.asked:
        time.sleep(SCREEN_INTERVAL)
        stats: dict[str, Any] = receiver.stats()
        if live is not None:
            latest.extend(tail.take()[0])
            live.update(_show(receiver, stats, latest, console, with_traces=with_traces), refresh=True)
        elif time.monotonic() - said >= PLAIN_INTERVAL and stats["records"] != said_records:
            said, said_records = time.monotonic(), stats["records"]
            click.echo(f"{said_records:,} records from {len(stats['instances'])} service instances")


def _show(
    receiver: Receiver, stats: dict[str, Any], latest: Iterable[Record], console: Console, *, with_traces: bool
) -> RenderableType:
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    from otelog.cli.show.screen import MAX_ROWS, show_ledgers, show_records, show_services, show_trace

    refused = f"   {stats['refused_requests']:,} requests refused" if stats["refused_requests"] else ""
    services, ledgers = stats["services"][-MAX_SHOWN:], stats["ledgers"][-MAX_SHOWN:]
    hidden = len(stats["services"]) - len(services)
    free = console.size.height - 11 - len(services) - (len(ledgers) + 2 if ledgers else 0)
    rows = max(3, min(MAX_ROWS, free))
    trace = show_trace(latest, rows=free - min(rows, ROWS_BESIDE_TRACE) - 1) if with_traces else None
    if trace is not None:
        rows = max(ROWS_BESIDE_TRACE, min(rows, free - 1 - len(trace.plain.split("\n"))))
    parts: list[RenderableType] = [
        Text.assemble(("otelog dev", "bold"), f"   {receiver.url}", ("   Ctrl-C ends it", "dim"), (refused, "red")),
        Text(f"{stats['records']:,} records → {receiver.journal.folder}", "dim", no_wrap=True, overflow="ellipsis"),
        "",
    ]
    if services:
        parts += [show_services(services), Text(f"and {hidden:,} services before" if hidden else "", "dim")]
        if ledgers:
            parts += [show_ledgers(ledgers), ""]
        parts.append(show_records(list(latest), width=console.width - 2, rows=rows))
        if trace is not None:
            parts += ["", trace]
    else:
        parts.append(Text(f"Nothing yet. Send with OTEL_EXPORTER_OTLP_ENDPOINT={receiver.url}", "dim"))
    return Padding(Group(*parts), (1, 1))


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use by another program; choose one with --port, or --port 0 for a free one"
    return f"{host}:{port} cannot be listened on: {error.strerror or error}"
