"""The form in which a record goes to Loki itself, so that it keeps all of it: names, line, and limits. Pure.

The Collector gives records for Loki the same form: `transform/loki` in collector/otelcol.yaml has these rules, too.

Loki keeps attributes as names of ASCII letters, digits and underscores. Of a name without a letter or digit it makes
none, and refuses the request; of two names of a record that become one it keeps one. So these names are replaced by a
hash (`odd_name`), and the attribute ``otelog.names`` tells what they were.

Source: Loki's OTLP endpoint; otlptranslator, "LabelNamer".
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from otelog._record.values import TRUNCATED_KEY, AnyValue, clean_text, to_any_value

NAMES_KEY = "otelog.names"
RESOURCE_NAMES_KEY = "otelog.resource.names"
"""Attributes that tell the names of hashed ones: a JSON object, hashed to given."""

EVENT_KEY = "event_name"
CUT = "…[cut]"
"""How a value ends that was shortened."""

MOST_ENTRIES = 128
MOST_BYTES = 65_536
"""What a Loki takes of structured metadata that nobody has configured otherwise. Source: Loki, "limits_config"."""

MOST_OF_RESOURCE = 64
MOST_OF_SCOPE = 32
MOST_RESOURCE_VALUE = 1024
LARGE_RESOURCE = 8192
FEW = 24
"""Attributes that are kept where the names of all leave no room for values."""

MOST_LISTED = 1024
"""Bytes of names in the list of what was cut."""

MOST_CACHED = 256
LINE_FIELDS = 16
LINE_VALUE = 128
_OWN_ENTRIES = 16
"""Room for what Loki and this module add: times, severity, ids, the scope's name, what was cut."""

_LENGTHS = [half * factor for half in (1 << power for power in range(14, 4, -1)) for factor in (3, 2)]
"""Bytes of a value that are tried, one after the other, until all have room: 49,152, 32,768, 24,576 and so on."""

_LABELS = ("service.name", "service.namespace", "deployment.environment.name")
"""Attributes of a resource that are Loki's labels, and so no name of a record takes their place."""
_KEPT = (*_LABELS, "service.instance.id", RESOURCE_NAMES_KEY)
_LOKIS_OWN = frozenset(
    {
        "severity_number",
        "severity_text",
        "observed_timestamp",
        "scope_name",
        "scope_version",
        "scope_dropped_attributes_count",
        "dropped_attributes_count",
        EVENT_KEY,
    }
)
_LOKIS_IDS = frozenset({"trace_id", "span_id"})
_LOKIS_FLAGS = "flags"
_LOKIS_ALL = _LOKIS_OWN | _LOKIS_IDS | {_LOKIS_FLAGS}
_OTHER = re.compile(r"[^0-9A-Za-z]+")
_USUAL = re.compile(r"[A-Za-z][0-9A-Za-z]*(?:[._][0-9A-Za-z]+)*")
_PLAIN = re.compile(r"[_@]?[A-Za-z][ !#-%'-+\--;=?-Z^-~]*")
_HASHED = re.compile(r"odd_(?:(?:resource|scope)_)?[0-9a-f]{16}(?:[0-9a-f]{48})?")
_ODD = re.compile(rf'(?s:[^0-9A-Za-z]*|.*[^ -~].*|.*["\\].*|__.*__|{_HASHED.pattern})')
_NOT_IN_LINE = re.compile(r"(?:code|message_template|otelog|thread)\.|exception\.stacktrace$")
_NAMELESS_INSIDE = re.compile(r"(?:^|[\t:])\{\}|:\[")
"""In a value's text: an empty dict, which Loki leaves out, and a list inside of one, which no leaf is named by."""


def is_odd(name: str) -> bool:
    """Returns whether a name is hashed whatever stands beside it."""
    return _ODD.fullmatch(name) is not None


def odd_name(name: str, of: Literal["", "resource_", "scope_"] = "") -> str:
    """Returns what stands in Loki for a name that it cannot keep; a resource's is none of its records'."""
    return f"odd_{of}{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def loki_name(name: str) -> str:
    """Returns what Loki makes of a name."""
    made = _OTHER.sub("_", name)
    return f"key_{made}" if "0" <= made[:1] <= "9" else made


def value_text(value: AnyValue) -> str:
    """Returns the text that Loki makes of a value."""
    if type(value) is str:
        return value
    if value is None:
        return ""
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int:
        return str(value)
    if type(value) is float:
        return _float_text(value)
    if type(value) is bytes:
        return base64.b64encode(value).decode()
    try:
        return _json(value)
    except ValueError:
        return ""  # as Loki: a list or a dict with a number that is none


