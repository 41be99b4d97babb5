"""The real Collector, built once a machine and started for each test that asks for it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tools.collector import Collector as Process
from tools.collector import CollectorStartError

ROOT = Path(__file__).resolve().parents[2]
START_ATTEMPTS = 3


class Collector(Process):
    """The Collector, and what is in its file."""

    def complaints(self) -> list[str]:
        """What it has said that is more than information."""
        return [line for line in self._output.read_text(errors="replace").splitlines() if "\tinfo\t" not in line]

    def records(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Every record in the file, with its resource; one line holds a whole batch."""
        with self.file.open(encoding="utf-8") as lines:
            for line in lines:
                for resource in json.loads(line)["resourceLogs"]:
                    for scope in resource["scopeLogs"]:
                        for record in scope["logRecords"]:
                            yield resource["resource"], record


@pytest.fixture(scope="session")
def collector_binary() -> Path:
    """The Collector's executable, built into the user's cache if it is not there."""
    return build("otelog-collector")


def build(name: str) -> Path:
    """A program of the stack, of the pinned version, built into the user's cache if it is not there."""
    command = [sys.executable, "-m", "otelog.cli", "stack", "build", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{name} is needed here and could not be built:\n{done.stderr}", pytrace=False)
    return Path(done.stdout.strip())


def attribute(attributes: list[dict[str, Any]], key: str) -> Any:
    """The value of an OTLP/JSON attribute, whatever its type."""
    (value,) = [item["value"] for item in attributes if item["key"] == key]
    return next(iter(value.values()))


@pytest.fixture
def collector(collector_binary: Path, tmp_path: Path) -> Iterator[Collector]:
    """A fresh Collector, its file empty and its counters at zero."""
    with start_collector(collector_binary, tmp_path) as running:
        yield running


@contextmanager
def start_collector(
    binary: Path, tmp_path: Path, overlays: tuple[str, ...] = (), environ: Mapping[str, str] | None = None
) -> Iterator[Collector]:
    """Run a Collector, and end it afterwards."""
    for attempt in range(1, START_ATTEMPTS + 1):
        folder = tmp_path / f"collector-{attempt}"
        folder.mkdir()
        try:
            running = Collector(binary, folder, overlays, environ)
        except CollectorStartError as error:
            # Somebody else may have taken one of the ports in between.
            if attempt == START_ATTEMPTS or "address already in use" not in str(error):
                raise
        else:
            break
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder)
