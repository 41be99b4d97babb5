"""How far a build is: told to other terminals in a file, with an estimate from what builds took before.

A file a process, in the cache that the builds share. One whose process has ended, killed perhaps, counts as none.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from otelog.cli.stack.programs import PROGRAMS

CORES = 2
"""On so many quiet cores `Program.minutes` were measured."""

BUSY_MINUTES = 46
"""What all took on two cores that were busy with something else."""

COMPILED_FROM = 0.15
"""Which part of a program's build its modules take before it is compiled, about."""

_LEAST_KNOWN = 0.1
_LEAST_LEFT = 0.05
_CREATED_TOLERANCE = 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    """What a process builds.

    Args:
        pid: The process.
        created: When that was created (Unix time); an id alone may be another process by now.
        started: When it began (Unix time).
        programs: What is to be built, in this order.
        done: What of them is built.
        current: What is being built, or started; empty before and after.
        text: What is done with that.
        packages: How many of its packages are compiled.
        of_packages: Of how many; 0 where that is not known.
        left_seconds: How long it will take, about; None where nothing is built.
        updated: When this was known (Unix time).
    """

    pid: int
    created: float
    started: float
    programs: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    current: str = ""
    text: str = ""
    packages: int = 0
    of_packages: int = 0
    left_seconds: float | None = None
    updated: float = 0.0

    def describe(self, now: float) -> str:
        """Say in a line what is built, which of how many, since when, and how long it may take."""
        packages = f", {self.packages:,} of {self.of_packages:,} packages" if self.of_packages else ""
        said = f"{self.current}: {self.text}{packages}" if self.current else self.text or "preparing"
        if self.left_seconds is not None:
            number = min(len(self.done) + 1, len(self.programs))
            said += f"; program {number} of {len(self.programs)} to build"
        clock = time.strftime("%H:%M", time.localtime(self.started))
        said += f", since {clock} ({show_minutes(now - self.started)})"
        if self.left_seconds is None:
            return said
        # A package that takes long is reported when it is done.
        left = max(self.left_seconds - max(0.0, now - self.updated), self.left_seconds * _LEAST_LEFT)
        return f"{said}, about {show_minutes(left)} left"


def show_minutes(seconds: float) -> str:
    """Returns a length of time in words, as exact as an estimate can be."""
    if seconds < 60:
        return f"{max(0, round(seconds))} s"
    return f"{round(seconds / 60)} min"


def estimate_seconds(
    programs: Sequence[str],
    took: Mapping[str, float],
    remembered: Mapping[str, float],
    current: tuple[str, float, float] | None,
    cores: int,
) -> float:
    """Returns how long the rest of a build takes, about.

    A program takes what it took before on this machine. One that was not built before takes its usual part of what the
    others take here: as far as the builds of now show it, else those of before, else by the number of cores.

    Args:
        programs: What is to be built.
        took: Seconds of those that are built already.
        remembered: Seconds of earlier builds on this machine.
        current: The one that is being built, the seconds so far, and which part of it is done.
        cores: How many there are.
    """
    usual = {name: PROGRAMS[name].minutes * 60 for name in programs}
    seen = {name: (seconds, usual[name]) for name, seconds in took.items() if name in usual}
    if current is not None and current[2] > COMPILED_FROM + _LEAST_KNOWN:
        name, elapsed, part = current
        seen[name] = (elapsed / part, usual[name])
    before = {name: (remembered[name], PROGRAMS[name].minutes * 60) for name in remembered if name in PROGRAMS}
    if basis := seen or before:
        factor = sum(seconds for seconds, _ in basis.values()) / sum(normal for _, normal in basis.values())
    else:
        factor = CORES / max(1, min(cores, 4 * CORES))
    left = 0.0
    for name in programs:
        if name in took:
            continue
        whole = remembered.get(name, usual[name] * factor)
        if current is None or name != current[0]:
            left += whole
            continue
        _, elapsed, part = current
        if part > COMPILED_FROM + _LEAST_KNOWN:
            whole = elapsed / part
        left += max(whole - elapsed, whole * _LEAST_LEFT)
    return left