def build_line(event_name: str, attributes: Mapping[str, AnyValue]) -> str:
    """Returns the line of a record without a body: the event's name, and its first fields, shortened."""
    fields: dict[str, str] = {}
    for name, value in attributes.items():
        if _NOT_IN_LINE.match(name) is None:
            fields[name] = _shorten(value_text(value), LINE_VALUE, "…")
            if len(fields) == LINE_FIELDS:
                break
    text = _pairs_text(fields, "=", " ")
    return f"{event_name} {text}" if event_name and text else event_name or text


class Surroundings(NamedTuple):
    """What is beside the attributes of the records of one scope: names as Loki has them, and their sizes."""

    names: Counter[str]
    entries: int
    size: int


def fit_resource(attributes: Mapping[str, AnyValue]) -> dict[str, AnyValue]:
    """Returns a resource's attributes in the form for Loki."""
    fitted, odd = _fit_surroundings(attributes, "resource_", _LABELS)
    if odd:
        fitted[RESOURCE_NAMES_KEY] = _names_text(odd)
    for name in _LABELS:
        if name in fitted:
            fitted[name] = _shorten(str(fitted[name]), MOST_RESOURCE_VALUE, "")
    if len(fitted) <= MOST_OF_RESOURCE and _size(fitted) <= LARGE_RESOURCE:
        return fitted
    return _cut_surroundings(fitted, MOST_OF_RESOURCE, _KEPT)


def fit_scope(attributes: Mapping[str, AnyValue]) -> dict[str, AnyValue]:
    """Returns a scope's attributes in the form for Loki."""
    return _cut_surroundings(_fit_surroundings(attributes, "scope_", ())[0], MOST_OF_SCOPE, ())


def surround(resource: Mapping[str, AnyValue], scope: Mapping[str, AnyValue]) -> Surroundings:
    """Returns what the records' names and sizes are compared with; both are in the form for Loki already."""
    names = Counter(map(loki_name, (*resource, *scope)))
    size = sum(len(_pairs_text(_texts(one), "=", " ").encode()) for one in (resource, scope))
    return Surroundings(names, len(resource) + len(scope), size + 2)


def fit_record(
    attributes: Mapping[str, AnyValue], around: Surroundings, *, traced: bool, flags: bool, event_name: str = ""
) -> tuple[dict[str, AnyValue], int]:
    """Returns a record's attributes in the form for Loki, and how many were left out.

    Args:
        attributes: As they would go to any other server.
        around: Its resource and scope.
        traced: Whether the record has a trace id.
        flags: Whether it has flags.
        event_name: What makes it an event, or "".
    """
    taken = _LOKIS_OWN | (_LOKIS_IDS if traced else set()) | ({_LOKIS_FLAGS} if flags else set())
    fitted = dict(attributes)
    if not _keeps_names(fitted, around, taken):
        texts: dict[str, AnyValue] = {name: value_text(value) for name, value in fitted.items()}

        def is_taken(name: str) -> bool:
            return is_odd(name) or loki_name(name) in taken

        many = around.names + Counter(loki_name(name) for name in texts if not is_taken(name))
        fitted, odd = _rename(texts, lambda name: is_taken(name) or many[loki_name(name)] > 1)
        if odd:
            fitted[NAMES_KEY] = _names_text(odd)
    fitted, left_out = _cut(fitted, around)
    if event_name:
        fitted[EVENT_KEY] = event_name
    return fitted, left_out


