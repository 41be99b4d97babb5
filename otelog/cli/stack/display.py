"""How a build and a start go, on a terminal and elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

PLAIN_SECONDS = 20.0
"""How often a line reports on a build, where there is no terminal."""


class Display:
    """A line for each program or server, that changes on a terminal, and is written anew elsewhere.

    A context manager; for one thread.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, tuple[str, float]] = {}
        self._progress: Progress | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._progress = Progress(
                SpinnerColumn(finished_text="[green]✓"),
                TextColumn("{task.fields[name]:16}"),
                TextColumn("{task.description:24}", markup=False),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=console,
            )

    def __enter__(self) -> Display:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show_step(self, name: str, text: str) -> None:
        """Show what a server is doing."""
        self.show_build(name, text, 0, 0)

    def show_build(self, name: str, text: str, done: int, total: int) -> None:
        """Show how far a program is, in packages; `total` is 0 where that is not known."""
        finished = text in ("built", "ready", "ended")
        if self._progress is None:
            self._print(name, text, done, total)
            return
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(text, total=None, name=name)
        if finished:
            done = total = 1
        self._progress.update(self._tasks[name], description=text, completed=done, total=total or None)

    def _print(self, name: str, text: str, done: int, total: int) -> None:
        before, at = self._said.get(name, ("", 0.0))
        now = time.monotonic()
        if text != before or (done and now - at >= PLAIN_SECONDS):
            self._said[name] = (text, now)
            self._console.print(
                f"{name}: {text}" + (f", {done:,} of {total:,} packages" if done else ""), markup=False, highlight=False
            )
