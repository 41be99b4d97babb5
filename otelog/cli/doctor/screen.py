"""What `otelog doctor` shows: a pure function from a report to a rich renderable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from otelog.cli.show.readable import safe

if TYPE_CHECKING:
    from rich.console import RenderableType

    from otelog.doctor import Finding, Report

_STYLES = {"ok": "green", "note": "dim", "warning": "yellow", "error": "bold red"}


def show_report(report: Report) -> RenderableType:
    """Lay out what was seen by area, each finding with its advice, and a sentence at the end."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for area in report.areas:
        name = area.name
        for fact in area.facts:
            table.add_row(name, Text("ok", _STYLES["ok"]), Text(safe(fact)))
            name = ""
        for finding in area.findings:
            table.add_row(name, Text(finding.severity, _STYLES[finding.severity]), _describe(finding))
            name = ""
    worst = "error" if not report.ok else "warning" if report.count("warning") else "ok"
    return Group(table, "", Text(safe(report.conclusion), _STYLES[worst]))


def _describe(finding: Finding) -> Text:
    text = Text(safe(f"{finding.subject}: {finding.what}"))
    text.append(f" [{finding.code}]", "dim")
    text.append(f"\n-> {safe(finding.advice)}", "cyan")
    return text
