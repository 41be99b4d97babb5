"""The Collector's build: once for everybody, whole or not at all, and only with a Go that is new enough."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[1] / "tools" / "build_collector.py"

# It notes each call, and "installs" a builder that writes what the real one would have built.
FAKE_GO = """#!/bin/sh
case "$1" in
version) echo "go version go{version} linux/amd64" ;;
install)
    echo "$2" >> "{calls}"
    printf '%s\\n' '#!/bin/sh' 'out=$(sed -n "s/^ *output_path: //p" "$2")' 'mkdir "$out"' \\
        'echo built > "$out/otelog-collector"' 'exit {status}' > "$GOBIN/builder"
    chmod +x "$GOBIN/builder" ;;
esac
"""


class Workshop:
    """A cache of its own and a stand-in for Go."""

    def __init__(self, folder: Path, *, version: str = "1.30.1", status: int = 0) -> None:
        self.calls = folder / "calls"
        self.cache = folder / "cache"
        (folder / "bin").mkdir()
        go = folder / "bin" / "go"
        go.write_text(FAKE_GO.format(version=version, calls=self.calls, status=status))
        go.chmod(0o755)
        self._environ = {
            **os.environ,
            "PATH": f"{go.parent}{os.pathsep}{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(self.cache),
        }

    def start(self, interpreter: str = sys.executable) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen([interpreter, str(TOOL)], env=self._environ, stdout=pipe, stderr=pipe, text=True)

    def left_in_cache(self) -> set[str]:
        return {path.name for path in self.cache.glob("otelog/collector/*/*")}


def test_builds_started_together_build_once_and_print_the_same_path(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    builds = [workshop.start() for _ in range(4)]
    paths = {build.communicate(timeout=60)[0] for build in builds}
    assert [build.returncode for build in builds] == [0] * 4
    (path,) = paths
    assert Path(path.strip()).read_text() == "built\n"
    assert workshop.calls.read_text().splitlines() == ["go.opentelemetry.io/collector/cmd/builder@v0.158.0"]
    assert workshop.left_in_cache() == {"lock", "otelog-collector"}


def test_a_failed_build_says_so_and_leaves_nothing_behind(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, status=3)
    build = workshop.start()
    output, errors = build.communicate(timeout=60)
    assert (build.returncode, output) == (1, "")
    assert "ended with 3" in errors
    assert workshop.left_in_cache() == {"lock"}


def test_a_go_that_is_too_old_is_refused_where_none_may_be_installed(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, version="1.24.9")
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    build = workshop.start(str(base))
    output, errors = build.communicate(timeout=60)
    assert (build.returncode, output) == (1, "")
    assert "no Go 1.25 or newer on PATH" in errors
    assert not workshop.calls.exists()
