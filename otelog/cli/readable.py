"""A record as one readable line for a terminal."""

from __future__ import annotations

import re
from typing import Any

import click

from otelog._severity import severity_range
from otelog.cli.filters import Record, moment_of, severity_of, to_text
from otelog.sinks._line import LINE_KEYS

_STYLES: dict[str, dict[str, Any]] = {
    "trace": {"dim": True},
    "debug": {"dim": True},
    "info": {"fg": "green"},
    "warn": {"fg": "yellow"},
    "error": {"fg": "red"},
    "fatal": {"fg": "red", "bold": True},
}
# A record is one line on the screen, and cannot move the cursor or turn the reading direction.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
# Of use in the file, noise on a screen.
_HIDDEN_FIELDS = ("code.", "thread.", "process.", "exception.stacktrace", "service.instance.id")
# Keys that are shown in a place of their own, or not at all; the last ones are of older lines.
_NO_FIELDS = frozenset((*LINE_KEYS, "attributes", "severity_number", "service", "instance", "event"))


def describe(record: Record) -> str:
    """Returns a record as one readable line, with colours that `click.echo` takes out where nobody sees them."""
    moment = moment_of(record)
    when = moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] if moment is not None else "-"
    style = _STYLES.get(severity_range(severity_of(record)), {})
    message = record.get("message")
    parts = [
        click.style(when, dim=True),
        click.style(f"{safe(record.get('level') or '-'):8}", **style),
        click.style(safe(record.get("logger") or "-"), fg="cyan"),
        safe(message if message is not None else record.get("event_name") or record.get("event") or ""),
    ]
    parts += [
        click.style(f"{safe(key)}={safe(value)}", dim=True)
        for key, value in fields_of(record).items()
        if not key.startswith(_HIDDEN_FIELDS)
    ]
    return " ".join(parts)


def fields_of(record: Record) -> Record:
    """Returns the fields of a record, of a line of today or an older one."""
    attributes = record.get("attributes")
    if isinstance(attributes, dict) and "severity_number" in record:
        return attributes
    return {key: value for key, value in record.items() if key not in _NO_FIELDS}


def safe(value: Any) -> str:
    """Returns a value's text with escapes for what could end a line or steer a terminal."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), to_text(value))
