"""loguru's records do not reach otelog by themselves, and the doctor says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from otelog._private.loguru import LOGURU_LINE
from tests.sizes import without_instrumentations

CODE = "packages.loguru_not_captured"
VARIABLE = "OTELOG_CAPTURE_LOGURU=true"


def examine(folder: Path, setup: str) -> dict[str, str] | None:
    (folder / "shop.py").write_text(f"import logging, sys, otelog\n{textwrap.dedent(setup)}\napp = object()\n")
    done = subprocess.run(
        [sys.executable, "-m", "otelog.cli", "doctor", "shop:app", "--no-canary", "--json"],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    found = [one for one in json.loads(done.stdout)["findings"] if one["code"] == CODE]
    return found[0] if found else None


PROPAGATE = """
    from loguru import logger
    class PropagateHandler(logging.Handler):
        def emit(self, record):
            logging.getLogger(record.name).handle(record)
    logger.add(PropagateHandler(), format="{message}")
"""


@pytest.mark.parametrize(
    ("setup", "severity"),
    [
        ("", "note"),
        ("from loguru import logger", "warning"),
        ("from loguru import logger; logger.remove(); logger.add('shop.log')", "warning"),
        ("from loguru import logger; logger.remove()", "warning"),
        (f"from loguru import logger; {LOGURU_LINE}", None),
        ("from loguru import logger; logger.add(lambda message: None)", None),
        (PROPAGATE, None),
        ("otelog.configure(capture_loguru=True); from loguru import logger; logger.remove()", None),
    ],
)
def test_a_loguru_that_hands_its_records_to_nobody_is_found(setup: str, severity: str | None, tmp_path: Path) -> None:
    found = examine(tmp_path, setup)
    assert (found and found["severity"]) == severity
    assert found is None or found["advice"] == LOGURU_LINE


def test_the_line_brings_its_records_once_with_level_and_place() -> None:
    code = f"""
        import otelog
        from loguru import logger
        from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
        exporter = InMemoryLogRecordExporter()
        otelog.configure(exporter=exporter)
        logger.remove()
        {LOGURU_LINE}
        def pay():
            logger.bind(user="eva").warning("paid {{}}", 12)
        pay()
        otelog.flush(10)
        [one] = exporter.get_finished_logs()
        record = one.log_record
        print(record.body, record.severity_text, record.attributes["code.function.name"], record.attributes["user"])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert done.stdout == "paid 12 WARNING pay eva\n", done.stderr


@pytest.mark.parametrize(
    ("setup", "lines"),
    [
        (
            "import loguru",
            [f"otelog: loguru's records do not reach otelog: {LOGURU_LINE} brings them, or {VARIABLE}"],
        ),
        (f"import otelog; from loguru import logger; {LOGURU_LINE}", []),
        ("import logging", []),
    ],
)
def test_run_says_it_at_the_end_of_a_process_that_has_loguru(setup: str, lines: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "otelog.cli", "run", "--", "python", "-c", setup],
        cwd=tmp_path,
        env={**os.environ, **without_instrumentations(), "OTEL_METRICS_EXPORTER": "none"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if "loguru" in line] == lines
