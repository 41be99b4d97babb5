"""A record as one line of JSON, for files, the console, and whoever reads them."""

from __future__ import annotations

import math
import os
import re
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from json.encoder import JSONEncoder, encode_basestring
from types import CodeType
from typing import Any

from otelog._pipeline.batch_export import ExportContext
from otelog._record.attributes import (
    MOST_CACHED_KEYS,
    MOST_CACHED_SITES,
    MOST_FIELDS,
    PAUSE_EVERY,
    build_body,
    find_site,
    gives_all_attributes,
)
from otelog._record.row import (
    COLUMNS,
    GIVEN_TIME_WINDOW_NS,
    OWN_CLOCK_WINDOW_NS,
    CodeSite,
    Source,
    Special,
    find_times,
    next_time,
)
from otelog._record.severity import severity_range
from otelog._record.values import MAX_KEY_LENGTH, AnyValue, clean_text, to_any_value
from otelog._runtime.shown_text import HIDDEN
from otelog._runtime.threads import find_thread_name

LINE_KEYS = (
    "timestamp",
    "level",
    "logger",
    "message",
    "module",
    "function",
    "line",
    "thread",
    "process",
    "trace_id",
    "span_id",
)
"""The keys that every line has, in their order; the record's fields follow."""

EVENT_KEY = "event_name"
DISCARDED_KEY = "dropped_attributes_count"
"""Keys that only some lines have: the first, and the last, of the fields."""

REQUEST_TRACE_KEY = "request.trace_id"
"""The attribute that stands in for the trace's id where a record has no trace."""

PREFIX = "attributes."
"""What a field is given in front of its name if the line has a key of that name."""

# Of what JSON leaves as it is.
_HIDDEN = re.compile(f"[{HIDDEN}\ud800-\udfff]")
_CODE_KEYS = ("code.file.path", "code.function.name", "code.line.number")
_OWN_KEYS = (*_CODE_KEYS, "thread.id", "thread.name")
# Names with a meaning of their own, as fields or among otelog's own attributes.
_UNUSUAL_KEYS = frozenset((*LINE_KEYS, *_OWN_KEYS))
_SECOND_NS = 1_000_000_000
_NO_SECOND = -2 * _SECOND_NS
_THREE_DIGITS = tuple(f"{number:03d}" for number in range(1000))
_NO_SPAN = ',"trace_id":null,"span_id":null'
_dumps = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def build_line(
    *,
    time_ns: int,
    level: str,
    logger: str | None,
    message: AnyValue,
    module: str | None,
    function: str | None,
    line: int | None,
    thread: str | None,
    process: int | None,
    trace_id: str | None,
    span_id: str | None,
    event_name: str | None = None,
    fields: Mapping[str, AnyValue],
    discarded: int = 0,
) -> str:
    """Build one line of plain values.

    Args:
        time_ns: Nanoseconds since 1970; 0 if unknown.
        level: The severity's text, or its range's name.
        logger: The scope's name.
        message: The body.
        module: The stem of the source file's name.
        function: The function's name.
        line: The line in the source file.
        thread: The thread's name.
        process: The process's id.
        trace_id: 32 hexadecimal digits; without them, a field ``request.trace_id`` takes their place.
        span_id: 16 hexadecimal digits.
        event_name: What makes the record an event.
        fields: The record's attributes.
        discarded: Attributes that were left out over a limit.

    Returns:
        The line, without an end. Whatever is in it, it is one line, and steers no terminal.

    Raises:
        Exception: A value is not of its type. Safe in any thread.
    """
    if not trace_id:
        given = fields.get(REQUEST_TRACE_KEY)
        if type(given) is str and given:
            trace_id = given
            fields = {key: value for key, value in fields.items() if key != REQUEST_TRACE_KEY}
    values: dict[str, AnyValue] = {
        "timestamp": _timestamp(time_ns) if time_ns else None,
        "level": level,
        "logger": logger or None,
        "message": message,
        "module": module or None,
        "function": function or None,
        "line": line or None,
        "thread": thread or None,
        "process": process,
        "trace_id": trace_id or None,
        "span_id": span_id or None,
    }
    if event_name:
        values[EVENT_KEY] = event_name
    own = {*values, DISCARDED_KEY} if discarded else set(values)
    for key, value in fields.items():
        name = key
        while name in own or (name is not key and name in fields):
            name = PREFIX + name
        values[name] = value
    if discarded:
        values[DISCARDED_KEY] = discarded
    return hide(_dumps(to_json(values)))


