"""The real programs that the dashboard's tests and the rules' tests start, of the pinned versions."""

from __future__ import annotations

from pathlib import Path

from tests.stack.conftest import build

NAMES = {"collector": "otelog-collector"}


def find_binary(name: str) -> Path:
    """The executable of this name, built into the user's cache if it is not there."""
    return build(NAMES.get(name, name))