class Durations:
    """What builds took on this machine, by program and version. Never raises: without its file nothing is known."""

    def __init__(self, cache: Path) -> None:
        self._path = cache / "build-seconds.json"

    def read(self) -> dict[str, float]:
        """Returns the seconds of the last whole build of each program, in its version of now."""
        try:
            known: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
            return {
                name: float(known[_key(name)]) for name in PROGRAMS if isinstance(known.get(_key(name)), (int, float))
            }
        except (OSError, ValueError, AttributeError):
            return {}

    def remember(self, name: str, seconds: float) -> None:
        """Keep what a build took."""
        try:
            known = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        if not isinstance(known, dict):
            known = {}
        with contextlib.suppress(OSError):
            _write(self._path, {**known, _key(name): round(seconds, 1)})


class ProgressFile:
    """Tells other terminals how far this process is, from its first report on.

    A context manager; for one thread. Never raises: a cache that cannot be written only keeps others from looking.

    Args:
        cache: Where built programs are.
        show: Called with each report, and what is known of the whole.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        cache: Path,
        show: Callable[[str, str, int, int, Progress], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        import psutil

        self._clock = clock
        self._show = show
        self._remembered = Durations(cache).read()
        pid = os.getpid()
        self._path = cache / "progress" / f"{pid}.json"
        self._now = Progress(pid, psutil.Process(pid).create_time(), clock())
        self._took: dict[str, float] = {}
        self._began = clock()

    def __enter__(self) -> ProgressFile:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def plan(self, programs: Collection[str]) -> Progress:
        """Tell what is to be built; returns what is known of the whole."""
        self._now = replace(self._now, programs=tuple(programs))
        self._now = replace(self._now, left_seconds=self._estimate(0.0) if programs else None)
        self._write()
        return self._now

    def report_step(self, name: str, text: str) -> None:
        """Tell what a server is doing."""
        self.report(name, text, 0, 0)

    def report(self, name: str, text: str, done: int, total: int) -> None:
        """Tell how far a program is, in packages; `total` is 0 where that is not known."""
        now = self._clock()
        if name != self._now.current:
            self._began = now
        if text == "built" and name in self._now.programs:
            self._took[name] = now - self._began
        self._now = replace(
            self._now,
            current=name,
            text=text,
            packages=done,
            of_packages=total,
            done=tuple(one for one in self._now.programs if one in self._took),
        )
        part = COMPILED_FROM + (1 - COMPILED_FROM) * done / total if total and done else 0.0
        left = self._estimate(part) if len(self._now.done) < len(self._now.programs) else None
        self._now = replace(self._now, left_seconds=left)
        self._write()
        self._show(name, text, done, total, self._now)

    def _estimate(self, part: float) -> float:
        name = self._now.current
        at = (
            (name, self._clock() - self._began, part) if name in self._now.programs and name not in self._took else None
        )
        return estimate_seconds(self._now.programs, self._took, self._remembered, at, os.cpu_count() or 1)

    def _write(self) -> None:
        self._now = replace(self._now, updated=self._clock())
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _write(self._path, asdict(self._now))


def find_progress(cache: Path) -> list[Progress]:
    """Returns what processes of now build or start, the oldest first. Never raises."""
    import psutil

    found = []
    with contextlib.suppress(OSError):
        for path in (cache / "progress").glob("*.json"):
            with contextlib.suppress(OSError, ValueError, TypeError, psutil.Error):
                document = json.loads(path.read_text(encoding="utf-8"))
                document |= {name: tuple(document[name]) for name in ("programs", "done")}
                one = Progress(**document)
                if abs(psutil.Process(one.pid).create_time() - one.created) < _CREATED_TOLERANCE:
                    found.append(one)
    return sorted(found, key=lambda one: one.started)


def _key(name: str) -> str:
    return f"{name} {PROGRAMS[name].version}"


def _write(path: Path, document: Mapping[str, Any]) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(json.dumps(document) + "\n", encoding="utf-8")
    os.replace(new, path)
