"""Log files as records: otelog's own JSON lines, and the Collector's OTLP/JSON documents of a batch each."""

from __future__ import annotations

import base64
import contextlib
import gzip
import importlib
import io
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

from otelog.cli.show.filters import Record
from otelog.cli.show.lines import build_text
from otelog.cli.show.readable import FullRecord
from otelog.exceptions import OtelogError
from otelog.sinks._names import parse_name, read_time

READ_ERRORS: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error)
"""What reading a file, or unpacking it, raises."""

zstandard: Any = None
with contextlib.suppress(ImportError):
    zstandard = importlib.import_module("zstandard")
    READ_ERRORS = (*READ_ERRORS, zstandard.ZstdError)

SUFFIXES = (".jsonl", ".json", ".log")
"""What log files are called, of those in a folder; ``.gz`` and ``.zst`` may follow, and a rotation's number or date."""


# The files of collector/otelcol.yaml; what is rotated has the time in its name.
_COLLECTOR_FILE = re.compile(r"(app|errors|ai_responses)(?:-\d{4}-\d\d-\d\dT[\d.-]+)?\.jsonl")


# Of a record in OTLP/JSON, what its line says as well.
_IN_LINE = frozenset(("attributes", "body", "eventName", "severityText", "spanId", "traceId"))


class LogFileError(OtelogError):
    """A file cannot be read."""


def find_files(paths: Iterable[Path], streams: Iterable[str] = ("app",)) -> list[Path]:
    """Returns the files that are meant, those of a folder oldest first.

    Args:
        paths: Files, or folders whose log files are meant.
        streams: Which kinds of the files of otelog, or of its Collector, are meant in a folder, where a record may be
            in several; all files of others are.

    Raises:
        LogFileError: There is no such file, or a folder has none in it.
    """
    wanted = frozenset(streams)
    return [file for path in paths for file in (_find_in_folder(path, wanted) if path.is_dir() else [_find_file(path)])]


def _find_file(path: Path) -> Path:
    if not path.exists():
        raise LogFileError(f"{path} does not exist")
    return path


def _find_in_folder(folder: Path, streams: frozenset[str]) -> list[Path]:
    files = {file.name: file for file in folder.iterdir() if file.is_file()}
    found: list[tuple[tuple[object, ...], Path]] = []
    for name, file in files.items():
        ours = parse_name(name)
        if ours is None:
            collectors = _COLLECTOR_FILE.fullmatch(name)
            if collectors is not None and collectors[1] not in streams:
                continue
            if any(f"{suffix}." in f"{name}." for suffix in SUFFIXES):
                found.append(((0, file.stat().st_mtime, name), file))
            continue
        # Where both are there, the one that is not packed is just being removed.
        packed = not ours.packing and any(f"{name}{packing}" in files for packing in (".gz", ".zst"))
        if ours.stream in streams and not ours.unfinished and not packed:
            moment = read_time(ours.stamp)
            found.append(((1, 0.0, name) if moment is None else (0, moment, *ours.order), file))
    if not found:
        raise LogFileError(f"{folder} has no log files of {', '.join(sorted(streams))} (*.jsonl, *.json, *.log) in it")
    return [file for _, file in sorted(found)]


def open_file(path: Path) -> IO[bytes]:
    """Open a file for reading what is in it, packed or not.

    Raises:
        LogFileError: It needs a library that is not there.
        OSError: It cannot be opened.
    """
    if path.suffix == ".gz":
        return io.BufferedReader(gzip.GzipFile(path, "rb"))
    if path.suffix == ".zst":
        if zstandard is None:
            raise LogFileError(f"{path} needs zstandard: python -m pip install 'otelog[zstd]'")
        return io.BufferedReader(zstandard.open(path, "rb"))
    return path.open("rb")


def read_line(line: bytes) -> list[Record] | None:
    """Returns the records in a line, none if it is empty, or None if it is no record. Never raises."""
    if not line.strip():
        return []
    try:
        document = json.loads(line)
        if "resourceLogs" in document:
            return read_otlp(document)
        document["message"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, OSError):
        return None
    return [document]


def read_otlp(document: Mapping[str, Any]) -> list[Record]:
    """Read an ``ExportLogsServiceRequest`` in OTLP/JSON; the records, and their order, are as `otelog dev` writes them.

    Source: OTLP, "JSON Protobuf Encoding": ids are in hex, 64-bit numbers are strings.
    """
    found: list[tuple[int, Record]] = []
    last_ns = 0
    for resource_logs in document["resourceLogs"]:
        resource = _to_dict(resource_logs.get("resource", {}).get("attributes", ()))
        resource_shown = _show_resource(resource, resource_logs)
        for scope_logs in resource_logs.get("scopeLogs", ()):
            scope = scope_logs.get("scope", {}).get("name")
            scope_shown = _show_scope(scope_logs)
            for record in scope_logs.get("logRecords", ()):
                time_ns = int(record.get("timeUnixNano") or 0) or int(record.get("observedTimeUnixNano") or 0)
                text = build_text(
                    resource=resource,
                    scope=scope,
                    time_ns=time_ns,
                    severity_number=int(record.get("severityNumber", 0)),
                    severity_text=record.get("severityText"),
                    body=_to_python(record.get("body", {})),
                    trace_id=record.get("traceId"),
                    span_id=record.get("spanId"),
                    event_name=record.get("eventName"),
                    attributes=_to_dict(record.get("attributes", ())),
                    discarded=int(record.get("droppedAttributesCount", 0)),
                )
                last_ns = time_ns or last_ns
                beside = {key: value for key, value in record.items() if key not in _IN_LINE}
                sections = {"resource": resource_shown, "scope": scope_shown, "record": beside}
                found.append((last_ns, FullRecord(json.loads(text), sections)))
    # By time, as `render_lines` sorts them: a document has them by resource and scope.
    found.sort(key=itemgetter(0))
    return [line for _, line in found]


def _show_resource(attributes: dict[str, Any], resource_logs: Mapping[str, Any]) -> dict[str, Any]:
    schema_url = resource_logs.get("schemaUrl")
    return {**attributes, "schemaUrl": schema_url} if schema_url else attributes


def _show_scope(scope_logs: Mapping[str, Any]) -> dict[str, Any]:
    scope = scope_logs.get("scope", {})
    shown = {**scope, **_to_dict(scope.get("attributes", ())), "schemaUrl": scope_logs.get("schemaUrl") or None}
    shown.pop("attributes", None)
    return shown


def _to_dict(pairs: Any) -> dict[str, Any]:
    return {pair["key"]: _to_python(pair.get("value", {})) for pair in pairs}


def _to_python(value: Mapping[str, Any]) -> Any:
    for kind, content in value.items():
        if kind == "intValue":
            return int(content)
        if kind == "arrayValue":
            return [_to_python(item) for item in content.get("values", ())]
        if kind == "kvlistValue":
            return _to_dict(content.get("values", ()))
        if kind == "bytesValue":
            return base64.b64decode(content)
        if kind == "doubleValue":
            return float(content)
        return content
    return None