def hide(line: str) -> str:
    """Returns a line of JSON with escapes for what JSON leaves as it is, but a terminal or an editor does not."""
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def to_json(value: AnyValue) -> Any:
    """Returns a value without what JSON lacks: bytes as base64, floats that are no numbers by their names."""
    kind: Any = type(value)
    content: Any = value
    if kind is str:
        return clean_text(content)
    if kind is float:
        return content if math.isfinite(content) else _name_float(content)
    if kind is bytes:
        return b64encode(content).decode("ascii")
    if kind is dict:
        return {clean_text(key): to_json(item) for key, item in content.items()}
    if kind is list:
        return [to_json(item) for item in content]
    return content


def find_module(file_path: str) -> str:
    """Returns what `logging` calls the module of a file: its name's stem."""
    return os.path.splitext(os.path.basename(file_path))[0]


def level_name(severity_number: int, severity_text: str | None) -> str:
    """Returns a record's level: its severity's text, or the name of its range."""
    return severity_text or severity_range(severity_number).upper()


def _name_float(value: float) -> str:
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _timestamp(time_ns: int) -> str:
    seconds, rest_ns = divmod(time_ns, _SECOND_NS)
    moment, zone = _second(seconds)
    return f"{moment}.{rest_ns // 1000:06d}{zone}"


def _second(seconds: int) -> tuple[str, str]:
    # Only whole seconds, so that no microsecond is rounded; the offset is the one that holds at that time.
    text = datetime.fromtimestamp(seconds, timezone.utc).astimezone().isoformat()
    return text[:19], text[19:]


class _Keys(dict[str, str]):
    """What stands before a field's value, by the field's name.

    Raises:
        _NotFastError: On look-up, for a name that needs a closer look.
    """

    __slots__ = ()

    def __missing__(self, key: str) -> str:
        usual = type(key) is str and 0 < len(key) <= MAX_KEY_LENGTH and key not in _UNUSUAL_KEYS
        if not usual or clean_text(key) != key:
            raise _NotFastError
        before = f",{encode_basestring(key)}:"
        if len(self) < MOST_CACHED_KEYS:
            self[key] = before
        return before


class _NotFastError(Exception):
    """A record that the fast loop leaves to the slow way."""


class _Place:
    """The constant parts of a line, of one source: before the message, and after it if the source knows its site."""

    __slots__ = ("after", "before", "source")

    def __init__(self, source: Source) -> None:
        self.source = source  # held, so that its id in the cache stays its own
        level = level_name(source.severity_number, source.severity_text)
        self.before = f'","level":{_text(level)},"logger":{_text(source.scope_name)},"message":'
        self.after = _site_text(source.site)


