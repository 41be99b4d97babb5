"""The servers' programs: which versions, what they are called on PATH, and what they are built from."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from otelog.cli.stack.settings import MAY_BE_ADDED

VERSION_TIMEOUT = 20.0
"""Seconds that a program may take to say its version."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program of the stack.

    Args:
        name: Its name here, and its executable's when it is built here.
        module: The Go module that it comes from; the Collector's is that of the builder, which makes it of a manifest.
        version: The module's version.
        package: The package in the module.
        on_path: What it is called on PATH; the first that is new enough is taken.
        least: The oldest version that does.
        version_variable: What the linker sets the version in, for programs that do not know theirs.
        minutes: What a first build took on two cores.
        gigabytes: The room that a first build needs, most of it for Go's caches.
    """

    name: str
    module: str
    version: str
    package: str
    on_path: tuple[str, ...]
    least: tuple[int, int]
    version_variable: str = ""
    minutes: float = 1.0
    gigabytes: float = 0.2


_PROMETHEUS = "github.com/prometheus/prometheus"
_ALERTMANAGER = "github.com/prometheus/alertmanager"
_PROMETHEUS_VERSION = "github.com/prometheus/common/version.Version"

# Pinned to what the Go module proxy serves whole: later releases of these lack parts there.
PROGRAMS = {
    program.name: program
    for program in (
        Program(
            "otelog-collector",
            "go.opentelemetry.io/collector/cmd/builder",
            "v0.158.0",
            "go.opentelemetry.io/collector/cmd/builder",
            ("otelog-collector", "otelcol-contrib"),
            (0, 158),
            minutes=2.5,
            gigabytes=1.0,
        ),
        Program(
            "loki",
            "github.com/grafana/loki/v3",
            "v3.7.8",
            "github.com/grafana/loki/v3/cmd/loki",
            ("loki",),
            (3, 4),
            "github.com/grafana/loki/v3/pkg/util/build.Version",
            minutes=5.5,
            gigabytes=2.0,
        ),
        Program(
            "prometheus",
            _PROMETHEUS,
            "v0.312.0",
            f"{_PROMETHEUS}/cmd/prometheus",
            ("prometheus",),
            (3, 0),
            _PROMETHEUS_VERSION,
            minutes=3.5,
            gigabytes=1.5,
        ),
        Program(
            "promtool",
            _PROMETHEUS,
            "v0.312.0",
            f"{_PROMETHEUS}/cmd/promtool",
            ("promtool",),
            (3, 0),
            _PROMETHEUS_VERSION,
            minutes=0.5,
        ),
        Program(
            "alertmanager",
            _ALERTMANAGER,
            "v0.30.1",
            f"{_ALERTMANAGER}/cmd/alertmanager",
            ("alertmanager",),
            (0, 27),
            _PROMETHEUS_VERSION,
            minutes=0.4,
            gigabytes=0.4,
        ),
        Program(
            "amtool",
            _ALERTMANAGER,
            "v0.30.1",
            f"{_ALERTMANAGER}/cmd/amtool",
            ("amtool",),
            (0, 27),
            _PROMETHEUS_VERSION,
            minutes=0.1,
        ),
        # Jaeger 2.13 is the module's v1.76; later ones are not served as a module.
        Program(
            "jaeger",
            "github.com/jaegertracing/jaeger",
            "v1.76.0",
            "github.com/jaegertracing/jaeger/cmd/jaeger",
            ("jaeger",),
            (2, 0),
            "github.com/jaegertracing/jaeger/internal/version.latestVersion",
            minutes=4.0,
            gigabytes=1.5,
        ),
        # Only the tests need it: where Docker is, its plugin usually is, too.
        Program(
            "docker-compose",
            "github.com/docker/compose/v2",
            "v2.40.3",
            "github.com/docker/compose/v2/cmd",
            (),
            (2, 0),
            "github.com/docker/compose/v2/internal.Version",
            minutes=1.5,
            gigabytes=1.0,
        ),
    )
}


PROGRAM_OF = {
    "loki": "loki",
    "alertmanager": "alertmanager",
    "prometheus": "prometheus",
    "jaeger": "jaeger",
    "collector": "otelog-collector",
}
"""What each server runs, in the order of their start."""

USUAL_PROGRAMS = tuple(program for name, program in PROGRAM_OF.items() if name not in MAY_BE_ADDED)
"""What runs without being asked for by name."""


def find_on_path(program: Program) -> Path | None:
    """Returns the program on PATH, if it is there and new enough; asks it for its version."""
    for name in program.on_path:
        found = shutil.which(name)
        if found is not None and ask_version(Path(found)) >= program.least:
            return Path(found)
    return None


def ask_version(executable: Path) -> tuple[int, int]:
    """Returns the first two numbers of what a program says its version is, or (0, 0). Never raises."""
    try:
        done = subprocess.run(
            [str(executable), "--version"], capture_output=True, text=True, check=False, timeout=VERSION_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = re.search(r"\bv?(\d+)\.(\d+)\.\d+", done.stdout + done.stderr)
    return (int(found[1]), int(found[2])) if found else (0, 0)
