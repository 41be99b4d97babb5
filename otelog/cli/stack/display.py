"""How a build and a start go, on a terminal and elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from otelog.cli.stack.programs import PROGRAMS, USUAL_PROGRAMS
from otelog.cli.stack.progress import BUSY_MINUTES, CORES, Progress, show_minutes

PLAIN_SECONDS = 20.0
"""How often a line reports on a build, where there is no terminal."""

FOLLOW_SECONDS = 0.2

_ALL_MINUTES = sum(PROGRAMS[name].minutes for name in USUAL_PROGRAMS)
_USUAL = (
    f"(All of a stack took {_ALL_MINUTES:.0f} minutes on {CORES} quiet cores, and {BUSY_MINUTES} on {CORES} busy ones.)"
)


class Display:
    """A line for each program or server, that changes on a terminal, and is written anew elsewhere.

    A context manager; for one thread.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, tuple[str, float]] = {}
        self._bars: Bars | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._bars = Bars(
                SpinnerColumn(finished_text="[green]✓"),
                TextColumn("{task.fields[name]:16}"),
                TextColumn("{task.description:24}", markup=False),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=console,
            )

    def __enter__(self) -> Display:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def announce(self, plan: Progress, *, sooner: bool = False) -> None:
        """Say what is to be built, how long that takes, and what can be done meanwhile; nothing if there is nothing.

        Args:
            plan: What is to be built.
            sooner: It would take less without Prometheus.
        """
        if plan.left_seconds is None:
            return
        number = len(plan.programs)
        lines = [
            f"{number} {'program is' if number == 1 else 'programs are'} built first, once on this machine:",
            f"{', '.join(plan.programs)}. About {show_minutes(plan.left_seconds)}.",
            _USUAL,
            "Another terminal can follow it: otelog stack status --follow",
        ]
        if sooner:
            lines.append("Loki and the Collector are there sooner by: otelog stack up --without prometheus")
        self._console.print("\n".join(lines), markup=False, highlight=False)
        if self._bars is not None:
            self._tasks["all"] = self._bars.add_task("", total=number, name="all")

    def show(self, name: str, text: str, done: int, total: int, whole: Progress) -> None:
        """Show how far a program is, in packages, and all of them together; `total` is 0 where that is not known."""
        finished = text in ("built", "ready", "ended")
        if self._bars is None:
            self._print(name, text, done, total, whole)
            return
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(text, total=None, name=name)
        if finished:
            done = total = 1
        self._bars.update(self._tasks[name], description=text, completed=done, total=total or None)
        if "all" in self._tasks:
            left = "" if whole.left_seconds is None else f", about {show_minutes(whole.left_seconds)} left"
            self._bars.update(
                self._tasks["all"],
                description=f"{len(whole.done)} of {len(whole.programs)} built{left}",
                completed=len(whole.done),
            )

    def show_step(self, name: str, text: str) -> None:
        """Show what a server is doing."""
        self.show(name, text, 0, 0, Progress(0, 0.0, time.time()))

    def _print(self, name: str, text: str, done: int, total: int, whole: Progress) -> None:
        before, at = self._said.get(name, ("", 0.0))
        now = time.monotonic()
        if text != before or (done and now - at >= PLAIN_SECONDS):
            self._said[name] = (text, now)
            line = f"{name}: {text}" if whole.left_seconds is None else whole.describe(time.time())
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def follow_progress(find: Callable[[], list[Progress]], console: Console) -> None:
    """Show how far what others build and start is, until it has ended.

    Args:
        find: Returns it.
        console: Where it is shown.
    """
    if console.is_terminal and not console.is_dumb_terminal:
        with Live(console=console, transient=True, refresh_per_second=4) as live:
            while going := find():
                now = time.time()
                live.update(Text("\n".join(f"process {one.pid}: {one.describe(now)}" for one in going)))
                time.sleep(FOLLOW_SECONDS)
        return
    said: dict[int, tuple[tuple[str, str], float]] = {}
    while going := find():
        for one in going:
            before, at = said.get(one.pid, (("", ""), 0.0))
            if (one.current, one.text) != before or time.monotonic() - at >= PLAIN_SECONDS:
                said[one.pid] = ((one.current, one.text), time.monotonic())
                line = f"process {one.pid}: {one.describe(time.time())}"
                console.print(line, markup=False, highlight=False, soft_wrap=True)
        time.sleep(FOLLOW_SECONDS)