class LineRenderer:
    """Renders the rows of one pipeline as lines of JSON.

    Args:
        context: The pipeline.

    Thread safety: one thread at a time.
    """

    def __init__(self, context: ExportContext) -> None:
        self._attributes = context.attributes
        self._limits = context.attributes.limits
        self._fast = gives_all_attributes(context.attributes)
        # What may be over the limit is left to the slow way, which cuts it and says so.
        unlimited = self._limits.max_value_length is None
        self._encode_text = encode_basestring if unlimited else self._encode_short_text
        self._encode_other = self._encode_value if unlimited else _leave_to_slow_way
        # All of them are this object's own: those of a source belong to the OTLP encoder, in another thread.
        self._keys = _Keys()
        self._places: dict[int, _Place] = {}
        self._sites: dict[int, tuple[CodeType, bool, str]] = {}
        self._threads: dict[int, str] = {}
        self._spans: dict[int, str] = {}
        self._process = 0
        self._second_ns = _NO_SECOND
        self._moment = ""
        self._zone = ""
        self._last_ns = 0
        self._last_given_ns = 0

    def render(self, rows: list[Any], pause: Callable[[], object]) -> list[bytes | None]:
        """Render rows, `COLUMNS` values each.

        Args:
            rows: The values, as the queue gives them; they must stay as they are until this returns.
            pause: Called after every `PAUSE_EVERY` records.

        Returns:
            For each record its line with its end, or None for one that cannot be rendered. Never raises.
        """
        self._process = os.getpid()
        # Threads end, and their ids come back under other names; spans are distinguished by their objects.
        self._threads.clear()
        self._spans.clear()
        lines: list[bytes | None] = []
        step = PAUSE_EVERY * COLUMNS
        for start in range(0, len(rows), step):
            self._render_some(rows[start : start + step], lines.append)
            pause()
        self._spans.clear()
        return lines

    def _render_some(self, rows: list[Any], append: Callable[[bytes | None], None]) -> None:
        # One function: this loop is where a file's time goes, and a call for each record would cost it about 35 ns.
        # Names are local, and what did not change is reused.
        keys = self._keys
        encode_text = self._encode_text
        encode_other = self._encode_other
        digits = _THREE_DIGITS
        fast = self._fast
        last_ns = self._last_ns
        second_ns = self._second_ns
        moment = self._moment
        zone = self._zone
        last_source: object = None
        last_context: object = None
        last_code: object = None
        last_offset = -1
        last_thread = -1
        before = after = span = ""
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
                    base = _find_base(source, fields) if source.special else source
                    if base is None or not fast or base.sdk is not None:
                        raise _NotFastError
                    place = self._place_of(base)
                    before = place.before
                    after = (place.after if code is None else self._site_at(base, code, offset)) + self._thread(thread)
                    span = self._span(context)
                    last_source, last_code, last_offset = source, code, offset
                    last_context, last_thread = context, thread
                rest = span
                if fields:
                    if span is _NO_SPAN and REQUEST_TRACE_KEY in fields:
                        fields = dict(fields)  # noqa: PLW2901
                        rest = self._take_request_trace(fields)
                    for name, value in fields.items():
                        kind = type(value)
                        if kind is str:
                            rest += keys[name] + encode_text(value)
                        elif kind is float:
                            rest += (
                                f"{keys[name]}{value!r}"
                                if value - value == 0.0
                                else f'{keys[name]}"{_name_float(value)}"'
                            )
                        elif kind is int:
                            rest += f"{keys[name]}{value}"
                        elif kind is bool:
                            rest += keys[name] + ("true" if value else "false")
                        elif value is None:
                            rest += keys[name] + "null"
                        else:
                            rest += keys[name] + encode_other(value)
                # See next_time; here without a call.
                now_ns = last_ns + 1 if time_ns <= last_ns and last_ns - time_ns < OWN_CLOCK_WINDOW_NS else time_ns
                if not 0 <= now_ns - second_ns < _SECOND_NS:
                    moment, zone = self._begin_second(now_ns)
                    second_ns = self._second_ns
                micros = (now_ns - second_ns) // 1000
                line = (
                    f"{moment}{digits[micros // 1000]}{digits[micros % 1000]}{zone}{before}"
                    f"{encode_basestring(message % arguments if arguments else message)}{after}{rest}}}\n"
                )
                encoded = line.encode()
                if "\x7f" in line or (
                    len(encoded) != len(line)
                    and (b"\xe2" in encoded or b"\xc2" in encoded or b"\xd8" in encoded or b"\xef\xbb" in encoded)
                ):
                    # Of what must be hidden, each has one of these bytes in UTF-8.
                    encoded = hide(line).encode()
                last_ns = now_ns
                append(encoded)
            except Exception:
                self._last_ns = last_ns
                try:
                    encoded = self._render_slowly(
                        time_ns, source, context, message, arguments, fields, code, offset, thread
                    )
                except Exception:
                    append(None)
                else:
                    append(encoded)
                last_ns = self._last_ns
        self._last_ns = last_ns

    # The ways that are taken once for each site, thread, span and second, or by unusual records.

    def _render_slowly(
        self,
        time_ns: int,
        source: Any,
        context: Any,
        message: Any,
        arguments: tuple[Any, ...] | None,
        fields: dict[str, Any] | None,
        code: CodeType | None,
        offset: int,
        thread: int,
    ) -> bytes:
        attributes, discarded = self._attributes.build(source, message, arguments, fields, code, offset, thread)
        special: Special | None = source if source.special else None
        base: Source = special.source if special is not None else source
        site: CodeSite | None
        if base.sdk is None:
            site = base.site if code is None else find_site(code, offset, short_names=base.short_names)
            for key in _OWN_KEYS:
                if key in attributes and not (fields and key in fields):
                    del attributes[key]
        else:
            site = _take_site(attributes)
        known_ns, observed_ns = find_times(time_ns, None if base.sdk is None else offset, time.time_ns)
        # Without a time of its own it has that of its observation.
        time_ns = known_ns or observed_ns
        line = build_line(
            time_ns=self._next_time(source, time_ns) if time_ns else 0,
            level=level_name(base.severity_number, base.severity_text),
            logger=base.scope_name,
            message=build_body(message, arguments),
            module=None if site is None else find_module(site.file_path),
            function=None if site is None else site.function_name,
            line=None if site is None else site.line_number,
            thread=find_thread_name(thread) or str(thread),
            process=self._process,
            trace_id=_trace_id(context),
            span_id=_span_id(context),
            event_name=special.event_name if special is not None else None,
            fields=attributes,
            discarded=discarded,
        )
        return f"{line}\n".encode()

    def _next_time(self, source: Source | Special, time_ns: int) -> int:
        if source.given_time:
            time_ns = self._last_given_ns = next_time(time_ns, self._last_given_ns, GIVEN_TIME_WINDOW_NS)
        else:
            time_ns = self._last_ns = next_time(time_ns, self._last_ns, OWN_CLOCK_WINDOW_NS)
        return time_ns

    def _begin_second(self, time_ns: int) -> tuple[str, str]:
        seconds = time_ns // _SECOND_NS
        if seconds <= 0:
            raise _NotFastError
        moment, self._zone = _second(seconds)
        self._moment = f'{{"timestamp":"{moment}.'
        self._second_ns = seconds * _SECOND_NS
        return self._moment, self._zone

    def _place_of(self, source: Source) -> _Place:
        place = self._places.get(id(source))
        if place is None or place.source is not source:
            if len(self._places) >= MOST_CACHED_SITES:
                self._places.clear()
            place = self._places[id(source)] = _Place(source)
        return place

    def _site_at(self, source: Source, code: CodeType, offset: int) -> str:
        # The address of the instruction, or nearly; so the code object itself is compared too.
        address = id(code) + offset
        site = self._sites.get(address)
        if site is None or site[0] is not code or site[1] is not source.short_names:
            if len(self._sites) >= MOST_CACHED_SITES:
                self._sites.clear()
            text = _site_text(find_site(code, offset, short_names=source.short_names))
            site = self._sites[address] = (code, source.short_names, text)
        return site[2]

    def _thread(self, thread: int) -> str:
        text = self._threads.get(thread)
        if text is None:
            name = find_thread_name(thread) or str(thread)
            text = self._threads[thread] = f',"thread":{_text(name)},"process":{self._process}'
        return text

    def _span(self, context: Any) -> str:
        text = self._spans.get(id(context))
        if text is None:
            trace_id = _trace_id(context)
            text = _NO_SPAN
            if trace_id is not None:
                text = f',"trace_id":"{trace_id}","span_id":{_text(_span_id(context))}'
            self._spans[id(context)] = text
        return text

    def _take_request_trace(self, fields: dict[str, Any]) -> str:
        given = to_any_value(fields[REQUEST_TRACE_KEY], self._limits)
        if type(given) is not str or not given:
            return _NO_SPAN
        del fields[REQUEST_TRACE_KEY]
        return f',"trace_id":{encode_basestring(given)},"span_id":null'

    def _encode_short_text(self, value: str) -> str:
        if len(value) > self._limits.max_value_length:  # type: ignore[operator]
            raise _NotFastError
        return encode_basestring(value)

    def _encode_value(self, value: Any) -> str:
        return _dumps(to_json(to_any_value(value, self._limits)))


