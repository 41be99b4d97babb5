"""Who made which record: ids that are given out, and what became of each call, in a file for each thread.

A line is written before a call (its pipeline and id) and after it, each by one `write` to a descriptor that was opened
before anything went wrong: what the program told us stands there, however it ended.

    ? main 17     call 17 is about to be made
    . 17          it has returned
    ! 17 what     it has raised something that was not the application's own
    ~ 17          it was cut off by the application's own exception: nobody can say whether the record was made
"""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

ID = re.compile(r"<([\w.]+/\w+/\d+)>")
"""An id in a record: process, thread and number."""

BELOW = "below"
"""The pipeline of a call whose level is too low to make a record."""


class Oracle:
    """Gives out the ids of one thread of one process.

    Thread-safe, since finalizers run in any thread; a signal handler may raise anywhere in it, and memory may be short.
    """

    def __init__(self, folder: Path, process: str, thread: str) -> None:
        self.process = process
        self.thread = thread
        self._numbers = itertools.count(1)
        self._file = os.open(folder / f"{process}~{thread}.oracle", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def begin(self, pipeline: str) -> str:
        """Give out an id for a call that is about to be made."""
        while True:
            try:
                number = next(self._numbers)
                id = f"<{self.process}/{self.thread}/{number}>"
                line = f"? {pipeline} {number}\n".encode()
            except MemoryError:
                continue
            break
        self._write(line)
        return id

    def end(self, id: str, mark: str = ".", what: str = "") -> None:
        """Say what became of a call."""
        while True:
            try:
                line = f"{mark} {id[1:-1].rpartition('/')[2]} {what}".rstrip().replace("\n", " ").encode() + b"\n"
            except MemoryError:
                continue
            break
        self._write(line)

    def _write(self, line: bytes) -> None:
        while True:
            try:
                os.write(self._file, line)
            except MemoryError:
                continue
            return


@dataclass
class Calls:
    """All that a process has called, by pipeline; ids."""

    begun: dict[str, set[str]] = field(default_factory=dict)
    returned: dict[str, set[str]] = field(default_factory=dict)
    escaped: list[str] = field(default_factory=list)
    """What was raised into the application."""


def read_calls(folder: Path) -> dict[str, Calls]:
    """Return the calls of each process of a run."""
    processes: dict[str, Calls] = {}
    for path in sorted(folder.glob("*.oracle")):
        process, thread = path.stem.split("~")
        calls = processes.setdefault(process, Calls())
        pipelines: dict[str, str] = {}
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            mark, *words = line.split(" ", 2)
            if mark == "?":
                pipeline, number = words
                pipelines[number] = pipeline
                calls.begun.setdefault(pipeline, set()).add(f"{process}/{thread}/{number}")
            elif mark == ".":
                calls.returned.setdefault(pipelines[words[0]], set()).add(f"{process}/{thread}/{words[0]}")
            elif mark == "!":
                calls.escaped.append(f"{process}/{thread}/{' '.join(words)}")
    return processes
