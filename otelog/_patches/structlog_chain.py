"""structlog's events in an application that does not know of otelog.

An event is a dict until the last processor of its chain makes a text of it, which structlog's own loggers write. So
the method that runs the chain is replaced by one that runs it with a processor more, in front of the last. It is the
class's method: loggers that were made before, or are kept, have it too, and whatever `structlog.configure` is given
later. Chains that end in `logging`, in otelog, or in a logger of the application's own are left alone.
"""

from __future__ import annotations

import sys
from functools import wraps
from types import FrameType
from typing import Any

from otelog._capture.active_pipeline import ACTIVE_PIPELINE, UnconfiguredPort
from otelog._capture.structlog_events import take_event
from otelog._patches.on_import import after_import, forget, is_awaited
from otelog._runtime.interruption import is_interruption
from otelog._runtime.replacing import find_original, is_ours, mark

__all__ = ["install", "uninstall"]

_WRITERS = ("PrintLogger", "WriteLogger", "BytesLogger")
_METHOD = "_process_event"
_ENDINGS = ("otelog.structlog.OtelogProcessor", "structlog.testing.LogCapture")


def install() -> None:
    """Have structlog's own loggers bring their events, from its import on. Idempotent."""
    after_import("structlog", _replace)


def uninstall() -> None:
    """Take it back. Idempotent."""
    forget("structlog")
    base = _find_base()
    method = getattr(base, _METHOD, None)
    if is_ours(method):
        setattr(base, _METHOD, find_original(method))


def _find_base() -> Any:
    return getattr(sys.modules.get("structlog._base"), "BoundLoggerBase", None)


def _replace() -> None:
    base = _find_base()
    standard = getattr(base, _METHOD, None)
    if standard is None or is_ours(standard):
        return

    @wraps(standard)
    def _process_event(self: Any, *arguments: Any, **keywords: Any) -> Any:
        # Another library may stand on top, and keep this from being taken back.
        chain = _find_chain(self) if is_awaited("structlog") else None
        return standard(self if chain is None else _StandIn(self, chain), *arguments, **keywords)

    mark(_process_event, standard)
    setattr(base, _METHOD, _process_event)


class _StandIn:
    """A bound logger with another chain; all else of it is the logger's own."""

    def __init__(self, logger: Any, processors: list[Any]) -> None:
        self._bound = logger
        self._processors = processors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bound, name)


def _find_chain(bound: Any) -> list[Any] | None:
    """Returns the processors of a bound logger with ours among them, or None where it is not to be captured."""
    try:
        module: Any = sys.modules["structlog"]
        if type(bound).__name__ == _StandIn.__name__:
            # It has ours already, by a copy of this method below.
            return None
        if not isinstance(bound._logger, tuple(getattr(module, name) for name in _WRITERS)):
            return None
        processors = list(bound._processors)
        if not processors or any(_is_ending(one) for one in processors):
            return None
        return [*processors[:-1], _take, processors[-1]]
    except Exception as error:
        if is_interruption(error):
            raise
        return None


def _is_ending(processor: Any) -> bool:
    """Returns whether an event is done with otherwise: by otelog's own processor, or by a test's."""
    kind = type(processor)
    return (kind.__module__, kind.__name__) in (
        ("otelog.structlog", "OtelogProcessor"),
        ("structlog.testing", "LogCapture"),
    )


def _take(logger: Any, method_name: str, event_dict: Any) -> Any:
    # Before `configure` an event would go to `logging`, and on to the console, where it is already.
    if type(ACTIVE_PIPELINE.port) is not UnconfiguredPort:
        frame: FrameType = sys._getframe(1)
        take_event(ACTIVE_PIPELINE, logger, method_name, event_dict, frame)
    return event_dict
