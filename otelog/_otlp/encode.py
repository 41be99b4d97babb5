"""Queued records to OTLP bytes, without message objects in between.

The messages are small and their shape is fixed, so that most of a record is bytes that were made once: a call site's
severity and ``code.*`` attributes, a key with its tags, the ids of the current span. Pure: no thread, no clock, no I/O.

Source: opentelemetry/proto/logs/v1/logs.proto, OTLP 1.x.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from struct import Struct
from types import CodeType
from typing import TYPE_CHECKING, Any

from otelog._otlp.truncation import truncate_record
from otelog._record.attributes import (
    DEFAULT_ATTRIBUTES,
    MOST_CACHED_KEYS,
    MOST_CACHED_SITES,
    PAUSE_EVERY,
    RESERVED_KEYS,
    AttributeBuilder,
    build_body,
    find_site,
    gives_all_attributes,
)
from otelog._record.row import (
    COLUMNS,
    GIVEN_TIME_WINDOW_NS,
    MOST_TIME_NS,
    OWN_CLOCK_WINDOW_NS,
    CodeSite,
    Source,
    Special,
    find_times,
    next_time,
)
from otelog._record.severity import severity_range
from otelog._record.values import MAX_KEY_LENGTH, AnyValue, clean_text, to_any_value

if TYPE_CHECKING:
    from otelog._otlp.loki_form import LokiForm

MOST_KNOWN_VALUES = 256
"""Bound of the texts that are kept encoded for each key."""

_FRAMES = 64
"""More than what the tags and lengths around one head and its records take, in bytes."""

_TABLE = 2048
_SHORT = 126
"""Texts below this many bytes have headers of one size, kept in tables."""

_TIMES_SIZE = 18
_LEAST_INT = -(2**63)
_MOST_INT = 2**63 - 1

_pack_times = Struct("<BQBQ").pack  # fields 1 and 11, fixed64
_pack_double = Struct("<d").pack
_pack_flags = Struct("<I").pack


def varint(number: int) -> bytes:
    """Encode a number as a varint; a negative one as its 64-bit two's complement."""
    if number < 0:
        number += 1 << 64
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_VARINT = [varint(number) for number in range(_TABLE)]


def _sized(tag: bytes, content: bytes) -> bytes:
    size = len(content)
    return tag + (_VARINT[size] if size < _TABLE else varint(size)) + content


def _framed(tag: bytes, parts: list[bytes], size: int) -> list[bytes]:
    return [tag + varint(size), *parts] if parts else []


def encode_value(value: AnyValue) -> bytes:
    """Encode the content of an ``AnyValue`` message."""
    kind = type(value)
    if kind is str:
        return _sized(b"\x0a", value.encode())  # type: ignore[union-attr]
    if kind is bool:
        return b"\x10\x01" if value else b"\x10\x00"
    if kind is int:
        return b"\x18" + varint(value)  # type: ignore[arg-type]
    if kind is float:
        return b"\x21" + _pack_double(value)
    if kind is bytes:
        return _sized(b"\x3a", value)  # type: ignore[arg-type]
    if kind is list:
        return _sized(b"\x2a", b"".join([_sized(b"\x0a", encode_value(item)) for item in value]))  # type: ignore[union-attr]
    if kind is dict:
        return _sized(b"\x32", b"".join([_sized(b"\x0a", _key_value(key, item)) for key, item in value.items()]))  # type: ignore[union-attr]
    return b""


def _key_value(key: str, value: AnyValue) -> bytes:
    return _sized(b"\x0a", key.encode()) + _sized(b"\x12", encode_value(value))


def encode_attributes(attributes: Mapping[str, AnyValue], tag: bytes) -> bytes:
    """Encode attributes as repeated ``KeyValue`` fields with this tag."""
    return b"".join([_sized(tag, _key_value(key, value)) for key, value in attributes.items()])


class _Key:
    """An attribute's key with everything that stands before its value, for each kind and length."""

    __slots__ = ("double", "false", "ints", "null", "texts", "true")

    def __init__(self, key: str, longest: int) -> None:
        head = _sized(b"\x0a", key.encode())
        size = len(head)

        def before(content_size: int, tags: bytes) -> bytes:
            value = varint(content_size)
            return b"\x32" + varint(size + 1 + len(value) + content_size) + head + b"\x12" + value + tags

        self.double = before(9, b"\x21")
        self.true = before(2, b"\x10\x01")
        self.false = before(2, b"\x10\x00")
        self.null = before(0, b"")
        self.ints = [before(1 + width, b"\x18") for width in range(11)]
        self.texts = _Texts(before(1 + 1 + length, b"\x0a" + _VARINT[length]) for length in range(longest))


