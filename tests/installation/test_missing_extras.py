"""A command says which pip line brings what it needs, and its help needs nothing: every command, every missing module.

A new command needs a row in `CALLS`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from packaging.utils import canonicalize_name

from otelog.cli.commands import otelog
from otelog.cli.extras import COMMANDS
from otelog.cli.stack.settings import Settings, State, write_state
from tests.cli.test_extras import promised

# What the extras bring, by the name that it is imported by.
MODULES = {
    "duckdb": "duckdb",
    "flask": "Flask",
    "google": "protobuf",
    "grpc": "grpcio",
    "isal": "isal",
    "jsonschema": "jsonschema",
    "opentelemetry.exporter": "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry.instrumentation": "opentelemetry-instrumentation",
    "opentelemetry.instrumentation.flask": "opentelemetry-instrumentation-flask",
    "opentelemetry.instrumentation.threading": "opentelemetry-instrumentation-threading",
    "opentelemetry.proto": "opentelemetry-proto",
    "prometheus_client": "prometheus-client",
    "psutil": "psutil",
    "rich": "rich",
    "urllib3": "urllib3",
    "waitress": "waitress",
    "websockets": "websockets",
    "yaml": "PyYAML",
    "zstandard": "zstandard",
}
NOWHERE = [
    word
    for source in ("applications", "collector", "loki", "prometheus")
    for word in (f"--{source}", "http://127.0.0.1:1")
]
# A call that ends by itself, and the modules without which it cannot be. {folder} has one log file, a configuration
# file, a stack's state and a file that no folder can be made below.
CALLS: dict[str, tuple[list[str], set[str]]] = {
    "audit": (["--wait", "0", *NOWHERE, "--folder", "{folder}/logs"], {"rich", "urllib3"}),
    "config check": (["{folder}/otelog.yaml"], {"jsonschema", "yaml"}),
    "config schema": ([], set()),
    "config show": ([], set()),
    "demo": (
        ["--data-dir", "{folder}/file/below"],
        {"flask", "opentelemetry.instrumentation.flask", "rich", "waitress"},
    ),
    "dev": (["--port", "0", "--folder", "{folder}/dev", "--stop-on-eof"], {"google", "opentelemetry.proto", "rich"}),
    "doctor": (["--no-canary"], {"rich"}),
    "drill": (["overflow", "--endpoint", "http://127.0.0.1:1", "--seconds", "0"], {"urllib3"}),
    "query": (["{folder}/logs/app.log"], set()),
    "query (Loki)": (["--loki", "http://127.0.0.1:1", '{{app="shop"}}'], {"urllib3"}),
    "run": (["--", "true"], {"opentelemetry.instrumentation"}),
    "stack build": (["no-such-program"], set()),
    "stack config": (["--data-dir", "{folder}/stack"], {"psutil", "rich"}),
    "stack down": (["--data-dir", "{folder}/none"], {"psutil", "rich", "urllib3"}),
    "stack logs": (["--data-dir", "{folder}/stack"], {"psutil", "urllib3"}),
    "stack status": (["--data-dir", "{folder}/stack"], {"psutil", "rich", "urllib3"}),
    "stack up": (["--tls-certificate", "{folder}/file"], {"psutil", "rich"}),
    "tail": (["{folder}/logs/none.log"], set()),
    "tail (Loki)": (["--loki", "http://127.0.0.1:1", '{{app="shop"}}'], {"urllib3", "websockets"}),
}
# Imports what is never missing, but for click, and calls the command in a fork for each module, without it.
CALLER = """
import importlib.abc, json, os, sys, tempfile
import click, otelog

class Without(importlib.abc.MetaPathFinder):
    def __init__(self, finder, hidden):
        self.finder, self.hidden = finder, hidden

    def find_spec(self, name, path, target=None):
        if not any(f"{name}.".startswith(f"{one}.") for one in self.hidden):
            return self.finder.find_spec(name, path, target)