class LokiForm:
    """Gives the records of one encoder their form.

    Args:
        resource: Attributes of the resource that most records belong to.
        own: Names of attributes that a record may have beside its fields.

    Thread safety: one thread at a time.
    """

    def __init__(self, resource: Mapping[str, AnyValue], own: Iterable[str]) -> None:
        self._resource = resource
        fitted = fit_resource(resource)
        self._around: dict[tuple[int, int], tuple[object, Surroundings]] = {}
        self._usual_around = surround(fitted, {})
        self._usual: object = None
        taken = {*_LOKIS_ALL, *map(loki_name, fitted)}
        # The fields that are written at once, by their names in Loki: of several that become one, the first.
        self._fields = dict.fromkeys({*taken, *map(loki_name, own)}, "")
        self._sdk_fields = dict.fromkeys(taken, "")

    def admit(self, name: str, *, sdk: bool) -> bool:
        """Returns whether a field may be written without a look at the rest of its record."""
        if _USUAL.fullmatch(name) is None or _HASHED.fullmatch(name) is not None:
            return False
        return (self._sdk_fields if sdk else self._fields).setdefault(loki_name(name), name) == name

    def fit_resource(self, attributes: Mapping[str, AnyValue]) -> dict[str, AnyValue]:
        """Returns a resource's attributes in the form for Loki."""
        return fit_resource(attributes)

    def fit_scope(self, attributes: Mapping[str, AnyValue]) -> dict[str, AnyValue]:
        """Returns a scope's attributes in the form for Loki."""
        return fit_scope(attributes)

    def is_usual(self, sdk: Any) -> bool:
        """Returns whether a record of the SDK's has the usual resource, and a scope without attributes."""
        if sdk is self._usual:
            return True
        if (sdk.scope is not None and sdk.scope.attributes) or _plain(sdk.resource.attributes) != self._resource:
            return False
        self._usual = sdk
        return True

    def fit(
        self, sdk: Any, attributes: Mapping[str, AnyValue], body: AnyValue, context: Any, event_name: str | None
    ) -> tuple[dict[str, AnyValue], AnyValue, int]:
        """Returns attributes and body in the form for Loki, and how many attributes were left out."""
        traced = context is not None and bool(context.trace_id)
        fitted, left_out = fit_record(
            attributes,
            self._usual_around if sdk is None or self.is_usual(sdk) else self._surround(sdk),
            traced=traced,
            flags=traced and bool(int(context.trace_flags or 0) & 0xFF),
            event_name=event_name or "",
        )
        return fitted, build_line(event_name or "", attributes) if body is None else body, left_out

    def _surround(self, sdk: Any) -> Surroundings:
        key = (id(sdk.resource), id(sdk.scope))
        known = self._around.get(key)
        if known is None or known[0] is not sdk:
            scope = sdk.scope.attributes if sdk.scope is not None else None
            around = surround(fit_resource(_plain(sdk.resource.attributes)), fit_scope(_plain(scope or {})))
            if len(self._around) >= MOST_CACHED:
                self._around.clear()
            known = self._around[key] = (sdk, around)
        return known[1]


def _plain(attributes: Mapping[Any, Any]) -> dict[str, AnyValue]:
    return {clean_text(str(key)): to_any_value(value) for key, value in attributes.items()}


def _keeps_names(attributes: Mapping[str, AnyValue], around: Surroundings, taken: Iterable[str]) -> bool:
    leaves = list(_leaves(attributes, ""))
    names = {*leaves, *attributes}
    if any(_PLAIN.fullmatch(name) is None or _HASHED.fullmatch(name) is not None for name in names):
        return False
    if len(set(leaves)) != len(leaves):
        return False
    if any(_NAMELESS_INSIDE.search(value_text(value)) for value in attributes.values()):
        return False
    return max((Counter(map(loki_name, names)) + around.names + Counter(taken)).values()) <= 1


def _fit_surroundings(
    attributes: Mapping[str, AnyValue], of: Literal["resource_", "scope_"], labels: Iterable[str]
) -> tuple[dict[str, AnyValue], dict[str, str]]:
    names = Counter(loki_name(name) for name in attributes if not is_odd(name) and name not in labels)

    texts: dict[str, AnyValue] = {name: value_text(value) for name, value in attributes.items()}

    def is_hashed(name: str) -> bool:
        made = loki_name(name)
        return is_odd(name) or made in _LOKIS_ALL or (names[made] > 1 and name not in labels)

    return _rename(texts, is_hashed, of)


def _leaves(attributes: Mapping[str, AnyValue], prefix: str) -> Iterator[str]:
    """Yields the names of what is inside of attributes, as the Collector's "flatten" has them."""
    for key, value in attributes.items():
        yield from _leaves_of(f"{prefix}.{key}" if prefix else key, value)


def _leaves_of(name: str, value: AnyValue) -> Iterator[str]:
    if type(value) is dict:
        yield from _leaves(value, name)
    elif type(value) is list:
        for number, item in enumerate(value):
            if type(item) is list:
                for inner, one in enumerate(item):
                    yield from _leaves_of(f"{name}.{number}{inner}", one)
            else:
                yield from _leaves_of(f"{name}.{number}", item)
    else:
        yield name


def _rename(
    attributes: Mapping[str, AnyValue], is_hashed: Callable[[str], bool], of: Literal["", "resource_", "scope_"] = ""
) -> tuple[dict[str, AnyValue], dict[str, str]]:
    fitted: dict[str, AnyValue] = {}
    given: dict[str, str] = {}
    for name, value in attributes.items():
        if is_hashed(name):
            held = odd_name(name, of)
            given[held] = name
            fitted[held] = value
        else:
            fitted[name] = value
    return fitted, given


