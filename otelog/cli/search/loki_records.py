"""Entries of Loki's as records with the keys of a line. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from otelog._otlp.loki_form import NAMES_KEY, RESOURCE_NAMES_KEY, loki_name, odd_name
from otelog.cli.show.lines import build_text
from otelog.cli.show.readable import FullRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otelog.cli.show.filters import Record
    from otelog.loki import Entry

# Loki writes dots as underscores, so a name's own are known only where the name is.
_DOTTED = {
    name.replace(".", "_"): name
    for name in (
        "code.file.path",
        "code.function.name",
        "code.line.number",
        "deployment.environment.name",
        "exception.message",
        "exception.stacktrace",
        "exception.type",
        "process.pid",
        "request.trace_id",
        "service.instance.id",
        "service.name",
        "service.namespace",
        "service.version",
        "thread.id",
        "thread.name",
    )
}
_WHOLE_NUMBERS = ("code.line.number", "process.pid", "thread.id")
_OF_RESOURCE = ("service.name", "service.instance.id", "process.pid")
# What says nothing of the record, or nothing new.
_NOISE = ("flags", "observed_timestamp", "telemetry_sdk_language", "telemetry_sdk_name", "telemetry_sdk_version")
_UNKNOWN = "unknown"
_FIELD = re.compile(r' (?:"([^=]*)"|([^="\s]+))=')
NAMES, RESOURCE_NAMES = map(loki_name, (NAMES_KEY, RESOURCE_NAMES_KEY))


def to_record(entry: Entry) -> Record:
    """Returns an entry as the record that a file would have; values of fields are texts, as Loki keeps them."""
    values: dict[str, Any] = {**entry.labels, **entry.metadata, **entry.parsed}
    beside = {name: values.pop(name) for name in _NOISE if name in values}
    beside.update((name, values[name]) for name in ("severity_number", "detected_level") if name in values)
    detected = str(values.pop("detected_level", _UNKNOWN))
    number, text = values.pop("severity_number", ""), values.pop("severity_text", "")
    if not text and detected != _UNKNOWN:
        text = detected.upper()
    scope, trace_id, span_id, event_name = (
        values.pop(name, None) for name in ("scope_name", "trace_id", "span_id", "event_name")
    )
    odd = {**_names_in(values.pop(RESOURCE_NAMES, "")), **_names_in(values.pop(NAMES, ""))}
    values = {odd.get(name) or _DOTTED.get(name, name): value for name, value in values.items()}
    for name in _WHOLE_NUMBERS:
        if str(values.get(name, "")).isdecimal():
            values[name] = int(values[name])
    line = build_text(
        resource={name: values.pop(name) for name in _OF_RESOURCE if name in values},
        scope=scope,
        time_ns=entry.timestamp_ns,
        severity_number=int(number) if str(number).isdecimal() else 0,
        severity_text=text,
        body=None if event_name and _is_made(entry.line, str(event_name), entry.metadata) else entry.line,
        trace_id=trace_id,
        span_id=span_id,
        event_name=event_name,
        attributes=values,
    )
    return FullRecord(json.loads(line), {"stream labels": entry.labels, "record": beside})


def _is_made(line: str, event_name: str, metadata: Mapping[str, str]) -> bool:
    """Returns whether a line is not a body, but was made of the event's name and its fields."""
    if not line.startswith(event_name):
        return False
    rest = line[len(event_name) :]
    field = _FIELD.match(rest)
    if field is None:
        return not rest
    name = field[1] or field[2]
    return loki_name(name) in metadata or odd_name(name) in metadata


def _names_in(text: str) -> dict[str, str]:
    """Returns the names that stand for hashed ones; none if that is not what the text tells."""
    try:
        names = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return {held: given for held, given in names.items() if isinstance(given, str)} if isinstance(names, dict) else {}
