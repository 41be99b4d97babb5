"""What werkzeug says of itself leaves this machine without its debugger's PIN, and without a terminal's colours.

Who has the PIN runs code in the process. werkzeug writes it, and its colours, by its logger: a filter there gives the
record to all handlers as it is, and to those that export it without both.
"""

from __future__ import annotations

import copy
import logging
import re

from otelog._capture.handler import LoggingHandler, find_logger, way_of

LOGGER = "werkzeug"
HIDDEN_PIN = "***"

_STYLES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PIN = re.compile(r"(\bpin(?: code)?: *)\S+", re.IGNORECASE)


class _Lines(logging.Filter):
    """Lets pass what may be exported as it is; of the rest it brings to the handlers what each of them may have."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record may be exported as it is."""
        fit = make_fit(record)
        if fit is None:
            return True
        logger = find_logger(record.name)
        if logger is None:
            return True
        if _passes_others(self, logger, record):
            for handler in [handler for one in way_of(logger) for handler in one.handlers]:
                if record.levelno >= handler.level:
                    handler.handle(fit if _exports(handler) else record)
        return False


_lines = _Lines()


def install(logger: logging.Logger | None = None) -> None:
    """Put the filter on werkzeug's logger, if there is one. Idempotent, free of locks.

    Args:
        logger: A logger that is just being made, and cannot be found yet.
    """
    found = find_logger(LOGGER) if logger is None else logger
    if found is not None and found.name == LOGGER:
        found.addFilter(_lines)


def uninstall() -> None:
    """Take it off again."""
    found = find_logger(LOGGER)
    if found is not None:
        found.removeFilter(_lines)


def make_fit(record: logging.LogRecord) -> logging.LogRecord | None:
    """Returns a copy without what must not be exported, or None if nothing of the record must not. Never raises."""
    try:
        text = record.getMessage()
    except Exception:
        # It does not fit its arguments: the handlers know what to do.
        return None
    shown = _STYLES.sub("", text)
    hidden = _PIN.sub(rf"\g<1>{HIDDEN_PIN}", shown)
    if hidden == text:
        return None
    fit = copy.copy(record)
    if hidden == shown and isinstance(record.msg, str) and isinstance(record.args, tuple):
        # The template stays one.
        fit.msg = _STYLES.sub("", record.msg)
        fit.args = tuple(_STYLES.sub("", one) if isinstance(one, str) else one for one in record.args)
    else:
        fit.msg, fit.args = hidden, None
    return fit


def _passes_others(mine: logging.Filter, logger: logging.Logger, record: logging.LogRecord) -> bool:
    """Returns what the filters say that would have been asked after this one."""
    filters = list(logger.filters)
    for one in filters[filters.index(mine) + 1 :] if mine in filters else ():
        ask = one.filter if isinstance(one, logging.Filter) or hasattr(one, "filter") else one
        if not ask(record):
            return False
    return True


def _exports(handler: logging.Handler) -> bool:
    return isinstance(handler, LoggingHandler) or any(
        kind.__name__ == "LoggingHandler" and kind.__module__.partition(".")[0] == "opentelemetry"
        for kind in type(handler).__mro__
    )
