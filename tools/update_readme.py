"""Writes into README.md what is generated: the option table and the benchmark's tables. Run it after changing either.

With --check it changes nothing, and fails if the page is out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from otelog._config.table import markdown_table

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
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


def main() -> int:
    """Bring the page up to date, or check that it is."""
    wanted = render()
    if README.read_text(encoding="utf-8") == wanted:
        return 0
    if "--check" in sys.argv[1:]:
        print("README.md is out of date: run python tools/update_readme.py", file=sys.stderr)
        return 1
    README.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
