"""A record out of a file as one readable line for a terminal."""

from __future__ import annotations

import json
from typing import Any

import click

from otelog.cli.show.filters import Record, to_text
from otelog.sinks._line import EVENT_KEY, LINE_KEYS, hide
from otelog.sinks._readable import describe as describe_values
from otelog.sinks._readable import safe_text

# The styles of `otelog.sinks._readable`, which are rich's, in click's words.
_STYLES: dict[str, dict[str, Any]] = {
    "dim": {"dim": True},
    "green": {"fg": "green"},
    "yellow": {"fg": "yellow"},
    "red": {"fg": "red"},
    "bold red": {"fg": "red", "bold": True},
    "cyan": {"fg": "cyan"},
}
# Of use in the file, noise on a screen.
_HIDDEN_FIELD = "service.instance.id"
# Keys that are shown in a place of their own, or not at all; the last ones are of older lines.
_NO_FIELDS = frozenset((*LINE_KEYS, "attributes", "severity_number", "service", "instance", "event"))


def describe(record: Record) -> str:
    """Returns a record as one readable line, with colours that `click.echo` takes out where nobody sees them."""
    fields = {key: value for key, value in fields_of(record).items() if key != _HIDDEN_FIELD}
    if record.get("event"):
        fields = {EVENT_KEY: record["event"], **fields}
    pieces = describe_values(record, fields=fields, date=True, stacks=False)
    return "".join(click.style(text, **_STYLES[style]) if style else text for text, style in pieces)


def fields_of(record: Record) -> Record:
    """Returns the fields of a record, of a line of today or an older one."""
    attributes = record.get("attributes")
    if isinstance(attributes, dict) and "severity_number" in record:
        return attributes
    return {key: value for key, value in record.items() if key not in _NO_FIELDS}


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Returns JSON-ready data as JSON, with escapes for what would end a line or steer a terminal."""
    return hide(json.dumps(value, ensure_ascii=False, indent=indent))


def safe_lines(text: str) -> str:
    """Returns a text of several lines, each of which is as `safe` makes it."""
    return "\n".join(map(safe_text, text.split("\n")))


def safe(value: Any) -> str:
    """Returns a value's text with escapes for what could end a line or steer a terminal."""
    return safe_text(to_text(value))
