"""Functions are short; those of the inner loops are named here, and the comment beside each says why it is not."""

from __future__ import annotations

import ast

import pytest

from tools.house import find_long_functions

MOST_LINES = 60
"""Lines of a function, without its docstring."""

# Each is one function because of what a call costs; the comment beside it says so.
LONG = {
    "_capture.facade": {"_level_method", "log"},
    "_capture.handler": {"handle"},
    "_capture.port": {"capture"},
    "_otlp.encode": {"_encode_some"},
    "_patches.log_calls": {"take"},
    "sinks._line": {"_render_some"},
}


def test_functions_are_short_but_those_of_the_inner_loops() -> None:
    assert find_long_functions(MOST_LINES) == LONG


@pytest.mark.parametrize(("lines", "docstring", "found"), [(3, 0, set()), (4, 0, {"f"}), (3, 9, set()), (4, 9, {"f"})])
def test_a_docstring_is_no_part_of_the_length(lines: int, docstring: int, found: set[str]) -> None:
    text = ['    """Text.', *["    text"] * (docstring - 2), '    """'] if docstring else []
    tree = ast.parse("\n".join(["def f():", *text, *["    pass"] * (lines - 1)]))
    assert find_long_functions(3, {"m": tree}) == ({"m": found} if found else {})
