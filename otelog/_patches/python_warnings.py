"""Warnings that Python shows are records, with their category and the place that they name.

`warnings.showwarning` is replaced by a function that makes the record and then calls what stood there before: standard
error, or whatever else shows warnings, is as it was. What is filtered out, turned into an error or caught by
`warnings.catch_warnings(record=True)` never comes to it. `logging.captureWarnings` puts a function of its own there,
which makes one text of a warning: that one makes the record in the same way, and what it logs is left to all other
handlers. Without it a warning is on standard error only, or a text without a category.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from threading import get_ident
from time import time_ns
from types import CodeType, FrameType
from typing import Any

from otelog._capture.active_pipeline import ACTIVE_PIPELINE, UnconfiguredPort
from otelog._capture.handler import MOST_SITES, ShownRecord, find_logger
from otelog._private.standard import SOURCE_FILE, show_whole_warning
from otelog._record.row import CodeSite, Source
from otelog._record.severity import severity_number
from otelog._record.values import safe_str, type_names
from otelog._runtime.own_threads import caused_by_ourselves, own_threads
from otelog._runtime.replacing import find_original, is_ours, keep, mark

LOGGER = "py.warnings"
"""The logger that `logging.captureWarnings` uses; it is the scope of all warnings, and its level turns them off."""

CATEGORY = "warning.category"
"""The attribute that names a warning's class."""

# Where `logging` keeps what shows warnings: what it puts in, and what it puts back.
_PLACES: tuple[tuple[Any, str], ...] = (
    (warnings, "showwarning"),
    (logging, "_showwarning"),
    (logging, "_warnings_showwarning"),
)


class _State:
    """What outlives a reload of this module."""

    is_on = False


_state: _State = keep(globals(), "_state", _State)
_sources: dict[tuple[str, str, int], Source] = {}


class _Shown(logging.Filter):
    """Marks what `logging.captureWarnings` makes of a warning that has a record already."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let everything pass."""
        if type(record) is logging.LogRecord and _find_shown(sys._getframe(1)) is not None:
            record.__class__ = ShownRecord
        return True


_shown = _Shown()


def install() -> None:
    """Make records of warnings from now on. Idempotent: what others have put on top stays."""
    was_on, _state.is_on = _state.is_on, True
    for owner, name in _PLACES:
        before = getattr(owner, name, None)
        if callable(before) and not is_ours(before) and not was_on:
            setattr(owner, name, _make_hook(before))


def uninstall() -> None:
    """Take that back; what another library has put on top finds ours passing everything on."""
    _state.is_on = False
    for owner, name in _PLACES:
        found = getattr(owner, name, None)
        if is_ours(found):
            setattr(owner, name, find_original(found))
    logger = find_logger(LOGGER)
    if logger is not None:
        logger.removeFilter(_shown)


def _make_hook(before: Any) -> Callable[..., None]:
    by_logging = before is find_original(getattr(logging, "_showwarning", None))

    # As the one that it stands for: libraries call it by position and by name.
    def showwarning(
        message: Any, category: Any, filename: Any, lineno: Any, file: Any = None, line: Any = None
    ) -> None:
        if _state.is_on and file is None:
            try:
                if _find_shown(sys._getframe(1), message) is None:
                    _record(message, category, filename, lineno, sys._getframe(1))
                if by_logging:
                    # It makes this logger itself, if there is none, and logs.
                    logging.getLogger(LOGGER).addFilter(_shown)
            except Exception:
                # Whatever it is, the warning is shown; at the interpreter's end our own modules may be gone.
                pass
        if not show_whole_warning(before, sys._getframe(1)):
            before(message, category, filename, lineno, file, line)

    if by_logging and SOURCE_FILE is not None:
        # What it logs has the place of its caller, who is none of ours: `logging` passes over what is its own.
        showwarning.__code__ = showwarning.__code__.replace(co_filename=SOURCE_FILE)
    _codes[id(showwarning.__code__)] = showwarning.__code__
    mark(showwarning, before)
    return showwarning


# By identity: a code object that somebody has made may have constants that cannot be hashed.
_codes: dict[int, CodeType] = keep(globals(), "_codes", dict)


def _find_shown(frame: FrameType | None, message: Any = None) -> FrameType | None:
    """Returns a frame of ours in this stack that shows a warning: this one, if it is given."""
    while frame is not None:
        if id(frame.f_code) in _codes and (message is None or frame.f_locals.get("message") is message):
            return frame
        frame = frame.f_back
    return None


def _record(message: Any, category: Any, filename: Any, lineno: Any, frame: FrameType | None) -> None:
    port = ACTIVE_PIPELINE.port
    logger = find_logger(LOGGER)
    if isinstance(port, UnconfiguredPort) or max(port.level, 0 if logger is None else logger.level) > logging.WARNING:
        return
    thread = get_ident()
    if thread in own_threads and caused_by_ourselves():
        return
    source = _find_source(safe_str(filename), lineno if type(lineno) is int else 0, frame)
    module, name = type_names(category if isinstance(category, type) else type(message))
    try:
        port.capture(
            time_ns(),
            source,
            message,
            None,
            {CATEGORY: name if module == "builtins" else f"{module}.{name}"},
            thread=thread,
        )
    except MemoryError as shortage:
        port.refuse_for_memory(source, shortage)


def _find_source(path: str, line: int, frame: FrameType | None) -> Source:
    """Returns what all warnings of a place have in common. The function is known where it is in the stack."""
    while frame is not None and (frame.f_lineno != line or frame.f_code.co_filename != path):
        frame = frame.f_back
    function = "" if frame is None else frame.f_code.co_name
    key = path, function, line
    source = _sources.get(key)
    if source is None:
        if len(_sources) >= MOST_SITES:
            _sources.clear()
        site = CodeSite(path, function, line)
        source = _sources[key] = Source(LOGGER, severity_number(logging.WARNING), "WARNING", site)
    return source
