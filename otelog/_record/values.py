"""Any Python value to a legal attribute value.

Conversions, in words: an Enum becomes its value; dataclass, attrs, pydantic-like, namedtuple and any Mapping a dict;
list, tuple, set, frozenset, deque and any other Sequence or Set a list; bytearray and memoryview bytes; date and
datetime ISO 8601; an exception "module.Type: message"; everything else (UUID, Decimal, Path, callables, iterators,
generators) its `str`. Fields that a dataclass or attrs class keeps out of its `repr` are left out here too: they are
usually secrets.

What user code raises on the way spoils its own value alone. Only what stops the process passes, and what a signal
handler raises while we happen to be here: that is not ours to swallow (`otelog._runtime.interruption`).
"""

from __future__ import annotations

import datetime as dt
from collections import UserString, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MappingView, Sequence, Set
from dataclasses import dataclass, fields, replace
from enum import Enum
from itertools import islice
from sys import getsizeof
from typing import Any, TypeAlias

from otelog._runtime.interruption import is_interruption
from otelog.exceptions import ConfigurationError

Scalar: TypeAlias = "bool | int | float | str | bytes | None"
AnyValue: TypeAlias = "Scalar | list[AnyValue] | dict[str, AnyValue]"

SCALAR_TYPES: frozenset[type] = frozenset({type(None), bool, int, float, str, bytes})
"""Exact types that are immutable and legal (nearly) as they are, so that they may travel unconverted."""

CYCLE = "<cycle>"
TOO_DEEP = "<too deep>"
UNREADABLE = "<unreadable>"
"""What stands where a container holds itself, lies too deep, or an element could not be read."""

LEFT_OUT_KEY = "..."
"""The key in a dict whose value says that further entries were left out or could not be read."""

EMPTY_KEY = "(empty)"
"""What an empty key becomes. Source: OpenTelemetry common, "Attribute": a key is a non-empty string."""

MAX_KEY_LENGTH = 1024
"""Characters of a key that are kept; the limit on values does not apply to keys."""

TRUNCATED_KEY = "otelog.truncated"
"""The attribute that names what of its record was cut: keys of attributes, and `BODY_NAME`."""

BODY_NAME = "body"
"""What the body is called among the names of what was cut."""

MAX_DEPTH = 30
"""The most that `Limits.max_depth` may be: protobuf decoders refuse a message nested deeper than about 100."""

MAX_DECIMAL_BITS = 2048
"""Integers beyond 64 bits are written in decimal up to this size: always below Python's limit of digits."""

MAX_HEX_BITS = 65_536
"""Larger ones are written in hexadecimal up to this size, and beyond it only described."""

_INT64_MIN = -(2**63)
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """Bound what attributes may hold.

    Args:
        max_attributes: Attributes of one record.
        max_value_length: Characters of a text, or bytes of a bytes value; None for no bound.
        max_depth: Levels of nested containers in one value, 1 to `MAX_DEPTH`.
        max_items: Elements in one value, summed over all its containers; what says that some were left out included.

    Raises:
        ConfigurationError: If one of them is out of its range.

    Source: OpenTelemetry common, "Attribute Limits".
    """

    max_attributes: int = 128
    max_value_length: int | None = None
    max_depth: int = 16
    max_items: int = 1000

    def __post_init__(self) -> None:
        if self.max_attributes < 0:
            raise ConfigurationError(f"max_attributes must be at least 0, not {self.max_attributes}")
        if self.max_value_length is not None and self.max_value_length < 0:
            raise ConfigurationError(f"max_value_length must be at least 0 or None, not {self.max_value_length}")
        if not 1 <= self.max_depth <= MAX_DEPTH:
            raise ConfigurationError(f"max_depth must be 1 to {MAX_DEPTH}, not {self.max_depth}")
        if self.max_items < 1:
            raise ConfigurationError(f"max_items must be at least 1, not {self.max_items}")

    def for_body(self) -> Limits:
        """Returns the limits of a body, whose texts are whole: the length is a limit on attributes."""
        return self if self.max_value_length is None else replace(self, max_value_length=None)

    def for_capture(self) -> Limits:
        """Returns the limits of a first conversion: one more character or byte, so that the last one sees a cut."""
        return self if self.max_value_length is None else replace(self, max_value_length=self.max_value_length + 1)


DEFAULT_LIMITS = Limits()


