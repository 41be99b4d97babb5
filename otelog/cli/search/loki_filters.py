"""The filters of the command line as LogQL. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import click

from otelog._otlp.loki_form import is_odd, loki_name, odd_name
from otelog._record.severity import severity_range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otelog.cli.show.filters import Filters

ALL = '{service_name=~".+"}'
"""Every stream that came by OTLP; Loki wants one label at least."""

# Fields of a line that Loki keeps under a name of its own; others have theirs, with underscores for dots.
_NAMES = {
    "function": "code_function_name",
    "level": "severity_text",
    "line": "code_line_number",
    "logger": "scope_name",
    "process": "process_pid",
    "service": "service_name",
}
# What is made of something else than one value of Loki's.
_NO_NAMES = ("message", "module", "thread", "timestamp")
_METRIC = re.compile(r"\s*\(*\s*[a-z_]+\s*(?:(?:by|without)\s*\([^)]*\)\s*)?\(.*\{", re.DOTALL)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


def is_logql(word: str) -> bool:
    """Returns whether an argument is LogQL, not a file's name."""
    return word.lstrip().startswith("{") or is_metric(word)


def is_metric(query: str) -> bool:
    """Returns whether LogQL gives numbers."""
    return _METRIC.match(query) is not None


def build_query(logql: str | None, filters: Filters) -> str:
    """Returns the LogQL for what the filters ask, without their times.

    Args:
        logql: A query that gives lines, which is narrowed; None: of all services.
        filters: What is asked of the records.

    Raises:
        click.BadParameter: A filter cannot be said in LogQL.
    """
    parts = [ALL if logql is None else logql]
    if filters.service is not None:
        if logql is None:
            parts = [f"{{service_name={_quote(filters.service)}}}"]
        else:
            parts.append(f"| service_name={_quote(filters.service)}")
    if filters.text is not None:
        parts.append(f"|~ {_quote(f'(?i){re.escape(filters.text)}')}")
    parts += [_where(field, wanted) for field, wanted in filters.where if field == "message"]
    if filters.level is not None:
        parts.append(f"| {_level(filters.level)}")
    if filters.logger is not None:
        those_below = re.escape(filters.logger) + r"(\..*)?"
        parts.append(f"| scope_name=~{_quote(those_below)}")
    if filters.trace_id is not None:
        parts.append(f"| trace_id=~{_quote(f'{re.escape(filters.trace_id.lower())}.*')}")
    parts += [_where(field, wanted) for field, wanted in filters.where if field != "message"]
    # A query may end with a comment.
    return "\n".join(parts) if logql is not None else " ".join(parts)


def find_label(field: str) -> str | None:
    """Returns the name under which Loki has a field; None if it is made of more than one value."""
    if field in _NO_NAMES:
        return None
    if is_odd(field):
        return odd_name(field)
    return loki_name(_NAMES.get(field, field))


def find_labels(fields: Sequence[str]) -> list[str] | None:
    """Returns the names of fields, or None if one has none."""
    names = [find_label(field) for field in fields]
    return [name for name in names if name] if all(names) else None


def to_ns(moment: datetime) -> int:
    """Returns a time in nanoseconds since 1970."""
    return (moment.astimezone(timezone.utc) - _EPOCH) // _MICROSECOND * 1000


def _level(least: int) -> str:
    # What did not come by OTLP has no number, but a level that Loki has found.
    detected = sorted({severity_range(number) for number in range(least, 25)})
    if "fatal" in detected:
        detected.append("critical")
    return f'(severity_number>={least} or (severity_number="" and detected_level=~"{"|".join(detected)}"))'


def _where(field: str, wanted: str) -> str:
    if field == "timestamp":
        raise click.BadParameter("Loki finds times by --since and --until")
    if field == "message":
        return f"|~ {_quote(f'(?s)^{re.escape(wanted)}$')}"
    if field == "level" and wanted:
        return f'| (severity_text={_quote(wanted)} or (severity_text="" and detected_level={_quote(wanted.lower())}))'
    if field == "thread" and wanted:
        return f'| (thread_name={_quote(wanted)} or (thread_name="" and thread_id={_quote(wanted)}))'
    if field == "module":
        if not wanted:
            return '| code_file_path=""'
        path = rf"(.*/)?{re.escape(wanted)}(\.[^./]*)?"
        return f"| code_file_path=~{_quote(path)}"
    label = find_label(field) or "thread_name"
    if field in _NAMES or field in _NO_NAMES:
        return f"| {label}={_quote(wanted)}"
    # Its name is a hash where Loki could not keep it, or another field of the record would have the same.
    names = [*(() if is_odd(field) else (label,)), odd_name(field), odd_name(field, "resource_")]
    return f"| ({(' or ' if wanted else ' and ').join(f'{name}={_quote(wanted)}' for name in names)})"


def _quote(text: str) -> str:
    from otelog.loki._pages import quote

    return quote(text)
