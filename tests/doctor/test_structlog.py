"""structlog's events do not reach otelog by themselves, and the doctor says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from otelog._private.structlog import STRUCTLOG_LINE
from tests.sizes import without_instrumentations

CODE = "packages.structlog_not_captured"

PROCESSOR = """
    import otelog.structlog, structlog
    structlog.configure(processors=[otelog.structlog.OtelogProcessor()])
"""
FACTORY = """
    import otelog.structlog, structlog
    structlog.configure(processors=[], logger_factory=otelog.structlog.LoggerFactory())
"""


@pytest.mark.parametrize(
    ("setup", "severity"),
    [
        ("", "note"),
        ("import structlog", "warning"),
        ("import structlog; structlog.configure(logger_factory=structlog.WriteLoggerFactory())", "warning"),
        ("import structlog; structlog.configure(logger_factory=structlog.stdlib.LoggerFactory())", None),
        (PROCESSOR, None),
        (FACTORY, None),
        ("import structlog; otelog.configure(capture_structlog=True)", None),
    ],
)
def test_a_structlog_that_writes_its_events_itself_is_found(setup: str, severity: str | None, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(f"import otelog\n{textwrap.dedent(setup)}\napp = object()\n")
    done = subprocess.run(
        [sys.executable, "-m", "otelog.cli", "doctor", "shop:app", "--no-canary", "--json"],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    found = [one for one in json.loads(done.stdout)["findings"] if one["code"] == CODE]
    assert [one["severity"] for one in found] == ([] if severity is None else [severity])
    assert [one["advice"] for one in found] == [STRUCTLOG_LINE] * len(found)


@pytest.mark.parametrize(("captured", "lines"), [("false", 1), ("true", 0)])
def test_run_says_it_at_the_end_of_a_process(captured: str, lines: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "otelog.cli", "run", "--", "python", "-c", "import structlog"],
        cwd=tmp_path,
        env={
            **os.environ,
            **without_instrumentations(),
            "OTEL_METRICS_EXPORTER": "none",
            "OTELOG_CAPTURE_STRUCTLOG": captured,
        },
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert [STRUCTLOG_LINE in line for line in done.stderr.splitlines() if "structlog" in line] == [True] * lines