def clean_text(text: str) -> str:
    """Return the text as an exact `str` that UTF-8 can encode; lone surrogates become backslash escapes.

    Never raises for a `str`. Safe in any thread.
    """
    if type(text) is not str:
        text = str.__str__(text)  # bypasses what a subclass makes of itself
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def safe_str(value: object) -> str:
    """Return `str(value)`, or its `repr` if that fails, or "<unprintable module.Type>" if both do.

    Returns:
        An exact `str` that UTF-8 can encode, of any length.

    Never raises, but lets an interruption pass. Safe in any thread; runs the value's own code.
    """
    if type(value) is int:
        return _int_text(value)
    try:
        try:
            return clean_text(str(value))
        except BaseException as failure:
            if is_interruption(failure):
                raise
            return clean_text(repr(value))
    except BaseException as failure:
        if is_interruption(failure):
            raise
        return _unprintable(value)


def qualified_type_name(kind: type) -> str:
    """Return "module.Type" for a type, or "Type" for a built-in one.

    Never raises. Safe in any thread.
    """
    module, name = type_names(kind)
    return name if module == "builtins" else f"{module}.{name}"


def type_names(kind: type) -> tuple[str, str]:
    """Return a type's module and qualified name, with "<unknown>" for what its metaclass does not tell.

    Never raises. Safe in any thread.
    """
    try:
        module: object = kind.__module__
        name: object = kind.__qualname__
    except BaseException as failure:
        if is_interruption(failure):
            raise
        return "<unknown>", "<unknown>"
    return (module if type(module) is str else "<unknown>", name if type(name) is str else "<unknown>")


def to_any_value(value: Any, limits: Limits = DEFAULT_LIMITS) -> AnyValue:
    """Convert any value to one that can be encoded, and that shares nothing mutable with it.

    Args:
        value: Anything. Iterators and generators are not consumed.
        limits: Bounds of the result.

    Returns:
        Only exact built-in types, owned by the caller: integers inside 64 bits, text that UTF-8 can encode, keys that
        are text. What cannot be converted, lies too deep, or holds itself is a short marker in its place. Converting
        the result again changes nothing.

    Never raises, but lets an interruption pass. Safe in any thread; runs the value's own code.

    Source: OpenTelemetry common, "AnyValue".
    """
    kind = type(value)
    legal: AnyValue = value
    if kind is str:
        if limits.max_value_length is not None or not value.isascii():
            legal = _cut_text(value, limits.max_value_length)
        return legal
    if kind is int:
        return legal if _INT64_MIN <= value <= _INT64_MAX else _int_text(value)[: limits.max_value_length]
    if kind is float or kind is bool or value is None:
        return legal
    try:
        return value[: limits.max_value_length] if kind is bytes else _Conversion(limits).convert(value, 0)
    except RecursionError:
        # Here no further call can be trusted.
        return UNREADABLE
    except BaseException as failure:
        if is_interruption(failure):
            raise
        # Only the end of the stack leads here, where no further call can be trusted.
        return UNREADABLE


def to_attributes(attributes: Mapping[Any, Any], limits: Limits = DEFAULT_LIMITS) -> tuple[dict[str, AnyValue], int]:
    """Convert a mapping to legal attributes.

    Args:
        attributes: Keys and values of any kind; the first `limits.max_attributes` are kept.
        limits: Bounds of the result.

    Returns:
        The attributes, owned by the caller, and how many were discarded over the limit. A key that is no text is
        converted; one that is taken already gets "#" and its position.

    Never raises, but lets an interruption pass. Safe in any thread; runs the values' own code.
    """
    pairs: Iterable[tuple[Any, Any]]
    if type(attributes) is dict:
        pairs = list(attributes.items())  # one step: another thread, or a value's own code, may change the dict
    else:
        pairs = list(_pairs_of(attributes, limits.max_attributes + limits.max_items))
    discarded = max(0, len(pairs) - limits.max_attributes)
    if discarded:
        del pairs[limits.max_attributes :]
    result: dict[str, AnyValue] = {}
    unbounded = limits.max_value_length is None
    for raw_key, value in pairs:
        key = raw_key
        if type(key) is not str or not key.isascii() or not 0 < len(key) <= MAX_KEY_LENGTH or key in result:
            key = _free_key(key, result)
        kind = type(value)
        if kind is float or kind is bool or value is None or (kind is str and unbounded and value.isascii()):
            result[key] = value
        else:
            result[key] = to_any_value(value, limits)
    return result, discarded


def is_longer(value: AnyValue, length: int) -> bool:
    """Return whether a converted value has a text of more than `length` characters, or bytes; at any depth.

    Never raises for an `AnyValue`. Safe in any thread.
    """
    content: Any = value
    kind = type(content)
    if kind is str or kind is bytes:
        return len(content) > length
    if kind is list or kind is dict:
        return any(is_longer(item, length) for item in (content if kind is list else content.values()))
    return False


