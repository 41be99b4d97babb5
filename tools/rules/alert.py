"""What an alert is, how long it looks back, and the YAML of a rules file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

RUNBOOKS = "docs/how-to/alerts.md"
"""A section for each alert, under its name."""

LONG = 90
"""Characters of a summary that are more than one line of the file."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long the rules look back and wait; a test shortens all of them together.

    Args:
        scale: What a duration is multiplied by.
        least: Seconds that no window is shorter than: some scrapes must lie in it.
    """

    scale: float = 1.0
    least: int = 1

    def __call__(self, duration: str) -> str:
        """Returns a window, ``10m`` or the like, as the rules have it."""
        return self._shorten(duration, self.least)

    def wait(self, duration: str) -> str:
        """Returns how long to wait, as the rules have it."""
        return self._shorten(duration, 1)

    def _shorten(self, duration: str, least: int) -> str:
        if self.scale == 1.0:
            return duration
        seconds = int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[duration[-1]]
        return f"{max(least, round(seconds * self.scale))}s"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    Args:
        name: Begins with ``Otelog``.
        expr: When it fires.
        severity: ``critical``, ``warning`` or ``none``.
        summary: One line with the figure.
        description: What it means, and what to do first.
        dashboard: The uid of the board that shows it.
        wait: How long it must hold before it fires.
        keep: How long it goes on firing after it does not hold any more.
    """

    name: str
    expr: str
    severity: str
    summary: str
    description: str
    dashboard: str
    wait: str = ""
    keep: str = ""

    def describe(self, times: Times) -> dict[str, Any]:
        """Returns the rule as the servers read it."""
        rule: dict[str, Any] = {"alert": self.name, "expr": _Block(self.expr.strip() + "\n")}
        if self.wait:
            rule["for"] = times.wait(self.wait)
        if self.keep:
            rule["keep_firing_for"] = times.wait(self.keep)
        rule["labels"] = {"severity": self.severity}
        rule["annotations"] = {
            "summary": _Folded(self.summary) if len(self.summary) > LONG else self.summary,
            "description": _Folded(" ".join(self.description.split())),
            "runbook": f"{RUNBOOKS}#{self.name.lower()}",
            "dashboard": f"/d/{self.dashboard}",
        }
        return rule


@dataclass(frozen=True, slots=True)
class Group:
    """Alerts that are evaluated together."""

    name: str
    alerts: Sequence[Alert]


class _Block(str):
    """Text of several lines, shown as such."""

    __slots__ = ()


class _Folded(str):
    """A long line, shown as several."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        # Items of a list are indented, as in the files written by hand.
        super().increase_indent(flow, False)  # type: ignore[no-untyped-call]


for _kind, _style in ((_Block, "|"), (_Folded, ">")):
    _Dumper.add_representer(
        _kind,
        lambda dumper, text, style=_style: dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style),
    )


def render(head: str, groups: Iterable[Group], times: Times) -> str:
    """Returns the text of a rules file; the same every time."""
    document = {
        "groups": [{"name": group.name, "rules": [alert.describe(times) for alert in group.alerts]} for group in groups]
    }
    comment = "".join(f"# {line}".rstrip() + "\n" for line in head.strip().splitlines())
    return comment + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=118, allow_unicode=True)
