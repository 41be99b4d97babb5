"""The figures of the house: rooms, the imports between them, and the files that a batch passes to an exporter.

    python tools/house.py            rooms, floors, arrows
    python tools/house.py --way      and the way from the worker to the socket, call by call

A room is a module or a folder at the top of the package, whose own `__init__` is its face and no room. `FLOORS` says
what stands on which floor; a room imports from floors below its own, and never from a room beside it.
`tests/house/test_imports.py` holds it.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "otelog"

# From the ground up.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("_private", "exceptions", "typing"),
    ("_runtime",),
    ("_record", "loki"),
    ("_config", "_ledger"),
    ("_capture", "audit"),
    ("_patches", "_pipeline"),
    ("_otlp", "sinks"),
    ("_setup",),
    ("exporter", "handler", "logger", "processor", "providers"),
    ("__init__",),
    ("celery", "gunicorn", "loguru", "prometheus", "structlog"),
    ("_requests", "testing"),
    ("asgi", "django", "doctor", "flask"),
    ("aiohttp",),
    ("cli", "distro"),
)
WORKER = "otelog-worker"


def find_module_files(package: Path = PACKAGE) -> dict[str, Path]:
    """The files of all modules of the package, by the dotted name below it."""
    files = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        files[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = path
    return files


def find_modules(package: Path = PACKAGE) -> dict[str, ast.Module]:
    """All modules of the package by their dotted name below it, parsed."""
    files = find_module_files(package)
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in files.items()}


def find_long_functions(most_lines: int, modules: dict[str, ast.Module] | None = None) -> dict[str, set[str]]:
    """The functions with more lines than this, docstrings not counted, by module."""
    found: dict[str, set[str]] = {}
    for module, tree in (find_modules() if modules is None else modules).items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and _length(node) > most_lines:
                found.setdefault(module, set()).add(node.name)
    return found


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node, clean=False) is not None:
        lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
    return lines


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
            if node.level:
                raise ValueError("imports are absolute")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(tree: ast.Module, modules: dict[str, ast.Module]) -> set[str]:
    """Modules of the package that a module imports; `from otelog import name` is `__init__` unless it is a module."""
    found = set()
    for name in imported_names(tree):
        head, _, rest = name.partition(".")
        if head == "otelog":
            parts = rest.split(".") if rest else []
            known = [".".join(parts[:end]) for end in range(len(parts), 0, -1) if ".".join(parts[:end]) in modules]
            found.add(known[0] if known else "__init__")
    return found


def room_of(module: str) -> str:
    """The room that a module is in."""
    return module.partition(".")[0]


def floor_of(room: str) -> int:
    """The floor that a room is on, the ground floor is 0.

    Raises:
        ValueError: It has none, or several.
    """
    floors = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    if len(floors) != 1:
        raise ValueError(f"say in FLOORS of tools/house.py where {room} belongs")
    return floors[0]


def find_arrows(modules: dict[str, ast.Module]) -> dict[tuple[str, str], list[str]]:
    """The imports between rooms: (importing room, imported room) to ``"module -> module"``."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for module, tree in modules.items():
        for imported in sorted(own_imports(tree, modules)):
            pair = room_of(module), room_of(imported)
            if pair[0] != pair[1]:
                arrows.setdefault(pair, []).append(f"{module} -> {imported}")
    return arrows


def find_upward(arrows: dict[tuple[str, str], list[str]]) -> list[str]:
    """Those imports that do not point to a floor below."""
    return [one for (above, below), ones in arrows.items() if floor_of(above) <= floor_of(below) for one in ones]


def follow_batch() -> list[str]:
    """The files that the worker's thread is in while it delivers one batch, in order, each change of file once."""
    import otelog
    from otelog.testing import OTLPServer

    way: list[str] = []
    prefix = f"{PACKAGE}/"

    def note(frame: Any, event: str, _argument: object) -> None:
        if event in ("call", "return") and threading.current_thread().name == WORKER:
            seen = frame if event == "call" else frame.f_back
            name = seen.f_code.co_filename if seen is not None else ""
            if name.startswith(prefix) and (not way or way[-1] != name.removeprefix(prefix)):
                way.append(name.removeprefix(prefix))

    # A deliverer of metrics would be a second worker beside it.
    os.environ["OTEL_METRICS_EXPORTER"] = "none"
    threading.setprofile(note)
    try:
        with OTLPServer() as server:
            otelog.configure(endpoint=server.endpoint, schedule_delay_millis=3_600_000, shutdown_timeout=5.0)
            otelog.get_logger("house").info("the first opens the connection")
            otelog.flush(5.0)
            way.clear()
            otelog.get_logger("house").info("user %s paid", 1, amount=12.5)
            otelog.flush(5.0)
            followed = list(way)
            otelog.shutdown(5.0)
    finally:
        threading.setprofile(None)
    return followed


def main() -> int:
    """Print the figures; the status is 1 if an import points upwards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--way", action="store_true", help="deliver a batch, and show the files that it passes")
    asked = parser.parse_args()
    modules = find_modules()
    arrows = find_arrows(modules)
    rooms = sorted({room_of(module) for module in modules}, key=lambda room: (floor_of(room), room))
    for room in rooms:
        files = sum(room_of(module) == room for module in modules)
        below = sorted({imported for importing, imported in arrows if importing == room})
        print(f"{floor_of(room):2}  {room:12} {files:3} files  imports {', '.join(below) or '-'}")
    upward = find_upward(arrows)
    machinery = [room for room in rooms if room.startswith("_") and (PACKAGE / room).is_dir()]
    print(
        f"\n{len(rooms) - 1} rooms, {len(machinery)} of them machinery, on {len(FLOORS)} floors; {len(modules)} files"
    )
    print(f"{len(arrows)} arrows between rooms, {len(upward)} of them upwards")
    for one in upward:
        print(f"  upwards: {one}")
    if asked.way:
        way = follow_batch()
        print(f"\nfrom the worker to the socket: {len(set(way))} files, {len(way) - 1} changes of file")
        print("  " + "\n  ".join(way))
    return int(bool(upward))


if __name__ == "__main__":
    sys.exit(main())
