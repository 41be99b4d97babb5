"""What a row of the table of options is, and how values of each kind are read, checked and described.

Nothing here reads the environment; `_config` does.
"""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, overload
from urllib.parse import unquote

from otelog._config.proxy import DIRECT, parse_proxy
from otelog._record.severity import level_number
from otelog._runtime.shown_text import hide_secrets
from otelog._runtime.urls import UnusableError, check_header, parse_endpoint
from otelog.exceptions import ConfigurationError

_ANY_USER = re.compile(r"(?<=//).*@|(?<=^['\"])[^/].*@")
_ANY_QUERY = re.compile(r"\?.*(?=['\"]$)|\?.*$", re.DOTALL)

Complain = Callable[[str], None]


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Kind(Protocol[T_co]):
    """How the values of an option are read, checked and described."""

    def read(self, text: str, complain: Complain) -> object:
        """Turn an environment variable's text into a value that `check` takes, or raise ValueError."""

    def check(self, option: Option[Any], value: object) -> T_co:
        """Return the value as `Settings` holds it, or raise ValueError (or TypeError); `UnusableError` says why."""

    def allowed(self, option: Option[Any]) -> str:
        """Say what is allowed, for messages and docs/reference/options.md."""

    def hint(self, option: Option[Any]) -> str:
        """Return the annotation of a keyword, as a type checker should see it."""

    def schema(self, option: Option[Any]) -> dict[str, Any]:
        """Return the JSON Schema of a value in a configuration file; `check` may ask for more."""


class Option(Generic[T]):
    """One row of the table: an attribute in the body of a class of `otelog._config.table`.

    The class's own attribute is the row; that of an instance is the option's value, of the type that the kind gives.

    Args:
        kind: how values are read, checked and described.
        default: the value when nothing else gives one, as the settings hold it.
        doc: one line for docs/reference/options.md.
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

    name = ""
    """The keyword; the attribute's name in the class, with the class's prefix. The class sets it."""

    def __init__(
        self,
        kind: Kind[T],
        default: T,
        doc: str,
        *,
        environment: tuple[str, ...] | None = None,
        resource_key: str | None = None,
        minimum: float | None = None,
        above: float | None = None,
        maximum: float | None = None,
        choices: tuple[str, ...] = (),
        unit: str = "",
        merged: bool = False,
        secret: bool = False,
        environment_only: bool = False,
        in_file: bool = True,
    ) -> None:
        self.kind = kind
        self.default = default
        self.doc = doc
        self.environment = environment
        self.resource_key = resource_key
        self.minimum = minimum
        self.above = above
        self.maximum = maximum
        self.choices = choices
        self.unit = unit
        self.merged = merged
        self.secret = secret
        self.environment_only = environment_only
        self.in_file = in_file

    @overload
    def __get__(self, instance: None, owner: object = None) -> Option[T]: ...

    @overload
    def __get__(self, instance: object, owner: object = None) -> T: ...

    def __get__(self, instance: object, owner: object = None) -> Option[T] | T:
        # An instance's values are attributes of its own, and found before this.
        return self if instance is None else self.default

    def __repr__(self) -> str:
        return f"Option({self.name!r})"

    def changed(self, **changes: Any) -> Option[T]:
        """Returns the same row with something else in it, such as another default."""
        new: Option[T] = object.__new__(type(self))
        new.__dict__.update(self.__dict__, **changes)
        return new

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that are read for this option, in order."""
        return (f"OTELOG_{self.name.upper()}",) if self.environment is None else self.environment

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        return self.kind.allowed(self)

    @property
    def allowed_argument(self) -> str:
        """What is allowed where a program gives the value: nothing of the environment, and as Python writes it."""
        kind: object = self.kind
        return "True, False" if isinstance(kind, _Flag) else self.allowed.partition("; in the environment ")[0]

    def check(self, value: object, place: str = "", *, argument: bool = False) -> T:
        """Returns a value as the settings hold it.

        Args:
            value: What a caller gave.
            place: What the caller knows the option by, where that is not the keyword.
            argument: Whether it is an argument of a class's own, which the environment and a file have no part in.

        Raises:
            ConfigurationError: It is not allowed; the message says what is.
        """
        try:
            return self.kind.check(self, value)
        except ConfigurationError:
            # An entry of a list: its place is told.
            raise
        except (ValueError, TypeError, OverflowError) as error:
            allowed = self.allowed_argument if argument else self.allowed
            raise ConfigurationError(
                f"{place or self.name}={self.describe(value)}: allowed is {allowed}{explain_refusal(error)}"
            ) from error

    def describe(self, value: object) -> str:
        """The value for a message: never a secret, never long."""
        if self.secret:
            return f"(a {type(value).__name__}, not shown)"
        try:
            text = repr(value)
        except Exception:
            # Even repr() of a plain int raises, from 4,300 digits on.
            return f"(a {type(value).__name__})"
        kind: object = self.kind
        if isinstance(kind, _Url):
            # It may be no URL at all, and still have a secret where one would have it.
            text = _ANY_QUERY.sub("?***", _ANY_USER.sub("***@", text))
        text = hide_secrets(text)
        return text if len(text) <= 200 else text[:200] + "..."


