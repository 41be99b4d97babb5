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
from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from otelog.cli.children import leave_with_parent
from otelog.cli.interruption import Interruption
from otelog.cli.journal import Journal
from otelog.cli.receiver import Receiver
from otelog.cli.screen import KEPT_RECORDS, MAX_ROWS, show_instances, show_records

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

SCREEN_INTERVAL = 0.25
PLAIN_INTERVAL = 5.0
MAX_INSTANCES = 6


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=4318, show_default=True, help="Port; 0 means any free one."
)
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("otelog-dev.jsonl"),
    show_default=True,
    help="Where the records go, one JSON line each; lines that are there stay.",
)
@click.option("--stop-on-eof", is_flag=True, help="Stop when standard input ends, as a child of another program.")
def dev(host: str, port: int, path: Path, stop_on_eof: bool) -> None:
    """Receive OTLP/HTTP logs on this machine and write them to a file.

    GET /stats has the counts by service instance, GET /records?after=0 the latest records.
    """
    try:
        journal = Journal(path)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from error
    try:
        receiver = Receiver(journal, host=host, port=port)
    except OSError as error:
        journal.close()
        raise click.ClickException(_explain(error, host, port)) from error
    console = Console()
    live = Live(console=console, auto_refresh=False) if console.is_terminal and not console.is_dumb_terminal else None
    with Interruption() as interruption:
        if stop_on_eof:
            leave_with_parent()
        with receiver, live or nullcontext():
            if live is None:
                click.echo(f"listening on {receiver.url} writing {path}")
            _watch(receiver, interruption, console, live)
    journal.close()
    click.echo(f"{receiver.stats()['records']:,} records written to {path}")


def _watch(receiver: Receiver, interruption: Interruption, console: Console, live: Live | None) -> None:
    latest: deque[dict[str, Any]] = deque(maxlen=KEPT_RECORDS)
    last, said, said_records = 0, time.monotonic(), 0
    while not interruption.asked:
        time.sleep(SCREEN_INTERVAL)
        stats: dict[str, Any] = receiver.stats()
        if live is not None:
            last, lines = receiver.journal.after(last)
            latest.extend(json.loads(line) for line in lines[-KEPT_RECORDS:])
            live.update(_show(receiver, stats, latest, console), refresh=True)
        elif time.monotonic() - said >= PLAIN_INTERVAL and stats["records"] != said_records:
            said, said_records = time.monotonic(), stats["records"]
            click.echo(f"{said_records:,} records from {len(stats['instances'])} service instances")


def _show(
    receiver: Receiver, stats: dict[str, Any], latest: Iterable[dict[str, Any]], console: Console
) -> RenderableType:
    refused = f"   {stats['refused_requests']:,} requests refused" if stats["refused_requests"] else ""
    shown = stats["instances"][-MAX_INSTANCES:]
    hidden = len(stats["instances"]) - len(shown)
    rows = max(3, min(MAX_ROWS, console.size.height - 10 - len(shown)))
    parts: list[RenderableType] = [
        Text.assemble(("otelog dev", "bold"), f"   {receiver.url}", ("   Ctrl-C ends it", "dim"), (refused, "red")),
        Text(f"{stats['records']:,} records → {receiver.journal.path}", "dim", no_wrap=True, overflow="ellipsis"),
        "",
    ]
    if shown:
        parts += [show_instances(shown), Text(f"and {hidden:,} instances before" if hidden else "", "dim")]
        parts.append(show_records(list(latest), width=console.width - 2, rows=rows))
    else:
        parts.append(Text(f"Nothing yet. Send with OTEL_EXPORTER_OTLP_ENDPOINT={receiver.url}", "dim"))
    return Padding(Group(*parts), (1, 1))


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use by another program; choose one with --port, or --port 0 for a free one"
    return f"{host}:{port} cannot be listened on: {error.strerror or error}"
