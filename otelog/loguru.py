"""loguru's records in otelog: a handler for its logger.

::

    import otelog, otelog.loguru
    otelog.configure(service_name="shop")
    otelog.loguru.install()

or, in a set-up of one's own, ``logger.add(otelog.loguru.sink)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from loguru import logger as _default

from otelog._capture.active_pipeline import ACTIVE_PIPELINE
from otelog._capture.loguru_records import add_handler, take_record, watch_loguru
from otelog._capture.loguru_records import add_trace_context as _add_trace_context
from otelog._runtime.replacing import keep

__all__ = ["add_trace_context", "install", "sink", "uninstall"]

_installed: dict[int, int] = keep(globals(), "_installed", dict)
"""The ids of our handlers, by the id of the core of the logger that has it; all of one core are the same."""

watch_loguru(ACTIVE_PIPELINE)


def sink(message: Any) -> None:
    """Take a record: a sink for `logger.add`.

    What is bound, contextualized or patched into ``extra`` are the attributes, nested ones included; level, time,
    place, thread, exception and the current span come along. loguru formats the message before it calls a sink, and
    holds the handler's lock meanwhile; `install` has neither. With ``enqueue=True`` a sink runs in a thread of
    loguru's, where no caller's span is known: see `add_trace_context`.

    Args:
        message: loguru's text with its record.

    Never raises or waits; what cannot be kept is counted in `otelog.stats`. Before `otelog.configure` it does nothing.
    """
    record = getattr(message, "record", None)
    if record is not None:
        take_record(ACTIVE_PIPELINE, record)


def install(
    logger: Any = None,
    *,
    level: int | str | None = None,
    filter: Callable[[Any], object] | None = None,  # noqa: A002
) -> int:
    """Have loguru bring its records to otelog, at the least cost: it formats nothing, and no lock is held meanwhile.

    Called again, it replaces the handler that it has added before.

    Args:
        logger: A logger of loguru's; by default the one.
        level: The least level, by name or number; by default that of `otelog.configure`, or all before it is called.
        filter: Which records are taken: a function of loguru's record.

    Returns:
        The handler's id, for `logger.remove`, which ends it, as it ends all handlers without an id.

    Raises:
        ValueError: loguru knows no level of that name.

    Thread safety: as `logger.add`.
    """
    chosen = _default if logger is None else logger
    uninstall(chosen)
    added = add_handler(chosen, ACTIVE_PIPELINE.port.level if level is None else level, filter)
    _installed[_core_of(chosen)] = added
    return added


def uninstall(logger: Any = None) -> None:
    """Take back what `install` has added. Idempotent.

    Args:
        logger: As for `install`.
    """
    chosen = _default if logger is None else logger
    added = _installed.pop(_core_of(chosen), None)
    if added is not None:
        try:
            chosen.remove(added)
        except ValueError:
            # It has been removed with all the others.
            return


def add_trace_context(record: Any) -> None:
    """Put the current span into a record's ``extra``: ``trace_id``, ``span_id`` (in hex) and ``trace_flags``.

    ``logger.configure(patcher=otelog.loguru.add_trace_context)`` keeps a record's trace where a sink has
    ``enqueue=True``, and shows it in the formats of other sinks. otelog takes the three for the record's own ids.

    Never raises. Any thread.
    """
    _add_trace_context(record)


def _core_of(logger: Any) -> int:
    # `bind`, `opt` and `patch` give other loggers of the same handlers.
    return id(getattr(logger, "_core", logger))
