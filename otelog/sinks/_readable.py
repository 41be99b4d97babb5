"""What a record looks like to a person: from a line's values to pieces of text with styles. Pure; rich is optional."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from otelog._record.severity import SEVERITY_RANGES, level_number, severity_number, severity_range
from otelog._runtime.shown_text import show_hidden
from otelog.exceptions import ConfigurationError
from otelog.sinks._line import EVENT_KEY, LINE_KEYS
from otelog.sinks._stack_text import STACK_KEYS, find_raised, read_stack

if TYPE_CHECKING:
    from rich.text import Text

LEVEL_STYLES = {
    "trace": "dim",
    "debug": "dim",
    "info": "green",
    "warn": "yellow",
    "error": "red",
    "fatal": "bold red",
    "unspecified": "",
}
"""A level's style, by the name of its range."""

LEVEL_WIDTH = 8
TRACE_DIGITS = 8
"""Columns of a level, and the digits of a trace's id that are shown."""

STACK_INDENT = "    "

_NEEDS_QUOTES = re.compile(r'[\s="]')
# Of use in a file, noise on a screen.
_NOISE = ("code.", "thread.", "process.")
_EXCEPTION_KEYS = ("exception.type", "exception.message")


class Piece(NamedTuple):
    """A part of what is shown, and its style in rich's words; "" for none."""

    text: str
    style: str


def describe(
    values: Mapping[str, Any], *, fields: Mapping[str, Any] | None = None, date: bool = False, stacks: bool = True
) -> list[Piece]:
    """Describe a record on one line: time, level, logger, message, fields, and the beginning of the trace's id.

    Where the code is, the thread and the process are left out. Stack traces follow on lines of their own.

    Args:
        values: A line's values, by the keys of `otelog.sinks._line.LINE_KEYS`; any may be missing.
        fields: The record's fields; by default all other values.
        date: Whether the day stands before the time.
        stacks: Whether stack traces are shown; the exception's type and message are, in any case.

    Returns:
        The pieces, without a line end at the end. Nothing in them but the ends of the lines of a stack trace ends a
        line or steers a terminal.

    Never raises for values that came out of JSON. Safe in any thread.
    """
    if fields is None:
        fields = {key: value for key, value in values.items() if key not in LINE_KEYS}
    level = values.get("level") or "-"
    message = values.get("message")
    if message is None:
        message = fields.get(EVENT_KEY, "")
        fields = {key: value for key, value in fields.items() if key != EVENT_KEY}
    style = level_style(level)
    pieces = [
        Piece(_time_of(values.get("timestamp"), date), "dim"),
        Piece(" ", ""),
        Piece(f"{safe_text(level):{LEVEL_WIDTH}}", style),
    ]
    if values.get("logger"):
        pieces += [Piece(" ", ""), Piece(safe_text(values["logger"]), "cyan")]
    # The level's colour, where the message should not be overlooked.
    pieces += [Piece(" ", ""), Piece(safe_text(message), style if style.endswith("red") else "")]
    if raised := describe_exception(fields, stacks=stacks):
        pieces += [Piece(" ", ""), Piece(raised, "red")]
    for key, value in fields.items():
        if not key.startswith(_NOISE) and key not in STACK_KEYS and key not in _EXCEPTION_KEYS:
            pieces += [Piece(" ", ""), Piece(f"{safe_text(key)}={quote(value)}", "dim")]
    if values.get("trace_id"):
        pieces += [Piece(" ", ""), Piece(f"trace={safe_text(values['trace_id'])[:TRACE_DIGITS]}", "dim")]
    return [*pieces, *describe_stacks(fields)] if stacks else pieces


def describe_exception(fields: Mapping[str, Any], *, stacks: bool) -> str:
    """Returns type and message of a record's exception, on one line, or "".

    A record that a queue or another process has brought may have nothing but the stack trace: then what that says.

    Args:
        fields: The record's fields.
        stacks: Whether stack traces are shown below: then what they say is not said twice.
    """
    stack = fields.get("exception.stacktrace")
    given = [fields[key] for key in _EXCEPTION_KEYS if fields.get(key) not in (None, "")]
    if not given:
        return "" if stacks else "\\n".join(find_raised(read_stack(stack)))
    if stacks and isinstance(stack, str):
        kind, message = (str(fields.get(key) or "") for key in _EXCEPTION_KEYS)
        # The type may be there without its module; the message has a margin from its second line on in a group.
        if kind.rpartition(".")[2] in stack and message.partition("\n")[0] in stack:
            return ""
    return ": ".join(map(safe_text, given))


def describe_stacks(fields: Mapping[str, Any], indent: str = STACK_INDENT) -> list[Piece]:
    """Returns the stack traces among a record's fields, each line with a line end before it; library frames are dim."""
    pieces: list[Piece] = []
    for key in STACK_KEYS:
        for line in read_stack(fields.get(key)):
            pieces += [Piece("\n", ""), Piece(indent + line.text, line.style)]
    return pieces


def to_plain(pieces: Sequence[Piece]) -> str:
    """Returns the text without its styles."""
    return "".join(text for text, _ in pieces)


def to_text(pieces: Sequence[Piece]) -> Text:
    """Returns the text as rich's, which must be installed."""
    from rich.text import Text

    return Text.assemble(*pieces)


def find_painter(stream: Any) -> Callable[[Sequence[Piece]], str]:
    """Returns what makes text of pieces for a stream, with the colours that rich thinks right for it.

    Rich knows ``NO_COLOR``, ``FORCE_COLOR`` and what the terminal can show. Without it there are no colours.
    """
    try:
        from rich.console import COLOR_SYSTEMS, Console
        from rich.style import Style
    except ImportError:
        return to_plain
    console = Console(file=stream)
    if console.color_system is None:
        return to_plain
    system = COLOR_SYSTEMS[console.color_system]
    colourless = console.no_color

    def paint(pieces: Sequence[Piece]) -> str:
        parts = []
        for text, name in pieces:
            if name:
                style = Style.parse(name)
                parts.append((style.without_color if colourless else style).render(text, color_system=system))
            else:
                parts.append(text)
        return "".join(parts)

    return paint


def level_style(level: object) -> str:
    """Returns the style of a level, by its name or its range's."""
    name = str(level)
    try:
        return LEVEL_STYLES[severity_range(severity_number(level_number(name)))]
    except ConfigurationError:
        return LEVEL_STYLES.get(name.lower() if name.lower() in SEVERITY_RANGES else "unspecified", "")


def safe_text(value: object) -> str:
    """Returns a value as text of one line that steers nothing: what would is written as Python writes it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return show_hidden(text)


def quote(value: object) -> str:
    """Returns a field's value as `safe_text`, in quotation marks where it could not be told from the next field."""
    text = safe_text(value)
    if isinstance(value, str) and (not value or _NEEDS_QUOTES.search(value)):
        return f'"{text}"'
    return text


def _time_of(timestamp: object, date: bool) -> str:
    text = safe_text(timestamp or "")
    moment = text[11:23] or "-"
    return f"{text[:10]} {moment}" if date else moment
