"""Which records are meant: the filters that `otelog query` and `otelog dev` share, and what they read of a record."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from operator import itemgetter
from typing import Any

import click

from otelog._record.severity import SEVERITY_RANGES, level_number, severity_number, severity_range
from otelog.exceptions import ConfigurationError

Record = dict[str, Any]
"""One record, with the keys of a line."""

LONG_AGO = datetime.min.replace(tzinfo=timezone.utc)
"""When a record was made that tells no time, and has none before it."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNNAMED_LEVEL = re.compile(r"Level ([0-9]{1,9})")
# What a record has that came over OTLP without a text of its own for its severity.
_RANGE_NUMBERS = {name.upper(): max(0, 4 * at - 3) for at, name in enumerate(SEVERITY_RANGES)}


@dataclass(frozen=True, slots=True)
class Filters:
    """What is asked of a record; None, or no pair, asks nothing.

    Args:
        level: The least severity number.
        since: Not before.
        until: Before.
        logger: A logger's name; those below it are meant, too.
        service: The service's name.
        trace_id: The trace's id, or its beginning.
        text: What the message contains, in any case.
        where: Fields with the text of their value.
    """

    level: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    logger: str | None = None
    service: str | None = None
    trace_id: str | None = None
    text: str | None = None
    where: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return self != Filters()

    def asked(self) -> list[tuple[str, str]]:
        """Returns what is asked, by the options' names."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        pairs = [("where", f"{field}={value}") for field, value in values.pop("where")]
        level = values.pop("level")
        if level is not None:
            pairs.append(("level", f"{severity_range(level)} ({level})"))
        for name, value in values.items():
            if value is not None:
                pairs.append((name, f"{value:%Y-%m-%dT%H:%M:%S%z}" if isinstance(value, datetime) else str(value)))
        return pairs

    def matches(self, record: Record) -> bool:
        """Returns whether the record is meant. Never raises."""
        # The cheap ones first.
        if self.level is not None and severity_of(record) < self.level:
            return False
        if self.service is not None and service_of(record) != self.service:
            return False
        if self.logger is not None and not f"{record.get('logger') or ''}.".startswith(f"{self.logger}."):
            return False
        if self.trace_id is not None and not str(record.get("trace_id") or "").startswith(self.trace_id.lower()):
            return False
        if self.text is not None and self.text.lower() not in to_text(record.get("message")).lower():
            return False
        if any(to_text(value_of(record, field)) != value for field, value in self.where):
            return False
        if self.since is None and self.until is None:
            return True
        moment = moment_of(record)
        if moment is None:
            return False
        return (self.since is None or moment >= self.since) and (self.until is None or moment < self.until)


def filter_options(*, times: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `Filters`; it is called with one argument `filters` instead of them.

    Args:
        times: Whether the command takes ``--since`` and ``--until``.
    """
    options = [
        click.option("--level", type=to_severity, metavar="LEVEL", help="This level and those above."),
        click.option("--logger", help="This logger and those below it."),
        click.option("--service", help="The service's name."),
        click.option("--trace-id", help="The trace's id, or its beginning."),
        click.option("--text", help="What the message contains, in any case."),
        click.option(
            "--where", type=to_pair, metavar="FIELD=VALUE", multiple=True, help="A field is this; may be repeated."
        ),
    ]
    if times:
        options[1:1] = [
            click.option("--since", type=to_moment, metavar="TIME", help="Not before: an age (10m, 1d) or ISO 8601."),
            click.option("--until", type=to_moment, metavar="TIME", help="Before: an age or ISO 8601."),
        ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def call(**values: Any) -> None:
            asked = {one.name: values.pop(one.name) for one in fields(Filters) if one.name in values}
            command(filters=Filters(**asked), **values)

        for option in reversed(options):
            call = option(call)
        return call

    return decorate


def to_moment(value: str) -> datetime:
    """Read an age or an ISO 8601 time; without an offset it is this machine's."""
    try:
        if match := _DURATION.fullmatch(value.strip()):
            return datetime.now(timezone.utc) - timedelta(seconds=float(match[1]) * _UNITS[match[2]])
        return datetime.fromisoformat(value.strip().replace("Z", "+00:00")).astimezone()
    except (ValueError, OverflowError):
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


def severity_of(record: Record) -> int:
    """Returns a record's severity number, by its level's name where it has none; 0 if that name is not known here."""
    number = record.get("severity_number")
    return number if type(number) is int else severity_of_level(str(record.get("level")))


def severity_of_level(name: str) -> int:
    """Returns the severity number of a level's name, or 0."""
    if unnamed := _UNNAMED_LEVEL.fullmatch(name):
        return severity_number(int(unnamed[1]))
    try:
        return severity_number(level_number(name))
    except ConfigurationError:
        return _RANGE_NUMBERS.get(name.upper(), 0)


def moment_of(record: Record) -> datetime | None:
    """Returns when a record was made, or None if it does not tell."""
    try:
        return datetime.fromisoformat(record["timestamp"]).astimezone()
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def sort_by_time(records: Iterable[Record]) -> list[Record]:
    """Returns records that came together in the order of their times.

    Those of the same time, and those that tell none, stay behind those before them.
    """
    found: list[tuple[datetime, Record]] = []
    last = LONG_AGO
    for record in records:
        last = moment_of(record) or last
        found.append((last, record))
    found.sort(key=itemgetter(0))
    return [record for _, record in found]


def service_of(record: Record) -> Any:
    """Returns the service's name: the field of today, or the key of older lines."""
    return record["service.name"] if "service.name" in record else record.get("service")


def value_of(record: Record, field: str) -> Any:
    """Returns the value of a field, or None; ``service`` is the service's name, whatever the line calls it."""
    if field == "service":
        return service_of(record)
    if field in record and field != "attributes":
        return record[field]
    attributes = record.get("attributes")
    return attributes.get(field) if isinstance(attributes, dict) else None


def to_text(value: Any) -> str:
    """Returns a value as it is compared and shown: a string as it is, anything else as JSON, null as nothing."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
