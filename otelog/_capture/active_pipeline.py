"""The pipeline of the process, which the facade's loggers and the installed handler hold."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextvars import ContextVar
from types import FrameType
from typing import Any, Protocol

from otelog._capture.port import NEVER, ActivePipeline, Port, current_span_context
from otelog._capture.queue import RecordQueue
from otelog._ledger.counters import Ledger
from otelog._record.attributes import build_body, find_site
from otelog._record.row import SLOT_BYTES, Source, SpanIds
from otelog._record.stacktrace import CapturedException, capture_stack, render_stack
from otelog._runtime.replacing import keep


class UnconfiguredPort(Port):
    """Where facade calls go before `otelog.configure`: to the standard library, as if that had been called."""

    __slots__ = ()

    def __init__(self) -> None:
        queue = RecordQueue(1, SLOT_BYTES)
        queue.close()
        super().__init__(queue, Ledger(), wake=_do_nothing, wake_at=NEVER)

    def put_when_full(self, row: tuple[Any, ...], units: Sequence[Any] = ()) -> None:
        """Every fast call ends here, since there is no slot."""
        _, source, _, message, arguments, fields, code, offset, _ = row
        _log(source, message, arguments, fields, code, offset)

    def put_sized(self, row: tuple[Any, ...], size_bytes: int) -> None:
        """Large records too."""
        self.put_when_full(row)

    def capture(
        self,
        time_ns: int,
        source: Source,
        message: object,
        arguments: Any,
        fields: Any,
        *,
        code: Any = None,
        offset: int = 0,
        thread: int | None = None,
        error: BaseException | None = None,
        captured: CapturedException | None = None,
        stack: FrameType | str | None = None,
        event_name: str | None = None,
        given_time: bool = False,
        ids: SpanIds | None = None,
    ) -> None:
        """Unusual calls."""
        if message is None:
            message = event_name
        _, fields, _ = current_span_context(dict(fields) if fields else None)
        text = render_stack(capture_stack(stack)) if isinstance(stack, FrameType) else stack
        _log(source, message, arguments, fields, code, offset, error, text)


def _log(
    source: Any,
    message: Any,
    arguments: Any,
    fields: Any,
    code: Any,
    offset: int,
    error: BaseException | None = None,
    stack: str | None = None,
) -> None:
    if code is None:
        # It came through otelog's handler: the standard library has it already.
        return
    logger = logging.getLogger(source.scope_name)
    level = _find_level(source.severity_text)
    if not logger.isEnabledFor(level):
        return
    site = find_site(code, offset)
    record = logger.makeRecord(
        logger.name,
        level,
        site.file_path,
        site.line_number,
        build_body(message, None),
        arguments or (),
        (type(error), error, error.__traceback__) if error is not None else None,
        site.function_name,
        sinfo=stack,
    )
    for key, value in (fields or {}).items():
        record.__dict__.setdefault(key, value)
    logger.handle(record)


def _find_level(name: str) -> int:
    number = logging.getLevelName(name)
    if isinstance(number, int):
        return number
    # The standard library's name of a level that has none: "Level 25".
    text = name.rpartition(" ")[2]
    return int(text) if text.isdecimal() else logging.INFO


def _do_nothing() -> None:
    """There is no worker to wake."""


class ProcessPipeline(ActivePipeline):
    """The pipeline of the process: its port may be covered by another for a while, even if it is set meanwhile.

    To look at `port` is as quick as with any other; only to set it costs a call.
    """

    __slots__ = ("_covers", "configured")

    configured: Port
    """What `port` is while nothing covers it."""

    def __init__(self, port: Port) -> None:
        self._covers: list[Port] = []
        super().__init__(port)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "port":
            self.configured = value
            if self._covers:
                return
        super().__setattr__(name, value)

    def cover(self, port: Port) -> None:
        """Let everything go to this port, until it is uncovered."""
        self._covers.append(port)
        super().__setattr__("port", port)

    def uncover(self, port: Port) -> None:
        """Take this cover away, on whichever level it lies."""
        self._covers.remove(port)
        super().__setattr__("port", self._covers[-1] if self._covers else self.configured)


ACTIVE_PIPELINE: ProcessPipeline = keep(globals(), "ACTIVE_PIPELINE", lambda: ProcessPipeline(UnconfiguredPort()))
"""Its port is the configured pipeline's, once there is one."""

TAKEN_BY: ContextVar[object] = keep(globals(), "TAKEN_BY", lambda: ContextVar("otelog-taken-by", default=None))
"""The processor that has the record already which another library's handler is about to emit."""


class LeadsToPipeline(Protocol):
    """Something that has a pipeline: a processor of otelog's."""

    @property
    def pipeline(self) -> ActivePipeline:
        """The pipeline."""
