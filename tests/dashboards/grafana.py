"""What Grafana makes of a board: its queries with the variables filled in, and its panels' places.

After Grafana 12: a variable with a format (``${name:regex}``) is written by that format, whatever the data source says
of escaping; a value "All" that the variable has a text of its own for is written as that text, by no format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "dashboards"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))
}

ALL = "$__all"
STEP = 5

Value = str | list[str]


@dataclass(frozen=True)
class Target:
    """One query of a panel."""

    board: str
    panel: dict[str, Any]
    query: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.board}: {self.panel['title']} {self.query['refId']}"

    @property
    def expression(self) -> str:
        expression: str = self.query["expr"]
        return expression

    @property
    def of_loki(self) -> bool:
        return bool(self.query["datasource"]["type"] == "loki")

    @property
    def instant(self) -> bool:
        return bool(self.query.get("instant") or self.query.get("queryType") == "instant")

    def fill_in(self, values: Mapping[str, Value] | None = None, window: str = "1h", seconds: int = STEP) -> str:
        return fill_in(self.expression, BOARDS[self.board], values or {}, window, seconds)


def panels_of(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def variables_of(board: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {variable["name"]: variable for variable in board["templating"]["list"]}


def targets() -> Iterator[Target]:
    for uid, board in BOARDS.items():
        for panel in panels_of(board):
            for query in panel["targets"]:
                yield Target(uid, panel, query)


def fill_in(
    text: str, board: dict[str, Any], values: Mapping[str, Value], window: str = "1h", seconds: int = STEP
) -> str:
    """A text as Grafana sends it for steps of so many seconds; what is not in `values` is as the board is opened."""
    step = f"{seconds}s"
    built_in = {
        "__range": window,
        "__interval": step,
        "__interval_ms": str(seconds * 1000),
        "__auto": step,
        "__rate_interval": f"{4 * seconds}s",
    }
    variables = variables_of(board)

    def write(found: re.Match[str]) -> str:
        name = found["plain"] or found["name"]
        if name in built_in:
            return built_in[name]
        variable = variables[name]
        value = values[name] if name in values else variable["current"]["value"]
        return write_value(variable, value, found["format"] or "")

    # `$2` is none of Grafana's variables and stays.
    return re.sub(r"\$(?:(?P<plain>[A-Za-z_]\w*)|\{(?P<name>\w+)(?::(?P<format>\w+))?\})", write, text)


def write_value(variable: dict[str, Any], value: Value, style: str) -> str:
    if value in (ALL, [ALL]):
        text: str = variable["allValue"]
        return text
    if style == "regex":
        return escape(value) if isinstance(value, str) else _join([escape(one) for one in value])
    assert not style, style
    # Written by the data source, whose escaping fits a text in double quotes: only for what cannot need any.
    assert isinstance(value, str) and re.fullmatch(r"[0-9.]+", value), f"{variable['name']} needs a format"
    return value


def escape(text: str) -> str:
    return re.sub(r"[\\^$*+?.()|\[\]{}/]", r"\\\g<0>", text)


def _join(escaped: list[str]) -> str:
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