def note_truncated(attributes: dict[str, AnyValue], names: Iterable[str]) -> None:
    """Have attributes say that these of them were cut; what they have said of others stays."""
    found = attributes.get(TRUNCATED_KEY)
    before = [name for name in found if type(name) is str] if type(found) is list else []
    noted = list(dict.fromkeys([*before, *names]))
    if noted:
        attributes[TRUNCATED_KEY] = [*noted]


def estimate_bytes(value: AnyValue) -> int:
    """Return about how many bytes a converted value takes in memory.

    Never raises for an `AnyValue`. Safe in any thread.
    """
    content: Any = value
    if type(content) is list:
        return 64 + sum(map(estimate_bytes, content))
    if type(content) is dict:
        return 128 + sum(96 + len(key) + estimate_bytes(item) for key, item in content.items())
    return getsizeof(content)


class _Conversion:
    """Converts one value within its limits."""

    __slots__ = ("_left", "_limits", "_path")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._left = limits.max_items
        self._path: set[int] = set()  # ids of the containers around the current value: alive, so unique

    def convert(self, value: Any, depth: int) -> AnyValue:
        kind = type(value)
        if kind is str or kind is int or kind is float or kind is bool or kind is bytes or value is None:
            return to_any_value(value, self._limits)
        try:
            return self._convert_object(value, kind, depth)
        except RecursionError:
            return TOO_DEEP
        except BaseException as failure:
            if is_interruption(failure):
                raise
            return self._text(safe_str(value))

    def _convert_object(self, value: Any, kind: type, depth: int) -> AnyValue:
        if issubclass(kind, Enum):
            if depth >= self._limits.max_depth:
                return TOO_DEEP
            return self.convert(value.value, depth + 1)
        # The exact value behind a subclass of a built-in, without asking the subclass.
        if issubclass(kind, str):
            return self._text(str.__str__(value))
        if issubclass(kind, int):
            return to_any_value(int.__index__(value), self._limits)
        if issubclass(kind, float):
            return float.__float__(value)
        if issubclass(kind, bytes):
            return self._bytes(bytes.__getitem__(value, slice(None)))
        if issubclass(kind, (bytearray, memoryview)):
            return self._bytes(memoryview(value).tobytes())
        if issubclass(kind, dt.date):
            return self._text(clean_text(value.isoformat()))
        if issubclass(kind, BaseException):
            return self._text(f"{qualified_type_name(kind)}: {safe_str(value)}")
        inside = self._open(value, kind)
        if inside is None:
            return self._text(safe_str(value))
        if depth >= self._limits.max_depth:
            return TOO_DEEP
        if id(value) in self._path:
            return CYCLE
        self._path.add(id(value))
        try:
            return inside(depth + 1)
        finally:
            self._path.discard(id(value))

    def _open(self, value: Any, kind: Any) -> Callable[[int], AnyValue] | None:
        """Returns what converts a container's content at a depth, or None if it is no container."""
        if issubclass(kind, dict):
            return self._entries(dict.items(value), dict.__len__(value))
        for builtin in (list, tuple, set, frozenset, deque):
            if issubclass(kind, builtin):
                names: Any = _class_attribute(kind, "_fields") if builtin is tuple else None
                if type(names) is tuple and len(names) == tuple.__len__(value):
                    return self._entries(zip(names, tuple.__iter__(value), strict=True), len(names))
                size = builtin.__len__(value)
                return lambda depth: self._list(builtin.__iter__(value), depth, size)
        described = _class_attribute(kind, "__attrs_attrs__")
        if described is None and _class_attribute(kind, "__dataclass_fields__") is not None:
            described = fields(kind)
        if described is not None:
            names = [field.name for field in described if field.repr]
            return self._entries(_fields_of(value, names), len(names))
        if _class_attribute(kind, "model_dump") is not None:
            content = value.model_dump()
            return self._entries(dict.items(content), dict.__len__(content)) if isinstance(content, dict) else None
        if _class_attribute(kind, "item") is not None and _class_attribute(kind, "dtype") is not None:
            return self._open_scalar(value)
        if issubclass(kind, (range, UserString)):
            return None  # both are Sequences, but read better as text
        if issubclass(kind, Mapping):
            return lambda depth: self._dict(_pairs_of(value, self._left + 1), depth, None)
        if issubclass(kind, (Sequence, Set, MappingView)):
            return lambda depth: self._list(_items_of(value), depth, None)
        return None

    def _entries(self, pairs: Iterable[tuple[Any, Any]], total: int) -> Callable[[int], AnyValue]:
        return lambda depth: self._dict(pairs, depth, total)

    def _open_scalar(self, value: Any) -> Callable[[int], AnyValue] | None:
        # The number inside an array library's scalar; but its dates, kinds m and M, would become bare numbers.
        if getattr(value.dtype, "kind", None) in ("m", "M"):
            return None
        scalar = value.item()
        return (lambda depth: self.convert(scalar, depth)) if type(scalar) in SCALAR_TYPES else None

    # In both loops an element is taken only if room is left to say that the rest was not, and what is inside it may not
    # use that room up. So the result never has more than `max_items` elements, and converting it again cuts nothing.

    def _list(self, items: Iterable[Any], depth: int, total: int | None) -> AnyValue:
        taken = list(islice(items, self._left + 1))
        if taken and self._left < 1:
            return _left_out(total)
        result: list[AnyValue] = []
        for position, item in enumerate(taken):
            more = position + 1 < len(taken)
            if self._left < 1 + more:
                self._left -= 1
                result.append(_left_out(None if total is None else total - position))
                break
            self._left -= 1 + more
            result.append(self.convert(item, depth))
            self._left += more
        return result

    def _dict(self, pairs: Iterable[tuple[Any, Any]], depth: int, total: int | None) -> AnyValue:
        taken = list(islice(pairs, self._left + 1))
        if taken and self._left < 1:
            return _left_out(total)
        result: dict[str, AnyValue] = {}
        for position, (key, item) in enumerate(taken):
            more = position + 1 < len(taken)
            if self._left < 1 + more:
                self._left -= 1
                result[_free_key(LEFT_OUT_KEY, result)] = _left_out(None if total is None else total - position)
                break
            self._left -= 1 + more
            text = _free_key(key, result)
            result[text] = self.convert(item, depth)
            self._left += more
        return result

    def _text(self, text: str) -> str:
        return _cut_text(text, self._limits.max_value_length)

    def _bytes(self, content: bytes) -> bytes:
        return content[: self._limits.max_value_length]


