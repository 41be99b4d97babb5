"""The text that a Prometheus endpoint shows, as samples."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?")
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"\s*,?')
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Sample:
    """One series' value at one moment."""

    name: str
    labels: Mapping[str, str]
    value: float


def parse(text: str, names: Iterable[str]) -> Iterator[Sample]:
    """Read the samples of these metrics; other lines, and values that are not finite, are left out. Never raises.

    Source: Prometheus, "Text-based format".
    """
    wanted = frozenset(names)
    for line in text.splitlines():
        # Most lines are of others.
        if re.split(r"[{ \t]", line, maxsplit=1)[0] not in wanted:
            continue
        match = _LINE.fullmatch(line.rstrip())
        if match is None:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        if math.isfinite(value):
            # An empty label is none.
            labels = {name: _ESCAPE.sub(_unescape, text) for name, text in _LABEL.findall(match[2] or "") if text}
            yield Sample(match[1], labels, value)


def _unescape(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
