"""Imports point one way, pure parts are pure, one module reads the environment, and `import otelog` stays light."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "otelog"

# From the bottom up: a module imports from its own layer and those below, never from above. A folder stands for all of
# its modules.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset(
        {
            "exceptions",
            "typing",
            "_private",
            "_version",
            "_diagnostics",
            "_severity",
            "_shown_text",
            "_values",
            "_stacktrace",
            "_record",
            "_stop",
            "_breather",
            "_fork_gate",
            "_interruption",
            "_nesting",
            "_own_threads",
            "_end_time",
            "_inherited",
            "_loading",
            "_proxy",
            "_threads",
            "_contexts",
            "_once",
            "_tls",
            "_tls_stream",
            "_preface",
            "_replacing",
        }
    ),
    frozenset(
        {
            "_option_kinds",
            "_options",
            "_config",
            "_config_file",
            "_retry",
            "_ledger",
            "_metrics",
            "_tally",
            "_attributes",
            "_loki_form",
            "_queue",
            "_capture",
        }
    ),
    frozenset(
        {
            "_encode",
            "_truncation",
            "_answer",
            "_connection",
            "_transport",
            "_compress",
            "_exchange",
            "_grpc",
            "_opening",
            "_delivery",
            "_sdk",
            "_quiet",
            "_fork",
            "_ends",
            "_lane",
            "_route",
            "_state",
            "_loki_http",
            "_loki_pages",
        }
    ),
    frozenset({"_way_out", "_carrier", "_handoff", "_fan_out", "_loki_tail"}),
    frozenset(
        {
            "_worker",
            "_report",
            "_otlp_metrics",
            "_meter_provider",
            "exporter",
            "sinks",
            "processor",
            "_assembly",
        }
    ),
    frozenset({"loki"}),
    frozenset({"_destinations"}),
    frozenset(
        {
            "logger",
            "handler",
            "_direct",
            "_attachment",
            "_consoles",
            "_access_context",
            "_track",
            "_configured",
            "_providers",
            "providers",
        }
    ),
    frozenset({"__init__"}),
    frozenset({"audit"}),
    frozenset({"doctor", "prometheus", "testing"}),
    frozenset({"_django_setup", "_flask_teardown", "flask", "gunicorn", "celery", "distro"}),
    frozenset({"cli"}),
)
PURE = ("_severity", "_shown_text", "_values", "_encode", "_loki_form", "_truncation", "_retry")
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
ENVIRONMENT_READERS = ("_config", "cli")


def find_modules() -> dict[str, ast.Module]:
    """All modules of the package by their dotted name below it, parsed."""
    trees = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(path.read_text(encoding="utf-8"))
    return trees


MODULES = find_modules()


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes except those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from runtime_nodes(child)


def imported_names(tree: ast.Module) -> Iterator[str]:
    """Full dotted names that a module imports, also inside of functions."""
    for node in runtime_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def own_imports(tree: ast.Module) -> set[str]:
    """Modules of the package that a module imports; `from otelog import name` is `__init__` unless it is a module."""
    found = set()
    for name in imported_names(tree):
        head, _, rest = name.partition(".")
        if head == "otelog":
            parts = rest.split(".") if rest else []
            known = [".".join(parts[:end]) for end in range(len(parts), 0, -1) if ".".join(parts[:end]) in MODULES]
            found.add(known[0] if known else "__init__")
    return found


def layer_of(module: str) -> int:
    """The number of a module's layer."""
    (layer,) = [number for number, names in enumerate(LAYERS) if module.partition(".")[0] in names]
    return layer


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_one_place(module: str) -> None:
    places = [names for names in LAYERS if module.partition(".")[0] in names]
    assert len(places) == 1, f"say in LAYERS where {module} belongs"


@pytest.mark.parametrize("module", MODULES)
def test_imports_never_point_upwards(module: str) -> None:
    upwards = [name for name in own_imports(MODULES[module]) if layer_of(name) > layer_of(module)]
    assert upwards == []


def test_imports_make_no_circle() -> None:
    graph = {module: own_imports(tree) - {module} for module, tree in MODULES.items()}
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", PURE)
def test_pure_parts_hold_no_threads_clocks_or_io(module: str) -> None:
    used = {name.partition(".")[0] for name in imported_names(MODULES[module])}
    assert used & IMPURE_LIBRARIES == set()


@pytest.mark.parametrize("module", [name for name in MODULES if name.partition(".")[0] not in ENVIRONMENT_READERS])
def test_nothing_else_reads_the_environment(module: str) -> None:
    names = {node.attr for node in ast.walk(MODULES[module]) if isinstance(node, ast.Attribute)}
    names |= {name.rpartition(".")[2] for name in imported_names(MODULES[module])}
    assert names & {"environ", "environb", "getenv"} == set()


def test_importing_otelog_brings_no_heavy_library_along() -> None:
    code = f"import sys, otelog; print(*[name for name in {HEAVY_LIBRARIES!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.split() == []