def _cut(attributes: dict[str, AnyValue], around: Surroundings) -> tuple[dict[str, AnyValue], int]:
    most = MOST_ENTRIES - _OWN_ENTRIES - around.entries
    room = MOST_BYTES - around.size
    leaves = sum(1 for _ in _leaves(attributes, ""))
    if leaves <= most and _size(attributes) + 2048 <= room:
        return attributes, 0
    texts: dict[str, AnyValue] = {name: value_text(value) for name, value in attributes.items()}
    if len(texts) <= most and _size(texts) + 2048 <= room:
        return texts, 0
    names = list(texts)
    if most > FEW and len(_names_text(names)) + MOST_ENTRIES * 64 + 8192 > MOST_BYTES:
        most = FEW
    left_out = names[most:]
    for name in left_out:
        del texts[name]
    for length in _LENGTHS:
        if _size(texts) + 4096 <= room:
            break
        for name, value in texts.items():
            texts[name] = _shorten(str(value), length, CUT)
    listed = "\n".join([name for name, value in texts.items() if str(value).endswith(CUT)] + left_out)
    if len(listed) > MOST_LISTED:
        listed = listed[:MOST_LISTED].rpartition("\n")[0] + "\n..."
    cut = _json(listed.removeprefix("\n").split("\n"))
    texts[TRUNCATED_KEY] = (str(texts.get(TRUNCATED_KEY) or "") + cut).replace("][", ",")
    return texts, len(left_out)


def _cut_surroundings(attributes: dict[str, AnyValue], most: int, first: Iterable[str]) -> dict[str, AnyValue]:
    room = most - sum(name in attributes for name in first)
    kept: dict[str, AnyValue] = {}
    for name, value in attributes.items():
        if name in first:
            pass
        elif room > 0:
            room -= 1
        else:
            continue
        kept[name] = _shorten(value, MOST_RESOURCE_VALUE, CUT) if type(value) is str else value
    return kept


def _texts(attributes: Mapping[str, AnyValue]) -> dict[str, str]:
    return {name: value_text(value) for name, value in attributes.items()}


def _size(attributes: Mapping[str, AnyValue]) -> int:
    return len(_pairs_text(_texts(attributes), "=", " ").encode())


def _pairs_text(texts: Mapping[str, str], between: str, after: str) -> str:
    def quote(text: str) -> str:
        text = text.replace('"', '\\"')
        return f'"{text}"' if between in text or after in text else text

    return after.join([f"{quote(name)}{between}{quote(text)}" for name, text in texts.items()])


def _shorten(text: str, most: int, mark: str) -> str:
    """Returns a text of at most so many bytes; a shortened one ends with the mark."""
    if len(text) * 4 <= most:
        return text
    encoded = text.encode()
    if len(encoded) <= most:
        return text
    return encoded[: most - len(mark.encode())].decode(errors="ignore") + mark


def _float_text(value: float) -> str:
    if value != value:
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = repr(value)
    mantissa, _, exponent = text.partition("e")
    size = abs(value)
    if size != 0 and (size < 1e-6 or size >= 1e21):
        return f"{mantissa.removesuffix('.0')}e{'-' if exponent[0] == '-' else '+'}{exponent.lstrip('+-').lstrip('0')}"
    return (format(Decimal(text), "f") if exponent else text).removesuffix(".0")


def _names_text(names: dict[str, str] | list[str]) -> str:
    # The Collector escapes these, as for a web page.
    return _json(names).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _json(value: Any) -> str:
    return "".join(_json_parts(value))


def _json_parts(value: Any) -> Iterator[str]:
    if type(value) is dict:
        # Go's encoder sorts keys, by their bytes.
        yield "{"
        for number, key in enumerate(sorted(value, key=str.encode)):
            yield f"{',' if number else ''}{_json_text(key)}:"
            yield from _json_parts(value[key])
        yield "}"
    elif type(value) is list:
        yield "["
        for number, item in enumerate(value):
            if number:
                yield ","
            yield from _json_parts(item)
        yield "]"
    elif type(value) is str:
        yield _json_text(value)
    elif type(value) is float:
        if not math.isfinite(value):
            raise ValueError("JSON has no such number")
        yield _float_text(value)
    elif type(value) is bytes:
        yield _json_text(base64.b64encode(value).decode())
    else:
        yield json.dumps(value)


def _json_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
