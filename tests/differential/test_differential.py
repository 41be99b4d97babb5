"""Each set-up prints, raises and sends the same with the short way of `logging` as without it."""

from __future__ import annotations

import difflib
import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otelog.testing import OTLPServer
from tests.differential.setups import SETUPS, Setup

ROOT = Path(__file__).parents[2]
SECONDS = 60.0

# What differs between any two runs.
_VOLATILE = (
    (re.compile(r"0x[0-9a-f]{6,}"), "0x"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d([.,]\d+)?"), "TIME"),
    (re.compile(r"\b1\d{9}(\.\d+)?\b"), "EPOCH"),
    (re.compile(r"\b1[0-9]{14}\b"), "THREAD"),
)


def environment() -> dict[str, str]:
    """Nothing of the developer's own settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OTELOG_", "PYTHON"))}
    return {**kept, "OTEL_METRICS_EXPORTER": "none"}


class Zygote:
    """A process that has imported everything, and forks for each pair of runs."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.differential.program", "serve"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, jobs: list[tuple[Any, ...]]) -> list[tuple[int, int]]:
        """Run these at once. Returns for each its process id and its status."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(jobs) + "\n")
        self._process.stdin.flush()
        guard = threading.Timer(SECONDS, self._process.kill)
        guard.start()
        try:
            line = self._process.stdout.readline()
        finally:
            guard.cancel()
            guard.join()
        assert line, "the runs did not end"
        return [(child, status) for child, status in json.loads(line)]

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(SECONDS)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    one = Zygote()
    try:
        yield one
    finally:
        one.close()


def run_fresh(setup: Setup, jobs: list[tuple[Any, ...]]) -> list[tuple[int, int]]:
    processes = []
    for name, direct, endpoint, out, err in jobs:
        command = [sys.executable, *setup.interpreter, "-m", "tests.differential.program"]
        with open(out, "wb") as output, open(err, "wb") as errors:
            processes.append(
                subprocess.Popen(
                    [*command, name, "on" if direct else "off", endpoint],
                    cwd=ROOT,
                    env=environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                )
            )
    return [(process.pid, process.wait(SECONDS)) for process in processes]


def normalise(text: str, pid: int) -> str:
    """A text without what differs between any two runs: times, the ids of processes and threads, addresses."""
    text = re.sub(rf"\b{pid}\b", "PID", text)
    for pattern, instead in _VOLATILE:
        text = pattern.sub(instead, text)
    return text


def arrivals(server: OTLPServer, pid: int) -> list[str]:
    """All that arrived, in its order, without times and the instance's id."""
    found = []
    for request in server.requests:
        for resource in request.decode().resource_logs:
            kept = [pair for pair in resource.resource.attributes if pair.key != "service.instance.id"]
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    assert record.time_unix_nano and record.observed_time_unix_nano
                    record.time_unix_nano = record.observed_time_unix_nano = 0
                    for pair in record.attributes:
                        if pair.key == "thread.id":
                            pair.value.int_value = 1
                    found.append(normalise(f"{kept}\n{scope.scope}\n{record}", pid))
    return found


def difference(standard: Any, short: Any) -> str:
    """What the short way has changed, in lines."""
    lines = ["\n".join(value) if isinstance(value, list) else str(value) for value in (standard, short)]
    changed = difflib.unified_diff(*(text.splitlines() for text in lines), "standard", "short", lineterm="", n=4)
    return "\n".join(itertools.islice(changed, 60))


@pytest.mark.parametrize("name", SETUPS)
def test_nobody_can_tell(name: str, zygote: Zygote, tmp_path: Path) -> None:
    setup = SETUPS[name]
    for module in setup.needs:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    if not setup.versions[0] <= sys.version_info[:2] <= setup.versions[1]:
        pytest.skip("not on this Python")
    with OTLPServer() as one, OTLPServer() as other:
        servers = {"on": one, "off": other}
        jobs = [
            (name, way == "on", server.endpoint, str(tmp_path / f"{way}.out"), str(tmp_path / f"{way}.err"))
            for way, server in servers.items()
        ]
        ends = run_fresh(setup, jobs) if setup.interpreter else zygote.run(jobs)
        seen = {}
        for (way, server), (pid, status) in zip(servers.items(), ends, strict=True):
            seen[way] = {
                "status": status,
                "output": normalise((tmp_path / f"{way}.out").read_text(), pid),
                "errors": normalise((tmp_path / f"{way}.err").read_text().replace(server.endpoint, "SERVER"), pid),
                "records": arrivals(server, pid),
            }
    for kind in ("errors", "output", "records", "status"):
        assert not difference(seen["off"][kind], seen["on"][kind]), f"the {kind} are not the same"
    assert seen["on"]["status"] == 0
    assert "RecursionError" not in seen["on"]["errors"]
    if os.environ.get("OTELOG_SHOW_DIFFERENTIAL"):
        print(seen["on"]["output"], seen["on"]["errors"], *seen["on"]["records"], sep="\n")
    for message, count in setup.arrives.items():
        found = sum(
            f'string_value: "{message}"\n' in record.partition("attributes {")[0] for record in seen["on"]["records"]
        )
        assert found == count, message
    for kind, expected in setup.shows.items():
        assert expected in "\n".join(seen["on"][kind]) if kind == "records" else expected in str(seen["on"][kind])


def test_there_are_at_least_eighty_setups() -> None:
    assert len(SETUPS) >= 80
