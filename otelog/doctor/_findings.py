"""What an examination says: findings and facts by area, and what they come to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from otelog._runtime.shown_text import hide_secrets

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Args:
        severity: "error": records are lost, doubled or without a trace; "warning": they may be; "note": good to know.
        code: What kind of thing it is, ``area.kind``; stable, for scripts.
        subject: What it is about, such as a logger's name or a variable.
        what: What was seen, one sentence.
        advice: What to do about it.
        names: All loggers that it concerns, where these are loggers.
    """

    severity: Severity
    code: str
    subject: str
    what: str
    advice: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Area:
    """What was seen of one area: what is as it should be, and what is not.

    Args:
        name: "settings", "packages", "providers", "loggers", "handlers", "endpoint", "limits", "application".
        facts: One sentence each.
        findings: In the order of their severity.
    """

    name: str
    facts: tuple[str, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What an examination has seen, area by area."""

    areas: tuple[Area, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings."""
        return tuple(finding for area in self.areas for finding in area.findings)

    def count(self, severity: Severity) -> int:
        """Returns how many findings are of this severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings are allowed."""
        return not self.count("error")

    @property
    def conclusion(self) -> str:
        """What all of it comes to, in a sentence."""
        errors, warnings = self.count("error"), self.count("warning")
        if errors:
            first = next(finding for finding in self.findings if finding.severity == "error")
            return f"{_number(errors, 'error')}, {_number(warnings, 'warning')}: begin with {first.code}."
        if warnings:
            return f"No error, but {_number(warnings, 'warning')}."
        return "All is well."

    def to_dict(self) -> dict[str, Any]:
        """Returns the same as JSON-ready data with stable keys."""
        return {
            "ok": self.ok,
            "conclusion": self.conclusion,
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "notes": self.count("note"),
            "facts": [{"area": area.name, "fact": fact} for area in self.areas for fact in area.facts],
            "findings": [
                {
                    "area": area.name,
                    "severity": finding.severity,
                    "code": finding.code,
                    "subject": finding.subject,
                    "what": finding.what,
                    "advice": finding.advice,
                    "names": list(finding.names),
                }
                for area in self.areas
                for finding in area.findings
            ],
        }


_ORDER = ("error", "warning", "note")


def make_area(name: str, facts: Iterable[str], findings: Iterable[Finding]) -> Area:
    """Returns an area with its findings in the order of their severity."""
    found = sorted(findings, key=lambda finding: _ORDER.index(finding.severity))
    return Area(name, tuple(map(hide_secrets, facts)), tuple(map(_hide_secrets, found)))


def _hide_secrets(finding: Finding) -> Finding:
    return replace(
        finding,
        subject=hide_secrets(finding.subject),
        what=hide_secrets(finding.what),
        advice=hide_secrets(finding.advice),
    )


def list_names(names: Iterable[str], most: int = 5) -> str:
    """Returns some names as text: the first ones, and how many more there are."""
    found = list(names)
    shown = ", ".join(found[:most])
    return f"{shown} and {len(found) - most} more" if len(found) > most else shown


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
