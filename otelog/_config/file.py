"""The configuration file: YAML whose keys are the options of `configure()`, checked as a whole.

A mistake is reported with its line, and all of them at once. What may stand in the file follows from the table of
options, as a JSON Schema, so that editors can check it too.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otelog._config.kinds import Exporters, explain_refusal
from otelog._config.table import OPTIONS, Option
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


class UnusableFileError(ConfigurationError):
    """A configuration file is not looked at: it cannot be read, or the libraries for it are missing."""


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


class UnreadableFileError(ConfigFileError, UnusableFileError):
    """There is no such file, or it may not be read."""


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
        ConfigFileError: It cannot be read, or there is a mistake in it; all of them are reported.
        ConfigurationError: The libraries of the extra ``config`` are missing.
    """
    yaml, jsonschema = _import("yaml"), _import("jsonschema")
    node, document = _parse(yaml, path, _read(path))
    if document is None:
        return ConfigFile(path, {}, {})
    if not isinstance(node, yaml.MappingNode):
        raise ConfigFileError(path, [Mistake(_line(node), "", "the file must be a mapping of options to values")])
    mistakes, values = _Check(yaml, jsonschema).check(_FILE_OPTIONS, json_schema(), node, document)
    if mistakes:
        raise ConfigFileError(path, sorted(mistakes, key=lambda mistake: mistake.line))
    lines = {str(key.value): _line(key) for key, _ in node.value}
    return ConfigFile(path, values, {name: lines[name] for name in values})


class _Check:
    """Checks mappings against options, and finds all that is wrong in them."""

    def __init__(self, yaml: Any, jsonschema: Any) -> None:
        self._yaml = yaml
        self._jsonschema = jsonschema

    def check(
        self,
        options: Mapping[str, Option[Any]],
        schema: Mapping[str, Any],
        node: Any,
        document: Mapping[Any, Any],
        place: str = "",
    ) -> tuple[list[Mistake], dict[str, Any]]:
        """Check one mapping; returns what is wrong in it, and the values of what is right.

        Args:
            options: What may stand in it, by key.
            schema: The same as a JSON Schema.
            node: The mapping as the parser has it, with its lines.
            document: The mapping as plain values.
            place: How its keys are shown, "exporters[0]." or the like.
        """
        mistakes = list(_find_duplicates(node, place))
        nodes = {str(key.value): (key, value) for key, value in node.value}
        # An option that stands there without a value is not given, as with a keyword.
        given = {str(key): value for key, value in document.items() if value is not None}
        wrong: dict[str, str] = {}
        for name in given:
            if name not in options:
                wrong[name] = _explain_unknown(name, options)
        known = {name: value for name, value in given.items() if name in options}
        values: dict[str, Any] = {}
        for name in list(known):
            kind = options[name].kind
            if isinstance(kind, Exporters) and isinstance(known[name], list) and known[name]:
                found, entries = self._check_entries(kind, nodes[name][1], known.pop(name), f"{place}{name}")
                mistakes += found
                if not found:
                    values[name] = kind.check(options[name], entries)
        for error in self._jsonschema.Draft202012Validator(schema).iter_errors(known):
            name = str(error.absolute_path[0])
            wrong.setdefault(name, _explain(options[name], given[name]))
        for name, value in known.items():
            try:
                if name not in wrong:
                    values[name] = options[name].kind.check(options[name], value)
            except (ValueError, TypeError, OverflowError) as error:
                wrong[name] = _explain(options[name], value) + explain_refusal(error)
        mistakes += [Mistake(_line(nodes[name][0]), f"{place}{name}", problem) for name, problem in wrong.items()]
        return mistakes, values

    def _check_entries(
        self, kind: Exporters, node: Any, entries: list[Any], place: str
    ) -> tuple[list[Mistake], list[Any]]:
        mistakes: list[Mistake] = []
        types = ", ".join(kind.kinds)
        for at, (entry, child) in enumerate(zip(entries, node.value, strict=True)):
            where = f"{place}[{at}]"
            if isinstance(child, self._yaml.MappingNode):
                options = kind.options_of(entry) if "type" in entry else None
                if options is None:
                    key = f"{where}.type" if "type" in entry else where
                    mistakes.append(Mistake(_line(child), key, f"needs a type; allowed: {types}"))
                    continue
                options = {name: option for name, option in options.items() if option.in_file}
                schema = dict(kind.entry_schema(entry["type"]), required=[])
                inner = self._yaml.MappingNode(
                    child.tag, [pair for pair in child.value if pair[0].value != "type"], child.start_mark
                )
                rest = {key: value for key, value in entry.items() if key != "type"}
                mistakes += self.check(options, schema, inner, rest, f"{where}.")[0]
            elif str(entry).lower() not in kind.kinds and entries != ["none"]:
                shown = repr(entry)[:200]
                mistakes.append(Mistake(_line(child), where, f"{shown} is not allowed; allowed: {types}"))
        return mistakes, entries


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = {"yaml": "PyYAML"}.get(name, name)
        raise UnusableFileError(
            f"a configuration file needs {package}: python -m pip install 'otelog[config]'"
        ) from error


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnreadableFileError(path, [Mistake(1, "", f"cannot be read: {error.strerror}")]) from None
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


def _find_duplicates(node: Any, place: str) -> Iterator[Mistake]:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        name = str(key.value)
        if name in seen:
            yield Mistake(_line(key), f"{place}{name}", f"is given twice, first in line {seen[name]}")
        seen.setdefault(name, _line(key))


def _explain(option: Option[Any], value: object) -> str:
    return f"{option.describe(value)} is not allowed; allowed: {option.allowed}"


def _explain_unknown(name: str, options: Mapping[str, Option[Any]]) -> str:
    # Only needed on the way to an error, and its import is not free.
    import difflib

    near = difflib.get_close_matches(name, options, n=1)
    return f"is not an option; did you mean {near[0]}?" if near else "is not an option"
