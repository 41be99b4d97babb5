"""Runs a page as its reader would: writes its files, types its commands into terminals, looks for what it shows.

A comment above a block of code says what is special about it; the reader does not see it:

    <!-- file: app.py -->              the block becomes this file
    <!-- append: app.py -->            the block goes to its end
    <!-- fails -->                     the last command must fail
    <!-- repeat -->                    the command is typed again until it shows what it should
    <!-- install -->                   the commands make the environment: run only where one is to be made
    <!-- terminal: 1 -->               the command stays in terminal 1; above a block of text: look at that terminal
    <!-- Ctrl-C in terminal: 1 -->     by itself: end what runs there
    <!-- not run: the reason -->       run by another test, or by none

Comments that it does not know are for others. All other blocks of `sh` are run to their end and must succeed. A block
of `text` is what the reader sees after the command above it: each of its lines must come, in this order. Numbers, ids
and spaces may differ, and … stands for anything.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tools.loopback import find_free_ports
from tools.terminal import Terminal

SECONDS = 300.0
"""How long a command may take, or what it shows."""
INSTALL_SECONDS = 3600.0
NOT_CONNECTED = 7
"""curl's exit code where nobody listens yet: a reader whose server still starts tries again."""

_STEP = re.compile(
    r"(?P<marks>(?:^<!-- [^>]+? -->\n)*)^```(?P<language>\w+)\n(?P<block>.*?)^```$"
    r"|^(?P<alone><!-- [^>]+? -->\n)\n",
    re.MULTILINE | re.DOTALL,
)
_MARK = re.compile(r"<!-- ([^:>]+?)(?:: ([^>]+?))? -->")
_VARIES = re.compile(r"(?P<any>\s*…\s*)|(?P<space>\s+)|(?P<hex>\b(?=\w*\d)[0-9a-f]{8,}\b)|(?P<number>\d+)")
_PATTERNS = {"any": r"[^\n]*?", "space": r"[ \t]+", "hex": "[0-9a-f]+", "number": r"\d+"}


@dataclass(frozen=True)
class Step:
    """One block of a page, or a comment without one.

    Attributes:
        line: Where it is, from 1.
        marks: What the comments above it say, by their first words: "terminal", "fails".
        language: "sh", "text", "python" and the like; "" if there is no block.
        block: The code.
    """

    line: int
    marks: Mapping[str, str]
    language: str
    block: str


def read_page(text: str) -> list[Step]:
    """The steps of a page, in its order."""
    return [
        Step(
            text.count("\n", 0, found.start()) + 1,
            dict(_MARK.findall(found["marks"] or found["alone"] or "")),
            found["language"] or "",
            found["block"] or "",
        )
        for found in _STEP.finditer(text)
    ]


def make_pattern(shown: str) -> str:
    """A regular expression for what a page shows, line by line, with other lines between them allowed."""
    lines = [line.strip() for line in shown.splitlines() if line.strip()]
    return r"[\s\S]*?".join(_make_line(line) for line in lines)


def _make_line(line: str) -> str:
    parts, end = [], 0
    for found in _VARIES.finditer(line):
        parts += [re.escape(line[end : found.start()]), _PATTERNS[found.lastgroup or ""]]
        end = found.end()
    return "".join([*parts, re.escape(line[end:])])


@dataclass(frozen=True)
class Timing:
    """How long one command took, from the moment that it was typed.

    Attributes:
        typed: The command, as the page has it.
        until: What was waited for: its end, or what the page shows.
        seconds: How long.
    """

    typed: str
    until: str
    seconds: float


class Ports:
    """Ports that are free, for those that the pages name.

    Attributes:
        dev: For 4318, where `otelog dev` listens.
        flask: For 5000, Flask's.
        gunicorn: For 8000, gunicorn's.
    """

    def __init__(self) -> None:
        self.dev, self.flask, self.gunicorn = find_free_ports(3)


def make_environ(scripts: Path, ports: Ports) -> dict[str, str]:
    """The environment of a shell in which an environment is activated, with other ports than the usual ones.

    Args:
        scripts: The environment's ``bin``.
        ports: What listens where.
    """
    hidden = ("OTEL_", "OTELOG_", "FLASK_", "PYTHON", "VIRTUAL_ENV", "PROMETHEUS_", "GUNICORN_", "COLUMNS", "LINES")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(hidden) and not name.lower().endswith("_proxy")
    }
    return {
        **kept,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{ports.dev}",
        "FLASK_RUN_PORT": str(ports.flask),
        "GUNICORN_CMD_ARGS": f"--bind 127.0.0.1:{ports.gunicorn}",
    }


