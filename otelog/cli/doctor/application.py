"""An application that is imported as a server would import it, after otelog was set up for it."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter

from otelog._setup.configure import configure, keep_last_resort

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORM = "say module:callable or FILE.py:callable, such as shop:app or shop:create_app()"


def set_up(keywords: Mapping[str, Any]) -> None:
    """Do what `otelog run` does before an application begins, but let no record leave the process.

    Args:
        keywords: Of `otelog.configure`.

    Raises:
        ConfigurationError: A setting cannot be used.
    """
    keep_last_resort()
    options: dict[str, Any] = {**keywords, "replace_console_handler": False}
    configure(**options, exporters=[InMemoryLogRecordExporter()])  # type: ignore[no-untyped-call]
    try:
        distro = importlib.import_module("otelog.distro").OtelogDistro()
    except ImportError:
        # What is missing is among the findings.
        return
    turned_off = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "")
    off = {name.strip() for name in turned_off.split(",")}
    for entry in entry_points(group="opentelemetry_instrumentor"):
        if entry.name in off or "*" in off:
            continue
        try:
            distro.load_instrumentor(entry, raise_exception_on_conflict=True)
        except Exception:
            # Most often the library is not there; what matters of the rest is among the findings.
            continue


def split_target(target: str) -> tuple[str, str, list[Any], dict[str, Any] | None]:
    """Returns module or file, the name in it, and arguments; None instead of keywords if it is not to be called.

    Raises:
        click.BadParameter: It is no such target.
    """
    place, _, expression = target.partition(":")
    try:
        node = ast.parse(expression, mode="eval").body
        if place and isinstance(node, ast.Name):
            return place, node.id, [], None
        if place and isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            keywords = {one.arg: ast.literal_eval(one.value) for one in node.keywords if one.arg}
            return place, node.func.id, [ast.literal_eval(one) for one in node.args], keywords
    except (SyntaxError, ValueError):
        pass
    raise click.BadParameter(f"{target!r}: {_FORM}")


def check_target(target: str) -> None:
    """Refuse what cannot be an application, before anything is set up or imported.

    Raises:
        click.BadParameter: It has another form, or there is no such module or file.
    """
    place = split_target(target)[0]
    if _is_file(place):
        if not Path(place).is_file():
            raise click.BadParameter(f"there is no file {place}; {_FORM}")
        sys.path.insert(0, str(Path(place).resolve().parent))
        return
    sys.path.insert(0, os.getcwd())
    package = place.partition(".")[0]
    if not package.isidentifier() or find_spec(package) is None:
        raise click.BadParameter(f"there is no module {package!r} here; {_FORM}")


def load_application(target: str) -> Any:
    """Import an application that `check_target` has let pass, and call its factory if that is asked for.

    Raises:
        click.BadParameter: There is no such name in it.
        Exception: Whatever the application raises.
    """
    place, name, arguments, keywords = split_target(target)
    module = importlib.import_module(Path(place).stem if _is_file(place) else place)
    try:
        found = getattr(module, name)
    except AttributeError:
        raise click.BadParameter(f"{place} has no {name!r}; {_FORM}") from None
    return found if keywords is None else found(*arguments, **keywords)


def _is_file(place: str) -> bool:
    return place.endswith(".py")
