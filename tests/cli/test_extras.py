"""What an extra promises to install is all that its part of otelog imports."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from otelog.cli.extras import COMMANDS

PARTS = {
    ("otelog", ""),
    ("otelog.distro", "run"),
    ("otelog.doctor", ""),
    ("otelog.flask", "flask"),
    ("otelog.gunicorn", ""),
    ("otelog.loki", "loki"),
    ("otelog.loki._tail", "loki"),
    ("otelog.prometheus", "prometheus"),
    ("otelog.sinks.console", "console"),
    ("otelog.sinks.files", ""),
    ("otelog._otlp.connection", ""),
    ("otelog._setup.metric_sender", "metrics"),
    *((module, extra) for module, _, extra in COMMANDS.values()),
}


@cache
def promised(extra: str) -> frozenset[str]:
    """Every distribution that comes with otelog and the extra."""
    found: set[str] = set()
    waiting = [("otelog", extra)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        found.add(name)
        for text in metadata.requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed = canonicalize_name(requirement.name)
                waiting += [(needed, one) for one in ("", *requirement.extras)]
    return frozenset(found)


@cache
def modules_of(distribution: str) -> frozenset[str]:
    """The full names of its modules: the first part of one, as of opentelemetry, may be shared by many."""
    names = set()
    for path in metadata.files(distribution) or ():
        if path.suffix in (".py", ".so", ".pyd"):
            *folders, file = path.parts
            module = file.partition(".")[0]
            names.add(".".join(folders if module == "__init__" else [*folders, module]))
    return frozenset(names)


@pytest.mark.parametrize(("module", "extra"), sorted(PARTS))
def test_a_part_needs_nothing_but_its_extra(module: str, extra: str) -> None:
    there = frozenset().union(*map(promised, extra.split(",")))
    installed = {canonicalize_name(one.metadata["Name"]) for one in metadata.distributions()}
    hidden = set().union(*map(modules_of, installed - there)).difference(*map(modules_of, there & installed))
    code = f"""
import importlib.abc, json, sys
hidden = set(json.load(sys.stdin))
class Hiding(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in hidden:
            raise ModuleNotFoundError(f"No module named {{name}}", name=name)
sys.meta_path.insert(0, Hiding())
import {module}
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(sorted(hidden)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
