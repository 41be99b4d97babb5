"""gzip and zstd, for all that packs or unpacks: request bodies, rotated files, the receivers' requests."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from otelog._runtime.late_import import load_module
from otelog.exceptions import ConfigurationError

# What packs does so beside an application that has better things to do.
_ZLIB_LEVEL = 1
_ISAL_LEVEL = 2
_GZIP_WBITS = 31
_ZSTD_LEVEL = 3

_ZSTD_SLICE_BYTES = 1024


class Compressor(Protocol):
    """What the libraries have in common."""

    def compress(self, data: bytes, /) -> bytes:
        """Take data in, and return what is packed so far."""

    def flush(self) -> bytes:
        """Return the rest."""


class DamagedError(ValueError):
    """These are not data of that compression."""


class TooLongError(ValueError):
    """There is more in it than may be."""


def make_compressor(compression: str) -> Compressor:
    """Return a new compressor: gzip by the library isal where it is installed, which takes a quarter of the time.

    Raises:
        ImportError: The library for zstd is missing.
    """
    if compression == "zstd":
        if sys.version_info >= (3, 14):
            return load_module("compression.zstd").ZstdCompressor(level=_ZSTD_LEVEL)  # type: ignore[no-any-return]
        return load_module("zstandard").ZstdCompressor(level=_ZSTD_LEVEL).compressobj()  # type: ignore[no-any-return]
    library, level = _gzip_library()
    return library.compressobj(level, zlib.DEFLATED, _GZIP_WBITS)  # type: ignore[no-any-return]


def _gzip_library() -> tuple[Any, int]:
    try:
        return load_module("isal.isal_zlib"), _ISAL_LEVEL
    except ImportError:
        return zlib, _ZLIB_LEVEL


def choose_compressor(compression: str) -> Callable[[bytes], bytes]:
    """Returns what packs a whole body: "gzip", "zstd" or "none".

    Raises:
        ConfigurationError: The compression's library is missing.
    """
    if compression == "gzip":
        return _Gzip().pack
    if compression == "none":
        return bytes
    library = check_zstd()
    if sys.version_info >= (3, 14):
        return lambda body: library.compress(body, _ZSTD_LEVEL)  # type: ignore[no-any-return]
    # One for all bodies: a new one allocates its tables.
    return library.ZstdCompressor(level=_ZSTD_LEVEL).compress  # type: ignore[no-any-return]


def check_zstd() -> Any:
    """Returns the library for zstd.

    Raises:
        ConfigurationError: There is none.
    """
    try:
        return load_module("compression.zstd" if sys.version_info >= (3, 14) else "zstandard")
    except ImportError:
        raise ConfigurationError("compression='zstd' needs the package zstandard: pip install 'otelog[zstd]'") from None


class _Gzip:
    """Packs bodies. The library is looked for once, with the first body: in the worker, and not at the start."""

    def __init__(self) -> None:
        self._found: tuple[Any, int] | None = None

    def pack(self, body: bytes) -> bytes:
        if self._found is None:
            self._found = _gzip_library()
        library, level = self._found
        compressor = library.compressobj(level, zlib.DEFLATED, _GZIP_WBITS)
        return compressor.compress(body) + compressor.flush()  # type: ignore[no-any-return]


def unpack_gzip(body: bytes, max_bytes: int | None = None) -> bytes:
    """Returns what is in a gzip body, of one part or several.

    Raises:
        DamagedError: It is no gzip, or not whole.
        TooLongError: There is more in it than `max_bytes`, if that is given; it is never held in full.
    """
    # Late: nobody who only sends needs them.
    import gzip
    import io

    try:
        plain = gzip.GzipFile(fileobj=io.BytesIO(body)).read(-1 if max_bytes is None else max_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DamagedError(str(error)) from error
    if max_bytes is not None and len(plain) > max_bytes:
        raise TooLongError
    return plain


def unpack_zstd(body: bytes, max_bytes: int | None = None) -> bytes:
    """Returns what is in a zstd body, of one frame or several.

    Raises:
        ImportError: The library is missing.
        DamagedError: It is no zstd, or not whole.
        TooLongError: There is more in it than `max_bytes`, if that is given; it is never held in full.
    """
    library = load_module("compression.zstd" if sys.version_info >= (3, 14) else "zstandard")
    plain = bytearray()
    try:
        while body:
            frame, start = library.ZstdDecompressor(), 0
            if sys.version_info < (3, 14):
                frame = frame.decompressobj()
            # In small slices, as one call returns all that its slice holds, which may be a great deal.
            while not frame.eof:
                if start >= len(body):
                    raise DamagedError("it ended early")
                plain += frame.decompress(body[start : start + _ZSTD_SLICE_BYTES])
                start += _ZSTD_SLICE_BYTES
                if max_bytes is not None and len(plain) > max_bytes:
                    raise TooLongError
            body = frame.unused_data + body[start:]
    except library.ZstdError as error:
        raise DamagedError(str(error)) from error
    return bytes(plain)