def make_replaced(ports: Ports) -> dict[str, str]:
    """What is typed instead of what the page says, so that nothing else on the machine is in the way."""
    return {
        "otelog dev\n": f"otelog dev --port {ports.dev}\n",
        "127.0.0.1:4318": f"127.0.0.1:{ports.dev}",
        "127.0.0.1:5000": f"127.0.0.1:{ports.flask}",
        "127.0.0.1:8000": f"127.0.0.1:{ports.gunicorn}",
    }


class Reader:
    """Follows a page; a context manager, which ends what runs in the terminals.

    Args:
        folder: Where the files are written and the commands are run.
        environ: The commands' environment.
        replaced: What is typed instead of something else: ports that are free, this checkout for the package.
        install: Whether to run the commands that make the environment.
    """

    def __init__(
        self, folder: Path, environ: Mapping[str, str], replaced: Mapping[str, str], *, install: bool = False
    ) -> None:
        self.folder = folder
        self.timings: list[Timing] = []
        self._environ = environ
        self._replaced = replaced
        self._install = install
        self._terminals: dict[str, Terminal] = {}
        self._last: Terminal | None = None
        self._last_typed: tuple[str, float] = ("", 0.0)
        self._repeated: Step | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for terminal in self._terminals.values():
            terminal.close()

    def follow(self, steps: list[Step]) -> None:
        """Do what the steps say, in turn.

        Raises:
            AssertionError: A command has failed, or what the page shows did not come. It names the line.
        """
        for step in steps:
            try:
                self._follow_one(step)
            except (AssertionError, TimeoutError, subprocess.TimeoutExpired) as error:
                raise AssertionError(f"line {step.line}: {error}") from error

    def _follow_one(self, step: Step) -> None:
        if "not run" in step.marks or ("install" in step.marks and not self._install):
            return
        for mark, mode in (("file", "w"), ("append", "a")):
            if mark in step.marks:
                path = self.folder / step.marks[mark]
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open(mode, encoding="utf-8") as file:
                    file.write(("\n\n" if mode == "a" else "") + step.block)
                return
        if "Ctrl-C in terminal" in step.marks:
            self._terminals.pop(step.marks["Ctrl-C in terminal"]).interrupt(SECONDS)
        elif step.language == "sh":
            self._type(step)
        elif step.language == "text":
            self._look(step)

    def _replace(self, text: str) -> str:
        for before, after in self._replaced.items():
            text = text.replace(before, after)
        return text

    def _type(self, step: Step) -> None:
        name = step.marks.get("terminal")
        began = time.monotonic()
        if name is None:
            terminal, code = self._run(step)
            while code == NOT_CONNECTED and "fails" not in step.marks and time.monotonic() - began < SECONDS:
                terminal, code = self._run(step)
            self.timings.append(Timing(step.block.strip(), "its end", time.monotonic() - began))
            has_failed = code != 0
            assert has_failed == ("fails" in step.marks), f"{step.block!r} has ended with {code}:\n{terminal.output}"
        else:
            terminal = self._terminals[name] = Terminal(self._replace(step.block), self.folder, self._environ)
        self._last, self._last_typed = terminal, (step.block.strip(), began)
        self._repeated = step if "repeat" in step.marks else None

    def _run(self, step: Step) -> tuple[Terminal, int]:
        with Terminal(self._replace(step.block), self.folder, self._environ) as terminal:
            return terminal, terminal.wait(SECONDS if not self._install else INSTALL_SECONDS)

    def _type_until(self, step: Step, pattern: str) -> Terminal:
        """Type a command again until it shows something. Returns: the last terminal that it ran in."""
        deadline = time.monotonic() + SECONDS
        while self._last is None or (not re.search(pattern, self._last.output) and time.monotonic() < deadline):
            self._type(step)
        return self._last

    def _look(self, step: Step) -> None:
        name = step.marks.get("terminal")
        terminal = self._terminals[name] if name is not None else self._last
        assert terminal is not None, "nothing was typed yet"
        pattern = make_pattern(self._replace(step.block))
        if self._repeated is not None and name is None:
            terminal = self._type_until(self._repeated, pattern)
        terminal.wait_for(pattern, SECONDS)
        if terminal is not self._last or terminal in self._terminals.values():
            typed, began = self._last_typed
            self.timings.append(Timing(typed, step.block.strip().splitlines()[-1], time.monotonic() - began))
