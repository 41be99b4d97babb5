"""Makes a method of the standard library anew, from its own source, with a question before it.

The method stays one frame, with its own names and lines: what is seen of it from the inside, in tracebacks and by
debuggers is what was there before. The question stands on the line of the first statement.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Mapping
from types import CodeType
from typing import Any


def compile_with_question(method: CodeType, condition: str, values: Mapping[str, Any]) -> CodeType | None:
    """Make the code of a method that returns None at once if a condition holds.

    Args:
        method: The code of a method that stands in a class, at the top of a module that is loaded.
        condition: An expression of the method's arguments and its module's names.
        values: What further names in it mean. They become constants of the code, so that nothing can be in their way.

    Returns:
        The code; None if the method's source is not there, or is not what the method was compiled from.
    """
    tree = _parse(method, _read_source(method.co_filename))
    if tree is None or not _is_same(_compile(tree, method), method):
        return None
    definition: Any = tree.body[-1].body[0]  # type: ignore[attr-defined]
    has_docstring = ast.get_docstring(definition, clean=False) is not None
    place = definition.body[has_docstring]
    marks = {f"<{name} of otelog>": value for name, value in values.items()}
    test = _Naming(values).visit(ast.parse(f"({condition})", mode="eval").body)
    question = ast.If(test=test, body=[ast.Return(value=None)], orelse=[])
    for node in ast.walk(question):
        ast.copy_location(node, place)
    definition.body.insert(int(has_docstring), question)
    code = _compile(tree, method)
    constants = tuple(marks.get(one, one) if type(one) is str else one for one in code.co_consts)
    return code.replace(co_consts=constants)


class _Naming(ast.NodeTransformer):
    """Puts marks in the place of names."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id not in self._names:
            return node
        mark = ast.Constant(f"<{node.id} of otelog>")
        # The compiler warns of a constant that is called, and one that is compared.
        return ast.IfExp(test=ast.Constant(True), body=mark, orelse=ast.Constant(None))


def _read_source(filename: str) -> str | None:
    module: Any = next((one for one in list(sys.modules.values()) if getattr(one, "__file__", None) == filename), None)
    loader: Any = getattr(getattr(module, "__spec__", None), "loader", None)
    try:
        source: str | None = loader.get_source(module.__name__)
    except Exception:
        # No source in this installation, or a loader that knows of none.
        return None
    return source


def _parse(method: CodeType, source: str | None) -> ast.Module | None:
    """Returns the method in its class, behind its module's imports, by which the compiler goes, too."""
    lines = (source or "").splitlines(keepends=True)
    first = method.co_firstlineno - 1
    if not first < len(lines):
        return None
    margin = _indent(lines[first])
    last = first + 1
    while last < len(lines) and (not lines[last].strip() or _indent(lines[last]) > margin):
        last += 1
    # What is defined inside the method is named after the class, too.
    headers = (line.split() for line in reversed(lines[:first]) if line.startswith("class "))
    class_name = next(headers, ["class", "Class"])[1].partition("(")[0].rstrip(":")
    imports = "".join(line for line in lines if line.startswith(("import ", "from ")))
    try:
        tree = ast.parse(f"class {class_name}:\n" + "".join(lines[first:last]))
        ast.increment_lineno(tree, first - 1)
        tree.body[:0] = ast.parse(imports).body
    except (SyntaxError, ValueError):
        return None
    return tree


def _is_same(one: CodeType, other: CodeType) -> bool:
    # Before 3.11 the comparison leaves the lines out.
    return one == other and list(one.co_lines()) == list(other.co_lines())


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _compile(tree: ast.Module, method: CodeType) -> CodeType:
    code = compile(tree, method.co_filename, "exec", dont_inherit=True)
    for name in (None, method.co_name):
        inner = (one for one in code.co_consts if isinstance(one, CodeType) and name in (None, one.co_name))
        code = next(inner)
    return code
