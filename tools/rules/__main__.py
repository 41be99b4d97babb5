"""Writes the rules into collector/. With --check it changes nothing, and fails if a file is out of date."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.rules.alert import Times, render
from tools.rules.contents import CONTENTS_HEAD, make_contents
from tools.rules.figures import FIGURES_HEAD, make_groups

FOLDER = Path(__file__).resolve().parents[2] / "collector"


def render_all(times: Times | None = None) -> dict[str, str]:
    """Returns the text of each file by its path in collector/."""
    times = times or Times()
    return {
        "rules/otelog.yaml": render(FIGURES_HEAD, make_groups(times), times),
        "loki-rules/fake/otelog.yaml": render(CONTENTS_HEAD, make_contents(times), times),
    }


def main() -> int:
    """Bring the files up to date, or check that they are."""
    stale = 0
    for name, text in render_all().items():
        path = FOLDER / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if "--check" in sys.argv[1:]:
            print(f"out of date: collector/{name}; run python -m tools.rules", file=sys.stderr)
            stale = 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return stale


if __name__ == "__main__":
    raise SystemExit(main())