class _Texts(dict[str, bytes]):
    """Whole attributes by their text: most texts are one of a few, names, methods, currencies.

    Args:
        heads: What stands before a text, by its length in bytes.

    Raises:
        IndexError: On look-up, for a text that is longer than that.
    """

    __slots__ = ("_heads",)

    def __init__(self, heads: Iterable[bytes]) -> None:
        super().__init__()
        self._heads = list(heads)

    def __missing__(self, value: str) -> bytes:
        text = value.encode()
        encoded = self._heads[len(text)] + text
        if len(self) < MOST_KNOWN_VALUES:
            self[value] = encoded
        return encoded


class EncodedBatch:
    """Records as bytes, grouped by resource and scope, of which any contiguous part can be made a request.

    Thread safety: one thread at a time; read-only but for `truncate`.
    """

    def __init__(self, groups: Sequence[tuple[bytes, bytes, bytes, list[bytes]]]) -> None:
        # Groups of one resource lie beside each other, so that a request names it once.
        ordered = sorted(groups, key=lambda group: group[0]) if len({group[0] for group in groups}) > 1 else groups
        self._heads: list[tuple[int, bytes, bytes, bytes]] = []
        self.records: list[bytes] = []
        for resource, scope, schema_url, records in ordered:
            self._heads.append((len(self.records), resource, scope, schema_url))
            self.records += records
        self._starts = [head[0] for head in self._heads]
        # What the heads up to each of them take; of a request's own only those of its records are in it.
        self._framing = [0]
        for _, resource, scope, schema_url in self._heads:
            self._framing.append(self._framing[-1] + len(resource) + len(scope) + len(schema_url) + _FRAMES)
        self._truncated: set[int] = set()

    def __len__(self) -> int:
        return len(self.records)

    def size_bytes(self, start: int, stop: int) -> int:
        """Returns the size of `payload` in bytes, or a little more."""
        return sum(map(len, self.records[start:stop])) + self._measure_heads(start, stop)

    def _measure_heads(self, start: int, stop: int) -> int:
        first = bisect_right(self._starts, start) - 1
        return self._framing[bisect_left(self._starts, stop)] - self._framing[max(0, first)]

    def truncate(self, index: int, max_bytes: int) -> bool:
        """Cut a record so that a request of it alone has at most `max_bytes`; see `truncate_record`.

        Returns:
            Whether it could be.
        """
        try:
            record = truncate_record(self.records[index], max_bytes - self._measure_heads(index, index + 1))
        except ValueError:
            return False
        if record is None:
            return False
        self.records[index] = record
        self._truncated.add(index)
        return True

    def count_truncated(self, start: int, stop: int) -> int:
        """Returns how many of these records were cut by `truncate`."""
        return sum(start <= index < stop for index in self._truncated)

    def payload(self, start: int, stop: int) -> bytes:
        """Returns an ``ExportLogsServiceRequest`` of these records."""
        # Inner messages first, because the outer ones begin with their sizes; the records themselves are copied once.
        request: list[bytes] = []
        resource_logs: list[bytes] = []
        resource_size = 0
        last_resource: bytes | None = None
        for number, (first, resource, scope, schema_url) in enumerate(self._heads):
            end = self._heads[number + 1][0] if number + 1 < len(self._heads) else len(self.records)
            part = self.records[max(start, first) : min(stop, end)]
            if not part:
                continue
            if resource != last_resource:
                request += _framed(b"\x0a", resource_logs, resource_size)
                resource_logs = [resource]
                resource_size = len(resource)
                last_resource = resource
            part.insert(0, scope)
            part.append(schema_url)
            scope_size = sum(map(len, part))
            framed = _framed(b"\x12", part, scope_size)
            resource_size += len(framed[0]) + scope_size
            resource_logs += framed
        request += _framed(b"\x0a", resource_logs, resource_size)
        return b"".join(request)

    def severity_ranges(self, start: int, stop: int) -> list[str]:
        """Returns the severity range of each of these records, read back from its bytes."""
        return [_severity_range_of(record) for record in self.records[start:stop]]


