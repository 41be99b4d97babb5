"""What a receiver takes from strangers, and from whom: bounds on a request by what is decoded, and the Host check.

A few kilobytes can decode to millions of records: so everything is counted while it is decoded, and on the wire, before
any object is made of it. Pure functions, for any receiver of OTLP/HTTP.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from otelog._runtime.compression import DamagedError, TooLongError, unpack_gzip, unpack_zstd

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

MIB = 1024 * 1024

_UNPACK = {"gzip": unpack_gzip, "zstd": unpack_zstd}
_LENGTH = 2
_SKIPPED = {1: 8, 5: 4}
_JSON_TOKEN = re.compile(rb'"[^"]*"?|[\[{,]')
_HOST = re.compile(r"(?P<name>\[[^\]]*\]|[^:\[\]]*)(?::\d*)?")


class RefusedError(Exception):
    """A request that is not taken: the status of the answer, and what is wrong in words for its sender."""

    def __init__(self, status: HTTPStatus, detail: str, *, close: bool = False) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.close = close


class Bounds(NamedTuple):
    """The most that one request may have; more is answered 413.

    Args:
        body_bytes: Its body, before and after decompression.
        metrics_bytes: The same for metrics, whose packed numbers take eight times as much once they are decoded.
        records: Its log records.
        fields: Its fields on the wire, or values in JSON, at any depth: each may become an object.
        text: Characters of what is made of it: names that are sent once may stand in every record's line.
    """

    body_bytes: int = 64 * MIB
    metrics_bytes: int = 16 * MIB
    records: int = 100_000
    fields: int = 1_000_000
    text: int = 128 * MIB


DEFAULT_BOUNDS = Bounds()
MAX_NAME_LENGTH = 1024
"""Characters of a name that is kept for longer than its request, such as a service's."""


def decompress(body: bytes, encoding: str, *, max_bytes: int) -> bytes:
    """Undo a content coding: gzip, zstd or identity.

    Args:
        body: The bytes as they were sent.
        encoding: The coding's name in lower case.
        max_bytes: The longest result.

    Raises:
        RefusedError: An unknown coding, damaged data, or a result over `max_bytes`, which is never held in full.
    """
    if encoding in ("", "identity"):
        if len(body) > max_bytes:
            raise too_large(f"the body is over {max_bytes} bytes")
        return body
    if encoding not in _UNPACK:
        raise RefusedError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Content-Encoding {encoding[:40]} is unknown; gzip, zstd or identity"
        )
    try:
        return _UNPACK[encoding](body, max_bytes)
    except ImportError as error:
        raise RefusedError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "zstd bodies need the package zstandard here; gzip does not"
        ) from error
    except TooLongError:
        raise too_large(f"the body is over {max_bytes} bytes") from None
    except DamagedError as error:
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"the {encoding} body is damaged: {error}") from error


Schema: TypeAlias = "dict[int, Schema | None]"
"""Of a kind of message: its fields by number, None for what is no message."""


def make_schema(message: Descriptor) -> Schema:
    """Returns what `check_protobuf` needs to know of a kind of message."""
    return _make_schema(message, {})


def _make_schema(message: Descriptor, known: dict[str, Schema]) -> Schema:
    schema = known.get(message.full_name)
    if schema is None:
        # Known before its fields are: an AnyValue is inside itself.
        schema = known[message.full_name] = {}
        for field in message.fields:
            inner = field.message_type
            schema[field.number] = None if inner is None else _make_schema(inner, known)
    return schema


def check_protobuf(body: bytes, schema: Schema, record: Schema | None, bounds: Bounds) -> None:
    """Count a request's records and fields before it is decoded.

    Args:
        body: The encoded request.
        schema: Of the request.
        record: Of a record, which is in `schema`; None if it has none.
        bounds: What may be in it.

    Raises:
        RefusedError: It has too much.
        ValueError: It is damaged.
    """
    # No field is shorter than two bytes: a body that cannot have too many need not be looked through to its depths.
    whole = len(body) > 2 * bounds.fields
    fields = records = 0
    todo = [(0, len(body), schema)]
    while todo:
        at, end, known = todo.pop()
        while at < end:
            key, at = _read_varint(body, at, end)
            fields += 1
            if fields > bounds.fields:
                raise too_large(f"the request has over {bounds.fields} fields")
            kind = key & 7
            if kind == _LENGTH:
                size, at = _read_varint(body, at, end)
                if at + size > end:
                    raise _damaged()
                inner = known.get(key >> 3)
                if inner is not None:
                    if inner is record:
                        records += 1
                        if records > bounds.records:
                            raise too_large(f"the request has over {bounds.records} records")
                    if whole or inner is not record:
                        todo.append((at, at + size, inner))
                at += size
            elif kind == 0:
                _, at = _read_varint(body, at, end)
            elif kind in _SKIPPED:
                at += _SKIPPED[kind]
            else:
                raise _damaged()
        if at > end:
            raise _damaged()


def _read_varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = body[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise _damaged()


def _damaged() -> ValueError:
    return ValueError("it is damaged")


def check_json(body: bytes, bounds: Bounds) -> None:
    """Count a document's values before it is decoded.

    Raises:
        RefusedError: It has too many.
    """
    # No value but the last is shorter than two bytes, with what is behind it.
    if len(body) <= 2 * bounds.fields:
        return
    # Without escapes, so that a quotation mark begins or ends a text.
    body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    for number, _ in enumerate(_JSON_TOKEN.finditer(body), 1):
        if number > bounds.fields:
            raise too_large(f"the request has over {bounds.fields} values")


def check_record_count(count: int, bounds: Bounds) -> None:
    """Refuse a request of more records than it may have; raises `RefusedError`."""
    if count > bounds.records:
        raise too_large(f"the request has over {bounds.records} records")


def check_text_length(length: int, bounds: Bounds) -> None:
    """Refuse a request whose records are longer than they may be, rendered; raises `RefusedError`."""
    if length > bounds.text:
        raise too_large(f"the request's records take over {bounds.text} characters")


def too_large(detail: str) -> RefusedError:
    """Returns what a request that is over a bound is answered with."""
    return RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, close=True)


def check_host(hosts: Collection[str], allowed: Collection[str]) -> None:
    """Refuse a request that was sent to a name which is not ours.

    A page in a browser can have its own name lead to this machine (DNS rebinding), and then read what is here as if it
    were its own; but it cannot choose the name that the browser sends. Loopback names and addresses are always ours.

    Args:
        hosts: What the request calls the server: its ``Host`` headers, and the host of its target if that is a URL.
        allowed: Further names in lower case. An address that stands for all of the machine's (0.0.0.0, ::) allows any
            address, but no name.

    Raises:
        RefusedError: Another name, or what is no name. No name at all is no browser's, and is taken.
    """
    for host in hosts:
        found = _HOST.fullmatch(host.strip())
        name = found["name"].lower().rstrip(".") if found else ""
        if not _is_ours(name, allowed):
            raise RefusedError(
                HTTPStatus.MISDIRECTED_REQUEST,
                "this receiver answers to localhost, and to the names of --host and --allow-host",
                close=True,
            )


def _is_ours(name: str, allowed: Collection[str]) -> bool:
    if name == "localhost" or name.endswith(".localhost") or name in allowed:
        return True
    address = _read_address(name)
    if address is None:
        return False
    if address.is_loopback:
        return True
    others = [one for one in map(_read_address, allowed) if one is not None]
    return address in others or any(one.is_unspecified for one in others)


def _read_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
