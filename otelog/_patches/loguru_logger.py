"""loguru's records in an application that does not know of otelog.

A handler is added when loguru is imported. Nearly every application then calls ``logger.remove()``, or
``logger.configure(handlers=...)`` which does, and means the handler that loguru comes with: so `Logger.remove` is
replaced by a method that adds ours again after all handlers were removed. What loguru calls at the process's end is its
own method still.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import wraps
from typing import Any

from otelog._capture.active_pipeline import ACTIVE_PIPELINE
from otelog._capture.loguru_records import add_handler
from otelog._patches.on_import import after_import, forget, is_awaited
from otelog._runtime.replacing import find_original, is_ours, keep, mark

__all__ = ["install", "uninstall"]

_added: list[int] = keep(globals(), "_added", list)
"""The id of the handler that is there."""


def install() -> None:
    """Have loguru's logger bring its records, from its import on. Again, it takes over the level of `configure`."""
    after_import("loguru", _join)


def uninstall() -> None:
    """Take it back. Idempotent."""
    forget("loguru")
    logger = getattr(sys.modules.get("loguru"), "logger", None)
    kind: Any = type(logger)
    method = getattr(kind, "remove", None)
    if is_ours(method):
        kind.remove = find_original(method)
    _remove(logger)


def _join() -> None:
    logger = sys.modules["loguru"].logger
    kind = type(logger)
    standard = kind.remove
    _remove(logger)
    _add(logger)
    if is_ours(standard):
        return

    @wraps(standard)
    def remove(self: Any, *arguments: Any, **keywords: Any) -> Any:
        result = standard(self, *arguments, **keywords)
        # Another library may stand on top, and keep this from being taken back.
        if is_awaited("loguru") and not [one for one in (*arguments, *keywords.values()) if one is not None]:
            _added.clear()
            _add(self)
        return result

    mark(remove, standard)
    kind.remove = remove


def _add(logger: Any) -> None:
    _added.append(add_handler(logger, ACTIVE_PIPELINE.port.level))


def _remove(logger: Any) -> None:
    while _added:
        with suppress(ValueError):
            # Else it has been removed by its number.
            logger.remove(_added.pop())
