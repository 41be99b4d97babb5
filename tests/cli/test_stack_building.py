"""The programs' builds: once for everybody, whole or not at all, and only with a Go that is new enough."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tools.waiting import wait_until

# It notes each call, and "compiles" what says its name; the builder that it installs writes a source to compile.
FAKE_GO = """#!/bin/sh
echo "$*" >> "{calls}"
case "$1 $2" in
"version "*) echo "go version go{version} linux/amd64" ;;
"install "*)
    mkdir -p "$GOBIN"
    printf '%s\\n' '#!/bin/sh' 'mkdir "$(sed -n "s/^ *output_path: //p" "$2")"' > "$GOBIN/builder"
    chmod +x "$GOBIN/builder" ;;
"mod download") echo '{{"GoMod": "theirs.mod"}}' ;;
"mod edit") cat "{theirs}" ;;
"list "*) echo one two three four ;;
"build "*)
    {building}
    echo "go: downloading nothing" >&2; echo one >&2; echo two >&2
    while [ "$1" != -o ]; do shift; done
    cat go.mod > "$2" 2>/dev/null || echo built > "$2"
    exit {status} ;;
esac
"""
THEIRS = """{"Go": "1.26", "Exclude": [{"Path": "example.org/bad", "Version": "v1.0.0"}],
"Replace": [{"Old": {"Path": "example.org/a"}, "New": {"Path": "example.org/b", "Version": "v2.0.0"}},
{"Old": {"Path": "example.org/c"}, "New": {"Path": "./c"}}]}"""


class Shed:
    """A cache of its own and a stand-in for Go; no server's program is on its PATH."""

    def __init__(self, folder: Path, *, version: str = "1.30.1", status: int = 0, building: str = ":") -> None:
        self.folder = folder
        self.calls = folder / "calls"
        self.cache = folder / "cache"
        self.pip_index = folder / "no-index"
        (folder / "bin").mkdir()
        theirs = folder / "theirs.json"
        theirs.write_text(THEIRS)
        go = folder / "bin" / "go"
        go.write_text(
            FAKE_GO.format(version=version, calls=self.calls, status=status, building=building, theirs=theirs)
        )
        go.chmod(0o755)
        self._environ = {
            **os.environ,
            "PATH": f"{go.parent}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "XDG_CACHE_HOME": str(self.cache),
            # PyPI has nothing, wherever it is.
            "PIP_NO_INDEX": "1",
            "PIP_CONFIG_FILE": os.devnull,
        }

    def start(self, *names: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "otelog.cli", "stack", "build", *names]
        return subprocess.Popen(command, env=self._environ, stdout=pipe, stderr=pipe, text=True)

    def called(self, command: str) -> list[str]:
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line for line in lines if line.startswith(command)]

    def left_in_cache(self) -> set[str]:
        return {path.name for path in self.cache.glob("otelog/programs/*/*")}


@pytest.mark.parametrize("name", ["otelog-collector", "loki"])
def test_builds_started_together_build_once_and_print_the_same_path(tmp_path: Path, name: str) -> None:
    shed = Shed(tmp_path)
    builds = [shed.start(name) for _ in range(4)]
    paths = {build.communicate(timeout=60)[0] for build in builds}
    assert [build.returncode for build in builds] == [0] * 4
    (path,) = paths
    assert Path(path.strip()).exists()
    assert len(shed.called("build ")) == 1
    assert shed.left_in_cache() == {"lock", name}


def test_the_collector_is_made_by_its_builder_of_the_manifest(tmp_path: Path) -> None:
    shed = Shed(tmp_path)
    shed.start("otelog-collector").communicate(timeout=60)
    assert shed.called("install") == ["install go.opentelemetry.io/collector/cmd/builder@v0.158.0"]


def test_a_server_is_built_with_the_replacements_and_exclusions_of_its_own_module(tmp_path: Path) -> None:
    path = Shed(tmp_path).start("prometheus").communicate(timeout=60)[0]
    assert Path(path.strip()).read_text().splitlines() == [
        "module otelog.build",
        "go 1.26",
        "require github.com/prometheus/prometheus v0.312.0",
        "replace example.org/a  => example.org/b v2.0.0",
        "exclude example.org/bad v1.0.0",
    ]


@pytest.mark.parametrize(
    ("name", "flag"), [("prometheus", "version.Version=3.12.0"), ("jaeger", "version.latestVersion=2.13.0")]
)
def test_the_version_that_a_program_says_is_its_own_not_its_modules(tmp_path: Path, name: str, flag: str) -> None:
    shed = Shed(tmp_path)
    shed.start(name).communicate(timeout=60)
    (build,) = shed.called("build ")
    assert flag in build


def test_a_failed_build_says_so_and_leaves_nothing_behind(tmp_path: Path) -> None:
    shed = Shed(tmp_path, status=3)
    build = shed.start("alertmanager")
    output, errors = build.communicate(timeout=60)
    assert (build.returncode, output) == (1, "")
    assert "ended with 3" in errors
    assert shed.left_in_cache() == {"lock"}


def test_a_build_that_is_interrupted_ends_the_compiler_and_leaves_nothing_behind(tmp_path: Path) -> None:
    pid_file = tmp_path / "compiler"
    shed = Shed(tmp_path, building=f"echo $$ > {pid_file}; exec tail -f /dev/null")
    build = shed.start("alertmanager")
    pid = int(wait_until(lambda: pid_file.exists() and pid_file.read_text().strip(), 30))
    build.send_signal(signal.SIGTERM)
    output, errors = build.communicate(timeout=60)
    assert (build.returncode, output) == (130, "")
    assert "stopped" in errors
    assert shed.left_in_cache() == {"lock"}
    wait_until(lambda: has_ended(pid), 10, what="the end of the compiler")


def has_ended(pid: int) -> bool:
    try:
        # Its parent has ended as well: whoever takes over has to reap it.
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_without_a_go_that_is_new_enough_and_without_pypi_the_error_says_what_to_do(tmp_path: Path) -> None:
    shed = Shed(tmp_path, version="1.25.9")
    build = shed.start("loki")
    output, errors = build.communicate(timeout=120)
    assert (build.returncode, output) == (1, "")
    assert "no Go 1.26 or newer on PATH" in errors
    assert "Install Go" in errors
    assert "Docker" in errors
    assert shed.called("build ") == []
    assert shed.left_in_cache() == {"lock"}
