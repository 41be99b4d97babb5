"""What otelog puts in the place of another library's function is known again, also by a later copy of otelog.

A module of otelog may be executed twice: by `importlib.reload`, or when the package is imported anew. What the second
run finds in a place is then the first run's function, and not the other library's: were it taken for that, otelog would
come to stand on top of itself.
"""

from __future__ import annotations

from typing import Any

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
