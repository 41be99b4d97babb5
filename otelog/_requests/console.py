"""Access lines on the console: one a request, whoever writes it.

Where the server writes a line of its own, that one stays. Where it writes none, the access record goes to the handlers
of the application, as `logging` would bring it there, and to standard error if there is none: so `docker logs` has a
line for each request under any server.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import format_trace_id

from otelog._capture.active_pipeline import ACTIVE_PIPELINE
from otelog._capture.handler import is_otelogs, way_of
from otelog._capture.once import may_hand_on
from otelog._patches.last_resort import is_seen
from otelog._requests.access import MESSAGE
from otelog._requests.exceptions import is_bridge
from otelog._runtime.shown_text import show_hidden
from otelog._setup.state import settings_in_force
from otelog.sinks._readable import TRACE_DIGITS, quote

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from otelog._config.kinds import Entry
    from otelog._config.resolve import Settings
    from otelog._requests.access import Written

_CONSOLE_EXPORTERS = ("ConsoleLogExporter", "ConsoleLogRecordExporter")
# Of an access record's fields, those that its message does not have.
_SHOWN = ("url.path", "http.response.body.size", "http.server.request.duration", "client.address", "error.type")


def hand_to_others(record: logging.LogRecord, *, but_console: bool = False, but_ours: bool = False) -> bool:
    """Hand a record to the handlers on its way, but for those that lead to the pipeline.

    Args:
        record: What the pipeline is not to have, or has already.
        but_console: Whether handlers on standard output or standard error are left out, too.
        but_ours: Whether all of otelog's handlers are, the one for the console of last resort among them.

    Returns:
        Whether there was a handler on its way that is not otelog's.
    """
    handlers = [
        handler
        for one in way_of(logging.getLogger(record.name))
        for handler in one.handlers
        if not is_bridge(handler) and not (but_ours and is_otelogs(handler))
    ]
    if any(map(may_hand_on, handlers)):
        # A queue's listener may bring it to the pipeline, after all.
        ACTIVE_PIPELINE.once.watch()
        ACTIVE_PIPELINE.once.remember(record)
    for handler in handlers:
        if record.levelno >= handler.level and not (but_console and is_console(handler)):
            handler.handle(record)
    return bool(handlers)


def is_console(handler: logging.Handler) -> bool:
    """Returns whether a handler writes to standard output or standard error."""
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    stream = getattr(handler, "stream", None) if isinstance(handler, logging.StreamHandler) else None
    return stream is not None and any(stream is one for one in streams)


def is_shown_by_exporter(logger_name: str, level: int) -> bool:
    """Returns whether the pipeline itself writes the records of this logger and level to the console."""
    settings = settings_in_force()
    return settings is not None and any(_shows(one, settings, logger_name, level) for one in settings.exporters)


def _shows(entry: Entry, settings: Settings, logger_name: str, level: int) -> bool:
    if entry.kind != "console" and type(entry.exporter).__name__ not in _CONSOLE_EXPORTERS:
        return False
    least = entry.level
    if least is None and entry.kind:
        least = getattr(settings, "console_level", None)
    if level < max(settings.level, 0 if least is None else least):
        return False
    return not entry.loggers or any(f"{logger_name}.".startswith(f"{name}.") for name in entry.loggers)


class AccessConsole:
    """Shows access records that no server's line stands for.

    Args:
        name: Their logger's.

    Thread safety: all methods.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def show(self, written: Written, span_context: SpanContext | None, *, last_resort: bool) -> None:
        """Bring an access record, which the pipeline has, to the application's handlers, or to standard error.

        The level of the `logging` logger of its name decides, as everywhere; that is the way to have no lines.

        Args:
            written: The record.
            span_context: The request's.
            last_resort: Whether it goes to standard error where there is no handler.
        """
        level, arguments, fields = written
        logger = logging.getLogger(self._name)
        if not logger.isEnabledFor(level):
            return
        by_exporter = is_shown_by_exporter(self._name, level)
        if logger.filters or is_seen(logger):
            record = logger.makeRecord(logger.name, level, __file__, 0, MESSAGE, arguments, None, "show")
            for key, value in fields.items():
                record.__dict__.setdefault(key, value)
            kept: Any = logger.filter(record)
            if not kept:
                return
            record = kept if isinstance(kept, logging.LogRecord) else record
            if hand_to_others(record, but_console=by_exporter, but_ours=True):
                return
        if last_resort and not by_exporter:
            _write(describe_access(self._name, level, MESSAGE % arguments, fields, span_context))


def describe_access(
    name: str, level: int, message: str, fields: Mapping[str, Any], span_context: SpanContext | None
) -> str:
    """Returns an access record as a readable line, as those of the console exporter are; it steers no terminal."""
    now = time.time()
    # Put together here: a server with a line a request does nothing else as often.
    parts = [
        f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))}.{int(now * 1000) % 1000:03}",
        f"{logging.getLevelName(level):8} {name} {message}",
    ]
    for key in _SHOWN:
        value = fields.get(key)
        if value is not None:
            parts.append(f"{key}={round(value, 4) if type(value) is float else quote(value)}")
    if span_context is not None:
        parts.append(f"trace={format_trace_id(span_context.trace_id)[:TRACE_DIGITS]}")
    return show_hidden(" ".join(parts))


def _write(line: str) -> None:
    stream = sys.stderr
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    text = line if line.isascii() else line.encode(encoding, "backslashreplace").decode(encoding)
    try:
        # One write: lines of other threads and processes do not come between.
        stream.write(f"{text}\n")
        stream.flush()
    except (OSError, ValueError):
        # It is closed, or nobody reads it.
        return
