"""Log files as records: otelog's own JSON lines, and the Collector's OTLP/JSON documents of a batch each."""

from __future__ import annotations

import base64
import gzip
import io
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from otelog.cli.lines import severity_range
from otelog.exceptions import OtelogError

Record = dict[str, Any]
"""One record, with the keys of a line of `otelog dev`."""

SUFFIXES = (".jsonl", ".json", ".log")
"""What log files are called, of those in a folder; ``.gz`` and ``.zst`` may follow, and a rotation's number or date."""


class LogFileError(OtelogError):
    """A file cannot be read."""


class LogFiles:
    """Reads records out of files, in the order given; what is no record is counted.

    Args:
        paths: Files, or folders whose log files are meant, oldest first.

    Raises:
        LogFileError: There is no such file, or a folder has none in it.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.unreadable = 0
        """Lines so far that are no record: torn, or something else."""
        self._paths = [file for path in paths for file in _find(path)]

    def __iter__(self) -> Iterator[Record]:
        for path in self._paths:
            try:
                with _open(path) as file:
                    for line in file:
                        yield from self._read(line)
            except (OSError, EOFError) as error:
                raise LogFileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error

    def _read(self, line: bytes) -> Iterator[Record]:
        if not line.strip():
            return
        try:
            document = json.loads(line)
            if "resourceLogs" in document:
                records = list(read_otlp(document))
            else:
                document["message"]
                records = [document]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self.unreadable += 1
            return
        yield from records


def _find(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.exists():
            raise LogFileError(f"{path} does not exist")
        return [path]
    found = [
        file
        for file in path.iterdir()
        if file.is_file() and any(f"{suffix}." in f"{file.name}." for suffix in SUFFIXES)
    ]
    if not found:
        raise LogFileError(f"{path} has no log files (*.jsonl, *.json, *.log) in it")
    return sorted(found, key=lambda file: (file.stat().st_mtime_ns, file.name))


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return io.BufferedReader(gzip.GzipFile(path, "rb"))
    if path.suffix == ".zst":
        try:
            import zstandard
        except ImportError:
            raise LogFileError(f"{path} needs zstandard: python -m pip install 'otelog[zstd]'") from None
        return io.BufferedReader(zstandard.open(path, "rb"))
    return path.open("rb")


def read_otlp(document: Mapping[str, Any]) -> Iterator[Record]:
    """Read an ``ExportLogsServiceRequest`` in OTLP/JSON.

    Source: OTLP, "JSON Protobuf Encoding": ids are in hex, 64-bit numbers are strings.
    """
    for resource_logs in document["resourceLogs"]:
        resource = _to_dict(resource_logs.get("resource", {}).get("attributes", ()))
        for scope_logs in resource_logs.get("scopeLogs", ()):
            scope = scope_logs.get("scope", {}).get("name")
            for record in scope_logs.get("logRecords", ()):
                number = int(record.get("severityNumber", 0))
                fields: Record = {
                    "timestamp": _to_timestamp(record),
                    "level": record.get("severityText") or severity_range(number),
                    "logger": scope or None,
                    "message": _to_python(record.get("body", {})),
                    "trace_id": record.get("traceId") or None,
                    "span_id": record.get("spanId") or None,
                    "severity_number": number,
                    "service": resource.get("service.name"),
                    "instance": resource.get("service.instance.id"),
                }
                if record.get("eventName"):
                    fields["event"] = record["eventName"]
                fields["attributes"] = _to_dict(record.get("attributes", ()))
                yield fields


def _to_timestamp(record: Mapping[str, Any]) -> str | None:
    time_ns = int(record.get("timeUnixNano") or record.get("observedTimeUnixNano") or 0)
    if not time_ns:
        return None
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=rest_ns // 1000)
    return moment.astimezone().isoformat(timespec="microseconds")


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
            # As otelog's own lines have them.
            return base64.b64encode(base64.b64decode(content)).decode("ascii")
        return content
    return None
