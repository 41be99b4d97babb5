"""`otelog tail`: records as they come, from Loki or from log files."""

from __future__ import annotations

import time
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otelog.cli.search.file_tail import FileTail
from otelog.cli.search.log_files import LogFileError
from otelog.cli.search.loki_filters import build_query, is_metric, to_ns
from otelog.cli.search.loki_records import to_record
from otelog.cli.search.loki_source import choose, loki_options, stream_option
from otelog.cli.search.query import DEFAULT_FOLDER
from otelog.cli.show.filters import Filters, filter_options, to_moment
from otelog.cli.show.interruption import Interruption
from otelog.cli.show.printer import Form, Printer, form_options
from otelog.cli.show.readable import safe
from otelog.exceptions import ConfigurationError

if TYPE_CHECKING:
    from otelog.loki import LokiClient

POLL_INTERVAL = 0.2
"""Seconds between two looks at the files, and how long Ctrl-C may take."""


@click.command()
@click.argument("words", nargs=-1, metavar="[LOGQL | FILES...]")
@loki_options
@click.option("--since", type=to_moment, metavar="TIME", help="Begin with what is there since: an age or ISO 8601.")
@filter_options(times=False)
@stream_option
@form_options()
@click.pass_context
def tail(
    context: click.Context,
    words: tuple[str, ...],
    *,
    loki: str,
    loki_token_file: Path | None,
    filters: Filters,
    streams: tuple[str, ...],
    form: Form,
) -> None:
    """Show records as they come, from Loki by LOGQL, or from FILES or the log files of a folder; Ctrl-C ends it.

    Without an argument Loki is followed if one answers, and the folder otelog-dev otherwise. What Loki's live stream
    leaves out, in a burst or when the connection is cut, is asked for and follows some seconds later.
    """
    client, logql, files = choose(context, words, loki=loki, loki_token_file=loki_token_file, folder=DEFAULT_FOLDER)
    printer = Printer(form, live=True)
    with Interruption() as interruption:
        try:
            if client is None:
                _follow_files(files or [DEFAULT_FOLDER], filters, streams, interruption, printer)
            else:
                with client:
                    _follow_loki(client, logql, filters, interruption, printer)
        except ConfigurationError as error:
            raise click.UsageError(str(error)) from error
        except LogFileError as error:
            raise click.ClickException(str(error)) from error


def _follow_loki(
    client: LokiClient, logql: str | None, filters: Filters, interruption: Interruption, printer: Printer
) -> None:
    if logql is not None and is_metric(logql):
        raise click.UsageError("only a query that gives lines can be followed")
    from otelog.loki import LokiError

    text = build_query(logql, filters)
    start = None if filters.since is None else to_ns(filters.since)
    try:
        with client.tail(text, start=start, on_notice=lambda notice: click.echo(safe(notice), err=True)) as live:
            while not interruption.asked:
                # In the order of their times, as far as they came together: streams come one after the other.
                found = sorted(live.poll(POLL_INTERVAL), key=attrgetter("timestamp_ns"))
                printer.print(map(to_record, found))
    except LokiError as error:
        raise click.ClickException(str(error)) from error


def _follow_files(
    paths: list[Path], filters: Filters, streams: tuple[str, ...], interruption: Interruption, printer: Printer
) -> None:
    live = FileTail(paths, filters, streams)
    try:
        if filters.since is not None:
            for record in live.read_past():
                if interruption.asked:
                    break
                printer.print([record])
        while not interruption.asked:
            found = live.read()
            printer.print(found)
            if not found:
                time.sleep(POLL_INTERVAL)
    finally:
        live.close()
    if live.unreadable:
        click.echo(f"{live.unreadable:,} lines are no records", err=True)