def _severity_range_of(record: bytes) -> str:
    at = 1
    while record[at] & 128:
        at += 1
    # Every record begins with its two times (18 bytes) and its severity number (tag and one byte).
    return severity_range(record[at + 20])


class Encoder:
    """Encodes the rows of one pipeline.

    Args:
        resource: The attributes of the resource that the facade's and the handler's records belong to.
        resource_schema_url: Its schema URL, or "".
        attributes: What a record's attributes are.
        loki: Whether they go to Loki itself, in the form that it can keep: see `otelog._otlp.loki_form`.
        now: Returns the time, nanoseconds since 1970, for a record whose own is not one; 0 if unknown.

    Thread safety: one thread at a time.
    """

    def __init__(
        self,
        resource: Mapping[str, Any],
        resource_schema_url: str = "",
        attributes: AttributeBuilder = DEFAULT_ATTRIBUTES,
        *,
        loki: bool = False,
        now: Callable[[], int] = int,
    ) -> None:
        self._attributes = attributes
        self._now = now
        limits = attributes.limits
        self._loki: LokiForm | None = None
        if loki:
            from otelog._otlp import loki_form

            self._loki = loki_form.LokiForm(_clean(resource), RESERVED_KEYS)
        self._resource = self._encode_resource(resource, resource_schema_url)
        # A text that may be over the limit is left to the slow way, which cuts it.
        self._longest = _SHORT if limits.max_value_length is None else min(_SHORT, limits.max_value_length + 1)
        self._bodies = [b"\x2a" + _VARINT[length + 2] + b"\x0a" + _VARINT[length] for length in range(_SHORT)]
        self._lengths = [b"\x12" + _VARINT[length] for length in range(_TABLE)]
        self._fast = gives_all_attributes(attributes)
        self._keys: dict[str, _Key] = {}
        self._sdk_keys: dict[str, _Key] = {}
        # Of the last record that came from the SDK's Logger: what its fields are put behind, and into which list.
        self._sdk_last: tuple[object, object, object] = (None, None, None)
        self._sdk_prefix = b""
        self._sdk_append: Callable[[bytes], None] = list[bytes]().append
        self._resources: dict[int, tuple[Any, bytes]] = {}
        self._threads: dict[int, bytes] = {}
        self._last_ns = 0
        self._last_given_ns = 0

    def encode(self, rows: list[Any], pause: Callable[[], object]) -> tuple[EncodedBatch, list[str]]:
        """Encode rows, `COLUMNS` values each.

        Args:
            rows: The values, as the queue gives them.
            pause: Called after every `PAUSE_EVERY` records.

        Returns:
            The batch, and the severity range of each record that could not be encoded and is not in it. Never raises.
        """
        groups: dict[object, tuple[bytes, bytes, bytes, list[bytes]]] = {}
        failed: list[str] = []
        # Threads end, and their ids come back under other names.
        self._threads.clear()
        step = PAUSE_EVERY * COLUMNS
        for start in range(0, len(rows), step):
            self._encode_some(rows[start : start + step], groups, failed)
            pause()
        self._sdk_last = (None, None, None)
        return EncodedBatch(list(groups.values())), failed

    def _encode_some(
        self, rows: list[Any], groups: dict[object, tuple[bytes, bytes, bytes, list[bytes]]], failed: list[str]
    ) -> None:
        # One function: this loop is where the worker's time goes, and a call for each record would cost it about 35 ns.
        # Names are local, and what did not change since the last record is reused.
        keys = self._keys
        bodies = self._bodies
        lengths = self._lengths
        last_ns = self._last_ns
        fast = self._fast
        last_source: object = None
        last_context: object = None
        last_code: object = None
        last_offset = -1
        last_thread = -1
        # A request's records come from several places, one after the other.
        ids_context: object = None
        ids = b""
        prefix = b""
        prefix_size = 0
        append: Callable[[bytes], None]
        row = iter(rows)
        for time_ns, source, context, message, arguments, fields, code, offset, thread in zip(
            *[row] * COLUMNS, strict=True
        ):
            try:
                if (
                    source is not last_source
                    or offset != last_offset
                    or code is not last_code
                    or context is not last_context
                    or thread != last_thread
                ):
                    last_source = None
                    if source.special or not fast:
                        self._last_ns = last_ns
                        self._append_special(
                            groups, time_ns, source, context, message, arguments, fields, code, offset, thread
                        )
                        last_ns = self._last_ns
                        continue
                    if source.sdk is not None:
                        self._last_ns = last_ns
                        self._append_sdk(groups, time_ns, source, context, message, fields, offset)
                        last_ns = self._last_ns
                        continue
                    static = self._static_of(source) if code is None else self._static_at(source, code, offset)
                    if context is not ids_context:
                        ids = _encode_context(context)
                        ids_context = context
                    prefix = static + self._thread(thread) + ids
                    prefix_size = len(prefix) + _TIMES_SIZE
                    append = self._group(groups, source)
                    last_source, last_code, last_offset = source, code, offset
                    last_context, last_thread = context, thread
                body = (message % arguments if arguments else message).encode()
                size = len(body)
                rest = (bodies[size] if size < _SHORT else _long_body(size)) + body
                if fields:
                    for name, value in fields.items():
                        key = keys[name]
                        kind = type(value)
                        if kind is str:
                            rest += key.texts[value]
                        elif kind is float:
                            rest += key.double + _pack_double(value)
                        elif kind is int:
                            number = _VARINT[value] if 0 <= value < _TABLE else varint(value)
                            rest += key.ints[len(number)] + number
                        elif kind is bool:
                            rest += key.true if value else key.false
                        elif value is None:
                            rest += key.null
                        else:
                            raise _NotFastError
                # See next_time; here without a call.
                if time_ns <= last_ns and last_ns - time_ns < OWN_CLOCK_WINDOW_NS:
                    time_ns = last_ns + 1  # noqa: PLW2901
                last_ns = time_ns
                size = prefix_size + len(rest)
                head = lengths[size] if size < _TABLE else b"\x12" + varint(size)
                append(head + _pack_times(9, time_ns, 0x59, time_ns) + prefix + rest)
            except Exception:
                last_source = None
                self._last_ns = last_ns
                self._append_slowly(
                    groups, failed, time_ns, source, context, message, arguments, fields, code, offset, thread
                )
                last_ns = self._last_ns
        self._last_ns = last_ns

    # The ways that are taken once for each site, key, thread and scope, or by unusual records.

    def _append_slowly(
        self,
        groups: dict[object, tuple[bytes, bytes, bytes, list[bytes]]],
        failed: list[str],
        time_ns: int,
        source: Any,
        context: Any,
        *row: Any,
    ) -> None:
        try:
            self._append_special(groups, time_ns, source, context, *row)
        except Exception:
            failed.append(severity_range(source.severity_number))

    def _append_special(
        self,
        groups: dict[object, tuple[bytes, bytes, bytes, list[bytes]]],
        time_ns: int,
        source: Any,
        context: Any,
        message: Any,
        arguments: tuple[Any, ...] | None,
        fields: dict[str, Any] | None,
        code: CodeType | None,
        offset: int,
        thread: int,
    ) -> None:
        attributes, discarded = self._attributes.build(source, message, arguments, fields, code, offset, thread)
        special = source if source.special else None
        base: Source = source.source if special is not None else source
        parts = [
            self._times(source, *find_times(time_ns, None if base.sdk is None else offset, self._now)),
            _encode_severity(base.severity_number, base.severity_text),
            _encode_context(context),
        ]
        body = build_body(message, arguments)
        if self._loki is not None:
            event_name = clean_text(special.event_name) if special is not None and special.event_name else None
            attributes, body, left_out = self._loki.fit(base.sdk, attributes, body, context, event_name)
            discarded += left_out
        if body is not None:
            if type(body) is str:
                body = clean_text(body)
            parts.append(_sized(b"\x2a", encode_value(body)))
        parts.append(encode_attributes(attributes, b"\x32"))
        if discarded:
            parts.append(b"\x38" + varint(discarded))
        if special is not None and special.event_name:
            parts.append(_sized(b"\x62", clean_text(special.event_name).encode()))
        record = _sized(b"\x12", b"".join(parts))
        self._group(groups, base)(record)
        for key in fields or ():
            if self._loki is not None and not (type(key) is str and self._loki.admit(key, sdk=base.sdk is not None)):
                continue
            if base.sdk is not None:
                _learn_key(self._sdk_keys, key, _SHORT)
            elif key not in RESERVED_KEYS:
                _learn_key(self._keys, key, self._longest)

    def _append_sdk(
        self,
        groups: dict[object, tuple[bytes, bytes, bytes, list[bytes]]],
        time_ns: int,
        source: Source,
        context: Any,
        body: Any,
        fields: dict[str, Any] | None,
        observed_ns: int,
    ) -> None:
        """Append a usual record of the SDK's Logger; raises if there is anything unusual about it."""
        last = self._sdk_last
        if source is not last[0] or context is not last[1] or groups is not last[2]:
            if self._loki is not None and not self._loki.is_usual(source.sdk):
                raise _NotFastError
            self._sdk_prefix = self._static_of(source) + _encode_context(context)
            self._sdk_append = self._group(groups, source)
            self._sdk_last = (source, context, groups)
        text: bytes = body.encode()
        size = len(text)
        rest = self._sdk_prefix + (self._bodies[size] if size < _SHORT else _long_body(size)) + text
        if fields:
            rest += encode_fields(fields, self._sdk_keys)
        size = len(rest) + _TIMES_SIZE
        head = self._lengths[size] if size < _TABLE else b"\x12" + varint(size)
        if not (0 <= time_ns < MOST_TIME_NS and 0 <= observed_ns < MOST_TIME_NS):
            raise _NotFastError
        self._sdk_append(head + self._times(source, time_ns, observed_ns) + rest)

    def _times(self, source: Source | Special, time_ns: int, observed_ns: int) -> bytes:
        # A time of 0 is unknown, and stays so: then whoever stores the record goes by that of its observation.
        stored_ns = time_ns or observed_ns
        if not stored_ns:
            return _pack_times(9, 0, 0x59, 0)
        if source.given_time:
            moved_ns = self._last_given_ns = next_time(stored_ns, self._last_given_ns, GIVEN_TIME_WINDOW_NS)
        else:
            moved_ns = self._last_ns = next_time(stored_ns, self._last_ns, OWN_CLOCK_WINDOW_NS)
        if not time_ns:
            return _pack_times(9, 0, 0x59, moved_ns)
        return _pack_times(9, moved_ns, 0x59, observed_ns or moved_ns)

    def _static_at(self, source: Source, code: CodeType, offset: int) -> bytes:
        # The address of the instruction, or nearly; so the code object itself is compared too.
        address = id(code) + offset
        site = source.sites.get(address)
        if site is None or site[0] is not code or site[1] is not self:
            if len(source.sites) >= MOST_CACHED_SITES:
                source.sites.clear()
            place = find_site(code, offset, short_names=source.short_names)
            site = source.sites[address] = (code, self, self._static(source, place))
        static: bytes = site[2]
        return static

    def _static_of(self, source: Source) -> bytes:
        owner, static = source.static
        if owner is not self:
            static = self._static(source, source.site)
            source.static = (self, static)
        return static

    def _static(self, source: Source, site: CodeSite | None) -> bytes:
        encoded = _encode_severity(source.severity_number, source.severity_text)
        if not self._attributes.code_attributes or site is None:
            return encoded
        return encoded + encode_attributes(
            {
                "code.file.path": clean_text(site.file_path),
                "code.function.name": clean_text(site.function_name),
                "code.line.number": site.line_number,
            },
            b"\x32",
        )

    def _thread(self, thread: int) -> bytes:
        if self._attributes.thread_names is None:
            return b""
        known = self._threads.get(thread)
        if known is not None:
            return known
        attributes: dict[str, AnyValue] = {"thread.id": thread}
        name = self._attributes.thread_names(thread)
        if name is None:
            # It has ended: no name to cache, and its id may come back under another.
            return encode_attributes(attributes, b"\x32")
        attributes["thread.name"] = clean_text(name)
        if len(self._threads) >= MOST_CACHED_SITES:
            self._threads.clear()
        self._threads[thread] = encode_attributes(attributes, b"\x32")
        return self._threads[thread]

    def _group(
        self, groups: dict[object, tuple[bytes, bytes, bytes, list[bytes]]], source: Source
    ) -> Callable[[bytes], None]:
        sdk = source.sdk
        key: object = source.scope_name if sdk is None else (id(sdk.resource), id(sdk.scope))
        group = groups.get(key)
        if group is None:
            if sdk is None:
                scope = _sized(b"\x0a", _sized(b"\x0a", clean_text(source.scope_name).encode()))
                group = groups[key] = (self._resource, scope, b"", [])
            else:
                group = groups[key] = (self._resource_of(sdk.resource), *self._encode_scope(sdk.scope), [])
        return group[3].append

    def _resource_of(self, resource: Any) -> bytes:
        known = self._resources.get(id(resource))
        if known is None or known[0] is not resource:
            if len(self._resources) >= MOST_CACHED_SITES:
                self._resources.clear()
            encoded = self._encode_resource(resource.attributes, resource.schema_url)
            known = self._resources[id(resource)] = (resource, encoded)
        return known[1]

    def _encode_resource(self, attributes: Mapping[str, Any], schema_url: str | None) -> bytes:
        # One message after the other of ResourceLogs: its resource (1) and its schema URL (3).
        cleaned = _clean(attributes)
        if self._loki is not None:
            cleaned = self._loki.fit_resource(cleaned)
        encoded = _sized(b"\x0a", encode_attributes(cleaned, b"\x0a"))
        return encoded + _sized(b"\x1a", schema_url.encode()) if schema_url else encoded

    def _encode_scope(self, scope: Any) -> tuple[bytes, bytes]:
        if scope is None:
            return b"", b""
        content = _sized(b"\x0a", clean_text(scope.name or "").encode())
        if scope.version:
            content += _sized(b"\x12", clean_text(scope.version).encode())
        if scope.attributes:
            cleaned = _clean(scope.attributes)
            if self._loki is not None:
                cleaned = self._loki.fit_scope(cleaned)
            content += encode_attributes(cleaned, b"\x1a")
        schema_url = _sized(b"\x1a", clean_text(scope.schema_url).encode()) if scope.schema_url else b""
        return _sized(b"\x0a", content), schema_url


