"""An example in a copy of its folder, followed as its README says."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from tests.sizes import without_instrumentations
from tools.walkthrough import Ports, Reader, make_environ, make_replaced, read_page

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
Record = dict[str, Any]


def follow(name: str, folder: Path) -> Path:
    """Follow an example's README to its end. Returns: the copy that it ran in."""
    copy = folder / name
    # What somebody who has tried it here has left behind.
    ignored = shutil.ignore_patterns("__pycache__", ".pytest_cache", "otelog-dev", "logs", "metrics*", "audit.log")
    shutil.copytree(EXAMPLES / name, copy, ignore=ignored)
    steps = read_page((copy / "README.md").read_text(encoding="utf-8"))
    ports = Ports()
    # The only other place that names a port.
    for path in copy.glob("*.yaml"):
        path.write_text(path.read_text("utf-8").replace("localhost:4318", f"127.0.0.1:{ports.dev}"), encoding="utf-8")
    with Reader(
        copy, make_environ(Path(sys.executable).parent, ports) | without_instrumentations("flask"), make_replaced(ports)
    ) as reader:
        reader.follow(steps)
    return copy


def read_records(path: Path) -> list[Record]:
    """The records of one of otelog's files, in the order that they happened: a batch is sent by loggers."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return sorted(records, key=lambda record: record["timestamp"])


def of_logger(records: list[Record], *names: str) -> list[Record]:
    """Those of these loggers."""
    return [record for record in records if record["logger"] in names]


def messages(records: list[Record]) -> list[str]:
    """What they say."""
    return [record["message"] for record in records]
