"""Builds the servers' programs from their Go modules into the user's cache, each once a machine.

Several builds may be started at the same time: one builds, the others wait for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from otelog.cli.show.interruption import deferred
from otelog.cli.stack.files import StackError
from otelog.cli.stack.go import get_go
from otelog.cli.stack.programs import PROGRAMS, Program, find_on_path
from otelog.cli.stack.progress import Durations

Report = Callable[[str, str, int, int], None]
"""Called with the progress: the program, what is done, packages so far, and of how many (0 where that is not known)."""

_SAID_AT_FAILURE = 3000


def find_cache(environ: Mapping[str, str]) -> Path:
    """Returns the folder where built programs are kept, and what is known of builds."""
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otelog"


class Workshop:
    """Finds programs, and builds those that are not to be found.

    Args:
        files: The stack's files; the Collector's manifest is among them.
        environ: The environment for the Go tools; ``XDG_CACHE_HOME`` in it says where built programs are kept.
        report: Called with the progress of a build.

    Thread safety: for one thread; processes may share the cache.
    """

    def __init__(self, files: Path, environ: Mapping[str, str], report: Report) -> None:
        self._manifest = files / "collector" / "builder.yaml"
        self._environ = dict(environ)
        self._report = report
        self._cache = find_cache(environ)

    def find_missing(self, names: Iterable[str]) -> list[str]:
        """Returns which of some programs are to be built, because they are neither on PATH nor in the cache."""
        return [name for name in dict.fromkeys(names) if self.find(name) is None]

    def find_unbuilt(self, names: Iterable[str]) -> list[str]:
        """Returns which of some programs are not in the cache, whatever is on PATH."""
        return [name for name in names if not self._place(PROGRAMS[name]).exists()]

    def find(self, name: str) -> Path | None:
        """Returns where a program is: on PATH, or in the cache; None if it is to be built first."""
        program = PROGRAMS[name]
        found = find_on_path(program)
        if found is None:
            built = self._place(program)
            found = built if built.exists() else None
        return found

    def get(self, name: str) -> Path:
        """Returns where a program is, after it has been built if need be.

        Raises:
            StackError: There is no Go of the needed version to be had, or the build failed.
        """
        return self.find(name) or self.build(name)

    def build(self, name: str) -> Path:
        """Build a program unless it is in the cache, whatever is on PATH; returns where it is.

        Raises:
            StackError: There is no Go of the needed version to be had, or the build failed.
        """
        program = PROGRAMS[name]
        built = self._place(program)
        if not built.exists():
            try:
                built.parent.mkdir(parents=True, exist_ok=True)
                with self._lock(program, built.parent / "lock"):
                    if not built.exists():
                        began = time.monotonic()
                        self._build(program, built)
                        Durations(self._cache).remember(name, time.monotonic() - began)
                self._report(name, "built", 0, 0)
            except OSError as error:
                raise StackError(f"{name} cannot be built in {built.parent}: {error.strerror or error}") from error
        return built

    def _place(self, program: Program) -> Path:
        made_of = f"{platform.system()} {platform.machine()} {program.module} {program.version}".encode()
        if program.name == "otelog-collector":
            made_of += self._manifest.read_bytes()
        key = hashlib.sha256(made_of).hexdigest()[:16]
        return self._cache / "programs" / f"{program.name}-{key}" / program.name

    @contextlib.contextmanager
    def _lock(self, program: Program, path: Path) -> Iterator[None]:
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._report(program.name, "another process builds it, waiting", 0, 0)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _build(self, program: Program, place: Path) -> None:
        def say(text: str) -> None:
            self._report(program.name, text, 0, 0)

        go = get_go(self._cache, say)
        # Beside its final place: a rename is atomic on one file system only.
        with tempfile.TemporaryDirectory(dir=place.parent, prefix="build-") as name:
            folder = Path(name)
            environ = {
                **self._environ,
                "CGO_ENABLED": "0",
                "GOBIN": str(folder / "bin"),
                "GOFLAGS": "-mod=mod",
                "PATH": f"{go.parent}{os.pathsep}{self._environ.get('PATH', '')}",
            }
            tool = _Go(go, environ, program, self._report)
            if program.name == "otelog-collector":
                source, package = self._generate_collector(tool, program, folder), "."
            else:
                source, package = _write_module(tool, program, folder), program.package
            tool.compile(source, package, folder / program.name)
            os.replace(folder / program.name, place)

    def _generate_collector(self, tool: _Go, program: Program, folder: Path) -> Path:
        tool.say("getting the Collector's builder")
        tool.run("install", f"{program.package}@{program.version}", cwd=folder)
        source = folder / "source"
        manifest = folder / "builder.yaml"
        text = self._manifest.read_text(encoding="utf-8")
        manifest.write_text(re.sub(r"(?m)^(\s+output_path:).*$", f"\\1 {source}", text), encoding="utf-8")
        tool.say("getting its modules")
        builder = [str(folder / "bin" / "builder"), "--config", str(manifest), "--skip-compilation"]
        _check(builder, *run_group(builder, tool.environ, folder))
        return source


class _Go:
    """The `go` command for one program's build."""

    def __init__(self, go: Path, environ: dict[str, str], program: Program, report: Report) -> None:
        self.environ = environ
        self._go = str(go)
        self._program = program
        self._report = report

    def say(self, text: str) -> None:
        self._report(self._program.name, text, 0, 0)

    def run(self, *arguments: str, cwd: Path) -> str:
        """Returns what it wrote to standard output."""
        command = [self._go, *arguments]
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            status, errors = run_group(command, self.environ, cwd, stdout=output)
            output.seek(0)
            said = output.read()
        _check(command, status, errors or said)
        return said

    def compile(self, source: Path, package: str, target: Path) -> None:
        """Build a package; each package of it that is compiled is progress."""
        self.say("getting its modules")
        total = len(self.run("list", "-deps", package, cwd=source).split())
        flags = "-s -w"
        if self._program.version_variable:
            flags += f" -X {self._program.version_variable}={_version_of(self._program)}"
        command = [self._go, "build", "-v", "-trimpath", "-ldflags", flags, "-o", str(target), package]
        done = 0

        def count(line: str) -> None:
            nonlocal done
            if not line.startswith("go: "):
                done += 1
                self._report(self._program.name, "compiling", min(done, total), total)

        self._report(self._program.name, "compiling", 0, total)
        _check(command, *run_group(command, self.environ, source, on_line=count))


