"""`otelog query`: find records in Loki or in log files."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otelog._runtime.shown_text import hide_secrets
from otelog.cli.search.log_files import LogFileError, find_files
from otelog.cli.search.loki_filters import build_query, find_labels, is_metric, to_ns
from otelog.cli.search.loki_records import to_record
from otelog.cli.search.loki_source import choose, loki_options, stream_option
from otelog.cli.search.search import Search, count_by
from otelog.cli.show.filters import Filters, Record, filter_options
from otelog.cli.show.printer import Form, Printer, form_options
from otelog.cli.show.readable import safe, to_json

if TYPE_CHECKING:
    from otelog.loki import LokiClient, Sample

DEFAULT_FOLDER = Path("otelog-dev")
LOKI_SECONDS = 3600
"""How far back Loki is asked without --since."""


@click.command()
@click.argument("words", nargs=-1, metavar="[LOGQL | FILES...]")
@loki_options
@filter_options(times=True)
@stream_option
@click.option("--last", type=click.IntRange(1), help="The last so many of what is found.")
@click.option("--count", is_flag=True, help="How many there are, and nothing else.")
@click.option("--group-by", metavar="FIELD", multiple=True, help="How many there are by a field; may be repeated.")
@form_options()
@click.pass_context
def query(
    context: click.Context,
    words: tuple[str, ...],
    *,
    loki: str,
    loki_token_file: Path | None,
    filters: Filters,
    streams: tuple[str, ...],
    last: int | None,
    count: bool,
    group_by: tuple[str, ...],
    form: Form,
) -> None:
    """Find records in Loki by LOGQL, in FILES, or in the log files of a folder: otelog's own, and the Collector's.

    LOGQL such as '{service_name="checkout"} |= "paid"' is narrowed by the filters; a metric query such as
    'sum(count_over_time({service_name="checkout"}[5m]))' gives numbers. Loki is asked for the last hour, unless
    --since says otherwise. Without an argument it is asked if one answers, and the folder otelog-dev is read otherwise.

    A record is one line: time, level, logger, message, exception, fields. --full shows all of it. An exception's stack
    trace is below its record on a terminal, and with -x anywhere; the frames of libraries are dim there.

    A FIELD is a key of the line (level, logger, service, ...) or an attribute. Files may be packed (.gz, .zst). In a
    folder app.log and its rotated files are meant; an error is in errors.log as well, and would be counted twice. Large
    files are searched by DuckDB where that is installed (otelog[query]).
    """
    client, logql, files = choose(context, words, loki=loki, loki_token_file=loki_token_file, folder=DEFAULT_FOLDER)
    if client is not None:
        from otelog.loki import LokiError

        with client:
            try:
                _ask_loki(client, logql, filters, last=last, count=count, group_by=group_by, form=form)
            except LokiError as error:
                raise click.ClickException(str(error)) from error
        return
    try:
        paths = find_files(files or [DEFAULT_FOLDER], streams)
        search = Search(paths, filters)
        if group_by or count:
            counts = (
                search.group(group_by) if last is None else count_by(deque(search.records(), maxlen=last), group_by)
            )
            matched = _print_counts(counts, group_by, as_json=form.as_json)
        else:
            matched = _print_records(search.records() if last is None else deque(search.records(), maxlen=last), form)
    except LogFileError as error:
        raise click.ClickException(str(error)) from error
    if not matched:
        _say_nothing(f"of {search.count_looked_at():,} records in {_name(paths)}", filters)
    if search.unreadable:
        click.echo(f"{search.unreadable:,} lines are no records", err=True)


def _ask_loki(
    client: LokiClient,
    logql: str | None,
    filters: Filters,
    *,
    last: int | None,
    count: bool,
    group_by: tuple[str, ...],
    form: Form,
) -> None:
    if logql is not None and is_metric(logql):
        if filters or last is not None or count or group_by:
            raise click.UsageError("a metric query has its time and filters in itself; --json alone goes with it")
        if not _print_samples(client.query_instant(logql), as_json=form.as_json):
            _say_nothing(f"in Loki at {client.url} by {logql}", filters)
        return
    text = build_query(logql, filters)
    end = time.time_ns() if filters.until is None else to_ns(filters.until)
    start = end - LOKI_SECONDS * 1_000_000_000 if filters.since is None else to_ns(filters.since)
    names = find_labels(group_by)
    if (count or group_by) and last is None and names is not None:
        counts = client.count_by(text, names, start=start, end=end)
        if not _print_counts(counts, group_by, as_json=form.as_json):
            _say_nothing_of_loki(client, text, start, end)
        return
    if last is None:
        found: Iterable[Record] = map(to_record, client.query_range(text, start=start, end=end, direction="forward"))
    else:
        latest = list(client.query_range(text, start=start, end=end, limit=last))
        found = map(to_record, reversed(latest))
    if count or group_by:
        matched = _print_counts(count_by(found, group_by), group_by, as_json=form.as_json)
    else:
        matched = _print_records(found, form)
    if not matched:
        _say_nothing_of_loki(client, text, start, end)


def _print_records(records: Iterable[Record], form: Form) -> int:
    number = 0

    def count() -> Iterator[Record]:
        nonlocal number
        for record in records:
            number += 1
            yield record

    printer = Printer(form, live=False)
    printer.print(count())
    printer.end()
    return number


def _print_counts(counts: Counter[tuple[str, ...]], fields: tuple[str, ...], *, as_json: bool) -> int:
    if not fields:
        click.echo(sum(counts.values()))
    elif counts:
        _print_groups(counts, fields, as_json=as_json)
    return sum(counts.values())


def _say_nothing(where: str, filters: Filters) -> None:
    """Say on standard error that nothing matched, so that standard output stays empty."""
    asked = [f"--{name.replace('_', '-')} {value}" for name, value in filters.asked()]
    click.echo(
        safe(hide_secrets(f"nothing matched {where}") + (f", asked: {', '.join(asked)}" if asked else "")), err=True
    )


def _say_nothing_of_loki(client: LokiClient, text: str, start: int, end: int) -> None:
    since, until = (datetime.fromtimestamp(one // 1_000_000_000).astimezone() for one in (start, end))
    click.echo(
        safe(
            f"nothing matched in Loki at {hide_secrets(client.url)} by {text}, "
            f"from {since:%Y-%m-%d %H:%M:%S} to {until:%Y-%m-%d %H:%M:%S %z}"
        ),
        err=True,
    )


def _name(paths: list[Path]) -> str:
    """Returns the files' names, or the first of many."""
    return f"{paths[0]}" if len(paths) == 1 else f"{len(paths)} files, {paths[0]} to {paths[-1].name}"


def _print_samples(samples: Iterable[Sample], *, as_json: bool) -> int:
    ordered = sorted(samples, key=lambda one: (-one.value, sorted(one.labels.items())))
    for sample in ordered:
        if as_json:
            click.echo(to_json({**sample.labels, "value": sample.value}))
        else:
            labels = " ".join(f"{safe(name)}={safe(value)}" for name, value in sorted(sample.labels.items()))
            click.echo(f"{sample.value:>12,.12g}  {labels}".rstrip())
    return len(ordered)


def _print_groups(counts: Counter[tuple[str, ...]], fields: tuple[str, ...], *, as_json: bool) -> None:
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if as_json:
        for values, number in rows:
            click.echo(to_json({**dict(zip(fields, values, strict=True)), "count": number}))
        return
    table = [tuple(map(safe, values)) for values in (fields, *(values for values, _ in rows))]
    widths = [max(len(values[at]) for values in table) for at in range(len(fields))]
    for values, shown in zip(table, ["count", *(f"{number:,}" for _, number in rows)], strict=True):
        cells = (f"{value:{width}}" for value, width in zip(values, widths, strict=True))
        click.echo(f"{'  '.join(cells)}  {shown:>9}")
