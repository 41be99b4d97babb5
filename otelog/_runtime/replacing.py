"""What otelog has put in place, and what it holds, is known again by a later copy of the same module.

A module of otelog may be executed twice: by `importlib.reload`, or when the package is imported anew. What the second
run finds in a place is then the first run's function, and not the other library's: were it taken for that, otelog would
come to stand on top of itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_Kept = TypeVar("_Kept")

_MARK = "_otelog_replaces"


def mark(ours: Any, original: Any) -> None:
    """Note on a function of otelog's what it stands in the place of."""
    # With itself, as functools.wraps copies what stands on a function to the one that wraps it.
    setattr(ours, _MARK, (ours, original))


def find_original(found: Any) -> Any:
    """Returns what was there before otelog, in any of its copies, put something in its place."""
    while True:
        marked: Any = getattr(found, "__dict__", {}).get(_MARK)
        if marked is None or marked[0] is not found:
            return found
        found = marked[1]


def is_ours(found: Any) -> bool:
    """Returns whether this function or method was put in place by otelog, in any of its copies."""
    function = getattr(found, "__func__", found)
    return find_original(function) is not function


def keep(namespace: dict[str, Any], name: str, make: Callable[[], _Kept]) -> _Kept:
    """Returns what a module that is being reloaded had under a name before, or makes it.

    Args:
        namespace: The module's ``globals()``.
        name: Of what must be the same object for as long as the process lives, since others hold on to it.
        make: Called where the module is loaded for the first time.
    """
    found: _Kept | None = namespace.get(name)
    return make() if found is None else found
