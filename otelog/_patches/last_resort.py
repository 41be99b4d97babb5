"""The application's own console, which stays what it would be without otelog.

Flask, Quart, werkzeug and `logging` itself write to standard error only where a logger has no handler yet. otelog's
handler on the root logger is one, and would silence them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from otelog._capture.handler import find_logger, is_otelogs, way_of
from otelog._runtime.replacing import find_original, is_ours, mark

# Where a library asks whether any handler would show its records.
_QUESTIONS = (
    ("flask.logging", "has_level_handler"),
    ("quart.logging", "has_level_handler"),
    ("werkzeug._internal", "_has_level_handler"),
)


class LastResort(logging.Handler):
    """Does on the root logger what `logging.lastResort` does where nobody has installed a handler.

    It writes nothing for a record that any handler but otelog's would see.
    """

    is_otelogs = True

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record to standard error, if nothing else does. Never raises."""
        resort, logger = logging.lastResort, find_logger(record.name)
        if resort is not None and record.levelno >= resort.level and (logger is None or not is_seen(logger)):
            resort.handle(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """See `handle`."""
        self.handle(record)


def is_seen(logger: logging.Logger, level: int | None = None) -> bool:
    """Returns whether any handler but otelog's is on the way of this logger's records.

    Args:
        logger: The logger.
        level: If given, only handlers count that take records of this level.
    """
    return any(
        not is_otelogs(handler) and (level is None or handler.level <= level)
        for one in way_of(logger)
        for handler in one.handlers
    )


def _make_answer(original: Callable[[logging.Logger], bool]) -> Callable[[logging.Logger], bool]:
    def has_level_handler(logger: logging.Logger) -> bool:
        return is_seen(logger, logger.getEffectiveLevel())

    mark(has_level_handler, original)
    return has_level_handler


def spare() -> None:
    """Have the libraries that are loaded ask for handlers other than otelog's. Idempotent, free of locks."""
    for module_name, name in _QUESTIONS:
        module = sys.modules.get(module_name)
        known = getattr(module, name, None)
        if callable(known) and not is_ours(known):
            setattr(module, name, _make_answer(known))


def restore() -> None:
    """Take back what `spare` has put in place."""
    for module_name, name in _QUESTIONS:
        module = sys.modules.get(module_name)
        known = getattr(module, name, None)
        if is_ours(known):
            setattr(module, name, find_original(known))