def encode_fields(fields: Mapping[str, Any], keys: Mapping[str, _Key]) -> bytes:
    """Encode attributes of scalar values whose keys are known; raises for any other. As in the encoder's own loop."""
    parts: list[bytes] = []
    for name, value in fields.items():
        key = keys[name]
        kind = type(value)
        if kind is str:
            parts.append(key.texts[value])
        elif kind is int:
            if not _LEAST_INT <= value <= _MOST_INT:
                raise _NotFastError
            number = _VARINT[value] if 0 <= value < _TABLE else varint(value)
            parts.append(key.ints[len(number)] + number)
        elif kind is float:
            parts.append(key.double + _pack_double(value))
        elif kind is bool:
            parts.append(key.true if value else key.false)
        elif value is None:
            parts.append(key.null)
        else:
            raise _NotFastError
    return b"".join(parts)


def _learn_key(keys: dict[str, _Key], key: object, longest: int) -> None:
    # One that is too long is cut each time.
    if type(key) is not str or not 0 < len(key) <= MAX_KEY_LENGTH:
        return
    if key not in keys and len(keys) < MOST_CACHED_KEYS and clean_text(key) == key:
        keys[key] = _Key(key, longest)


class _NotFastError(Exception):
    """A record that the fast loop leaves to the slow way."""


def _long_body(size: int) -> bytes:
    length = varint(size)
    return b"\x2a" + varint(1 + len(length) + size) + b"\x0a" + length


def _encode_context(context: Any) -> bytes:
    if context is None or not context.trace_id:
        return b""
    ids: bytes = b"\x4a\x10" + context.trace_id.to_bytes(16, "big")
    if context.span_id:
        ids += b"\x52\x08" + context.span_id.to_bytes(8, "big")
    return ids + b"\x45" + _pack_flags(int(context.trace_flags or 0) & 0xFF)


def _encode_severity(number: int, text: str | None) -> bytes:
    encoded = b"\x10" + bytes((number & 127,))
    return encoded + _sized(b"\x1a", clean_text(text).encode()) if text else encoded


def _clean(attributes: Mapping[Any, Any]) -> dict[str, AnyValue]:
    return {clean_text(str(key)): to_any_value(value) for key, value in attributes.items()}
