"""A logging tree of the test's own, whatever other tests have left in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def own_loggers() -> Iterator[None]:
    """Begin with the root logger alone, and put everything back afterwards."""
    root = logging.getLogger()
    known = root.manager.loggerDict
    before, handlers, filters, level, off = dict(known), root.handlers, root.filters, root.level, root.manager.disable
    known.clear()
    root.handlers, root.filters = [], []
    logging.disable(logging.NOTSET)
    try:
        yield
    finally:
        logging.disable(off)
        known.clear()
        known.update(before)
        root.handlers, root.filters, root.level = handlers, filters, level
        root.manager._clear_cache()  # type: ignore[attr-defined]
