"""`otelog query`: find records in Loki or in log files."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable
from pathlib import Path

import click

from otelog.cli.search.log_files import LogFileError, find_files
from otelog.cli.search.loki_filters import build_query, find_labels, is_metric, to_ns
from otelog.cli.search.loki_records import to_record
from otelog.cli.search.loki_source import choose, loki_options, stream_option
from otelog.cli.search.search import Search, count_by
from otelog.cli.show.filters import Filters, Record, filter_options
from otelog.cli.show.printer import Form, Printer, form_options
from otelog.cli.show.readable import safe, to_json
from otelog.loki import LokiClient, LokiError, Sample

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
        with client:
            try:
                _ask_loki(client, logql, filters, last=last, count=count, group_by=group_by, form=form)
            except LokiError as error:
                raise click.ClickException(str(error)) from error
        return
    try:
        search = Search(find_files(files or [DEFAULT_FOLDER], streams), filters)
        if group_by or count:
            counts = (
                search.group(group_by) if last is None else count_by(deque(search.records(), maxlen=last), group_by)
            )
            _print_counts(counts, group_by, as_json=form.as_json)
        else:
            _print_records(search.records() if last is None else deque(search.records(), maxlen=last), form)
    except LogFileError as error:
        raise click.ClickException(str(error)) from error
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
        _print_samples(client.query_instant(logql), as_json=form.as_json)
        return
    text = build_query(logql, filters)
    end = time.time_ns() if filters.until is None else to_ns(filters.until)
    start = end - LOKI_SECONDS * 1_000_000_000 if filters.since is None else to_ns(filters.since)
    names = find_labels(group_by)
    if (count or group_by) and last is None and names is not None:
        counts = client.count_by(text, names, start=start, end=end)
        _print_counts(counts, group_by, as_json=form.as_json)
        return
    if last is None:
        found: Iterable[Record] = map(to_record, client.query_range(text, start=start, end=end, direction="forward"))
    else:
        latest = list(client.query_range(text, start=start, end=end, limit=last))
        found = map(to_record, reversed(latest))
    if count or group_by:
        _print_counts(count_by(found, group_by), group_by, as_json=form.as_json)
    else:
        _print_records(found, form)


def _print_records(records: Iterable[Record], form: Form) -> None:
    printer = Printer(form, live=False)
    printer.print(records)
    printer.end()


def _print_counts(counts: Counter[tuple[str, ...]], fields: tuple[str, ...], *, as_json: bool) -> None:
    if fields:
        _print_groups(counts, fields, as_json=as_json)
    else:
        click.echo(sum(counts.values()))


def _print_samples(samples: Iterable[Sample], *, as_json: bool) -> None:
    for sample in sorted(samples, key=lambda one: (-one.value, sorted(one.labels.items()))):
        if as_json:
            click.echo(to_json({**sample.labels, "value": sample.value}))
        else:
            labels = " ".join(f"{safe(name)}={safe(value)}" for name, value in sorted(sample.labels.items()))
            click.echo(f"{sample.value:>12,.12g}  {labels}".rstrip())


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
