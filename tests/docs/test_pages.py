"""What the pages name is there, and what they list is all that there is."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.shell import PROJECT, is_variable
from tools.reader import find_links, list_pages, list_snippet_pages, read
from tools.run_tests import OTHER_VERSIONS, STEPS

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "otelog"
PAGES = {page: read(page) for page in list_pages() if "/" not in page or page.startswith("docs/")}
ARCHITECTURE, CONTRIBUTING = PAGES["ARCHITECTURE.md"], PAGES["CONTRIBUTING.md"]
FOR_CHANGES = ("ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md")
MOST_BYTES = {"ARCHITECTURE.md": 8_000, "CONTRIBUTING.md": 5_000}

# Attributes, metrics and a file's name that begin as the package's names do.
NOT_PYTHON = {
    "otelog.truncated",
    "otelog.yaml",
    "otelog.names",
    "otelog.resource.names",
    "otelog.exporter",
    "otelog.severity",
    # A logger's.
    "otelog.django.access",
}
FOR_US = {"bench", "dashboards", "distro", "docs", "lint", "picologging", "servers", "test"}
"""Extras that are for who changes otelog."""
# Whom the pages refer to. The project's own address is in pyproject.toml alone, once there is one.
OTHER_SITES = ("https://keepachangelog.com/", "https://semver.org/")

_CODE = re.compile(r"`([^`\n]+)`")
_DOTTED = re.compile(r"(?<![\w./-])otelog(?:\.[A-Za-z_]\w*)+")
_PATH = re.compile(r"(?<![\w./-])(?:[\w-]+/)*[\w-]+\.py\b")
_OWN_PATH = re.compile(r"(?<![\w./-])(?:otelog|tests|tools|benchmarks)/[\w/-]+\.py\b")
_FOLDER = re.compile(r"(?:[\w-]+/)+")
_NAME = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\(\)|=.*)?")


@pytest.mark.parametrize(
    ("page", "target"), [(page, one) for page in PAGES for one in find_links(PAGES[page]) if "://" in one]
)
def test_an_absolute_link_leads_to_somebody_else(page: str, target: str) -> None:
    assert target.startswith(OTHER_SITES), "the project's own address is in pyproject.toml only"


@pytest.mark.parametrize("page", MOST_BYTES)
def test_a_page_stays_short(page: str) -> None:
    assert len(PAGES[page].encode()) <= MOST_BYTES[page]


# What is named is there.


def find_module(dotted: str) -> Path | None:
    """The file of a module of otelog's, which is not imported: what it needs may not be installed."""
    base = ROOT.joinpath(*dotted.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def is_bound(nodes: list[ast.stmt], name: str) -> bool:
    """Whether one of these statements defines, imports or assigns this name."""
    for node in nodes:
        if isinstance(node, (ast.If, ast.Try)):
            if is_bound([*node.body, *node.orelse], name):
                return True
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if node.name == name:
                return True
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            if any((alias.asname or alias.name) == name for alias in node.names):
                return True
        elif any(isinstance(one, ast.Name) and one.id == name for one in ast.walk(node)):
            return True
    return False


def exists(dotted: str) -> bool:
    """Whether a name is a module of otelog's, or is in one."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        file = find_module(".".join(parts[:end]))
        if file is not None:
            nodes = ast.parse(file.read_text(encoding="utf-8")).body
            return end == len(parts) or is_bound(nodes, parts[end])
    return False


@pytest.mark.parametrize(
    ("page", "name"),
    [
        (page, name)
        for page, text in PAGES.items()
        # The changelog tells of what was.
        if page != "CHANGELOG.md"
        for name in sorted(set(_DOTTED.findall(text)) - NOT_PYTHON)
        if not name.startswith("otelog.log")  # metrics; a module of that name there is not
    ],
)
def test_a_name_of_otelogs_is_there(page: str, name: str) -> None:
    assert exists(name)


def test_a_name_that_is_not_there_is_found_out() -> None:
    assert exists("otelog.exceptions.ConfigurationError")
    assert not exists("otelog.exceptions.ConfigurationErrors")
    assert not exists("otelog.exception")


@pytest.mark.parametrize(
    ("page", "path"),
    [
        (page, path)
        for page, text in PAGES.items()
        if page != "CHANGELOG.md"
        for path in sorted(set((_PATH if page in FOR_CHANGES else _OWN_PATH).findall(text)))
    ],
)
def test_a_source_file_that_is_named_is_there(page: str, path: str) -> None:
    # The table of patches names them without their folder.
    assert any((folder / path).is_file() for folder in (ROOT, PACKAGE, PACKAGE / "_patches"))


@pytest.mark.parametrize(
    ("page", "folder"),
    [(page, one) for page in FOR_CHANGES for one in sorted(set(_CODE.findall(PAGES[page]))) if _FOLDER.fullmatch(one)],
)
def test_a_folder_that_is_named_is_there(page: str, folder: str) -> None:
    assert (ROOT / folder).is_dir() or (PACKAGE / folder).is_dir()


@cache
def list_words() -> frozenset[str]:
    """All names in the package's code, and the words that it has as values; nothing from comments and docstrings."""
    words: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        words.add(path.parent.name if path.stem == "__init__" else path.stem)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for field in ("name", "id", "attr", "arg", "asname", "module", "value"):
                word = getattr(node, field, None)
                if isinstance(word, str):
                    words.update(word.split(".") if field != "value" else [word])
    return frozenset(words | {"__init__"})


@pytest.mark.parametrize(
    "name", sorted({found[1] for code in _CODE.findall(ARCHITECTURE) if (found := _NAME.fullmatch(code))})
)
def test_a_name_in_the_architecture_is_in_the_code(name: str) -> None:
    if not name.endswith(".py"):
        assert set(name.split(".")) <= list_words()


@pytest.mark.parametrize("page", list_snippet_pages())
def test_a_variable_that_is_named_is_read(page: str) -> None:
    named = set(re.findall(r"\bOTEL(?:OG)?_[A-Z_]*[A-Z]\b", read(page)))
    assert [name for name in sorted(named) if not is_variable(name)] == []


# What is listed is all that there is.


def read_table(heading: str, page: str = ARCHITECTURE) -> list[list[str]]:
    """The cells of the table below a heading, of ARCHITECTURE.md if no other page is given, without its head."""
    section = page.partition(f"# {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip().strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows[1:]]


def test_the_floors_are_those_that_are_held() -> None:
    # The row above all others is the top of the house.
    floors = importlib.import_module("tools.house").FLOORS
    told = {int(floor): set(_CODE.findall(rooms)) for floor, rooms, _ in read_table("Floors")}
    assert told == {number: set(rooms) for number, rooms in enumerate(floors, 1)}


def test_every_patch_is_listed() -> None:
    table = read_table("What is replaced in other libraries", (PACKAGE / "_patches" / "README.md").read_text())
    told = {path for row in table for path in _PATH.findall(row[0])}
    assert told == {path.name for path in (PACKAGE / "_patches").glob("*.py")} - {"__init__.py"}


def test_the_reasons_are_those_that_are_counted() -> None:
    counters = importlib.import_module("otelog._ledger.counters")
    told = {_CODE.findall(name)[0]: set(_CODE.findall(reasons)) for name, reasons in read_table("The ledger")}
    assert set(told) == {"REFUSED_REASONS", "REMOVED_REASONS", "DROPPED_REASONS", "BESIDE_COUNTS"}
    for name, reasons in told.items():
        assert reasons == set(getattr(counters, name))


def read_rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading of a page of docs/, without its head."""
    section = PAGES[page].partition(f"## {heading}\n")[2].partition("\n## ")[0]
    table = section[section.index("\n| ") :].strip().partition("\n\n")[0]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table.splitlines()[2:]]


def test_the_reasons_that_users_are_told_are_those_that_are_counted() -> None:
    counters = importlib.import_module("otelog._ledger.counters")
    told = [(cells[1], cells[0].strip("`")) for cells in read_rows("docs/reference/ledger.md", "Reasons")]
    kinds = {"refused": "REFUSED_REASONS", "removed": "REMOVED_REASONS", "dropped": "DROPPED_REASONS"}
    assert sorted(told) == sorted((kind, one) for kind, name in kinds.items() for one in getattr(counters, name))
    beside = PAGES["docs/reference/ledger.md"].partition("Beside the identity")[2]
    assert [name for name in counters.BESIDE_COUNTS if f"| `{name}` |" not in beside] == []


def test_every_figure_of_the_ledger_is_listed() -> None:
    counters = importlib.import_module("otelog._ledger.counters")
    page = PAGES["docs/reference/ledger.md"]
    assert [one for one in counters.Stats.__dataclass_fields__ if f"`{one}`" not in page] == []


def test_every_extra_is_listed() -> None:
    rows = re.findall(r"^\| `([a-z]+)` \|", PAGES["docs/how-to/install.md"], re.MULTILINE)
    assert set(rows) == set(PROJECT["optional-dependencies"]) - FOR_US
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize("command", importlib.import_module("otelog.cli.commands").otelog.list_commands(None))
def test_every_command_is_shown(command: str) -> None:
    pages = [page for page in PAGES if page.startswith("docs/how-to/") and f"otelog {command}" in PAGES[page]]
    assert pages


def test_every_step_of_the_tests_is_listed() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", CONTRIBUTING, re.MULTILINE)
    assert rows == list(STEPS)
    assert set(re.findall(r"ONLY=(\w+)", CONTRIBUTING)) <= set(STEPS)


@pytest.mark.parametrize("page", FOR_CHANGES)
def test_every_make_target_that_is_named_exists(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", PAGES[page], re.MULTILINE)) <= targets


def test_the_pythons_that_are_said_to_be_tested_are() -> None:
    classifiers = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert tuple(classifiers) == OTHER_VERSIONS
    assert f"Python {classifiers[0]} to {classifiers[-1]} are tested" in CONTRIBUTING


def test_the_hooks_run_the_ruff_of_this_project() -> None:
    yaml = importlib.import_module("yaml")
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [one["repo"] for one in config["repos"]] == ["local"]
    for hook in config["repos"][0]["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/python -m ruff ")