def explain_refusal(error: Exception) -> str:
    """Returns why a value is refused, to be put behind what is allowed; "" if there is no more to say."""
    # The text of any other error may hold the value, and so a secret.
    return f"; but {error}" if isinstance(error, UnusableError) else ""


class _Text:
    def read(self, text: str, complain: Complain) -> object:
        return text

    def check(self, option: Option[Any], value: object) -> str:
        if not isinstance(value, str) or not value.strip():
            raise ValueError
        return value.strip()

    def hint(self, option: Option[Any]) -> str:
        return "str"

    def allowed(self, option: Option[Any]) -> str:
        return "a string that is not empty"

    def schema(self, option: Option[Any]) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


class _Word(_Text):
    def check(self, option: Option[Any], value: object) -> str:
        # The official exporter's Compression is an Enum whose values are the specification's words.
        word = value.value if isinstance(value, Enum) else value
        if not isinstance(word, str) or word.strip().lower() not in option.choices:
            raise ValueError
        return word.strip().lower()

    def hint(self, option: Option[Any]) -> str:
        words = ", ".join(f'"{word}"' for word in option.choices)
        return f"Literal[{words}]"

    def allowed(self, option: Option[Any]) -> str:
        return ", ".join(option.choices)

    def schema(self, option: Option[Any]) -> dict[str, Any]:
        return {"enum": list(option.choices)}


class _Words:
    def read(self, text: str, complain: Complain) -> object:
        return [word for word in (part.strip().lower() for part in text.split(",")) if word]

    def check(self, option: Option[Any], value: object) -> tuple[str, ...]:
        words = tuple(value) if isinstance(value, list) else ()
        if not words or any(word not in option.choices for word in words):
            raise ValueError
        return () if "none" in words else words

    def hint(self, option: Option[Any]) -> str:
        return "Sequence[str]"

    def allowed(self, option: Option[Any]) -> str:
        return "a list of " + ", ".join(option.choices)

    def schema(self, option: Option[Any]) -> dict[str, Any]:
        return {"type": "array", "items": {"enum": list(option.choices)}}


class _Flag:
    def read(self, text: str, complain: Complain) -> object:
        word = text.strip().lower()
        if word not in ("true", "false"):
            complain("only 'true' is true: it counts as false")
        return word == "true"

    def check(self, option: Option[Any], value: object) -> bool:
        if not isinstance(value, bool):
            raise TypeError
        return value

    def hint(self, option: Option[Any]) -> str:
        return "bool"

    def allowed(self, option: Option[Any]) -> str:
        return "true, false"

    def schema(self, option: Option[Any]) -> dict[str, Any]:
        return {"type": "boolean"}


class _Number:
    def __init__(self, *, whole: bool) -> None:
        self.whole = whole

    def read(self, text: str, complain: Complain) -> object:
        # int() and float() take digit groups ("1_000"), which no other language's SDK would.
        if "_" in text:
            raise ValueError
        return int(text) if self.whole else float(text)

    def check(self, option: Option[Any], value: object) -> Any:
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

    def hint(self, option: Option[Any]) -> str:
        return "int" if self.whole else "float"

    def allowed(self, option: Option[Any]) -> str:
        parts = []
        if option.minimum is not None:
            parts.append(f">= {option.minimum:.10g}")
        if option.above is not None:
            parts.append(f"> {option.above:.10g}")
        if option.maximum is not None:
            parts.append(f"<= {option.maximum:.10g}")
        noun = "a whole number" if self.whole else "a number"
        return " ".join((noun, " and ".join(parts))).rstrip()

    def schema(self, option: Option[Any]) -> dict[str, Any]:
        bounds = {"minimum": option.minimum, "exclusiveMinimum": option.above, "maximum": option.maximum}
        found: dict[str, Any] = {key: bound for key, bound in bounds.items() if bound is not None}
        return {"type": "integer" if self.whole else "number", **found}