def _left_out(count: int | None) -> str:
    return "... more left out" if count is None else f"... {count} more left out"


def _cut_text(text: str, limit: int | None) -> str:
    # Cut before as well: cleaning a text of gigabytes to keep a hundred characters would hold the caller up.
    return clean_text(text) if limit is None else clean_text(text[:limit])[:limit]


def _int_text(value: int) -> str:
    bits = value.bit_length()
    if bits <= MAX_DECIMAL_BITS:
        return str(value)
    return hex(value) if bits <= MAX_HEX_BITS else f"<int of {bits} bits>"


def _unprintable(value: Any) -> str:
    return clean_text(f"<unprintable {qualified_type_name(type(value))}>")


_KEY_LIMITS = Limits(max_value_length=MAX_KEY_LENGTH, max_items=100)


def _key_text(key: Any) -> str:
    if type(key) is bytes:
        return key.decode("utf-8", "backslashreplace")
    if issubclass(type(key), Enum):
        inner = to_any_value(key)
        return inner if type(inner) is str else safe_str(inner)
    if issubclass(type(key), str):
        return clean_text(key)
    if issubclass(type(key), (tuple, frozenset, list, set, dict)):
        return safe_str(to_any_value(key, _KEY_LIMITS))  # their own text has no bound
    return safe_str(key)


def _free_key(key: Any, taken: Mapping[str, object]) -> str:
    text = _key_text(key)[:MAX_KEY_LENGTH] or EMPTY_KEY
    free = text
    number = len(taken) + 1
    while free in taken:
        suffix = f"#{number}"
        free = text[: MAX_KEY_LENGTH - len(suffix)] + suffix
        number += 1
    return free


def _class_attribute(kind: type, name: str) -> Any:
    """Returns what a class or one of its bases defines under a name, without asking metaclass or instance."""
    for base in _mro_of(kind):
        found = _namespace_of(base).get(name)
        if found is not None:
            return found
    return None


_mro_of: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
_namespace_of: Callable[[type], Mapping[str, Any]] = type.__dict__["__dict__"].__get__


def _fields_of(value: Any, names: list[str]) -> Iterator[tuple[str, Any]]:
    for name in names:
        try:
            item = getattr(value, name)
        except BaseException as failure:
            if is_interruption(failure):
                raise
            item = UNREADABLE
        yield name, item


def _items_of(value: Any) -> Iterator[Any]:
    try:
        for item in value:  # noqa: UP028 - "yield from" would also close the value's own iterator
            yield item
    except GeneratorExit:
        raise
    except BaseException as failure:
        if is_interruption(failure):
            raise
        yield UNREADABLE


def _pairs_of(value: Any, most: int) -> Iterator[tuple[Any, Any]]:
    """Yields at most so many pairs of a mapping whose own code may fail at every step."""
    for key in list(islice(_items_of(value), most)):
        try:
            item = UNREADABLE if key is UNREADABLE else value[key]
        except BaseException as failure:
            if is_interruption(failure):
                raise
            item = UNREADABLE
        yield key, item
