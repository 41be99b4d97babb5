"""The file exporter: records as lines of JSON in rotating files, written by the exporter's own thread."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from otelog._capture.queue import is_urgent
from otelog._ledger.counters import Ledger
from otelog._ledger.otel_metrics import OnExchange
from otelog._ledger.tally import BatchTally, open_tally
from otelog._pipeline.batch_export import ExportContext
from otelog._pipeline.own_exporter import OwnExporter
from otelog._record.row import COLUMNS
from otelog._runtime.diagnostics import warn
from otelog._runtime.lifetime import watch
from otelog._runtime.lock_yield import make_pause
from otelog._runtime.retry import Backoff
from otelog._runtime.turns import UnderWay, pause
from otelog._runtime.waiting import StopSignal
from otelog.sinks._folder import LineTooLargeError, LogFolder, WriteError
from otelog.sinks._line import LineRenderer
from otelog.sinks._settings import STREAMS, FileSettings, check_settings

AI_PREFIX = "gen_ai."
"""What the fields' names of a language model's records begin with, by OpenTelemetry's conventions."""

FIRST_WAIT, LONGEST_WAIT = 0.05, 1.0
"""Seconds between attempts to write: a disk that has room again should not be waited for long."""


class FileLogExporter(OwnExporter):
    """Writes records to ``app.log``, also those of ERROR and above to ``errors.log``, and language models' to
    ``ai_responses.log``.

    A record is exported when it is in all files that it belongs to. What cannot be written is tried again until the
    batch's time is over; then it is dropped as ``retry_exhausted``. A folder that is removed is made again, a file that
    another program has renamed is left to it.

    Args:
        folder: Where the files are; made when it is missing, with mode 0750; the files have 0640, less the umask.
        max_bytes: Size of one file before compression; 0 is no bound. A line that alone is longer has a file to itself.
        interval: Seconds after a file's first record at which it is rotated; 0 is never.
        daily: Whether files are rotated at local midnight; a rotated file is named after the day that it holds.
        compression: Of rotated files: "gzip", "zstd" or "none".
        max_files: Rotated files of each kind that are kept; 0 is no bound.
        max_age_days: Days that rotated files are kept; 0 is no bound.
        max_total_bytes: Size of all files together, those being written included; 0 is no bound.
        per_process: Whether each process writes files of its own, with its id in their names. Otherwise several
            processes may write to one file: a lock of the folder orders them.
        ai_loggers: Loggers whose records, and those of loggers below them, go to ``ai_responses.log``.
        ai_only: Whether records of ``ai_responses.log`` are left out of ``app.log``.
        ai_max_bytes: `max_bytes` for ``ai_responses.log``; 0 is the same.
        ai_max_files: `max_files` for ``ai_responses.log``; 0 is the same.
        export_timeout: Seconds for a batch with all its attempts, where the processor does not say.

    Raises:
        ConfigurationError: An argument cannot be used.

    Thread safety: exports are serialised.
    """

    default_name = "file"

    def __init__(
        self,
        *,
        folder: str | os.PathLike[str] = FileSettings.folder.default,
        max_bytes: int = FileSettings.max_bytes.default,
        interval: float = FileSettings.interval.default,
        daily: bool = FileSettings.daily.default,
        compression: str = FileSettings.compression.default,
        max_files: int = FileSettings.max_files.default,
        max_age_days: float = FileSettings.max_age_days.default,
        max_total_bytes: int = FileSettings.max_total_bytes.default,
        per_process: bool = FileSettings.per_process.default,
        ai_loggers: Iterable[str] = FileSettings.ai_loggers.default,
        ai_only: bool = FileSettings.ai_only.default,
        ai_max_bytes: int = FileSettings.ai_max_bytes.default,
        ai_max_files: int = FileSettings.ai_max_files.default,
        export_timeout: float = 30.0,
    ) -> None:
        super().__init__(export_timeout)
        self.settings = check_settings(FileSettings(**FileSettings.pick(locals())))
        self.folder = LogFolder(self.settings)
        try:
            self.folder.probe()
        except OSError as error:
            # At the first record it may be too late to see; but the disk may come back.
            where = self.folder.path
            warn(f"file:{where}", f"log files in {where} cannot be written: {error.strerror}; it is tried again")
        watch(self)

    def make_batch_export(self, context: ExportContext) -> FileBatchExport:
        """Return the way to these files for otelog's own processor."""
        return FileBatchExport(self, context)

    def restart_after_fork(self) -> None:
        """Use nothing that the parent has open, and forget an export that another thread of it was in the middle of."""
        super().restart_after_fork()
        self.folder.restart_after_fork()

    def shutdown(self, timeout_millis: float = 5_000) -> None:
        """Close the files; one that is being packed stays as it was, for the next process. Idempotent."""
        self._stop.begin(timeout_millis / 1000)
        self.folder.close(timeout_millis / 1000)


