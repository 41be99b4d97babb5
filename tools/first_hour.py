"""A stopwatch beside a new user: from a bare environment to the first record of one's own application.

    python tools/first_hour.py                       Python 3.10 and 3.13, as `make soak` does
    python tools/first_hour.py --python 3.11 --json

For each Python an environment is made, otelog is installed from this checkout with the pip that came with it, and
`docs/tutorials/flask-to-grafana.md` is followed in terminals, command by command, up to what it shows. Only the ports
are others. A dated row goes to `benchmarks/results/first_hour.md`. The status is 1 if something on the page did not
work.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import machine_facts  # noqa: E402
from tools.run_tests import find_other_pythons  # noqa: E402
from tools.walkthrough import Ports, Reader, Step, Timing, make_environ, make_replaced, read_page  # noqa: E402

PAGE = ROOT / "docs" / "tutorials" / "flask-to-grafana.md"
RESULTS = ROOT / "benchmarks" / "results" / "first_hour.md"
NEEDS_STACK = "\n## The back end\n"
"""Where the part of the page begins that needs the stack; tests/stack/ follows that one."""
PYTHONS = ("3.10", "3.13")
# What the page calls the packages that are not published yet.
PUBLISHED = "pip install 'otelog["

COLUMNS = (
    "date | system | load | Python | pip | commands | environment and pip | `otelog dev` listens | Flask answers"
    " | first record | in all"
)
_HEAD = f"""# From a bare environment to the first record

Written by `make soak` (`python tools/first_hour.py`), which follows the page *Flask to Grafana in ten minutes* as a
new user: an environment by `python3 -m venv`, its own pip, and two terminals. *Commands* are those up to the first
record of the application in `otelog dev`; reading and typing are not in the seconds. The whole page has worked, or
there is no row. *Load*: how many processes wanted the cores. What pip had fetched before may come from its cache.

| {COLUMNS} |
|---|---|--:|---|---|{"--:|" * 6}
"""


@dataclass(frozen=True)
class FirstHour:
    """What one new user has met, in seconds since the command before."""

    python: str
    pip: str
    commands: int
    install: float
    listens: float
    answers: float
    first_record: float
    timings: list[Timing]

    @property
    def total(self) -> float:
        """All together."""
        return self.install + self.listens + self.answers + self.first_record

    def row(self) -> str:
        """The dated row of the table, with its line feed."""
        facts = machine_facts()
        seconds = (self.install, self.listens, self.answers, self.first_record, self.total)
        cells = [
            datetime.now(timezone.utc).strftime("%Y-%m-%d"),
            f"{facts['system']}, {facts['cores']} cores",
            f"{os.getloadavg()[0]:.1f}",
            self.python,
            self.pip,
            str(self.commands),
            *(f"{one:.1f} s" for one in seconds),
        ]
        return "| " + " | ".join(cells) + " |\n"


def read_first_part() -> list[Step]:
    """The steps of the page that need no stack."""
    return read_page(PAGE.read_text(encoding="utf-8").partition(NEEDS_STACK)[0])


def measure(python: Path, package: str) -> FirstHour:
    """Follow the page with an interpreter, from nothing.

    Args:
        python: The interpreter, of which an environment is made.
        package: What pip is given in place of ``otelog[``, such as a checkout's path and a bracket.

    Raises:
        AssertionError: The page does not work; it says which line.
    """
    steps = read_first_part()
    with tempfile.TemporaryDirectory(prefix="otelog-first-hour-") as name:
        folder = Path(name)
        ports = Ports()
        scripts = folder / ".venv" / "bin"
        replaced = make_replaced(ports)
        replaced |= {"python3 -m venv": f"{python} -m venv", PUBLISHED: f"pip install '{package}["}
        environ = make_environ(scripts, ports)
        with Reader(folder, environ, replaced, install=True) as reader:
            reader.follow(steps)
        pip = _ask(scripts / "python", "-m", "pip", "--version").split()[1]
        version = _ask(scripts / "python", "-c", "import platform; print(platform.python_version())")
    return summarize(version, pip, steps, reader.timings)


def summarize(version: str, pip: str, steps: list[Step], timings: list[Timing]) -> FirstHour:
    """Find the figures in what a reader has measured: the install, then the first three things that the page shows."""
    install, listens, answers, requests, first_record = timings[:5]
    lines = [line for one in (install, listens, answers, requests) for line in one.typed.splitlines()]
    return FirstHour(
        python=version,
        pip=pip,
        commands=len(lines),
        install=install.seconds,
        listens=listens.seconds,
        answers=answers.seconds,
        first_record=first_record.seconds,
        timings=timings,
    )


def _ask(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def find_pythons(versions: list[str]) -> dict[str, Path]:
    """The interpreters of these versions that are on this machine, by version."""
    found: Mapping[str, Path] = {
        f"{sys.version_info[0]}.{sys.version_info[1]}": Path(sys.base_prefix, "bin", "python3"),
        **find_other_pythons(),
    }
    return {version: found[version] for version in versions if version in found}


def write_row(path: Path, row: str) -> None:
    """Append a row to the table, which is made if it is not there."""
    before = path.read_text(encoding="utf-8") if path.exists() else _HEAD
    path.write_text(before + row, encoding="utf-8")


def main() -> int:
    """Measure each Python, say what was seen, and return 1 if the page did not work for one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", help=f"a version, may be repeated (default {PYTHONS})")
    parser.add_argument("--package", default=str(ROOT), help="what pip installs (default: this checkout)")
    parser.add_argument("--json", action="store_true", help="print all that was measured, as JSON")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the table (default %(default)s)")
    asked = parser.parse_args()
    versions = asked.python or list(PYTHONS)
    pythons = find_pythons(versions)
    failed = [version for version in versions if version not in pythons]
    for version in failed:
        print(f"Python {version} is not on this machine", file=sys.stderr)
    for version, python in pythons.items():
        print(f"Python {version}: from a bare environment ...", file=sys.stderr, flush=True)
        try:
            seen = measure(python, asked.package)
        except AssertionError as error:
            print(f"Python {version}: {PAGE.name}, {error}", file=sys.stderr)
            failed.append(version)
            continue
        write_row(asked.output, seen.row())
        if asked.json:
            print(json.dumps(asdict(seen), indent=2))
        else:
            for timing in seen.timings:
                print(f"{timing.seconds:8.1f} s  {timing.typed!r}, until {timing.until!r}")
            print(f"{seen.total:8.1f} s  from bare to the first record, {seen.commands} commands")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