def _leave_to_slow_way(_: Any) -> str:
    raise _NotFastError


def _find_base(special: Special, fields: dict[str, Any] | None) -> Source | None:
    """Returns the source of a record that is nothing but large, or None."""
    if (
        special.exception is not None
        or special.stack is not None
        or special.event_name
        or special.discarded
        or special.given_time
        or (fields is not None and len(fields) > MOST_FIELDS)
    ):
        return None
    return special.source


def _text(value: str | None) -> str:
    return encode_basestring(clean_text(value)) if value else "null"


def _site_text(site: CodeSite | None) -> str:
    if site is None:
        return ',"module":null,"function":null,"line":null'
    return (
        f',"module":{_text(find_module(site.file_path))},"function":{_text(site.function_name)}'
        f',"line":{site.line_number or "null"}'
    )


def _take_site(attributes: dict[str, AnyValue]) -> CodeSite | None:
    """Take the call site of a record of the SDK's Logger out of its attributes, as far as they tell it."""
    path, function, line = (attributes.get(key) for key in _CODE_KEYS)
    taken = [type(path) is str, type(function) is str, type(line) is int]
    for key, fits in zip(_CODE_KEYS, taken, strict=True):
        if fits:
            del attributes[key]
    return CodeSite(
        path if isinstance(path, str) else "",
        function if isinstance(function, str) else "",
        line if type(line) is int else 0,
    )


def _trace_id(context: Any) -> str | None:
    return None if context is None or not context.trace_id else context.trace_id.to_bytes(16, "big").hex()


def _span_id(context: Any) -> str | None:
    if context is None or not context.trace_id or not context.span_id:
        return None
    return str(context.span_id.to_bytes(8, "big").hex())
