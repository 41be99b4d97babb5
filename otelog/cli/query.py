"""`otelog query`: find records in log files."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable
from pathlib import Path

import click

from otelog.cli.filters import Filters, Record, filter_options
from otelog.cli.log_files import LogFileError, find_files
from otelog.cli.readable import describe, safe
from otelog.cli.search import Search, count_by
from otelog.sinks._settings import STREAMS

DEFAULT_FOLDER = Path("otelog-dev")


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@filter_options(times=True)
@click.option(
    "--stream",
    "streams",
    type=click.Choice(STREAMS),
    multiple=True,
    default=("app",),
    show_default=True,
    help="Which files of a folder that otelog writes; may be repeated.",
)
@click.option("--last", type=click.IntRange(1), help="The last so many of what is found.")
@click.option("--count", is_flag=True, help="How many there are, and nothing else.")
@click.option("--group-by", metavar="FIELD", multiple=True, help="How many there are by a field; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def query(
    files: tuple[Path, ...],
    *,
    filters: Filters,
    streams: tuple[str, ...],
    last: int | None,
    count: bool,
    group_by: tuple[str, ...],
    as_json: bool,
) -> None:
    """Find records in FILES, or in the log files of a folder: otelog's own, and the Collector's.

    A FIELD is a key of the line (level, logger, service, ...) or an attribute. Files may be packed (.gz, .zst). In a
    folder app.log and its rotated files are meant; an error is in errors.log as well, and would be counted twice. Large
    files are searched by DuckDB where that is installed (otelog[query]).
    """
    try:
        search = Search(find_files(files or [DEFAULT_FOLDER], streams), filters)
        if group_by or count:
            counts = (
                search.group(group_by) if last is None else count_by(deque(search.records(), maxlen=last), group_by)
            )
            if group_by:
                _print_groups(counts, group_by, as_json=as_json)
            else:
                click.echo(sum(counts.values()))
        else:
            found: Iterable[Record] = search.records() if last is None else deque(search.records(), maxlen=last)
            for record in found:
                click.echo(json.dumps(record, ensure_ascii=False) if as_json else describe(record))
    except LogFileError as error:
        raise click.ClickException(str(error)) from error
    if search.unreadable:
        click.echo(f"{search.unreadable:,} lines are no records", err=True)


def _print_groups(counts: Counter[tuple[str, ...]], fields: tuple[str, ...], *, as_json: bool) -> None:
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if as_json:
        for values, number in rows:
            click.echo(json.dumps({**dict(zip(fields, values, strict=True)), "count": number}, ensure_ascii=False))
        return
    table = [fields, *(values for values, _ in rows)]
    widths = [max(len(values[at]) for values in table) for at in range(len(fields))]
    for values, shown in zip(table, ["count", *(f"{number:,}" for _, number in rows)], strict=True):
        cells = (f"{safe(value):{width}}" for value, width in zip(values, widths, strict=True))
        click.echo(f"{'  '.join(cells)}  {shown:>9}")
