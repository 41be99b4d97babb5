"""`otelog query`: find records in log files."""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import click

from otelog._severity import level_number, severity_number
from otelog.cli.lines import severity_range
from otelog.cli.log_files import LogFileError, LogFiles, Record
from otelog.exceptions import ConfigurationError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_STYLES: dict[str, dict[str, Any]] = {
    "TRACE": {"dim": True},
    "DEBUG": {"dim": True},
    "INFO": {"fg": "green"},
    "WARN": {"fg": "yellow"},
    "ERROR": {"fg": "red"},
    "FATAL": {"fg": "red", "bold": True},
}
# A record is one line on the screen, and cannot move the cursor or turn the reading direction.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# Of use in the file, noise on a screen.
_HIDDEN_ATTRIBUTES = ("code.", "thread.", "process.", "exception.stacktrace")

Test = Callable[[Record], bool]


def to_moment(value: str) -> datetime:
    """Read an age or an ISO 8601 time; without an offset it is this machine's."""
    if match := _DURATION.fullmatch(value.strip()):
        return datetime.now(timezone.utc) - timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    try:
        return datetime.fromisoformat(value.strip().replace("Z", "+00:00")).astimezone()
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is no time: give an age (90s, 10m, 2h, 1d, 1w) or ISO 8601 (2026-11-24T20:00)"
        ) from None


def to_severity(value: str) -> int:
    """Read a level's name or number; returns the severity number."""
    try:
        return severity_number(level_number(value))
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from None


def to_pair(value: str) -> tuple[str, str]:
    """Read ``field=value``."""
    field, equals, wanted = value.partition("=")
    if not equals or not field:
        raise click.BadParameter(f"{value!r} is not field=value")
    return field, wanted


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--level", type=to_severity, metavar="LEVEL", help="This level and those above.")
@click.option("--since", type=to_moment, metavar="TIME", help="Not before: an age (10m, 2h, 1d) or ISO 8601.")
@click.option("--until", type=to_moment, metavar="TIME", help="Before: an age or ISO 8601.")
@click.option("--logger", help="This logger and those below it.")
@click.option("--service", help="The service's name.")
@click.option("--trace-id", help="The trace's id, or its beginning.")
@click.option("--text", help="What the message contains, in any case.")
@click.option("--where", type=to_pair, metavar="FIELD=VALUE", multiple=True, help="A field is this; may be repeated.")
@click.option("--last", type=click.IntRange(1), help="The last so many of what is found.")
@click.option("--count", is_flag=True, help="How many there are, and nothing else.")
@click.option("--group-by", metavar="FIELD", multiple=True, help="How many there are by a field; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def query(
    files: tuple[Path, ...],
    *,
    level: int | None,
    since: datetime | None,
    until: datetime | None,
    logger: str | None,
    service: str | None,
    trace_id: str | None,
    text: str | None,
    where: tuple[tuple[str, str], ...],
    last: int | None,
    count: bool,
    group_by: tuple[str, ...],
    as_json: bool,
) -> None:
    """Find records in FILES, or in all log files of a folder: those of `otelog dev`, and the Collector's.

    A FIELD is a key of the line (level, logger, service, ...) or an attribute. Files may be packed (.gz, .zst).
    """
    tests = list(_make_tests(level, since, until, logger, service, trace_id, text, where))
    try:
        source = LogFiles(list(files) or [Path("otelog-dev.jsonl")])
        found: Iterable[Record] = (record for record in source if all(test(record) for test in tests))
        if last is not None:
            found = deque(found, maxlen=last)
        if group_by:
            _print_groups(found, group_by, as_json=as_json)
        elif count:
            click.echo(sum(1 for _ in found))
        else:
            for record in found:
                click.echo(json.dumps(record, ensure_ascii=False) if as_json else describe(record))
    except LogFileError as error:
        raise click.ClickException(str(error)) from error
    if source.unreadable:
        click.echo(f"{source.unreadable:,} lines are no records", err=True)


def _make_tests(
    level: int | None,
    since: datetime | None,
    until: datetime | None,
    logger: str | None,
    service: str | None,
    trace_id: str | None,
    text: str | None,
    where: tuple[tuple[str, str], ...],
) -> Iterator[Test]:
    # The cheap ones first.
    if level is not None:
        yield lambda record: severity_of(record) >= level
    if service is not None:
        yield lambda record: record.get("service") == service
    if logger is not None:
        yield lambda record: f"{record.get('logger')}.".startswith(f"{logger}.")
    if trace_id is not None:
        yield lambda record: str(record.get("trace_id") or "").startswith(trace_id.lower())
    if text is not None:
        wanted = text.lower()
        yield lambda record: wanted in _to_text(record.get("message")).lower()
    for field, value in where:
        yield lambda record, field=field, value=value: _to_text(value_of(record, field)) == value  # type: ignore[misc]
    if since is not None:
        yield lambda record: (moment := moment_of(record)) is not None and moment >= since
    if until is not None:
        yield lambda record: (moment := moment_of(record)) is not None and moment < until


def severity_of(record: Record) -> int:
    """Returns a record's severity number, by its level's name where it has none."""
    number = record.get("severity_number")
    if type(number) is int:
        return number
    try:
        return severity_number(level_number(str(record.get("level"))))
    except ConfigurationError:
        return 0


def moment_of(record: Record) -> datetime | None:
    """Returns when a record was made, or None if it does not tell."""
    try:
        return datetime.fromisoformat(record["timestamp"]).astimezone()
    except (KeyError, TypeError, ValueError):
        return None


def value_of(record: Record, field: str) -> Any:
    """Returns the value of a key of the line, or of an attribute, or None."""
    if field in record and field != "attributes":
        return record[field]
    attributes = record.get("attributes")
    return attributes.get(field) if isinstance(attributes, dict) else None


def _to_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def describe(record: Record) -> str:
    """Returns a record as one readable line, with colours that `click.echo` takes out where nobody sees them."""
    moment = moment_of(record)
    when = moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] if moment is not None else "-"
    style = _STYLES.get(severity_range(severity_of(record)), {})
    message = record.get("message")
    parts = [
        click.style(when, dim=True),
        click.style(f"{_safe(record.get('level') or '-'):8}", **style),
        click.style(_safe(record.get("logger") or "-"), fg="cyan"),
        _safe(message if message is not None else record.get("event") or ""),
    ]
    attributes = record.get("attributes")
    for key, value in attributes.items() if isinstance(attributes, dict) else ():
        if not key.startswith(_HIDDEN_ATTRIBUTES):
            parts.append(click.style(f"{_safe(key)}={_safe(value)}", dim=True))
    return " ".join(parts)


def _safe(value: Any) -> str:
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), _to_text(value))


def _print_groups(found: Iterable[Record], fields: tuple[str, ...], *, as_json: bool) -> None:
    counts = Counter(tuple(_to_text(value_of(record, field)) for field in fields) for record in found)
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if as_json:
        for values, number in rows:
            click.echo(json.dumps({**dict(zip(fields, values, strict=True)), "count": number}, ensure_ascii=False))
        return
    table = [fields, *(values for values, _ in rows)]
    widths = [max(len(values[at]) for values in table) for at in range(len(fields))]
    for values, shown in zip(table, ["count", *(f"{number:,}" for _, number in rows)], strict=True):
        cells = (f"{_safe(value):{width}}" for value, width in zip(values, widths, strict=True))
        click.echo(f"{'  '.join(cells)}  {shown:>9}")
