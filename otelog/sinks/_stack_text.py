"""The text of a stack trace for a person's eyes: which lines are the application's, which a library's. Pure.

The text may come from anybody: what it says decides on styles only, and every line is made harmless.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from otelog._runtime.shown_text import show_hidden

STACK_KEYS = ("code.stacktrace", "exception.stacktrace")
"""The fields that have stack traces: that of the call, and that of the exception."""

# Members of exception groups have margins in front.
_FRAME = re.compile(r'(?P<before>[ |+]*)File "(?P<path>.*)", line \d+')
_LIBRARY = re.compile(
    r"[\\/](?:site|dist)-packages[\\/]|[\\/]lib(?:64)?[\\/]python\d[^\\/]*[\\/]|^[A-Z]:\\.*\\Lib\\|^<frozen ",
)
_BETWEEN = re.compile(
    r"[ |+]*(?:(?:Exception Group )?Traceback \(most recent call last\):|Stack \(most recent call last\):"
    r"|The above exception was the direct cause of|During handling of the above exception)"
)
_MARGIN = re.compile(r"(?:[ |+]*[|+] )?")
_STYLES = {"library": "dim", "between": "dim", "error": "red", "own": "", "": ""}


class StackLine(NamedTuple):
    """One line of a stack trace.

    Args:
        text: Harmless, and without tabs.
        kind: "own" or "library", of a frame; "error", what was raised; "between", what holds them together; "".
        begins: Whether a frame begins here.
    """

    text: str
    kind: str
    begins: bool = False

    @property
    def style(self) -> str:
        """The style, in rich's words."""
        return _STYLES[self.kind]


def read_stack(stack: Any) -> list[StackLine]:
    """Returns the lines of a stack trace as Python writes it; those of another language are all of one kind.

    A frame is a library's if its file is among installed packages or the standard library's. Where no frame is the
    application's own, none counts as a library's, as there is nothing to be found more easily.

    Args:
        stack: The text; anything else has no lines.

    Never raises. Safe in any thread.
    """
    if not isinstance(stack, str) or not stack.strip():
        return []
    lines: list[StackLine] = []
    kind = inside = ""
    # Split by nothing but line feeds: other ends of lines are shown as escapes.
    for given in stack.rstrip("\n").split("\n"):
        line = given.expandtabs(4)
        frame = _FRAME.match(line)
        if frame is not None:
            kind = "library" if _LIBRARY.search(frame["path"]) else "own"
            inside = f"{frame['before']}  "
        elif not (inside and line.startswith(inside)) and not line.startswith(f"{inside[:-2]}[Previous line repeated"):
            inside = ""
            kind = _kind_outside(line)
        lines.append(StackLine(show_hidden(line), kind, frame is not None))
    if all(line.kind != "own" for line in lines):
        lines = [line._replace(kind="" if line.kind == "library" else line.kind) for line in lines]
    return lines


def find_raised(lines: Sequence[StackLine]) -> list[str]:
    """Returns what a stack trace says of the exception that was raised last; where nothing is known, its last line."""
    raised: list[str] = []
    for line in reversed(lines):
        if line.kind == "error":
            raised.insert(0, line.text)
        elif raised:
            break
    return raised or [line.text.strip() for line in lines[-1:]]


def fold_stack(lines: Sequence[StackLine], rows: int) -> list[StackLine]:
    """Returns a stack trace in a few lines: without a library's frames, and if that is not enough, its end.

    Args:
        lines: From `read_stack`.
        rows: How many lines there may be, at least one.
    """
    if len(lines) <= rows:
        return list(lines)
    folded: list[StackLine] = []
    frames = 0
    for line in lines:
        if line.kind == "library":
            frames += line.begins
            continue
        if frames:
            folded.append(_left_out(frames))
            frames = 0
        folded.append(line)
    if frames:
        folded.append(_left_out(frames))
    if rows == 1:
        return folded[-1:]
    if len(folded) > rows:
        above = len(folded) - (rows - 1)
        folded = [StackLine(f"... {above} lines above", "between"), *folded[above:]]
    return folded


def _left_out(frames: int) -> StackLine:
    return StackLine(f"  ... {frames} library frame{'s' if frames > 1 else ''}", "library")


def _kind_outside(line: str) -> str:
    if _BETWEEN.match(line):
        return "between"
    margin = _MARGIN.match(line)
    rest = line[margin.end() :] if margin is not None else line
    # What is indented belongs to something else: a frame of another language's, above all.
    return "error" if rest and not rest.startswith((" ", "-", "+")) else ""
