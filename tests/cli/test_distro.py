"""Who sets a process up when OpenTelemetry's own distribution is installed beside otelog: the one that was chosen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.metrics_server import MetricsServer

# `make test` puts opentelemetry-distro there: in the tests' own environment it would be a second distribution for all.
DISTRO = Path(sys.prefix) / "distro"

RUN = [sys.executable, "-m", "otelog.cli", "run", "--"]
INSTRUMENT = [str(Path(sys.executable).with_name("opentelemetry-instrument"))]

SIGNALS = """
from opentelemetry import _logs, metrics, trace
with trace.get_tracer("tests").start_as_current_span("span"):
    _logs.get_logger("tests").emit(_logs.LogRecord(body="record", severity_number=_logs.SeverityNumber.INFO))
metrics.get_meter("tests").create_counter("counter").add(1)
metrics.get_meter_provider().force_flush() if hasattr(metrics.get_meter_provider(), "force_flush") else None
print("went on")
"""

OTELOG = {"/v1/logs": "otelog"}
SDK = {"/v1/logs": "OTel-OTLP-Exporter-Python", "/v1/traces": "OTel-OTLP-Exporter-Python"}
SDK["/v1/metrics"] = SDK["/v1/traces"]


def start(
    folder: Path, beside: list[Path], starter: list[str], program: str = SIGNALS, **environ: str
) -> tuple[dict[str, str], subprocess.CompletedProcess[str]]:
    """Returns who has sent what, by the signals' paths, and how the program ended."""
    (folder / "program.py").write_text(program)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    with MetricsServer() as server:
        done = subprocess.run(
            [*starter, sys.executable, "program.py"],
            cwd=folder,
            env={
                **kept,
                "OTEL_EXPORTER_OTLP_ENDPOINT": server.endpoint,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "PYTHONPATH": os.pathsep.join(map(str, beside)),
                # Each would import its library.
                "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*",
                **environ,
            },
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
    return {path: headers["user-agent"].partition("/")[0] for path, headers, _ in server.requests}, done


@pytest.fixture(params=["found first", "found last"])
def beside(request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    """The path on which the other distribution is found, before or after otelog's entry points."""
    assert (DISTRO / "opentelemetry" / "distro").is_dir(), "run the tests by `make test`, or: rm .venv/.test; make test"
    if request.param == "found first":
        return [DISTRO]
    own = Path(str(metadata.distribution("otelog")._path))  # type: ignore[attr-defined]
    shutil.copytree(own, tmp_path / "own" / own.name)
    return [tmp_path / "own", DISTRO]


@pytest.mark.parametrize(
    ("chosen", "by"),
    [
        ({}, SDK),
        ({"DISTRO": "distro"}, SDK),
        ({"CONFIGURATOR": "configurator"}, SDK),
        ({"DISTRO": "otelog", "CONFIGURATOR": "configurator"}, SDK),
        ({"DISTRO": "otelog"}, OTELOG),
        ({"CONFIGURATOR": "otelog"}, OTELOG),
        ({"DISTRO": "distro", "CONFIGURATOR": "otelog"}, OTELOG),
    ],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if value and "/v1/logs" not in value else "",
)
def test_beside_another_distribution_otelog_takes_over_only_where_it_was_chosen(
    beside: list[Path], chosen: dict[str, str], by: dict[str, str], tmp_path: Path
) -> None:
    sent, done = start(tmp_path, beside, INSTRUMENT, **{f"OTEL_PYTHON_{name}": value for name, value in chosen.items()})
    assert (done.returncode, done.stdout) == (0, "went on\n")
    assert "Traceback" not in done.stderr
    if by is SDK:
        assert sent == SDK
    else:
        assert sent["/v1/logs"] == "otelog"


def test_under_otelog_run_it_is_the_one_chosen(beside: list[Path], tmp_path: Path) -> None:
    sent, done = start(tmp_path, beside, RUN, OTEL_PYTHON_DISTRO="distro", OTEL_PYTHON_CONFIGURATOR="configurator")
    assert (done.returncode, done.stdout) == (0, "went on\n")
    assert sent["/v1/logs"] == "otelog"


@pytest.mark.parametrize("chosen", [{}, {"OTEL_PYTHON_DISTRO": "mistyped"}, {"OTEL_PYTHON_DISTRO": ""}])
def test_where_there_is_nobody_else_otelog_sets_the_process_up(chosen: dict[str, str], tmp_path: Path) -> None:
    sent, done = start(tmp_path, [], INSTRUMENT, **chosen)
    assert (done.returncode, done.stdout) == (0, "went on\n")
    assert "Traceback" not in done.stderr
    assert sent["/v1/logs"] == "otelog"


def test_without_grpcio_the_other_distributions_default_protocol_takes_no_signal_away(
    beside: list[Path], tmp_path: Path
) -> None:
    # The distro says grpc where nothing is said; it must be no reason to have nothing at all.
    sent, done = start(
        tmp_path,
        beside,
        [],
        "import sys; sys.modules['grpc'] = None\n"
        "from opentelemetry.instrumentation.auto_instrumentation import initialize; initialize()\n" + SIGNALS,
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_PYTHON_DISTRO="distro",
        OTEL_PYTHON_CONFIGURATOR="otelog",
    )
    assert (done.returncode, done.stdout) == (0, "went on\n")
    assert sent["/v1/logs"] == "otelog"
    assert "OTEL_EXPORTER_OTLP_PROTOCOL: " in done.stderr
    assert "Traceback" not in done.stderr
