"""Private names of structlog that are read, and what is done where a release has none of that name.

The library itself is not imported here: it is asked where the process has loaded it.
"""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any

__all__ = ["NAMES", "STRUCTLOG_LINE", "find_async_caller", "find_chain", "reaches_nobody"]

STRUCTLOG_LINE = "import otelog.structlog; structlog.configure(processors=[..., otelog.structlog.OtelogProcessor()])"
"""What brings structlog's events to otelog, where the application sets it up."""

NAMES: tuple[tuple[str, str], ...] = (
    ("structlog._base", "BoundLoggerBase"),
    ("structlog.contextvars", "_ASYNC_CALLING_STACK"),
)
"""Modules, and the names in them that are read here."""

_MOST_FRAMES = 24
"""How far above a log call the frame is looked for that has brought it."""


def find_async_caller() -> tuple[FrameType | None, int | None]:
    """Returns the frame and the thread that have called an async method, whose chain runs in an executor.

    None for what is not known.
    """
    module = sys.modules.get("structlog.contextvars")
    stack, thread = getattr(module, "_ASYNC_CALLING_STACK", None), getattr(module, "_ASYNC_CALLING_THREAD", None)
    try:
        frame = None if stack is None else stack.get(None)
        found = None if thread is None else thread.get(None)
        return frame, None if found is None else found[0]
    except Exception:
        return None, None


def find_chain(frame: FrameType | None) -> tuple[Any, Any] | None:
    """Returns the wrapped logger and the processors of the bound logger that has just made a call of `logging`.

    Args:
        frame: Whoever handles the record of that call.

    Returns:
        None where no bound logger has made the call, or one of its processors has.
    """
    proxy, process = _find_codes()
    if proxy is None:
        return None
    for _ in range(_MOST_FRAMES):
        if frame is None or frame.f_code is process:
            return None
        if frame.f_code is proxy:
            bound = frame.f_locals.get("self")
            return getattr(bound, "_logger", None), getattr(bound, "_processors", None)
        frame = frame.f_back
    return None


def _find_codes() -> tuple[CodeType | None, CodeType | None]:
    base = getattr(sys.modules.get("structlog._base"), "BoundLoggerBase", None)
    found = [getattr(getattr(base, name, None), "__code__", None) for name in ("_proxy_to_logger", "_process_event")]
    return found[0], found[1]


def reaches_nobody() -> bool | None:
    """Returns whether structlog's events are written without anybody who may bring them to a pipeline.

    None where it is not loaded, or cannot be asked; by its public configuration.
    """
    module = sys.modules.get("structlog")
    if module is None:
        return None
    try:
        chosen = module.get_config()
        factory = chosen["logger_factory"]
        kind = factory if isinstance(factory, type) else type(factory)
        writes = (kind.__module__, kind.__name__) in _WRITING
        taken = any(type(one).__module__.startswith("otelog.") for one in chosen["processors"])
    except Exception:
        return None
    return writes and not taken


_WRITING = frozenset(
    ("structlog._output", f"{kind}Logger{factory}")
    for kind in ("Print", "Write", "Bytes")
    for factory in ("", "Factory")
)
