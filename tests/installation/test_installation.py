"""Every documented installation resolves with the pip that each Python brings along.

That pip is older than the newest, and resolves otherwise. Two lines in `make test`; `make soak` has the whole table.
Needs the package index.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.run_tests import ROOT, find_other_pythons

tomllib = pytest.importorskip("tomllib")

PAGES = ("README.md", "docs/**/*.md")
# What a checkout alone needs is installed with constraints.txt, by the Makefile.
OF_THE_CHECKOUT = {"docs", "test", "dashboards", "servers", "distro", "lint", "bench", "picologging"}
# A project has one of them, or none: `dev` brings Flask alone, which the demo is made of.
FRAMEWORKS = {"aiohttp", "asgi", "celery", "django", "fastapi"}
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def find_documented() -> set[str]:
    pages = [page for pattern in PAGES for page in ROOT.glob(pattern)]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    return {extras for text in texts for extras in re.findall(r"otelog\[([a-z,]+)\]", text)}


def find_cases() -> list[tuple[str, str]]:
    if os.environ.get("OTELOG_INSTALLATIONS") == "all":
        asked = {"", *EXTRAS, "flask,metrics", "cli,run", "dev,all", *find_documented()} - OF_THE_CHECKOUT
        return [(version, extras) for version in ("3.10", "3.11", "3.12", "3.13") for extras in sorted(asked)]
    # What has failed before, with the pip that has failed; all pips and extras in `make soak`.
    return [("3.11", "flask,metrics")]


@cache
def find_python(version: str) -> Path | None:
    if version == "{}.{}".format(*sys.version_info):
        return Path(sys.base_prefix) / "bin" / f"python{version}"
    return find_other_pythons().get(version)


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for version in {version for version, _ in find_cases()}:
        python = find_python(version)
        if python is not None:
            made[version] = tmp_path_factory.mktemp("venv") / version
            subprocess.run([python, "-m", "venv", made[version]], check=True)
    return made


def find_needs(extras: str) -> set[str]:
    """The distributions that the extras name themselves, by way of other extras too."""
    found, waiting = set(), [one for one in extras.split(",") if one]
    while waiting:
        for need in map(Requirement, EXTRAS[waiting.pop()]):
            if need.name == "otelog":
                waiting += need.extras
            else:
                found.add(canonicalize_name(need.name))
    return found


@pytest.mark.parametrize(("version", "extras"), find_cases())
def test_it_resolves(version: str, extras: str, environments: dict[str, Path], tmp_path: Path) -> None:
    if version not in environments:
        pytest.skip(f"Python {version} is not here")
    target = f"{ROOT}[{extras}]" if extras else str(ROOT)
    report = tmp_path / "report.json"
    # The constraints of a developer's own machine would decide what is looked at here.
    environ = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
    pip = [environments[version] / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "install", "--quiet", "--dry-run", "--report", report, target],
        env=environ,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    chosen = {canonicalize_name(one["metadata"]["name"]) for one in json.loads(report.read_text())["install"]}
    assert {"otelog", "opentelemetry-sdk", *find_needs(extras)} <= chosen


def test_every_documented_extra_is_there() -> None:
    asked = {extra for extras in find_documented() for extra in extras.split(",")}
    assert asked
    assert asked <= set(EXTRAS)


def test_dev_has_what_every_command_and_flask_need() -> None:
    every = find_needs(",".join(set(EXTRAS) - OF_THE_CHECKOUT - FRAMEWORKS - {"all"}))
    # Other ways to compress and to send, which nothing needs that a developer starts with.
    assert every - find_needs("dev") == {"isal", "zstandard", "grpcio"}
