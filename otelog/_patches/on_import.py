"""Something done when a library is imported, so that nobody imports it for that alone.

An import made earlier would bind another standard output, or locks that gevent has not put its own in place of. A
finder in front of `sys.meta_path` finds nothing itself: it has the module's own loader call back.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from otelog._runtime.diagnostics import warn
from otelog._runtime.replacing import keep
from otelog._runtime.threads import get_ident

__all__ = ["after_import", "forget", "is_awaited"]

_waiting: dict[str, Callable[[], None]] = keep(globals(), "_waiting", dict)
_finding: set[tuple[str, int]] = set()


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        key = (fullname, get_ident())
        if fullname not in _waiting or key in _finding:
            return None
        _finding.add(key)
        try:
            spec = importlib.util.find_spec(fullname) if target is None else _find_again(fullname)
        finally:
            _finding.discard(key)
        if spec is not None and spec.loader is not None:
            _call_after(spec.loader, fullname)
        return spec


def _find_again(name: str) -> ModuleSpec | None:
    """Returns the spec of a module that is being reloaded; `find_spec` would give the one that it has."""
    for finder in sys.meta_path:
        found = None if isinstance(finder, _Finder) else finder.find_spec(name, None)
        if found is not None:
            return found
    return None


def _call_after(loader: Any, name: str) -> None:
    standard = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        # The loader is the module's own from now on.
        vars(loader).pop("exec_module", None)
        standard(module)
        _act(name)

    try:
        loader.exec_module = exec_module
    except AttributeError:
        warn(f"import:{name}", f"{name} is imported in a way that otelog cannot follow: its records are not captured")


def _act(name: str) -> None:
    act = _waiting.get(name)
    if act is None:
        return
    try:
        act()
    except Exception as error:
        # The application imports a library, and must get it.
        warn(f"import:{name}", f"{name} could not be joined: {type(error).__name__}: {error}")


def after_import(name: str, act: Callable[[], None]) -> None:
    """Call something after each import of a module, at once if it is there already. Idempotent.

    Args:
        name: The module's name, without dots.
        act: What is called, in the importing thread.
    """
    is_new = name not in _waiting
    _waiting[name] = act
    if is_new and not any(type(finder).__qualname__ == _Finder.__qualname__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    if name in sys.modules and not getattr(getattr(sys.modules[name], "__spec__", None), "_initializing", False):
        _act(name)


def is_awaited(name: str) -> bool:
    """Returns whether something is called after a module's import: what is put in place then may be at work."""
    return name in _waiting


def forget(name: str) -> None:
    """Call nothing any more. Idempotent."""
    _waiting.pop(name, None)
    if not _waiting:
        sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, _Finder)]