def _version_of(program: Program) -> str:
    # Prometheus 3.12 is the module's v0.312, and Jaeger 2.13 its v1.76: 2.0 came with v1.63.
    number = program.version.removeprefix("v")
    if program.name == "jaeger" and (both := re.fullmatch(r"1\.(\d+)\.(\d+)", number)):
        return f"2.{int(both[1]) - 63}.{both[2]}"
    old = re.fullmatch(r"0\.(\d)(\d\d)\.(\d+)", number) if "prometheus/prometheus" in program.module else None
    return f"{old[1]}.{int(old[2])}.{old[3]}" if old else number


def _write_module(tool: _Go, program: Program, folder: Path) -> Path:
    """Write a module of our own that needs the program's: replacements hold in a main module only, copied here."""
    source = folder / "source"
    source.mkdir()
    tool.say("getting its source")
    downloaded = json.loads(tool.run("mod", "download", "-json", f"{program.module}@{program.version}", cwd=folder))
    theirs: dict[str, Any] = json.loads(tool.run("mod", "edit", "-json", downloaded["GoMod"], cwd=folder))
    lines = ["module otelog.build", f"go {theirs['Go']}", f"require {program.module} {program.version}"]
    for item in theirs.get("Replace") or ():
        # One without a version is a folder of theirs, which is not here; the released module does as well.
        if item["New"].get("Version"):
            old, new = item["Old"], item["New"]
            lines.append(f"replace {old['Path']} {old.get('Version', '')} => {new['Path']} {new['Version']}")
    lines += [f"exclude {item['Path']} {item['Version']}" for item in theirs.get("Exclude") or ()]
    (source / "go.mod").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return source


def run_group(
    command: list[str],
    environ: Mapping[str, str],
    cwd: Path,
    *,
    stdout: Any = subprocess.DEVNULL,
    on_line: Callable[[str], None] | None = None,
) -> tuple[int, str]:
    """Run a command as a process group of its own, which is ended with whoever waits for it.

    Returns:
        The exit status, and the end of what it wrote to standard error.
    """
    process: subprocess.Popen[str] | None = None
    try:
        # While it is being started nobody knows it yet, and it would be left behind.
        with deferred():
            process = subprocess.Popen(
                command,
                env=dict(environ),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said = (said + line)[-_SAID_AT_FAILURE:]
            if on_line is not None:
                on_line(line)
        return process.wait(), said
    except BaseException:
        # Ctrl-C: a compiler that goes on would write into a folder that is being removed.
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        raise
    finally:
        if process is not None and process.stderr is not None:
            process.stderr.close()


def _check(command: list[str], status: int, said: str) -> None:
    if status != 0:
        raise StackError(f"{' '.join(command)} ended with {status}:\n{said.strip()[-_SAID_AT_FAILURE:]}")
