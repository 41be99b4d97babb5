"""The console: records as readable lines on a terminal, and as lines of JSON anywhere else."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal

from otelog._config.table import ConsoleOptions
from otelog._ledger.counters import Ledger
from otelog._ledger.otel_metrics import OnExchange
from otelog._ledger.tally import BatchTally, open_tally
from otelog._pipeline.batch_export import CONVERT_AT_ONCE, ExportContext
from otelog._pipeline.own_exporter import OwnExporter
from otelog._record.row import COLUMNS
from otelog._record.values import safe_str
from otelog._runtime.diagnostics import warn
from otelog._runtime.lifetime import watch
from otelog._runtime.lock_yield import make_pause
from otelog._runtime.threads import Lock
from otelog._runtime.turns import UnderWay, halt
from otelog._runtime.waiting import StopSignal
from otelog.sinks._line import LineRenderer
from otelog.sinks._readable import describe, find_painter
from otelog.sinks._stream import StreamFailure, write_lines

EXPORT_TIMEOUT = 30.0
"""Seconds that a batch may wait for a stream that takes nothing, under a processor that is not otelog's."""


class _ConsoleSettings(ConsoleOptions, without=("level",)):
    """The options of the table without ``console_``."""


class ConsoleLogExporter(OwnExporter):
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

    default_name = "console"

    def __init__(
        self,
        *,
        stream: Literal["stderr", "stdout"] = "stderr",
        format: Literal["auto", "readable", "json"] = "auto",  # noqa: A002
    ) -> None:
        super().__init__(EXPORT_TIMEOUT)
        settings = _ConsoleSettings(stream=stream, format=format).checked()
        self.stream = settings.stream
        self.format = settings.format
        self._writing = Lock()
        self._torn = False
        self.failure = ""
        """Why a stream has taken nothing last, in words."""
        watch(self)

    def make_batch_export(self, context: ExportContext) -> ConsoleBatchExport:
        """Return the way to this exporter for otelog's own processor."""
        return ConsoleBatchExport(self, context)

    def write(
        self,
        lines: Sequence[bytes],
        deadline: float,
        stop: StopSignal,
        pause: Callable[[], object],
        on_written: Callable[[int], object],
    ) -> bool:
        """Write lines of JSON in the way that the stream asks for.

        Args:
            lines: As `LineRenderer` makes them.
            deadline: The monotonic moment until which a stream that takes nothing is waited for.
            stop: A shutdown, whose deadline holds too.
            pause: Called after every `CONVERT_AT_ONCE` records.
            on_written: Called meanwhile with how many lines are written from the first.

        Returns:
            Whether all are written. Never raises; a stream that fails is warned of.
        """
        if not lines:
            return True

        def may_wait() -> bool:
            return time.monotonic() < min(deadline, stop.stop_deadline, stop.turn_deadline)

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
                # At the end of a turn nothing is lost.
                if not stop.turn_deadline <= time.monotonic() < min(deadline, stop.stop_deadline):
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
        self.failure = f"records cannot be written to {self.stream}: {reason}"
        warn(f"console:{self.stream}", f"{self.failure}; they are counted")

    def restart_after_fork(self) -> None:
        """Forget a write that another thread of the parent was in the middle of."""
        super().restart_after_fork()
        self._writing = Lock()
        self._torn = False

    def shutdown(self, timeout_millis: float = 5_000) -> None:
        """Write no more, and wait no longer for a stream that takes nothing. The stream stays open. Idempotent."""
        self._stop.begin(timeout_millis / 1000)


class ConsoleBatchExport:
    """`ConsoleLogExporter` as otelog's own processor uses it.

    Args:
        exporter: Whose stream is used.
        context: The pipeline.
    """

    component_type = f"{ConsoleLogExporter.__module__}.{ConsoleLogExporter.__qualname__}"

    def __init__(self, exporter: ConsoleLogExporter, context: ExportContext) -> None:
        self.name = context.name
        self.endpoint: str | None = None
        self.exporter = exporter
        self.on_exchange: OnExchange | None = None
        self._context = context
        self._renderer = LineRenderer(context)
        self._under_way = UnderWay()

    def deliver(self, rows: list[Any], ledger: Ledger, stop: StopSignal, hold: Callable[[BatchTally], None]) -> None:
        """See `otelog._pipeline.batch_export.BatchExport`."""
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
        self._under_way.add(self._write(lines, places, tally, stop, began))
        self._under_way.finish()

    def _write(
        self, lines: list[bytes], places: list[int], tally: BatchTally, stop: StopSignal, began: float
    ) -> Generator[bool, None, None]:
        deadline = began + self._context.export_timeout
        pause = make_pause(stop)
        count = places[-1]
        done = before = 0

        def on_written(written: int) -> None:
            nonlocal done
            done = before + written
            # What is settled already stays so.
            tally.settle(0, places[done], None)

        while not (whole := self.exporter.write(lines[before:], deadline, stop, pause, on_written)):
            if not stop.turn_deadline <= time.monotonic() < min(deadline, stop.stop_deadline):
                break
            before = done
            deadline += yield from halt(stop)
            if time.monotonic() >= stop.stop_deadline:
                break
        if not whole and self.exporter.failure:
            tally.explain(self.exporter.failure, "export_failed")
        tally.settle(0, count, "export_failed")
        if self.on_exchange is not None:
            self.on_exchange(time.monotonic() - began, None, None if whole else "export_failed")

    def finish(self) -> bool:
        """Write what the stream did not take in the turns before."""
        return self._under_way.finish()

    def restart_after_fork(self) -> None:
        """The child renders with its own process id; a line that the parent was in the middle of is the parent's."""
        self._under_way.forget()
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
