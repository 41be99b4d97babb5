"""The way of a standard-library record: which handlers it meets, and which of them lead to otelog."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from logging.handlers import QueueHandler, QueueListener
from typing import Any

from opentelemetry._logs import get_logger_provider

from otelog._capture.active_pipeline import ACTIVE_PIPELINE
from otelog._capture.handler import LoggingHandler
from otelog._capture.port import ActivePipeline
from otelog._pipeline.processor import BatchLogRecordProcessor
from otelog._private.opentelemetry import is_unset_logger_provider, processors_of

# The SDK's class and that of the instrumentation have one name, and importing either may warn or fail.
_FOREIGN_NAME, _FOREIGN_PACKAGE = "LoggingHandler", "opentelemetry"


@dataclass(frozen=True, slots=True)
class Step:
    """A handler on a record's way, and the logger that it is on."""

    handler: logging.Handler
    owner: logging.Logger


@dataclass(frozen=True, slots=True)
class Way:
    """All that a record of one logger meets.

    Args:
        logger: Where it begins.
        steps: The handlers, in their order.
        end: The last logger that is asked: the root, or one that does not propagate.
    """

    logger: logging.Logger
    steps: tuple[Step, ...]
    end: logging.Logger

    @property
    def is_cut(self) -> bool:
        """Whether it ends before the root."""
        return self.end.parent is not None


def find_way(logger: logging.Logger) -> Way:
    """Returns the way of a logger's records."""
    steps: list[Step] = []
    at = logger
    while True:
        steps += [Step(handler, at) for handler in at.handlers]
        if not at.propagate or at.parent is None:
            return Way(logger, tuple(steps), at)
        at = at.parent


def list_loggers(root: logging.Logger) -> list[logging.Logger]:
    """Returns the root and every logger below it that exists, by name."""
    known = list(root.manager.loggerDict.items())
    return [root, *(one for _, one in sorted(known) if isinstance(one, logging.Logger))]


def find_listeners() -> list[QueueListener]:
    """Returns the queue listeners of this process: before Python 3.12 no handler knows its own."""
    return [one for one in gc.get_objects() if issubclass(type(one), QueueListener)]


def is_own(handler: logging.Handler) -> bool:
    """Returns whether it is otelog's handler."""
    return isinstance(handler, LoggingHandler)


def is_foreign(handler: logging.Handler) -> bool:
    """Returns whether it is an OpenTelemetry handler that is not otelog's."""
    return not is_own(handler) and any(
        one.__name__ == _FOREIGN_NAME and one.__module__.partition(".")[0] == _FOREIGN_PACKAGE
        for one in type(handler).__mro__
    )


def is_passed_over(handler: logging.Handler) -> bool:
    """Returns whether otelog has a foreign handler pass over the records that come to otelog's own handler anyway."""
    provider = getattr(handler, "_logger_provider", None)
    return (
        is_foreign(handler)
        and any(processor.pipeline is ACTIVE_PIPELINE for processor in _find_processors(provider))
        and any(
            getattr(kind.__dict__.get("emit"), "__module__", "").startswith("otelog.") for kind in type(handler).__mro__
        )
    )


def find_pipelines(handler: logging.Handler, listeners: Sequence[QueueListener]) -> list[ActivePipeline]:
    """Returns the pipelines of otelog that a handler hands its records to, one for each time that it does.

    Args:
        handler: Any; otelog's own, another OpenTelemetry handler, or one with a queue.
        listeners: Those that may serve such a queue.
    """
    if isinstance(handler, LoggingHandler):
        return [handler.pipeline]
    if is_foreign(handler):
        return [processor.pipeline for processor in _find_processors(getattr(handler, "_logger_provider", None))]
    if isinstance(handler, QueueHandler):
        behind = [one for listener in listeners if listener.queue is handler.queue for one in listener.handlers]
        return [
            pipeline
            for one in behind
            if not isinstance(one, QueueHandler)
            for pipeline in find_pipelines(one, listeners)
        ]
    return []


def leads_to_otelog(provider: Any) -> bool:
    """Returns whether a LoggerProvider hands its records to one of otelog's processors."""
    return any(True for _ in _find_processors(provider))


def _find_processors(provider: Any) -> Iterator[BatchLogRecordProcessor]:
    if provider is None or is_unset_logger_provider(provider):
        # The API's stand-in, made before there was a provider.
        provider = get_logger_provider()
    for one in processors_of(provider):
        if isinstance(one, BatchLogRecordProcessor):
            yield one
