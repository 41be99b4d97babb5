"""Imports point one way, pure parts are pure, one module reads the environment, and `import otelog` stays light."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys

import pytest

from tools.house import (
    FLOORS,
    PACKAGE,
    find_arrows,
    find_module_files,
    find_modules,
    find_upward,
    floor_of,
    imported_names,
    own_imports,
    room_of,
)

NAMES = list(find_module_files())
MOST_PUBLIC, MOST_MACHINERY = 28, 15

PURE = (
    "_record.severity",
    "_record.values",
    "_runtime.retry",
    "_runtime.shown_text",
    "_otlp.encode",
    "_otlp.loki_form",
    "_otlp.truncation",
)
IMPURE_LIBRARIES = {
    "asyncio",
    "io",
    "os",
    "pathlib",
    "random",
    "selectors",
    "socket",
    "subprocess",
    "threading",
    "time",
}
HEAVY_LIBRARIES = (
    "click",
    "difflib",
    "flask",
    "google.protobuf",
    "grpc",
    "isal",
    "jsonschema",
    "prometheus_client",
    "requests",
    "rich",
    "websockets",
    "yaml",
)
# The command line passes its whole environment on to the processes that it starts.
ENVIRONMENT_READERS = ("_config.resolve", "cli")


@pytest.fixture(scope="module")
def modules() -> dict[str, ast.Module]:
    return find_modules()


def test_every_room_has_one_floor() -> None:
    for module in NAMES:
        floor_of(room_of(module))


def test_every_floor_has_rooms_that_exist() -> None:
    assert {room for rooms in FLOORS for room in rooms} == {room_of(module) for module in NAMES}


def test_imports_point_downwards(modules: dict[str, ast.Module]) -> None:
    assert find_upward(find_arrows(modules)) == []


def test_imports_make_no_circle(modules: dict[str, ast.Module]) -> None:
    graph = {module: own_imports(tree, modules) - {module} for module, tree in modules.items()}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_the_house_stays_small() -> None:
    rooms = {room_of(module) for module in NAMES} - {"__init__"}
    machinery = {room for room in rooms if room.startswith("_")}
    assert len(rooms - machinery) <= MOST_PUBLIC
    assert len(machinery) <= MOST_MACHINERY


@pytest.mark.parametrize("module", PURE)
def test_pure_parts_hold_no_threads_clocks_or_io(modules: dict[str, ast.Module], module: str) -> None:
    used = {name.partition(".")[0] for name in imported_names(modules[module])}
    assert used & IMPURE_LIBRARIES == set()


@pytest.mark.parametrize("module", [name for name in NAMES if not name.startswith(ENVIRONMENT_READERS)])
def test_nothing_else_reads_the_environment(modules: dict[str, ast.Module], module: str) -> None:
    names = {node.attr for node in ast.walk(modules[module]) if isinstance(node, ast.Attribute)}
    names |= {name.rpartition(".")[2] for name in imported_names(modules[module])}
    assert names & {"environ", "environb", "getenv"} == set()


def test_importing_otelog_brings_no_heavy_library_along() -> None:
    code = f"import sys, otelog; print(*[name for name in {HEAVY_LIBRARIES!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.split() == []
