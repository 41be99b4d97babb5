"""What a row of the table of options is, and how values of each kind are read, checked and described.

Nothing here reads the environment; `_config` does.
"""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from otelog._config.proxy import DIRECT, parse_proxy
from otelog._record.severity import level_number
from otelog._runtime.shown_text import hide_secrets
from otelog.exceptions import ConfigurationError

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_ANY_USER = re.compile(r"(?<=//).*@|(?<=^['\"])[^/].*@")
_ANY_QUERY = re.compile(r"\?.*(?=['\"]$)|\?.*$", re.DOTALL)

Complain = Callable[[str], None]


class Kind(Protocol):
    """How the values of an option are read, checked and described."""

    def read(self, text: str, complain: Complain) -> object:
        """Turn an environment variable's text into a value that `check` takes, or raise ValueError."""

    def check(self, option: Option, value: object) -> object:
        """Return the value as `Settings` holds it, or raise ValueError (or TypeError)."""

    def allowed(self, option: Option) -> str:
        """Say what is allowed, for messages and the README."""

    def schema(self, option: Option) -> dict[str, Any]:
        """Return the JSON Schema of a value in a configuration file; `check` may ask for more."""


class Option(NamedTuple):
    """One row of the table.

    Args:
        name: the keyword and the field of the settings.
        kind: how values are read, checked and described.
        default: the value when nothing else gives one, as the settings hold it.
        doc: one line for the README.
        environment: variables in order, the first usable one wins; None means `OTELOG_` and the name in capitals.
        resource_key: the option is this attribute of the resource, so `OTEL_RESOURCE_ATTRIBUTES` gives it, too.
        minimum: lowest allowed number.
        above: numbers must be greater than this.
        maximum: highest allowed number.
        choices: allowed words.
        unit: of a number.
        merged: entries of the keyword are put over those of the environment, one by one.
        secret: the value never appears in a message.
        environment_only: there is no such keyword.
        in_file: it may stand in a configuration file.
    """

    name: str
    kind: Kind
    default: object
    doc: str
    environment: tuple[str, ...] | None = None
    resource_key: str | None = None
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    unit: str = ""
    merged: bool = False
    secret: bool = False
    environment_only: bool = False
    in_file: bool = True

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that are read for this option, in order."""
        return (f"OTELOG_{self.name.upper()}",) if self.environment is None else self.environment

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        return self.kind.allowed(self)

    def describe(self, value: object) -> str:
        """The value for a message: never a secret, never long."""
        if self.secret:
            return f"(a {type(value).__name__}, not shown)"
        try:
            text = repr(value)
        except Exception:
            # Even repr() of a plain int raises, from 4,300 digits on.
            return f"(a {type(value).__name__})"
        if isinstance(self.kind, _Url):
            # It may be no URL at all, and still have a secret where one would have it.
            text = _ANY_QUERY.sub("?***", _ANY_USER.sub("***@", text))
        text = hide_secrets(text)
        return text if len(text) <= 200 else text[:200] + "..."


class _Text:
    def read(self, text: str, complain: Complain) -> object:
        return text

    def check(self, option: Option, value: object) -> object:
        if not isinstance(value, str) or not value.strip():
            raise ValueError
        return value.strip()

    def allowed(self, option: Option) -> str:
        return "a string that is not empty"

    def schema(self, option: Option) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


class _Word(_Text):
    def check(self, option: Option, value: object) -> object:
        # The official exporter's Compression is an Enum whose values are the specification's words.
        word = value.value if isinstance(value, Enum) else value
        if not isinstance(word, str) or word.strip().lower() not in option.choices:
            raise ValueError
        return word.strip().lower()

    def allowed(self, option: Option) -> str:
        return ", ".join(option.choices)

    def schema(self, option: Option) -> dict[str, Any]:
        return {"enum": list(option.choices)}


class _Words:
    def read(self, text: str, complain: Complain) -> object:
        return [word for word in (part.strip().lower() for part in text.split(",")) if word]

    def check(self, option: Option, value: object) -> object:
        words = tuple(value) if isinstance(value, list) else ()
        if not words or any(word not in option.choices for word in words):
            raise ValueError
        return () if "none" in words else words

    def allowed(self, option: Option) -> str:
        return "a list of " + ", ".join(option.choices)

    def schema(self, option: Option) -> dict[str, Any]:
        return {"type": "array", "items": {"enum": list(option.choices)}}


class _Flag:
    def read(self, text: str, complain: Complain) -> object:
        word = text.strip().lower()
        if word not in ("true", "false"):
            complain("only 'true' is true: it counts as false")
        return word == "true"

    def check(self, option: Option, value: object) -> object:
        if not isinstance(value, bool):
            raise TypeError
        return value

    def allowed(self, option: Option) -> str:
        return "true, false"

    def schema(self, option: Option) -> dict[str, Any]:
        return {"type": "boolean"}


class _Number:
    def __init__(self, *, whole: bool) -> None:
        self.whole = whole

    def read(self, text: str, complain: Complain) -> object:
        # int() and float() take digit groups ("1_000"), which no other language's SDK would.
        if "_" in text:
            raise ValueError
        return int(text) if self.whole else float(text)

    def check(self, option: Option, value: object) -> object:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        number: Any = operator.index(value) if self.whole else float(value)  # type: ignore[arg-type]
        if not self.whole and not math.isfinite(number):
            raise ValueError
        if option.minimum is not None and number < option.minimum:
            raise ValueError
        if option.above is not None and number <= option.above:
            raise ValueError
        if option.maximum is not None and number > option.maximum:
            raise ValueError
        return number

    def allowed(self, option: Option) -> str:
        parts = []
        if option.minimum is not None:
            parts.append(f">= {option.minimum:.10g}")
        if option.above is not None:
            parts.append(f"> {option.above:.10g}")
        if option.maximum is not None:
            parts.append(f"<= {option.maximum:.10g}")
        noun = "a whole number" if self.whole else "a number"
        return " ".join((noun, " and ".join(parts))).rstrip()

    def schema(self, option: Option) -> dict[str, Any]:
        bounds = {"minimum": option.minimum, "exclusiveMinimum": option.above, "maximum": option.maximum}
        found: dict[str, Any] = {key: bound for key, bound in bounds.items() if bound is not None}
        return {"type": "integer" if self.whole else "number", **found}


class _Level:
    def read(self, text: str, complain: Complain) -> object:
        text = text.strip()
        return int(text) if text.isdigit() else text

    def check(self, option: Option, value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise TypeError
        return level_number(value)

    def allowed(self, option: Option) -> str:
        return "a level's name or number, as in the standard library"

    def schema(self, option: Option) -> dict[str, Any]:
        return {"type": ["string", "integer"], "minimum": 0}


class _Path(_Text):
    def check(self, option: Option, value: object) -> object:
        path = os.fspath(value)  # type: ignore[call-overload]
        if not isinstance(path, str) or not path or "\0" in path:
            raise ValueError
        return path

    def allowed(self, option: Option) -> str:
        return "a file's path"


class _Url(_Text):
    def check(self, option: Option, value: object) -> object:
        if not isinstance(value, str):
            raise TypeError
        _check_url(value.strip())
        return value.strip()

    def allowed(self, option: Option) -> str:
        return "an http:// or https:// URL without user name (send credentials as headers)"

    def schema(self, option: Option) -> dict[str, Any]:
        return {"type": "string", "pattern": "^https?://"}


class _Proxy(_Text):
    def check(self, option: Option, value: object) -> object:
        if not isinstance(value, str):
            raise TypeError
        if value.strip().lower() == DIRECT:
            return DIRECT
        parse_proxy(value)
        return value.strip()

    def allowed(self, option: Option) -> str:
        return f"an http:// or https:// URL, or `{DIRECT}`"


class _Headers:
    def read(self, text: str, complain: Complain) -> object:
        headers: dict[str, str] = {}
        for name, value in _read_pairs(text, complain):
            try:
                headers.update(_check_header(name, value))
            except ValueError:
                complain(f"the header {name!r} is left out: its name or value is not legal in HTTP")
        return headers

    def check(self, option: Option, value: object) -> object:
        if not isinstance(value, Mapping):
            raise TypeError
        headers: dict[str, str] = {}
        for name, text in value.items():
            headers.update(_check_header(name, text))
        return headers

    def allowed(self, option: Option) -> str:
        return (
            "a mapping of names to printable ASCII strings; in the environment `name=value,name=value`, percent-encoded"
        )

    def schema(self, option: Option) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": {"type": "string"}}


class _Attributes:
    def read(self, text: str, complain: Complain) -> object:
        return dict(_read_pairs(text, complain))

    def check(self, option: Option, value: object) -> object:
        if not isinstance(value, Mapping):
            raise TypeError
        for key, item in value.items():
            items = item if isinstance(item, (list, tuple)) else (item,)
            if not isinstance(key, str) or not key or not all(isinstance(i, (str, bool, int, float)) for i in items):
                raise ValueError
        return dict(value)

    def allowed(self, option: Option) -> str:
        return (
            "a mapping of names to strings, numbers, booleans or lists of them; in the environment "
            "`name=value,name=value`, percent-encoded"
        )

    def schema(self, option: Option) -> dict[str, Any]:
        scalar = {"type": ["string", "number", "boolean"]}
        return {"type": "object", "additionalProperties": {"anyOf": [scalar, {"type": "array", "items": scalar}]}}


class _Exporter(_Text):
    def check(self, option: Option, value: object) -> object:
        if isinstance(value, type) or not all(callable(getattr(value, name, None)) for name in ("export", "shutdown")):
            raise TypeError
        return value

    def allowed(self, option: Option) -> str:
        return "an instance of the SDK's LogRecordExporter"


class _Function(_Text):
    def check(self, option: Option, value: object) -> object:
        if not callable(value):
            raise TypeError
        return value

    def allowed(self, option: Option) -> str:
        return "a function"


class _Names:
    """Names of loggers or the like, in any case."""

    def read(self, text: str, complain: Complain) -> object:
        return [part.strip() for part in text.split(",") if part.strip()]

    def check(self, option: Option, value: object) -> object:
        if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) and name.strip() for name in value):
            raise TypeError
        return tuple(name.strip() for name in value)

    def allowed(self, option: Option) -> str:
        return "a list of names; in the environment `name,name`"

    def schema(self, option: Option) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string", "minLength": 1}}


class EntryError(ConfigurationError):
    """An entry of a list is not allowed; the message says which, and what is."""


class Entry(NamedTuple):
    """One exporter of the list, checked.

    `kind` is its type, or "" where `exporter` is an instance; `options` are what it says itself, by the names of the
    table; the rest is as the table `ENTRY_OPTIONS` says.
    """

    kind: str
    exporter: Any = None
    name: str | None = None
    level: int | None = None
    loggers: tuple[str, ...] = ()
    filter: Callable[[Any], object] | None = None
    max_queue_size: int | None = None
    options: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        # Headers are secrets, and a proxy may have a password.
        options = {key: "***" if key in ("headers", "proxy") else value for key, value in self.options.items()}
        shown = {**self._asdict(), "options": options}
        return hide_secrets(f"Entry({', '.join(f'{name}={value!r}' for name, value in shown.items())})")


class Exporters:
    """The list of exporters: words, mappings, and instances.

    Args:
        common: The options that an entry of any type may have.
        kinds: For each type the options that an entry may have beside, by the key that it has there.
    """

    def __init__(self, common: Mapping[str, Option], kinds: Mapping[str, Mapping[str, Option]]) -> None:
        self.common = common
        self.kinds = kinds

    def read(self, text: str, complain: Complain) -> object:
        return [word for word in (part.strip().lower() for part in text.split(",")) if word]

    def check(self, option: Option, value: object) -> object:
        if not isinstance(value, (list, tuple)) or not value:
            raise TypeError
        if len(value) == 1 and value[0] == "none":
            return ()
        return tuple(self._check_entry(f"{option.name}[{at}]", entry) for at, entry in enumerate(value))

    def options_of(self, entry: Mapping[Any, Any]) -> Mapping[str, Option] | None:
        """Returns what a mapping may have beside ``type``, or None if there is no such type."""
        if "type" not in entry and "exporter" in entry:
            return self.common
        kind = entry.get("type")
        known = self.kinds.get(kind) if isinstance(kind, str) else None
        if known is None:
            return None
        return {**{key: one for key, one in self.common.items() if key != "exporter"}, **known}

    def _check_entry(self, place: str, entry: object) -> Entry:
        if isinstance(entry, str):
            if entry.strip().lower() not in self.kinds:
                raise EntryError(f"{place}={hide_secrets(entry)[:200]!r}: allowed is {', '.join(self.kinds)}")
            return Entry(entry.strip().lower())
        if not isinstance(entry, Mapping):
            return Entry("", exporter=_check_option(self.common["exporter"], place, entry))
        known = self.options_of(entry)
        if known is None:
            raise EntryError(f"{place}: needs `type`, one of {', '.join(self.kinds)}, or `exporter`")
        found = {}
        for key, value in entry.items():
            if key == "type" or value is None:
                continue
            if key not in known:
                raise EntryError(f"{place}: {key!r} is not an option of it; known are {', '.join(known)}")
            found[key] = _check_option(known[key], f"{place}.{key}", value)
        common = {key: found.pop(key) for key in self.common if key in found}
        return Entry(entry.get("type", ""), **common, options={known[key].name: found[key] for key in found})

    def allowed(self, option: Option) -> str:
        return (
            f"a list of {', '.join(self.kinds)}, of mappings with one of these as `type`, or of instances of the SDK's "
            "LogRecordExporter; or none alone"
        )

    def schema(self, option: Option) -> dict[str, Any]:
        words = {"enum": [*self.kinds, "none"]}
        return {"type": "array", "minItems": 1, "items": {"anyOf": [words, *map(self.entry_schema, self.kinds)]}}

    def entry_schema(self, kind: str) -> dict[str, Any]:
        """Returns the JSON Schema of a mapping of this type."""
        known = self.options_of({"type": kind}) or {}
        return {
            "type": "object",
            "required": ["type"],
            "additionalProperties": False,
            "properties": {
                "type": {"const": kind},
                **{
                    key: {**one.kind.schema(one), "description": f"{one.doc} Allowed: {one.allowed}."}
                    for key, one in known.items()
                    if one.in_file
                },
            },
        }


def _check_option(option: Option, place: str, value: object) -> Any:
    try:
        return option.kind.check(option, value)
    except (ValueError, TypeError, OverflowError) as error:
        raise EntryError(f"{place}={option.describe(value)}: allowed is {option.allowed}") from error


def _read_pairs(text: str, complain: Complain) -> list[tuple[str, str]]:
    """Split "name=value,name=value" and decode percent escapes; a bad pair is reported by place, never by content."""
    pairs = []
    for place, pair in enumerate(text.split(","), start=1):
        if not pair.strip():
            continue
        name, equals, value = pair.partition("=")
        name = unquote(name.strip())
        if not equals or not name:
            complain(f"entry {place} is left out: it is not name=value")
            continue
        pairs.append((name, unquote(value.strip())))
    return pairs


def _check_header(name: object, value: object) -> dict[str, str]:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError
    if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
        raise ValueError
    return {name.lower(): value}


def _check_url(url: str) -> None:
    # urlsplit() drops line breaks silently and reads the port only when asked.
    if any(character.isspace() for character in url):
        raise ValueError
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.fragment:
        raise ValueError
    if parts.port == 0:
        raise ValueError


TEXT, WORD, WORDS, FLAG, LEVEL = _Text(), _Word(), _Words(), _Flag(), _Level()
PATH, URL, HEADERS, ATTRIBUTES, EXPORTER = _Path(), _Url(), _Headers(), _Attributes(), _Exporter()
PROXY = _Proxy()
FUNCTION, NAMES = _Function(), _Names()
INTEGER, NUMBER = _Number(whole=True), _Number(whole=False)