class _Level:
    def read(self, text: str, complain: Complain) -> object:
        text = text.strip()
        return int(text) if text.isdigit() else text

    def check(self, option: Option[Any], value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise TypeError
        try:
            return level_number(value)
        except ConfigurationError:
            # It speaks of an argument of its own.
            raise ValueError from None

    def hint(self, option: Option[Any]) -> str:
        return "int | str"

    def allowed(self, option: Option[Any]) -> str:
        return "a level's name or number, as in the standard library"

    def schema(self, option: Option[Any]) -> dict[str, Any]:
        return {"type": ["string", "integer"], "minimum": 0}


class _Path(_Text):
    def check(self, option: Option[Any], value: object) -> str:
        path = os.fspath(value)  # type: ignore[call-overload]
        if not isinstance(path, str) or not path or "\0" in path:
            raise ValueError
        return path

    def hint(self, option: Option[Any]) -> str:
        return "str | PathLike[str]"

    def allowed(self, option: Option[Any]) -> str:
        return "a file's path"


class _Folder(_Path):
    def check(self, option: Option[Any], value: object) -> str:
        path = super().check(option, value)
        if not path.strip():
            raise ValueError
        return path

    def allowed(self, option: Option[Any]) -> str:
        return "a folder's path"


class _Url(_Text):
    def check(self, option: Option[Any], value: object) -> str:
        if not isinstance(value, str):
            raise TypeError
        parse_endpoint(value.strip())
        return value.strip()

    def allowed(self, option: Option[Any]) -> str:
        return "an http:// or https:// URL without user name (send credentials as headers)"

    def schema(self, option: Option[Any]) -> dict[str, Any]:
        return {"type": "string", "pattern": "^https?://"}


class _Proxy(_Text):
    def check(self, option: Option[Any], value: object) -> str:
        if not isinstance(value, str):
            raise TypeError
        if value.strip().lower() == DIRECT:
            return DIRECT
        parse_proxy(value)
        return value.strip()

    def allowed(self, option: Option[Any]) -> str:
        return f"an http:// or https:// URL, or `{DIRECT}`"


class _Headers:
    def read(self, text: str, complain: Complain) -> object:
        headers: dict[str, str] = {}
        for name, value in _read_pairs(text, complain):
            try:
                headers[check_header(name, value)] = value
            except UnusableError as error:
                complain(f"the header {name!r} is left out: {error}")
        return headers

    def check(self, option: Option[Any], value: object) -> Mapping[str, str]:
        if not isinstance(value, Mapping):
            raise TypeError
        return {check_header(name, text): text for name, text in value.items()}

    def hint(self, option: Option[Any]) -> str:
        return "Mapping[str, str]"

    def allowed(self, option: Option[Any]) -> str:
        return (
            "a mapping of names to printable ASCII strings; in the environment `name=value,name=value`, percent-encoded"
        )

    def schema(self, option: Option[Any]) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": {"type": "string"}}


class _Attributes:
    def read(self, text: str, complain: Complain) -> object:
        return dict(_read_pairs(text, complain))

    def check(self, option: Option[Any], value: object) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise TypeError
        for key, item in value.items():
            items = item if isinstance(item, (list, tuple)) else (item,)
            if not isinstance(key, str) or not key or not all(isinstance(i, (str, bool, int, float)) for i in items):
                raise ValueError
        return dict(value)

    def hint(self, option: Option[Any]) -> str:
        return "Mapping[str, Any]"

    def allowed(self, option: Option[Any]) -> str:
        return (
            "a mapping of names to strings, numbers, booleans or lists of them; in the environment "
            "`name=value,name=value`, percent-encoded"
        )

    def schema(self, option: Option[Any]) -> dict[str, Any]:
        scalar = {"type": ["string", "number", "boolean"]}
        return {"type": "object", "additionalProperties": {"anyOf": [scalar, {"type": "array", "items": scalar}]}}


class _Exporter(_Text):
    def check(self, option: Option[Any], value: object) -> Any:
        if isinstance(value, type) or not all(callable(getattr(value, name, None)) for name in ("export", "shutdown")):
            raise TypeError
        return value

    def hint(self, option: Option[Any]) -> str:
        return "LogRecordExporter"

    def allowed(self, option: Option[Any]) -> str:
        return "an instance of the SDK's LogRecordExporter"


class _Function(_Text):
    def check(self, option: Option[Any], value: object) -> Any:
        if not callable(value):
            raise TypeError
        return value

    def hint(self, option: Option[Any]) -> str:
        return "Callable[[Any], object]"

    def allowed(self, option: Option[Any]) -> str:
        return "a function"


class _Names:
    """Names of loggers, in any case."""

    def read(self, text: str, complain: Complain) -> object:
        return [part.strip() for part in text.split(",") if part.strip()]

    def check(self, option: Option[Any], value: object) -> tuple[str, ...]:
        if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
            raise TypeError
        names = tuple(value)
        if not all(isinstance(name, str) and name.strip() for name in names):
            raise TypeError
        return tuple(name.strip() for name in names)

    def hint(self, option: Option[Any]) -> str:
        return "Sequence[str]"

    def allowed(self, option: Option[Any]) -> str:
        return "a list of loggers' names; in the environment `name,name`"

    def schema(self, option: Option[Any]) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string", "minLength": 1}}


class Entry(NamedTuple):
    """One exporter of the list, checked.

    `kind` is its type, or "" where `exporter` is an instance; `options` are what it says itself, by the names of the
    table; the rest is as `EntryOptions` of the table says.
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

    def __init__(self, common: Mapping[str, Option[Any]], kinds: Mapping[str, Mapping[str, Option[Any]]]) -> None:
        self.common = common
        self.kinds = kinds

    def read(self, text: str, complain: Complain) -> object:
        return [word for word in (part.strip().lower() for part in text.split(",")) if word]

    def check(self, option: Option[Any], value: object) -> tuple[Entry, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            raise TypeError
        if len(value) == 1 and value[0] == "none":
            return ()
        return tuple(self._check_entry(f"{option.name}[{at}]", entry) for at, entry in enumerate(value))

    def options_of(self, entry: Mapping[Any, Any]) -> Mapping[str, Option[Any]] | None:
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
                raise ConfigurationError(f"{place}={hide_secrets(entry)[:200]!r}: allowed is {', '.join(self.kinds)}")
            return Entry(entry.strip().lower())
        if not isinstance(entry, Mapping):
            return Entry("", exporter=self.common["exporter"].check(entry, place))
        known = self.options_of(entry)
        if known is None:
            raise ConfigurationError(f"{place}: needs `type`, one of {', '.join(self.kinds)}, or `exporter`")
        found = {}
        for key, value in entry.items():
            if key == "type" or value is None:
                continue
            if key not in known:
                raise ConfigurationError(f"{place}: {key!r} is not an option of it; known are {', '.join(known)}")
            found[key] = known[key].check(value, f"{place}.{key}")
        common = {key: found.pop(key) for key in self.common if key in found}
        return Entry(entry.get("type", ""), **common, options={known[key].name: found[key] for key in found})

    def hint(self, option: Option[Any]) -> str:
        return "Sequence[str | LogRecordExporter | Mapping[str, Any]]"

    def allowed(self, option: Option[Any]) -> str:
        return (
            f"a list of {', '.join(self.kinds)}, of mappings with one of these as `type`, or of instances of the SDK's "
            "LogRecordExporter; or none alone"
        )

    def schema(self, option: Option[Any]) -> dict[str, Any]:
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


TEXT, WORD, WORDS, FLAG, LEVEL = _Text(), _Word(), _Words(), _Flag(), _Level()
PATH, FOLDER, URL, HEADERS, ATTRIBUTES, EXPORTER = _Path(), _Folder(), _Url(), _Headers(), _Attributes(), _Exporter()
PROXY = _Proxy()
FUNCTION, NAMES = _Function(), _Names()
INTEGER: Kind[int] = _Number(whole=True)
NUMBER: Kind[float] = _Number(whole=False)
