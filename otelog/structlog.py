"""structlog's events as records: a processor for the end of a chain, and a factory of loggers that are such an end.

::

    import otelog, otelog.structlog, structlog
    otelog.configure(service_name="shop")
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, otelog.structlog.OtelogProcessor()],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
    )
    structlog.get_logger("shop").info("paid", amount=12.5)
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

from structlog.exceptions import DropEvent

from otelog._capture.active_pipeline import ACTIVE_PIPELINE, UnconfiguredPort
from otelog._capture.structlog_events import OWN_MODULES, take_event
from otelog._capture.twice import watch_structlog
from otelog._runtime.diagnostics import warn

__all__ = ["Logger", "LoggerFactory", "OtelogProcessor"]

_getframe = sys._getframe


class OtelogProcessor:
    """Takes each event that comes to it, as a record of the pipeline that `otelog.configure` has set up.

    ``event`` is the body, ``level`` or else the method's name the severity, ``logger`` (``logger_name``) the scope, or
    else the wrapped logger's name, or the calling module's; ``timestamp`` the time, where it is a number of seconds, a
    `datetime` or ISO 8601; ``exc_info`` in all its forms, ``exception`` (text, or the dicts of
    `structlog.processors.dict_tracebacks`), ``stack_info`` and ``stack`` the exception and the stack. All else are
    attributes, nested ones included. What is bound is there as always; for `structlog.contextvars` have
    `merge_contextvars` in front.

    It stands at the end of a chain, behind no renderer. A level below that of `otelog.configure` is no record; where
    structlog wraps a logger of `logging`, that logger's level counts. Before `otelog.configure`, events go to the
    standard library's logger of their name.

    Args:
        keep: Whether the event goes on to what stands behind it: a renderer and its console. By default it is done
            with. Where the event goes on into `logging`, otelog's handler does not take it a second time.
        event_key: The key that the event's text is under, if a processor has renamed it.
        additional_ignores: Beginnings of module names that are not the caller: wrappers of your own.

    Raises:
        structlog.DropEvent: By a call, without `keep`; structlog ends the chain by it.

    Thread safety: calls may be made anywhere, never wait, and raise nothing else.
    """

    def __init__(self, *, keep: bool = False, event_key: str = "event", additional_ignores: Sequence[str] = ()) -> None:
        self.keep = keep
        self.event_key = event_key
        self.additional_ignores = tuple(additional_ignores)
        self._ignored = (*OWN_MODULES, *self.additional_ignores)

    def __call__(self, logger: Any, method_name: str, event_dict: Any) -> Any:
        """Take an event. Returns the event, if it is kept."""
        if isinstance(event_dict, dict) and "_record" in event_dict:
            # In a ProcessorFormatter, where no event may be dropped.
            warn(
                "structlog:formatter",
                "OtelogProcessor has no work in a ProcessorFormatter: otelog's handler takes what comes by logging",
            )
            return event_dict
        if self.keep and isinstance(logger, logging.Logger):
            if type(ACTIVE_PIPELINE.port) is UnconfiguredPort:
                # It would come to `logging` twice.
                return event_dict
            watch_structlog(ACTIVE_PIPELINE)
        take_event(
            ACTIVE_PIPELINE,
            logger,
            method_name,
            event_dict,
            _getframe(1),
            event_key=self.event_key,
            ignored=self._ignored,
        )
        if self.keep:
            return event_dict
        raise DropEvent

    def __repr__(self) -> str:
        return f"OtelogProcessor(keep={self.keep!r})"


class Logger:
    """What structlog wraps to end in otelog: takes an event as keywords, or a text that a renderer has made.

    Thread safety: all methods.
    """

    __slots__ = ("name",)

    disabled = False

    def __init__(self, name: str | None = None) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<otelog.structlog.Logger(name={self.name!r})>"

    def debug(self, /, *args: Any, **event: Any) -> None:
        """Log at DEBUG."""
        _take(self, "debug", args, event)

    def info(self, /, *args: Any, **event: Any) -> None:
        """Log at INFO."""
        _take(self, "info", args, event)

    def warning(self, /, *args: Any, **event: Any) -> None:
        """Log at WARNING."""
        _take(self, "warning", args, event)

    def error(self, /, *args: Any, **event: Any) -> None:
        """Log at ERROR."""
        _take(self, "error", args, event)

    def critical(self, /, *args: Any, **event: Any) -> None:
        """Log at CRITICAL."""
        _take(self, "critical", args, event)

    msg = log = info
    warn = warning
    err = failure = exception = error
    fatal = critical

    def getEffectiveLevel(self) -> int:  # noqa: N802  (the standard library's spelling)
        """Returns the level of `otelog.configure`."""
        return ACTIVE_PIPELINE.port.level

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802
        """Returns whether a call at this level would make a record."""
        return ACTIVE_PIPELINE.port.level <= level


def _take(logger: Logger, method: str, args: tuple[Any, ...], event: dict[str, Any]) -> None:
    if args:
        event.setdefault("event", args[0])
        if len(args) > 1:
            event.setdefault("positional_args", args[1:])
    take_event(ACTIVE_PIPELINE, logger, method, event, _getframe(2))


class LoggerFactory:
    """Makes the loggers that structlog wraps, for those who want records and nothing else.

    ::

        structlog.configure(
            processors=[structlog.contextvars.merge_contextvars],
            wrapper_class=structlog.make_filtering_bound_logger("info"),
            logger_factory=otelog.structlog.LoggerFactory(),
        )

    ``structlog.get_logger("shop")`` names the scope; without a name it is the calling module. The chain ends in an
    event dict, without a renderer.
    """

    def __call__(self, *args: Any) -> Logger:
        """Returns a logger of the first argument's name."""
        return Logger(args[0] if args and type(args[0]) is str else None)