class _Part:
    """What is still to be written of a batch to one stream."""

    __slots__ = ("indices", "lines", "stream")

    def __init__(self, stream: str, lines: list[bytes], indices: Sequence[int]) -> None:
        self.stream = stream
        self.lines = lines
        self.indices = indices

    def without(self, first: int) -> _Part:
        """Returns the part without its first lines."""
        return _Part(self.stream, self.lines[first:], self.indices[first:])


class FileBatchExport:
    """`FileLogExporter` as a processor uses it.

    Args:
        exporter: Whose files are written.
        context: The pipeline.
    """

    component_type = "otelog_file_log_exporter"
    endpoint: str | None = None

    def __init__(self, exporter: FileLogExporter, context: ExportContext) -> None:
        self.name = context.name
        self.exporter = exporter
        self.on_exchange: OnExchange | None = None
        self._context = context
        self._renderer = LineRenderer(context)
        self._backoff = Backoff(FIRST_WAIT, LONGEST_WAIT)
        self._sorter = _Sorter(exporter.settings)
        self._under_way = UnderWay()

    def deliver(self, rows: list[Any], ledger: Ledger, stop: StopSignal, hold: Callable[[BatchTally], None]) -> None:
        """See `otelog._pipeline.batch_export.BatchExport`."""
        sources = rows[1::COLUMNS]
        tally = open_tally(rows, ledger, self.name)
        hold(tally)
        began = time.monotonic()
        lines = self._renderer.render(rows, make_pause(stop))
        lost = [at for at, line in enumerate(lines) if line is None] if None in lines else []
        for at in lost:
            tally.settle(at, at + 1, "encode_error")
        parts = self._sorter.sort(lines, sources, rows[5::COLUMNS])
        self._under_way.add(self._deliver(parts, len(sources), tally, stop, began, "encode_error" if lost else None))
        self._under_way.finish()

    def _deliver(
        self, parts: list[_Part], size: int, tally: BatchTally, stop: StopSignal, began: float, error: str | None
    ) -> Generator[bool, None, None]:
        reason = yield from self._write(parts, size, tally, stop, began + self._context.export_timeout)
        if self.on_exchange is not None:
            self.on_exchange(time.monotonic() - began, None, reason or error)

    def _write(
        self, parts: list[_Part], size: int, tally: BatchTally, stop: StopSignal, deadline: float
    ) -> Generator[bool, None, str | None]:
        """Write the parts until nothing is left or the time is over; returns why something was lost."""
        attempt = 0
        refused: list[int] = []
        while True:
            last = stop.is_set()
            failures: list[str] = []
            until = min(stop.stop_deadline, stop.turn_deadline)
            parts = self._attempt(parts, tally, refused, failures, until)
            # What is in all its files is delivered, whatever becomes of the rest.
            start = 0
            for at in sorted({at for part in parts for at in part.indices}):
                tally.settle(start, at, None)
                start = at + 1
            tally.settle(start, size, None)
            if failures:
                tally.explain(failures[-1])
            if not parts:
                return "too_large" if refused else None
            now = time.monotonic()
            wait = self._backoff.delay(attempt, 0.5)
            reason = "shutdown_timeout" if last or now >= stop.stop_deadline else None
            if reason is None and now + wait >= deadline:
                reason = "retry_exhausted"
            if reason is not None:
                tally.close(reason)
                return reason
            halted = yield from pause(stop, wait)
            if halted and time.monotonic() >= stop.stop_deadline:
                tally.close("shutdown_timeout")
                return "shutdown_timeout"
            deadline += halted
            attempt += 1

    def _attempt(
        self, parts: list[_Part], tally: BatchTally, refused: list[int], failures: list[str], until: float
    ) -> list[_Part]:
        """Write once; returns what is left. What can never be written is added to `refused`, why to `failures`."""
        left = []
        for part in parts:
            rest = part
            while rest.lines:
                try:
                    self.exporter.folder.append(rest.stream, rest.lines, until=until)
                    break
                except LineTooLargeError as error:
                    at = rest.indices[error.written]
                    said = f"{error.filename}: {error.strerror}"
                    tally.explain(said, "too_large")
                    tally.settle(at, at + 1, "too_large")
                    refused.append(at)
                    warn(f"file.too_large:{error.filename}", f"1 record lost (too_large): {said}")
                    rest = rest.without(error.written + 1)
                except WriteError as error:
                    failures.append(f"{error.filename} cannot be written: {error.strerror}")
                    warn(f"file:{error.filename}", f"{failures[-1]}; it is tried again")
                    left.append(rest.without(error.written))
                    break
        return left

    def finish(self) -> bool:
        """Write what could not be written in the turns before."""
        return self._under_way.finish()

    def restart_after_fork(self) -> None:
        """Use nothing that the parent has open."""
        self._under_way.forget()
        self.exporter.restart_after_fork()

    def shutdown(self, timeout: float) -> None:
        """Close the files."""
        self.exporter.shutdown(timeout * 1000)


