"""Compression of request bodies and of rotated files, by the best library that is installed.

It is done once for each byte, beside an application that has better things to do: the levels are low.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from otelog._runtime.late_import import load_module
from otelog.exceptions import ConfigurationError

__all__ = ["Compressor", "check_zstd", "choose_compressor", "make_compressor"]

_ZLIB_LEVEL = 1
_ISAL_LEVEL = 2
_ZSTD_LEVEL = 3
_GZIP_WBITS = 31


class Compressor(Protocol):
    """What the libraries have in common."""

    def compress(self, data: bytes, /) -> bytes:
        """Take data in, and return what is packed so far."""

    def flush(self) -> bytes:
        """Return the rest."""


class _Gzip:
    """Packs by the library isal where it is installed: it takes a quarter of the time, and packs tighter."""

    def __init__(self) -> None:
        self._library: Any = None
        self._level = 0

    def make_compressor(self) -> Compressor:
        if self._library is None:
            # Late, so that it costs the worker's time and not the start's.
            try:
                self._library, self._level = load_module("isal.isal_zlib"), _ISAL_LEVEL
            except ImportError:
                self._library, self._level = zlib, _ZLIB_LEVEL
        compressor: Compressor = self._library.compressobj(self._level, zlib.DEFLATED, _GZIP_WBITS)
        return compressor

    def compress(self, body: bytes) -> bytes:
        packer = self.make_compressor()
        return packer.compress(body) + packer.flush()


def _load_zstd() -> Any:
    return load_module("compression.zstd" if sys.version_info >= (3, 14) else "zstandard")


def check_zstd() -> None:
    """See that there is a library for zstd.

    Raises:
        ConfigurationError: There is none.
    """
    try:
        _load_zstd()
    except ImportError:
        raise ConfigurationError("compression='zstd' needs the package zstandard: pip install 'otelog[zstd]'") from None


def choose_compressor(compression: str) -> Callable[[bytes], bytes]:
    """Returns what packs a whole body.

    Args:
        compression: "gzip", "zstd" or "none".

    Raises:
        ConfigurationError: The compression's library is missing.
    """
    if compression == "gzip":
        return _Gzip().compress
    if compression == "none":
        return bytes
    check_zstd()
    if sys.version_info >= (3, 14):
        library = _load_zstd()
        return lambda body: bytes(library.compress(body, _ZSTD_LEVEL))
    compress: Callable[[bytes], bytes] = _load_zstd().ZstdCompressor(level=_ZSTD_LEVEL).compress
    return compress


def make_compressor(compression: str) -> Compressor:
    """Returns a new compressor for one file.

    Args:
        compression: "gzip" or "zstd".

    Raises:
        ImportError: The library for zstd is gone.
    """
    if compression == "gzip":
        return _Gzip().make_compressor()
    made = _load_zstd().ZstdCompressor(level=_ZSTD_LEVEL)
    compressor: Compressor = made if sys.version_info >= (3, 14) else made.compressobj()
    return compressor
