"""The configuration file: YAML whose keys are the options of `configure()`, checked as a whole.

A mistake is told with its line, and all of them at once. What may stand in the file follows from the table of options,
as a JSON Schema, so that editors can check it too.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otelog._options import OPTIONS, Option
from otelog.exceptions import ConfigurationError

MAX_FILE_BYTES = 1024 * 1024
"""A configuration is read up to this size: something larger is another file, given by mistake."""

_FILE_OPTIONS = {option.name: option for option in OPTIONS if option.in_file}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing in a configuration file that is not allowed; `line` counts from 1."""

    line: int
    key: str
    problem: str


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What a configuration file says; `values` are as `Settings` holds them, `lines` say where each key stands."""

    path: str
    values: Mapping[str, Any]
    lines: Mapping[str, int]

    def place(self, name: str) -> str:
        """Returns where an option stands, for people: path and line."""
        return f"{self.path}:{self.lines.get(name, 1)}"


class ConfigFileError(ConfigurationError):
    """A configuration file cannot be used; `mistakes` has everything that is wrong in it."""

    def __init__(self, path: str, mistakes: list[Mistake]) -> None:
        self.path = path
        self.mistakes = mistakes
        lines = [
            f"{path}:{one.line}: {one.key}: {one.problem}" if one.key else f"{path}:{one.line}: {one.problem}"
            for one in mistakes
        ]
        super().__init__("\n".join(lines))


def json_schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of the file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "otelog",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {**option.kind.schema(option), "description": f"{option.doc} Allowed: {option.allowed}."}
            for name, option in _FILE_OPTIONS.items()
        },
    }


def load(path: str) -> ConfigFile:
    """Read and check a file.

    Args:
        path: The file; an empty one says nothing.

    Raises:
        ConfigFileError: It cannot be read, or there is a mistake in it; all of them are told.
        ConfigurationError: The libraries of the extra ``config`` are missing.
    """
    yaml, jsonschema = _import("yaml"), _import("jsonschema")
    node, document = _parse(yaml, path, _read(path))
    if document is None:
        return ConfigFile(path, {}, {})
    if not isinstance(node, yaml.MappingNode):
        raise ConfigFileError(path, [Mistake(_line(node), "", "the file must be a mapping of options to values")])
    mistakes = list(_find_duplicates(node))
    lines = {str(key.value): _line(key) for key, _ in node.value}
    mistakes += _check(jsonschema, document, lines)
    values: dict[str, Any] = {}
    wrong = {mistake.key for mistake in mistakes}
    for name, option in _FILE_OPTIONS.items():
        # An option that stands there without a value is not given, as with a keyword.
        if name in wrong or document.get(name) is None:
            continue
        try:
            values[name] = option.kind.check(option, document[name])
        except (ValueError, TypeError, OverflowError):
            mistakes.append(Mistake(lines[name], name, _explain(option, document[name])))
    if mistakes:
        raise ConfigFileError(path, sorted(mistakes, key=lambda mistake: mistake.line))
    return ConfigFile(path, values, {name: lines[name] for name in values})


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigurationError(f"a configuration file needs {name}: pip install 'otelog[config]'") from None


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigFileError(path, [Mistake(1, "", f"cannot be read: {error.strerror}")]) from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigFileError(path, [Mistake(1, "", f"is larger than {MAX_FILE_BYTES} bytes")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigFileError(path, [Mistake(line, "", "is not UTF-8")]) from None


def _parse(yaml: Any, path: str, text: str) -> tuple[Any, Any]:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return node, None if node is None else yaml.SafeLoader("").construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or type(error).__name__
        raise ConfigFileError(
            path, [Mistake(mark.line + 1 if mark is not None else 1, "", f"is not YAML: {problem}")]
        ) from None
    except RecursionError:
        raise ConfigFileError(path, [Mistake(1, "", "is nested too deep")]) from None


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _find_duplicates(node: Any) -> Iterator[Mistake]:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        name = str(key.value)
        if name in seen:
            yield Mistake(_line(key), name, f"is given twice, first in line {seen[name]}")
        seen.setdefault(name, _line(key))


def _check(jsonschema: Any, document: Mapping[Any, Any], lines: Mapping[str, int]) -> Iterator[Mistake]:
    given = {str(key): value for key, value in document.items() if value is not None}
    validator = jsonschema.Draft202012Validator(json_schema())
    reported: set[str] = set()
    for name in given:
        if name not in _FILE_OPTIONS:
            reported.add(name)
            yield Mistake(lines.get(name, 1), name, _explain_unknown(name))
    for error in validator.iter_errors({name: value for name, value in given.items() if name in _FILE_OPTIONS}):
        name = str(error.absolute_path[0])
        if name not in reported:
            reported.add(name)
            yield Mistake(lines.get(name, 1), name, _explain(_FILE_OPTIONS[name], given[name]))


def _explain(option: Option, value: object) -> str:
    return f"{option.describe(value)} is not allowed; allowed: {option.allowed}"


def _explain_unknown(name: str) -> str:
    # Only needed on the way to an error, and its import is not free.
    import difflib

    near = difflib.get_close_matches(name, _FILE_OPTIONS, n=1)
    return f"is not an option; did you mean {near[0]}?" if near else "is not an option"