def _choose(stream: str, lines: list[Any], indices: Sequence[int]) -> _Part:
    chosen = lines if len(indices) == len(lines) else [lines[at] for at in indices]
    if None in chosen:
        indices = [at for at in indices if lines[at] is not None]
        chosen = [lines[at] for at in indices]
    return _Part(stream, chosen, indices)


class _Sorter:
    """Tells which streams a record belongs to."""

    def __init__(self, settings: FileSettings) -> None:
        self._ai_only = settings.ai_only
        self._ai_loggers = settings.ai_loggers

    def sort(self, lines: list[bytes | None], sources: list[Any], fields: list[Any]) -> list[_Part]:
        """Returns the parts of a batch, those of ``app.log`` first; a line that is None belongs nowhere."""
        # Few batches have any of them: what the records have in common is looked at before each of them is.
        kinds = set(sources)
        errors: list[int] = []
        urgent = {source for source in kinds if is_urgent(source)}
        if urgent:
            errors = [at for at, source in enumerate(sources) if source in urgent]
        ai: set[int] = set()
        if _has_ai(set().union(*filter(None, fields))):
            ai.update(at for at, given in enumerate(fields) if given and _has_ai(given))
        if self._ai_loggers:
            talkers = {source for source in kinds if self._is_ai_logger(source)}
            if talkers:
                ai.update(at for at, source in enumerate(sources) if source in talkers)
        app: Sequence[int] = range(len(lines))
        if self._ai_only and ai:
            app = [at for at in app if at not in ai]
        parts = [
            _choose(stream, lines, places) for stream, places in zip(STREAMS, (app, errors, sorted(ai)), strict=True)
        ]
        return [part for part in parts if part.lines]

    def _is_ai_logger(self, source: Any) -> bool:
        name = (source.source if source.special else source).scope_name
        return any(name == one or name.startswith(f"{one}.") for one in self._ai_loggers)


def _has_ai(names: Iterable[Any]) -> bool:
    return any(type(name) is str and name.startswith(AI_PREFIX) for name in names)
