"""Whatever an instrumentation does as it is loaded, the application under `otelog run` goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from otelog.testing import OTLPServer
from tests.sizes import without_instrumentations

pytest.importorskip("click")

RUN = [sys.executable, "-m", "otelog.cli", "run", "--"]
INSTRUMENT = [str(Path(sys.executable).with_name("opentelemetry-instrument"))]

PROGRAM = """
import logging
logging.getLogger("app").warning("went on")
print("went on")
"""

INSTRUMENTOR = """
{at_import}
class Instrumentor:
    def instrument(self, **keywords):
        {at_instrument}
"""


def install(folder: Path, name: str, text: str) -> None:
    """Put a distribution into a folder that has one instrumentation."""
    (folder / f"{name}_of_tests.py").write_text(text)
    info = folder / f"{name}_of_tests-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-of-tests\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[opentelemetry_instrumentor]\n{name} = {name}_of_tests:Instrumentor\n")


def run(folder: Path, **environ: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    (folder / "program.py").write_text(PROGRAM)
    with OTLPServer() as server:
        done = subprocess.run(
            [*RUN, "python", "program.py"],
            cwd=folder,
            env={
                **os.environ,
                "OTEL_EXPORTER_OTLP_ENDPOINT": server.endpoint,
                **without_instrumentations(),
                **environ,
            },
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        return done, [record.body.string_value for record in server.records]


@pytest.mark.parametrize(
    "statement", ["raise RuntimeError('broken\\nhere')", "raise ImportError", "import sys; sys.exit(3)"]
)
@pytest.mark.parametrize("moment", ["at_import", "at_instrument"])
def test_one_that_fails_is_left_out_with_a_line(moment: str, statement: str, tmp_path: Path) -> None:
    statements = {"at_import": "", "at_instrument": "pass", moment: statement}
    install(tmp_path, "broken", INSTRUMENTOR.format(**statements))
    install(tmp_path, "whole", INSTRUMENTOR.format(at_import="", at_instrument="print('the other is loaded')"))
    done, arrived = run(tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "the other is loaded\nwent on\n")
    line, *rest = done.stderr.splitlines()
    assert line.startswith("otelog: broken is not instrumented: ")
    # Standard error has what it has without otelog.
    assert rest == ["went on"]
    assert arrived == ["went on"]


def test_one_whose_library_is_not_there_is_passed_over_in_silence(tmp_path: Path) -> None:
    install(tmp_path, "absent", INSTRUMENTOR.format(at_import="import no_such_library", at_instrument="pass"))
    done, arrived = run(tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "went on\n")
    assert arrived == ["went on"]


@pytest.mark.parametrize("given", ["", "/somewhere", "/somewhere{sep}{here}", "{here}{sep}/somewhere"])
def test_the_working_folder_is_on_the_path_as_under_opentelemetry_instrument(given: str, tmp_path: Path) -> None:
    given = given.format(sep=os.pathsep, here=tmp_path)
    found = [
        subprocess.run(
            [*starter, sys.executable, "-c", "import os; print(os.environ['PYTHONPATH'])"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": given, "OTEL_SDK_DISABLED": "true"},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=True,
        ).stdout
        for starter in (RUN, INSTRUMENT)
    ]
    assert str(tmp_path) in found[0]
    assert found[0] == found[1]