def call(arguments, hidden):
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as output:
        child = os.fork()
        if not child:
            os.dup2(output.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            for name in [*sys.modules]:
                if any(f"{name}.".startswith(f"{one}.") for one in ("otelog.cli", *hidden)):
                    del sys.modules[name]
            sys.meta_path[:] = [Without(finder, hidden) for finder in sys.meta_path]
            sys.argv = ["otelog", *arguments]
            try:
                from otelog.cli import main
                main()
            except SystemExit as end:
                code = end.code or 0
            except BaseException:
                import traceback
                traceback.print_exc()
                code = -1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) and code >= 0 else 99)
        status = os.waitpid(child, 0)[1]
        errors.seek(0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read().decode(), errors.read().decode()

print(json.dumps([call(*one) for one in json.load(sys.stdin)]))
"""


def call(calls: list[tuple[list[str], list[str]]]) -> list[tuple[int, str, str]]:
    """Call the command with arguments, without some modules; returns exit codes and what was written."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "COLUMNS"))}
    done = subprocess.run(
        [sys.executable, "-c", CALLER],
        input=json.dumps(calls),
        env={**environ, "OTEL_METRICS_EXPORTER": "none"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(one) for one in json.loads(done.stdout.splitlines()[-1])]


def bring(extras: str) -> set[str]:
    return {name for extra in extras.split(",") for name in promised(extra)}


def walk(command: Any = otelog, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from walk(command.get_command(context, name), (*path, name))


PATHS = sorted(walk())
ENDS = [path for path in PATHS if not any(other[: len(path)] == path and other != path for other in PATHS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("missing")
    (folder / "logs").mkdir()
    (folder / "logs" / "app.log").write_text('{"timestamp": "2026-01-01T00:00:00+00:00", "message": "paid"}\n')
    (folder / "otelog.yaml").write_text("level: INFO\n")
    (folder / "file").write_text("")
    (folder / "stack").mkdir()
    write_state(folder / "stack", State("native", Settings()))
    return folder


def test_every_command_has_a_row() -> None:
    assert {" ".join(path) for path in ENDS} == {name.partition(" (")[0] for name in CALLS}


def test_help_needs_click_alone() -> None:
    outcomes = call([([*path, "--help"], [*MODULES]) for path in PATHS])
    for path, (code, output, errors) in zip(PATHS, outcomes, strict=True):
        assert (code, errors) == (0, ""), path
        assert output.startswith(f"Usage: {' '.join(['otelog', *path])}")


@pytest.mark.parametrize("name", CALLS)
def test_a_missing_module_is_told_with_its_pip_line(name: str, folder: Path) -> None:
    arguments, needed = CALLS[name]
    words = name.partition(" (")[0].split()
    call_words = [*words, *(one.format(folder=folder) for one in arguments)]
    others = [module for module in MODULES if not any(f"{one}.".startswith(f"{module}.") for one in needed)]
    usual, alone, *outcomes = call([(call_words, hidden) for hidden in ([], others, *([one] for one in needed))])
    # Whatever it comes to, it is not for want of a module.
    assert (alone[0], "pip install" in alone[2]) == (usual[0], False), alone
    for module, (code, output, errors) in zip(needed, outcomes, strict=True):
        assert "Traceback" not in output + errors, module
        line = re.search(r"needs ([\w-]+)(?:, [\w-]+)*: python -m pip install 'otelog\[([\w,]+)\]'", errors)
        assert line is not None, (module, output, errors)
        assert (code, line[1]) == (2, MODULES[module]), errors
        assert canonicalize_name(line[1]) in bring(line[2])


@pytest.mark.parametrize("words", [[], ["--help"], ["run", "python"], ["nonsense"]])
def test_without_click_it_says_what_to_install(words: list[str]) -> None:
    [(code, output, errors)] = call([(words, ["click", *MODULES])])
    what, extra = ("`otelog run`", "run") if "run" in words else ("the command line", "dev")
    assert (code, output) == (2, "")
    assert errors == f"Error: {what} needs click: python -m pip install 'otelog[{extra}]'\n"


def test_every_command_names_an_extra_that_is_there() -> None:
    for place in COMMANDS.values():
        assert "click" in bring(place.extra)
