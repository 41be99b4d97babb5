"""Writes what is generated: README.md's table of options and of benchmarks, and the options in otelog/typing.py.

Run it after changing any of them. With --check it changes nothing, and fails if a file is out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from otelog._config.table import OPTIONS, markdown_table

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
TYPING = ROOT / "otelog" / "typing.py"
BENCH_TABLES = {
    "bench": ROOT / "benchmarks" / "results" / "table.md",
    "stack-cost": ROOT / "benchmarks" / "results" / "stack.md",
    "bench-sinks": ROOT / "benchmarks" / "results" / "sinks" / "table.md",
    "bench-requests": ROOT / "benchmarks" / "results" / "requests.md",
}


def fill_in(text: str, name: str, content: str) -> str:
    """Replace what stands between the two marks of this name."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    filled, count = pattern.subn(lambda match: f"{match[1]}{content.strip()}\n{match[2]}", text)
    if count != 1:
        raise SystemExit(f"README.md needs exactly one pair of <!-- {name} --> marks")
    return filled


def render() -> str:
    """Return the page as it should be."""
    text = fill_in(README.read_text(encoding="utf-8"), "options", markdown_table())
    for name, table in BENCH_TABLES.items():
        if table.exists():
            text = fill_in(text, name, table.read_text(encoding="utf-8"))
    return text


def render_typing() -> str:
    """Return the module with the keywords of `configure` as they should be: its last class, to the end."""
    before, first, _ = TYPING.read_text(encoding="utf-8").partition(f"    {OPTIONS[0].name}: ")
    if not first:
        raise SystemExit(f"{TYPING} has no {OPTIONS[0].name}, where the options begin")
    keywords = (option for option in OPTIONS if not option.environment_only)
    return before + "".join(f"    {option.name}: {option.kind.hint(option)} | None\n" for option in keywords)


def main() -> int:
    """Bring the files up to date, or check that they are."""
    stale = 0
    for path, wanted in ((README, render()), (TYPING, render_typing())):
        if path.read_text(encoding="utf-8") == wanted:
            continue
        if "--check" in sys.argv[1:]:
            print(f"{path.name} is out of date: run python tools/update_readme.py", file=sys.stderr)
            stale = 1
        else:
            path.write_text(wanted, encoding="utf-8")
    return stale


if __name__ == "__main__":
    raise SystemExit(main())
