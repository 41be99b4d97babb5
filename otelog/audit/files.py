"""The records in the Collector's files, counted by service.

A file holds one OTLP/JSON document a batch. Parsing takes twice as long, so a document is counted by its keys: what an
application writes is in there as string values only, in which a quote is always escaped, so ``"body":`` is a key
wherever it stands. The Collector writes one for every record, and ``"resource":`` for every resource; a document of
another's making is parsed.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from otelog.audit.books import STREAMS, FileRecords

ERROR_NUMBER = 17
"""From this severity number on a record is an error. Source: logs data model, "SeverityNumber"."""

UNKNOWN_SERVICE = "unknown_service"
"""What Loki calls records without a service, too."""

_NAME = re.compile(r"(app|errors|ai_responses)(-[0-9T.-]+)?\.jsonl(\.gz)?")
_START = b'{"resourceLogs":['
_RESOURCE = b'{"resource":{'
_RECORD = b'{"timeUnixNano":"'
_SEVERITY = re.compile(rb'"severityNumber":([0-9]+)')
_AI = b'"key":"gen_ai.'
_BODY = b'"body":'
_TIME_DIGITS = 19
_AI_PREFIX = "gen_ai."


def find_files(folder: Path) -> dict[str, list[Path]]:
    """Returns the Collector's files in a folder by their kind, rotated ones first.

    Raises:
        OSError: The folder cannot be read.
    """
    found: dict[str, list[Path]] = {stream: [] for stream in STREAMS}
    for path in sorted(folder.iterdir(), key=lambda path: ("-" not in path.name, path.name)):
        if (match := _NAME.fullmatch(path.name)) and path.is_file():
            found[match[1]].append(path)
    return {stream: paths for stream, paths in found.items() if paths}


class FileCount:
    """Count the records in the Collector's files, at each call only what was added since.

    Args:
        folder: Where the files are.
        since_ns: Records from this time on count, in nanoseconds since 1970; None counts all.
        ai_loggers: A regular expression; records of such loggers are `ai`, too, as for the Collector.
    """

    def __init__(self, folder: Path, *, since_ns: int | None = None, ai_loggers: str | None = None) -> None:
        self._folder = folder
        self._count = _Documents(since_ns, ai_loggers)
        self._files: dict[tuple[int, int], _File] = {}

    def read_on(self, progress: Callable[[int], None] = lambda _: None) -> dict[str, FileRecords]:
        """Count what there is, by the kind of file; a document that is being written counts when it is whole.

        Args:
            progress: Called with each further stretch's bytes.

        Raises:
            OSError: A file cannot be read.
        """
        for stream, paths in find_files(self._folder).items():
            for path in paths:
                status = path.stat()
                # A rotated file has another name, and is the same.
                file = self._files.setdefault((status.st_dev, status.st_ino), _File(stream))
                if file.offset_bytes < status.st_size:
                    self._read_file(file, path, progress)
        totals = {file.stream: _Total() for file in self._files.values()}
        for file in self._files.values():
            totals[file.stream].add(file.total)
        return {stream: total.to_records() for stream, total in totals.items()}

    def size_bytes(self) -> int:
        """Returns how much the next `read_on` will read."""
        left = 0
        for paths in find_files(self._folder).values():
            for path in paths:
                status = path.stat()
                known = self._files.get((status.st_dev, status.st_ino))
                left += status.st_size - (known.offset_bytes if known else 0)
        return left

    def _read_file(self, file: _File, path: Path, progress: Callable[[int], None]) -> None:
        with _open(path) as lines:
            if not isinstance(lines, gzip.GzipFile):
                lines.seek(file.offset_bytes)
            # What a killed process has left may stand at the end of the file, or before the next document.
            file.total.torn = file.torn_lines
            for line in lines:
                if not line.endswith(b"\n"):
                    file.total.torn += 1
                    break
                file.offset_bytes += len(line)
                file.torn_lines += self._count.add(line, file.total)
                file.total.torn = file.torn_lines
                progress(len(line))
            if isinstance(lines, gzip.GzipFile):
                file.offset_bytes = path.stat().st_size


class _Total:
    def __init__(self) -> None:
        self.records: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.ai: Counter[str] = Counter()
        self.torn = 0

    def add(self, other: _Total) -> None:
        self.records.update(other.records)
        self.errors.update(other.errors)
        self.ai.update(other.ai)
        self.torn += other.torn

    def to_records(self) -> FileRecords:
        return FileRecords(records=dict(+self.records), errors=dict(+self.errors), ai=dict(+self.ai), torn=self.torn)


class _File:
    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.offset_bytes = 0
        self.torn_lines = 0
        self.total = _Total()


class _Documents:
    """Counts documents, by their keys where that is exact."""

    def __init__(self, since_ns: int | None, ai_loggers: str | None) -> None:
        self._since_ns = since_ns
        self._since = None if since_ns is None else str(since_ns).encode().zfill(_TIME_DIGITS)
        self._is_ai_logger = re.compile(ai_loggers).search if ai_loggers else None
        self._services: dict[bytes, str] = {}

    def add(self, line: bytes, total: _Total) -> int:
        """Count a line's records; returns how many torn documents are in it."""
        document = line.strip()
        torn = 0
        if (last := document.rfind(_START)) > 0 and (document.count(_START) > 1):
            # The Collector went on behind a document that it could not end.
            torn = document.count(_START) - 1
            document = document[last:]
        if not document:
            return torn
        if not document.endswith(b"]}"):
            return torn + 1
        if self._is_ai_logger is None and document.startswith(_START + _RESOURCE):
            for segment in document.split(_RESOURCE)[1:]:
                self._add_segment(segment, total)
            return torn
        try:
            self._add_parsed(json.loads(document), total)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return torn + 1
        return torn

    def _add_segment(self, segment: bytes, total: _Total) -> None:
        resource, _, records = segment.partition(b'"scopeLogs":')
        service = self._services.get(resource)
        if service is None:
            service = self._services[resource] = _read_service(resource)
        if self._since is not None or _AI in records:
            self._add_records(service, records, total)
            return
        total.records[service] += records.count(_BODY)
        if errors := sum(number >= ERROR_NUMBER for number in map(int, _SEVERITY.findall(records))):
            total.errors[service] += errors

    def _add_records(self, service: str, records: bytes, total: _Total) -> None:
        """One by one, with the time and the attributes of each."""
        pieces = records.split(_RECORD)
        for at, piece in enumerate(pieces):
            bodies = piece.count(_BODY)
            # The first piece is what stands before the first record with a time; others without one may follow any.
            if bodies != (at > 0):
                self._add_parsed_records(service, _RECORD.join(pieces), total)
                return
        for piece in pieces[1:]:
            if self._since is not None and piece[: piece.index(b'"')].zfill(_TIME_DIGITS) < self._since:
                continue
            total.records[service] += 1
            match = _SEVERITY.search(piece)
            total.errors[service] += match is not None and int(match[1]) >= ERROR_NUMBER
            # A nested attribute may be called so, too.
            if _AI in piece and _is_ai(_decode_record(piece)):
                total.ai[service] += 1

    def _add_parsed_records(self, service: str, records: bytes, total: _Total) -> None:
        scopes, _ = json.JSONDecoder().raw_decode(records.decode("utf-8"))
        self._add_scopes(service, scopes, total)

    def _add_parsed(self, document: Mapping[str, Any], total: _Total) -> None:
        for resource_logs in document["resourceLogs"]:
            attributes = resource_logs.get("resource", {}).get("attributes", ())
            self._add_scopes(_name_service(attributes), resource_logs.get("scopeLogs", ()), total)

    def _add_scopes(self, service: str, scopes: Iterable[Mapping[str, Any]], total: _Total) -> None:
        for scope_logs in scopes:
            scope = str(scope_logs.get("scope", {}).get("name", ""))
            by_logger = self._is_ai_logger is not None and self._is_ai_logger(scope) is not None
            for record in scope_logs.get("logRecords", ()):
                if self._since_ns is not None and int(record.get("timeUnixNano") or 0) < self._since_ns:
                    continue
                total.records[service] += 1
                total.errors[service] += int(record.get("severityNumber", 0)) >= ERROR_NUMBER
                total.ai[service] += by_logger or _is_ai(record)


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    return gzip.GzipFile(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _is_ai(record: Mapping[str, Any]) -> bool:
    return any(str(pair.get("key", "")).startswith(_AI_PREFIX) for pair in record.get("attributes", ()))


def _decode_record(piece: bytes) -> Mapping[str, Any]:
    record, _ = json.JSONDecoder().raw_decode((_RECORD + piece).decode("utf-8"))
    assert isinstance(record, dict)
    return record


def _read_service(resource: bytes) -> str:
    """Read a resource's service from ``"attributes":[...]},`` as it stands behind the brace that opens it."""
    parsed, _ = json.JSONDecoder().raw_decode("{" + resource.decode("utf-8"))
    return _name_service(parsed.get("attributes", ()))


def _name_service(attributes: Iterable[Mapping[str, Any]]) -> str:
    values = {pair["key"]: pair.get("value", {}).get("stringValue", "") for pair in attributes}
    return name_service(values.get("service.name"), values.get("service.namespace"))


def name_service(name: str | None, namespace: str | None) -> str:
    """Returns a service's name with its namespace before it, as the Collector's metrics have it as ``job``."""
    return f"{namespace}/{name or UNKNOWN_SERVICE}" if namespace else name or UNKNOWN_SERVICE
