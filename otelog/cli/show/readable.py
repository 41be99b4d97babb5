"""A record out of a file as one readable line for a terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from otelog.cli.show.filters import Record, to_text
from otelog.sinks._line import EVENT_KEY, LINE_KEYS, hide
from otelog.sinks._readable import STACK_INDENT, Piece, describe_stacks, safe_text
from otelog.sinks._readable import describe as describe_values
from otelog.sinks._stack_text import STACK_KEYS, read_stack

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
# What stands on a record's first line, in full.
_IN_HEAD = ("level", "logger", "message")
# Keys that are shown in a place of their own, or not at all; the last ones are of older lines.
_NO_FIELDS = frozenset((*LINE_KEYS, "attributes", "severity_number", "service", "instance", "event"))


class FullRecord(Record):
    """A record with what its source says beside what a line has a place for.

    Args:
        record: The record.
        sections: Further values by the name of what they are of: the resource, the scope.
    """

    __slots__ = ("sections",)

    def __init__(self, record: Record, sections: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(record)
        self.sections = sections


def describe(record: Record, *, traces: bool = False) -> str:
    """Returns a record as one readable line, with colours that `click.echo` takes out where nobody sees them.

    Args:
        record: The record.
        traces: Whether its stack traces follow, on lines of their own.
    """
    fields = {key: value for key, value in fields_of(record).items() if key != _HIDDEN_FIELD}
    if record.get("event"):
        fields = {EVENT_KEY: record["event"], **fields}
    pieces = describe_values(record, fields=fields, date=True, stacks=False)
    return _paint([*pieces, *(describe_stacks(fields) if traces else ())])


def has_trace(record: Record) -> bool:
    """Returns whether there is a stack trace to be shown of a record."""
    return any(read_stack(fields_of(record).get(key)) for key in STACK_KEYS)


def describe_fully(record: Record, *, traces: bool = True) -> str:
    """Returns everything that is known of a record, a value a line below its message, with colours as `describe`.

    Args:
        record: The record; a `FullRecord` has its resource and scope, too.
        traces: Whether its stack traces are among it.
    """
    fields = fields_of(record)
    pieces = describe_values(record, fields={}, date=True, stacks=False)
    pieces += _list_values({key: record.get(key) for key in LINE_KEYS if key not in _IN_HEAD}, STACK_INDENT)
    event = {EVENT_KEY: record["event"]} if record.get("event") else {}
    attributes = {key: value for key, value in {**event, **fields}.items() if key not in STACK_KEYS}
    sections = record.sections if isinstance(record, FullRecord) else {}
    for name, values in {"attributes": attributes, **sections}.items():
        if listed := _list_values(values, STACK_INDENT * 2):
            pieces += [Piece(f"\n{STACK_INDENT}", ""), Piece(safe_text(name), "cyan"), *listed]
    for key in STACK_KEYS if traces else ():
        if shown := describe_stacks({key: fields.get(key)}, STACK_INDENT * 2):
            pieces += [Piece(f"\n{STACK_INDENT}", ""), Piece(key, "cyan"), *shown]
    return _paint(pieces)


def _list_values(values: Mapping[str, Any], indent: str) -> list[Piece]:
    pieces = []
    for key, value in values.items():
        if value is None:
            continue
        pieces += [Piece(f"\n{indent}", ""), Piece(f"{safe_text(key)}: ", "dim")]
        # A statement or a document of several lines is easier to read in these.
        first, *others = to_text(value).rstrip("\n").split("\n")
        pieces.append(Piece(safe_text(first), ""))
        for line in others:
            pieces += [Piece(f"\n{indent}{STACK_INDENT}", ""), Piece(safe_text(line), "")]
    return pieces


def _paint(pieces: Iterable[Piece]) -> str:
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
