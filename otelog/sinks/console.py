"""The console: records as readable lines on a terminal, and as lines of JSON anywhere else."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource

from otelog._config.table import ConsoleOptions
from otelog._ledger.counters import Ledger
from otelog._ledger.otel_metrics import OnExchange
from otelog._ledger.tally import BatchTally, open_tally
from otelog._pipeline.batch_export import CONVERT_AT_ONCE, LaneContext, LaneMaker
from otelog._record.attributes import DEFAULT_ATTRIBUTES
from otelog._record.row import COLUMNS
from otelog._record.sdk import RowMaker
from otelog._record.values import safe_str
from otelog._runtime.diagnostics import warn
from otelog._runtime.lifetime import watch
from otelog._runtime.lock_yield import Breather, make_pause
from otelog._runtime.threads import Lock
from otelog._runtime.waiting import Stop
from otelog.sinks._line import LineRenderer
from otelog.sinks._readable import describe, find_painter
from otelog.sinks._stream import StreamFailure, write_lines

EXPORT_TIMEOUT = 30.0
"""Seconds that a batch may wait for a stream that takes nothing, under a processor that is not otelog's."""

_OWN = "console"


class _ConsoleSettings(ConsoleOptions, without=("level",)):
    """The options of the table without ``console_``."""


class ConsoleLogExporter(LogRecordExporter, LaneMaker):
    """Writes log records to standard error or standard output, one line a record.

    On a terminal a line is for people: time, level, logger, message, fields and the beginning of the trace's id, with
    the stack trace of an exception below, in the colours that rich finds right (``otelog[console]``; without it there
    are none). Anywhere else it is JSON. The stream is the one that ``sys.stderr`` or ``sys.stdout`` is when a batch is
    written.

    Args:
        stream: "stderr" or "stdout".
        format: "readable", "json", or "auto": readable on a terminal.

    Raises:
        ConfigurationError: An argument cannot be used.

    Thread safety: all methods; writes are serialised.
    """

    lane_name = _OWN

    def __init__(
        self,
        *,
        stream: Literal["stderr", "stdout"] = "stderr",
        format: Literal["auto", "readable", "json"] = "auto",  # noqa: A002
    ) -> None:
        settings = _ConsoleSettings(stream=stream, format=format).checked()
        self.stream = settings.stream
        self.format = settings.format
        self._writing = Lock()
        self._torn = False
        self._rows = RowMaker()
        self._renderer: LineRenderer | None = None
        self._stop = Stop()
        watch(self)

    def make_lane(self, context: LaneContext) -> ConsoleLane:
        """Return the way to this exporter for otelog's own processor."""
        return ConsoleLane(self, context)

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Export a batch under a processor that is not ours. Never raises; FAILURE means that a record was lost."""
        rows: list[Any] = []
        for record in batch:
            rows += self._rows.make_safely(record)[0]
        with self._writing:
            if self._stop.is_set():
                return LogRecordExportResult.FAILURE
            if self._renderer is None:
                self._renderer = LineRenderer(LaneContext(_OWN, Resource.get_empty, DEFAULT_ATTRIBUTES, EXPORT_TIMEOUT))
            breather = Breather()
            rendered = self._renderer.render(rows, breather.breathe)
        lines = [line for line in rendered if line is not None]
        whole = self.write(lines, time.monotonic() + EXPORT_TIMEOUT, self._stop, breather.breathe, lambda count: None)
        if whole and len(lines) == len(batch):
            return LogRecordExportResult.SUCCESS
        return LogRecordExportResult.FAILURE

    def write(
        self,
        lines: Sequence[bytes],
        deadline: float,
        stop: Stop,
        pause: Callable[[], object],
        on_written: Callable[[int], object],
    ) -> bool:
        """Write lines of JSON in the way that the stream asks for.

        Args:
            lines: As `LineRenderer` makes them.
            deadline: The monotonic moment until which a stream that takes nothing is waited for.
            stop: A shutdown, whose deadline holds too.
            pause: Called after every `CONVERT_AT_ONCE` records.
            on_written: Told, as it goes on, how many lines are written from the first.

        Returns:
            Whether all are written. Never raises; a stream that fails is warned of.
        """
        if not lines:
            return True

        def may_wait() -> bool:
            return time.monotonic() < min(deadline, stop.stop_deadline)

        with self._writing:
            try:
                stream = getattr(sys, self.stream)
                if stream is None:
                    raise StreamFailure from OSError("there is none")
                encoded, encoding = self._convert(stream, lines, pause)
                if self._torn:
                    write_lines(stream, [b"\n"], "ascii", may_wait, lambda count: None)
                    self._torn = False
                write_lines(stream, encoded, encoding, may_wait, on_written)
            except StreamFailure as failure:
                self._torn = self._torn or failure.torn
                self._complain(failure.__cause__)
                return False
            except Exception as error:
                # A stream of the application's may raise anything, whatever it is asked.
                self._complain(error)
                return False
            return True

    def _convert(self, stream: Any, lines: Sequence[bytes], pause: Callable[[], object]) -> tuple[list[bytes], str]:
        if self.format == "json" or (self.format == "auto" and not stream.isatty()):
            return list(lines), "utf-8"
        paint = find_painter(stream)
        encoding = getattr(stream, "encoding", None) or "utf-8"
        converted: list[bytes] = []
        for number, line in enumerate(lines, 1):
            converted.append(f"{paint(describe(json.loads(line)))}\n".encode(encoding, "backslashreplace"))
            if number % CONVERT_AT_ONCE == 0:
                pause()
        return converted, encoding

    def _complain(self, error: BaseException | None) -> None:
        reason = f"{type(error).__name__}: {safe_str(error)}"
        warn(f"console:{self.stream}", f"records cannot be written to {self.stream}: {reason}; they are counted")

    def restart_after_fork(self) -> None:
        """Forget a write that another thread of the parent was in the middle of."""
        self._writing = Lock()
        self._renderer = None
        self._torn = False

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Returns True: nothing is held back between two exports."""
        return True

    def shutdown(self, timeout_millis: float = 5_000) -> None:
        """Write no more, and wait no longer for a stream that takes nothing. The stream stays open. Idempotent."""
        self._stop.begin(timeout_millis / 1000)


