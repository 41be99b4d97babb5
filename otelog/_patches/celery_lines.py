"""What a Celery worker's own process says of a task has the trace that the task was sent in.

opentelemetry-instrumentation-celery has a span where the task runs, which is another process in a pool. What the
worker says before and after (the task was received, its time limit is exceeded, its process was lost) is without a
trace. The task's message has it: so it is made current around these calls.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from opentelemetry.context import attach, detach, get_current
from opentelemetry.propagate import extract

from otelog._runtime.replacing import find_original, is_ours, mark

__all__ = ["install", "uninstall"]


def install() -> None:
    """Do it for those parts of Celery's worker that are loaded. Idempotent, free of locks."""
    for owner, name, replace in _list_places():
        found = getattr(owner, name, None)
        if owner is not None and callable(found) and not is_ours(found):
            ours = replace(found)
            mark(ours, found)
            setattr(owner, name, ours)


def uninstall() -> None:
    """Take back what `install` has put in place."""
    for owner, name, _ in _list_places():
        found = getattr(owner, name, None)
        if found is not None and is_ours(found):
            setattr(owner, name, find_original(found))


def _list_places() -> tuple[tuple[Any, str, Callable[[Any], Any]], ...]:
    request = getattr(sys.modules.get("celery.worker.request"), "Request", None)
    return (
        (sys.modules.get("celery.worker.strategy"), "default", _within_message),
        (request, "on_failure", _within_request),
        (request, "on_timeout", _within_request),
    )


def _within_message(strategy: Any) -> Any:
    @wraps(strategy)
    def make_handler(*arguments: Any, **keywords: Any) -> Any:
        handle = strategy(*arguments, **keywords)

        @wraps(handle)
        def handle_within(message: Any, *others: Any, **options: Any) -> Any:
            token = attach(_find_context(getattr(message, "headers", None)))
            try:
                return handle(message, *others, **options)
            finally:
                detach(token)

        return handle_within

    return make_handler


def _within_request(method: Any) -> Any:
    @wraps(method)
    def call_within(self: Any, *arguments: Any, **keywords: Any) -> Any:
        token = attach(_find_context(getattr(self, "request_dict", None)))
        try:
            return method(self, *arguments, **keywords)
        finally:
            detach(token)

    return call_within


def _find_context(headers: Any) -> Any:
    if not isinstance(headers, Mapping):
        return get_current()
    try:
        return extract(headers)
    except Exception:
        # A message may say anything.
        return get_current()
