"""A record that is over a request's limit, cut until it is not: pure, from OTLP bytes to OTLP bytes.

It works on the encoded record, as nothing else is left of it by then; so it costs nothing until a record is too large.

Source: opentelemetry/proto/logs/v1/logs.proto and common/v1/common.proto, OTLP 1.x.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from otelog._record.values import BODY_NAME, TRUNCATED_KEY

LEAST_TEXT_BYTES = 16
"""A text is not cut below this: what was left of it would say nothing, and the name of what was cut is as long."""

MOST_ROUNDS = 64
"""Attempts to meet the limit. Each cuts more than the one before, by halves in the end, so that few are needed."""

_BODY, _ATTRIBUTE = 5, 6
_STRING, _ARRAY, _ENTRIES, _BYTES = 1, 5, 6, 7
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def truncate_record(record: bytes, max_bytes: int) -> bytes | None:
    """Cut a record's texts, the longest first, until it has at most `max_bytes`.

    The longest texts are cut to one length: those that are shorter stay whole. Where texts alone do not do, the largest
    lists and mappings lose their last elements. What was cut is named by the attribute ``otelog.truncated``: the
    attributes' keys, and ``body``.

    Args:
        record: A ``LogRecord`` with the tag and length that it has in ``ScopeLogs``.
        max_bytes: The most that the result may have, tag and length included.

    Returns:
        The record, or None if it cannot be made small enough. A text is cut between two characters.

    Raises:
        ValueError: `record` is not what the encoder makes.
    """
    parts = _Parts(_content(record))
    room = max_bytes - parts.measure_structure()
    for _ in range(MOST_ROUNDS):
        result = parts.cut(room)
        if len(result) <= max_bytes:
            return result
        if parts.length > LEAST_TEXT_BYTES:
            # The names of what was cut take room, too.
            room -= len(result) - max_bytes
        elif parts.drop_elements():
            room = max_bytes - parts.measure_structure()
        else:
            break
    return None


class _Text:
    """A string or bytes value."""

    __slots__ = ("content", "number")

    def __init__(self, number: int, content: bytes) -> None:
        self.number = number
        self.content = content

    def texts(self) -> Iterator[_Text]:
        yield self

    def encode(self, length: int) -> bytes:
        content = self.content
        if len(content) > length:
            if self.number == _STRING:
                # Back to where a character begins.
                while length and content[length] & 0xC0 == 0x80:
                    length -= 1
            content = content[:length]
        return _sized(self.number, content)


class _Container:
    """A list, or a mapping whose elements have their keys in front."""

    __slots__ = ("elements", "is_cut", "number")

    def __init__(self, number: int, elements: list[tuple[bytes, _Value]]) -> None:
        self.number = number
        self.elements = elements
        self.is_cut = False

    def texts(self) -> Iterator[_Text]:
        for _, value in self.elements:
            if not isinstance(value, bytes):
                yield from value.texts()

    def encode(self, length: int) -> bytes:
        encoded = []
        for key, value in self.elements:
            content = value if isinstance(value, bytes) else value.encode(length)
            encoded.append(_sized(1, key + _sized(2, content) if self.number == _ENTRIES else content))
        return _sized(self.number, b"".join(encoded))


_Value = _Text | _Container | bytes


class _Item:
    """The body, or an attribute."""

    __slots__ = ("head", "name", "number", "value")

    def __init__(self, number: int, name: str, head: bytes, value: _Value) -> None:
        self.number = number
        self.name = name
        self.head = head
        self.value = value

    def is_cut(self, length: int) -> bool:
        if isinstance(self.value, bytes):
            return False
        if any(container.is_cut for container in _containers(self.value)):
            return True
        return any(len(text.content) > length for text in self.value.texts())

    def encode(self, length: int) -> bytes:
        value = self.value if isinstance(self.value, bytes) else self.value.encode(length)
        return _sized(self.number, value if self.number == _BODY else self.head + _sized(2, value))


class _Parts:
    """A record in pieces, in their order."""

    def __init__(self, content: bytes) -> None:
        self.length = 0
        """What texts were cut to by the last `cut`, in bytes."""
        self._pieces: list[_Item | bytes] = []
        self._named: list[str] = []
        for number, kind, raw, value in _fields(content):
            if kind != _LENGTH or number not in (_BODY, _ATTRIBUTE):
                self._pieces.append(raw)
                continue
            item = _read_item(number, value)
            if item.number == _ATTRIBUTE and item.name == TRUNCATED_KEY:
                # It was cut before: by a limit on attributes, or by a server's.
                self._named += _read_names(item.value)
            else:
                self._pieces.append(item)
        self._items = [piece for piece in self._pieces if isinstance(piece, _Item)]

    def measure_structure(self) -> int:
        """Returns the size of the record in bytes, less that of its texts."""
        lengths = [len(text) for text in self._text_contents()]
        return len(self._encode(max(lengths, default=0), ())) - sum(lengths)

    def cut(self, room: int) -> bytes:
        """Returns the record with its longest texts cut, so that all texts have `room` bytes together if they can."""
        self.length = _find_length(sorted(map(len, self._text_contents())), room)
        names = dict.fromkeys(self._named)
        for item in self._items:
            if item.is_cut(self.length):
                names[item.name] = None
        return self._encode(self.length, names)

    def _encode(self, length: int, names: Collection[str]) -> bytes:
        pieces = [piece if isinstance(piece, bytes) else piece.encode(length) for piece in self._pieces]
        if names:
            marker = b"".join(_sized(1, _sized(_STRING, name.encode())) for name in names)
            pieces.append(_sized(_ATTRIBUTE, _sized(1, TRUNCATED_KEY.encode()) + _sized(2, _sized(_ARRAY, marker))))
        return _sized(2, b"".join(pieces))

    def drop_elements(self) -> bool:
        """Drop the last half of the largest lists and mappings; returns whether there were any."""
        sizes = [
            (len(container.encode(LEAST_TEXT_BYTES)), container)
            for item in self._items
            if isinstance(container := item.value, _Container) and container.elements
        ]
        largest = max((size for size, _ in sizes), default=0)
        for size, container in sizes:
            if 2 * size >= largest:
                while len(container.elements) == 1:
                    inner = container.elements[0][1]
                    if not isinstance(inner, _Container) or not inner.elements:
                        break
                    container = inner  # noqa: PLW2901
                container.is_cut = True
                del container.elements[len(container.elements) // 2 :]
        return bool(sizes)

    def _text_contents(self) -> Iterator[bytes]:
        for item in self._items:
            if not isinstance(item.value, bytes):
                for text in item.value.texts():
                    yield text.content


def _containers(value: _Value) -> Iterator[_Container]:
    if isinstance(value, _Container):
        yield value
        for _, element in value.elements:
            yield from _containers(element)


def _find_length(lengths: list[int], room: int) -> int:
    """Returns the greatest length to which texts of these lengths, in order, are cut so that they have `room` bytes."""
    before = 0
    for at, length in enumerate(lengths):
        left = len(lengths) - at
        if before + length * left > room:
            return max(LEAST_TEXT_BYTES, (room - before) // left)
        before += length
    return max(LEAST_TEXT_BYTES, lengths[-1] if lengths else 0)


def _read_item(number: int, content: bytes) -> _Item:
    if number == _BODY:
        return _Item(number, BODY_NAME, b"", _read_value(content))
    head, name, value = b"", b"", b""
    for field, _, raw, inner in _fields(content):
        if field == 1:
            head, name = raw, inner
        elif field == 2:
            value = inner
    return _Item(number, name.decode("utf-8", "replace"), head, _read_value(value))


def _read_value(content: bytes) -> _Value:
    for number, kind, _, inner in _fields(content):
        if kind != _LENGTH:
            break
        if number in (_STRING, _BYTES):
            return _Text(number, inner)
        if number == _ARRAY:
            return _Container(number, [(b"", _read_value(item)) for field, _, _, item in _fields(inner) if field == 1])
        if number == _ENTRIES:
            entries = [_read_item(_ATTRIBUTE, entry) for field, _, _, entry in _fields(inner) if field == 1]
            return _Container(number, [(entry.head, entry.value) for entry in entries])
    return content


def _read_names(value: _Value) -> list[str]:
    return [text.content.decode("utf-8", "replace") for text in value.texts()] if isinstance(value, _Container) else []


def _content(record: bytes) -> bytes:
    [(_, _, _, content)] = _fields(record)
    return content


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Yields each field's number and wire type, the whole of it, and its content where it has a length."""
    at = 0
    while at < len(data):
        start = at
        key, at = _read_varint(data, at)
        kind = key & 7
        begin = at
        if kind == _VARINT:
            _, at = _read_varint(data, at)
        elif kind == _LENGTH:
            size, begin = _read_varint(data, at)
            at = begin + size
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"unknown wire type {kind}")
        if at > len(data):
            raise ValueError("a field ends after its message")
        yield key >> 3, kind, data[start:at], data[begin:at]


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number does not end")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _sized(number: int, content: bytes) -> bytes:
    header = bytearray((number << 3 | _LENGTH,))
    size = len(content)
    while size > 127:
        header.append(size & 127 | 128)
        size >>= 7
    header.append(size)
    return bytes(header) + content
