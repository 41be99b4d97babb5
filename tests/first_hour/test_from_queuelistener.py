"""The page *From QueueHandler/QueueListener to otelog*, followed in terminals."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

from tests.sizes import without_instrumentations
from tools.walkthrough import Ports, Reader, make_environ, make_replaced, read_page

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tutorials" / "from-queuelistener.md"


def test_every_step_of_the_page_runs_and_shows_what_the_page_says(tmp_path: Path) -> None:
    folder = tmp_path / "queuelistener"
    shutil.copytree(ROOT / "examples" / "queuelistener", folder, ignore=shutil.ignore_patterns("__pycache__"))
    ports = Ports()
    with Reader(
        folder,
        make_environ(Path(sys.executable).parent, ports) | without_instrumentations("flask"),
        make_replaced(ports),
    ) as reader:
        reader.follow(read_page(PAGE.read_text(encoding="utf-8")))
    lines = (folder / "otelog-dev" / "app.log").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    by_process: dict[str, list[str]] = {}
    for record in records:
        by_process.setdefault(record["service.instance.id"], []).append(record["message"])
    few, sigterm, burst = by_process.values()
    assert few == sigterm == [f"order {number} is paid" for number in range(300)]
    assert len(set(burst)) == len(burst) >= 450


def test_the_code_that_the_page_includes_is_there() -> None:
    pattern = r"^```{literalinclude} (\S+)\n(.*?)^```"
    included = re.findall(pattern, PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(included) == 3
    for path, options in included:
        text = (PAGE.parent / path).read_text(encoding="utf-8")
        for start in re.findall(r":start-at: (.+)", options):
            assert start in text
        for name in re.findall(r":pyobject: (.+)", options):
            assert f"def {name}(" in text
