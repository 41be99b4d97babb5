"""What a server says in the body of an answer, read without a protobuf library."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

MAX_MESSAGE_CHARS = 200
"""How much of a server's own words a diagnostic quotes."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def read_partial_success(body: bytes) -> tuple[int, str]:
    """Read how many records a server that said "success" has rejected, and why.

    Args:
        body: An ``ExportLogsServiceResponse``.

    Returns:
        The number as the server said it (it may be more than were sent) and its message; ``(0, "")`` for a body that
        says nothing or cannot be read: the status was a success. Never raises.

    Source: OTLP, "Partial Success"; opentelemetry/proto/collector/logs/v1/logs_service.proto.
    """
    rejected, message = 0, b""
    try:
        for number, value in _read_fields(body):
            if number == 1 and isinstance(value, bytes):
                for inner, content in _read_fields(value):
                    if inner == 1 and isinstance(content, int):
                        rejected = content
                    elif inner == 2 and isinstance(content, bytes):
                        message = content
    except ValueError:
        return 0, ""
    if rejected >= 1 << 63:  # a negative int64
        rejected = 0
    return rejected, _tidy(message)


def read_error_message(headers: Mapping[str, str], body: bytes) -> str:
    """Read a server's explanation of a failure: the message of a ``google.rpc.Status``, or plain text.

    Args:
        headers: The answer's; by their names in small letters.
        body: What came with it.

    Returns:
        One printable line of bounded length, "" where there is none. Never raises.

    Source: OTLP, "Failures".
    """
    kind = headers.get("content-type", "").lower()
    # Loki does not say that what it sends is protobuf.
    if "protobuf" in kind or kind.startswith("application/octet-stream"):
        try:
            return _tidy(
                b"".join(value for number, value in _read_fields(body) if number == 2 and isinstance(value, bytes))
            )
        except ValueError:
            return ""
    return _tidy(body) if kind.startswith(("text/plain", "application/json")) else ""


def read_retry_delay(details: bytes) -> float | None:
    """Read how long a gRPC server asks its client to stay away.

    Args:
        details: A ``google.rpc.Status``, as in the trailer ``grpc-status-details-bin``.

    Returns:
        Seconds, never below zero, of the ``google.rpc.RetryInfo`` in it; None where there is none or it cannot be read.
        Never raises.

    Source: OTLP, "OTLP/gRPC Throttling"; google/rpc/status.proto, google/rpc/error_details.proto.
    """
    try:
        for detail in _read_messages(details, 3):
            fields = dict(_read_fields(detail))
            if fields.get(1) != _RETRY_INFO:
                continue
            seconds = nanos = 0
            info = fields.get(2, b"")
            for duration in _read_messages(info if isinstance(info, bytes) else b"", 1):
                values = dict(_read_fields(duration))
                seconds, nanos = (_to_signed(values.get(number, 0)) for number in (1, 2))
            return max(0.0, seconds + nanos / 1e9)
    except ValueError:
        return None
    return None


def _read_messages(data: bytes, number: int) -> Iterator[bytes]:
    return (value for found, value in _read_fields(data) if found == number and isinstance(value, bytes))


def _to_signed(value: int | bytes) -> int:
    if isinstance(value, bytes):
        return 0
    return value - (1 << 64) if value >= 1 << 63 else value


def _tidy(text: bytes) -> str:
    # A server's words go to standard error: no line breaks or terminal codes of its own making.
    line = _UNPRINTABLE.sub(" ", text[: 4 * MAX_MESSAGE_CHARS].decode("utf-8", "replace")).strip()
    return line if len(line) <= MAX_MESSAGE_CHARS else f"{line[: MAX_MESSAGE_CHARS - 1]}…"


def _read_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _read_varint(data, position)
            yield number, value
            continue
        if kind == _LENGTH:
            size, position = _read_varint(data, position)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"unknown wire type {kind}")
        if position + size > len(data):
            raise ValueError("a field ends after the message")
        yield number, data[position : position + size]
        position += size


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ValueError("a number ends after the message")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
    raise ValueError("a number is longer than 64 bits")