class ConsoleLane:
    """`ConsoleLogExporter` as otelog's own processor uses it.

    Args:
        exporter: Whose stream is used.
        context: The pipeline.
    """

    component_type = f"{ConsoleLogExporter.__module__}.{ConsoleLogExporter.__qualname__}"

    def __init__(self, exporter: ConsoleLogExporter, context: LaneContext) -> None:
        self.name = context.name
        self.endpoint: str | None = None
        self.exporter = exporter
        self.on_exchange: OnExchange | None = None
        self._context = context
        self._renderer = LineRenderer(context)

    def deliver(self, rows: list[Any], ledger: Ledger, stop: Stop, hold: Callable[[BatchTally], None]) -> None:
        """See `otelog._pipeline.batch_export.Lane`."""
        count = len(rows) // COLUMNS
        tally = open_tally(rows, ledger, self.name)
        hold(tally)
        began = time.monotonic()
        pause = make_pause(stop)
        rendered = self._renderer.render(rows, pause)
        lines: list[bytes] = []
        places: list[int] = []
        for at, line in enumerate(rendered):
            if line is None:
                tally.settle(at, at + 1, "encode_error")
            else:
                lines.append(line)
                places.append(at)
        places.append(count)
        # What is settled already stays so, in each of these.
        whole = self.exporter.write(
            lines,
            began + self._context.export_timeout,
            stop,
            pause,
            lambda written: tally.settle(0, places[written], None),
        )
        tally.settle(0, count, "export_failed")
        if self.on_exchange is not None:
            self.on_exchange(time.monotonic() - began, None, None if whole else "export_failed")

    def finish(self) -> None:
        """Nothing is ever left under way."""

    def restart_after_fork(self) -> None:
        """The child renders with its own process id; a line that the parent was in the middle of is the parent's."""
        self._renderer = LineRenderer(self._context)

    def shutdown(self, timeout: float) -> None:
        """Write no more."""
        self.exporter.shutdown(timeout * 1000)


def replace_console_handlers() -> list[logging.Handler]:
    """Take the standard library's console handlers off the root logger, so that nothing is shown twice.

    Returns:
        Those that were taken off, to be put back: the handlers that are exactly a `logging.StreamHandler` on standard
        output or standard error. Thread-safe.
    """
    streams = [stream for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__) if stream is not None]
    kinds = (logging.StreamHandler, getattr(logging, "_StderrHandler", logging.StreamHandler))
    root = logging.getLogger()
    taken: list[logging.Handler] = []
    for handler in list(root.handlers):
        if type(handler) in kinds and any(handler.stream is stream for stream in streams):  # type: ignore[attr-defined]
            root.removeHandler(handler)
            taken.append(handler)
    return taken
