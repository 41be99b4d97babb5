"""Exceptions that another library has written out already: as Python's text, or as dicts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from otelog._record.values import safe_str

_HEADER = "Traceback (most recent call last):"
# What Python writes behind the frames: a name with dots, and perhaps the message.
_LAST = re.compile(r"^([A-Za-z_][\w.<>]*)(?:: ([\s\S]*))?$")
_LOOKS_LIKE_ONE = re.compile(r"^[\w.]*(?:Error|Exception|Warning|Exit|Interrupt|Group|Iteration)(?::|$)")

MOST_TEXT = 64 * 1024
"""Characters of a text that is looked through."""

MOST_STACKS = 64
"""Exceptions of one chain, with the members of its groups, that are written out of dicts."""


def read_text(text: str) -> dict[str, str]:
    """Returns the attributes of an exception that Python, or a library in its manner, has written out.

    The whole text is the stack trace; type and message are there where it is Python's own form.
    """
    attributes = {"exception.stacktrace": text}
    last = _find_last(text)
    found = None if last is None else _LAST.match(last)
    if found is not None:
        attributes["exception.type"] = found.group(1)
        if found.group(2) is not None:
            attributes["exception.message"] = found.group(2)
    return attributes


def _find_last(text: str) -> str | None:
    """Returns the lines that name the exception: the first ones behind the last traceback's frames."""
    if len(text) > MOST_TEXT:
        return None
    _, header, rest = text.rpartition(_HEADER)
    if not header:
        return text.rstrip("\n") if _LOOKS_LIKE_ONE.match(text) else None
    lines = rest.lstrip("\n").split("\n")
    for number, line in enumerate(lines):
        if line and not line[0].isspace():
            return "\n".join(lines[number:]).rstrip("\n")
    return None


def read_dicts(stacks: Any) -> dict[str, Any] | None:
    """Returns the attributes of an exception that is given as structlog's dicts, or None if it is not.

    Args:
        stacks: The exceptions of a chain, the one that was logged first; each with ``exc_type``, ``exc_value``,
            ``frames`` and more.
    """
    if type(stacks) is not list or not stacks or not isinstance(stacks[0], Mapping) or "exc_type" not in stacks[0]:
        return None
    first = stacks[0]
    attributes = {
        "exception.type": safe_str(first["exc_type"]),
        "exception.message": safe_str(first.get("exc_value", "")),
    }
    try:
        lines: list[str] = []
        _write_chain(stacks, lines, "", [MOST_STACKS])
        attributes["exception.stacktrace"] = "\n".join(lines) + "\n"
    except Exception:
        # Somebody has changed them: what cannot be written out stays as it is.
        attributes["exception.stacktrace"] = safe_str(stacks)
    return attributes


def _write_chain(stacks: Sequence[Any], lines: list[str], margin: str, left: list[int]) -> None:
    # Python begins with the cause; the dicts end with it.
    for number, stack in reversed(list(enumerate(stacks))):
        left[0] -= 1
        if left[0] < 0:
            lines.append(f"{margin}... more exceptions left out")
            return
        if stack.get("frames"):
            lines.append(f"{margin}{_HEADER}")
            lines += _write_frames(stack["frames"], margin)
        value = safe_str(stack.get("exc_value", ""))
        kind = safe_str(stack["exc_type"])
        lines.append(f"{margin}{kind}: {value}" if value else f"{margin}{kind}")
        lines += [f"{margin}{safe_str(note)}" for note in stack.get("exc_notes") or ()]
        for member in stack.get("exceptions") or ():
            lines.append(f"{margin}  +---")
            _write_chain(member if isinstance(member, list) else member["stacks"], lines, f"{margin}  | ", left)
        if number:
            how = "The above exception was the direct cause of" if stack.get("is_cause") else "During handling of"
            end = "the following exception:" if stack.get("is_cause") else "the above exception, another occurred:"
            lines += ["", f"{margin}{how} {end}", ""]


def _write_frames(frames: Sequence[Any], margin: str) -> list[str]:
    lines = []
    for frame in frames:
        lines.append(f'{margin}  File "{frame["filename"]}", line {frame["lineno"]}, in {frame["name"]}')
        # Whoever has them taken along wants to see them.
        lines += [f"{margin}    {name} = {value}" for name, value in (frame.get("locals") or {}).items()]
    return lines
