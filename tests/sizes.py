"""How much of the tests is run: what `make test` has, less on the other Pythons, everything in `make soak`."""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Iterable
from typing import TypeVar

Row = TypeVar("Row")
Column = TypeVar("Column")

FULL = bool(os.environ.get("OTELOG_TESTS_FULL"))
BRIEF = bool(os.environ.get("OTELOG_TESTS_BRIEF"))

INSTRUMENTATIONS = ("aiohttp-server", "celery", "django", "fastapi", "flask", "otelog_celery", "starlette")
"""Those that the tests' environment has, but for the standard library's."""

SHARE = os.environ.get("OTELOG_TESTS_SHARE", "")
"""Which share of some files' tests is run: "1/3 tests/test_a.py tests/b" leaves out two thirds of those alone."""


def is_shared_out(nodeid: str) -> bool:
    """Return whether a test belongs to another share. Each test is in one, the same in every run."""
    share, *paths = SHARE.split() or [""]
    if not any(nodeid.startswith((f"{path}::", f"{path}/")) for path in paths):
        return False
    number, _, shares = share.partition("/")
    return zlib.crc32(nodeid.encode()) % int(shares) != int(number) - 1


def sized(usual: int, *, full: int, brief: int = 0) -> int:
    """Return a count: `full` in `make soak`, `brief` on the Pythons beside the first (0: as usual)."""
    if FULL:
        return full
    return brief or usual if BRIEF else usual


def paired(rows: Iterable[Row], columns: Iterable[Column]) -> list[tuple[Row, Column]]:
    """Return all pairs in `make soak`; otherwise as few as have each row and each column, the same in every run."""
    rows, columns = list(rows), list(columns)
    if FULL:
        return list(itertools.product(rows, columns))
    most = max(len(rows), len(columns))
    return [(rows[number % len(rows)], columns[number % len(columns)]) for number in range(most)]


def without_instrumentations(*asked: str) -> dict[str, str]:
    """Return variables that leave out all but these: each would import its library, in every process that starts."""
    others = () if FULL else [name for name in INSTRUMENTATIONS if name not in asked]
    return {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ",".join(others)}
