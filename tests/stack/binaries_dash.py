"""Where the real programs are that the dashboard's tests and the rules' tests start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BUILT = Path("/tmp/gob")
PLACES = {
    "collector": BUILT / "col" / "dist" / "otelog-collector",
    "loki": BUILT / "bin" / "loki",
    "prometheus": BUILT / "bin" / "prometheus",
    "promtool": BUILT / "bin" / "promtool",
    "alertmanager": BUILT / "bin" / "alertmanager",
}


def find_binary(name: str) -> Path:
    """The executable of this name: `OTELOG_TEST_<NAME>`, or where it was built. Skips the test if it is not there."""
    path = Path(os.environ.get(f"OTELOG_TEST_{name.upper()}") or PLACES[name])
    if not os.access(path, os.X_OK):
        pytest.skip(f"{name} is needed here, and {path} is not there: set OTELOG_TEST_{name.upper()}")
    return path
