"""Writes the dashboards' JSON into dashboards/. With --check it changes nothing, and fails if a file is out of date."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from tools.dashboards import ai, backend, errors, ledger, logs, requests

BOARDS = tuple(board.make_dashboard for board in (logs, errors, requests, ai, ledger, backend))
FOLDER = Path(__file__).resolve().parents[2] / "dashboards"


def render() -> dict[str, str]:
    """Returns the text of each file by its name; the same every time."""
    boards = (make().build() for make in BOARDS)
    return {
        f"{board.uid}.json": json.dumps(board, cls=JSONEncoder, indent=2, sort_keys=True) + "\n" for board in boards
    }


def main() -> int:
    """Bring the files up to date, or check that they are."""
    files = render()
    stale = [name for name, text in files.items() if not _is_current(FOLDER / name, text)]
    if "--check" in sys.argv[1:]:
        if stale:
            print(f"out of date: {', '.join(stale)}; run python -m tools.dashboards", file=sys.stderr)
        return int(bool(stale))
    FOLDER.mkdir(exist_ok=True)
    for name in stale:
        (FOLDER / name).write_text(files[name], encoding="utf-8")
    return 0


def _is_current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    raise SystemExit(main())
