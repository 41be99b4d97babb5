"""The settings of the rotating files, and their checks."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable
from typing import NamedTuple

from otelog._runtime.late_import import load_module
from otelog.exceptions import ConfigurationError

MIB = 1024 * 1024
COMPRESSIONS = ("gzip", "zstd", "none")
STREAMS = ("app", "errors", "ai_responses")
"""The kinds of files: all records, those of ERROR and above, those of language models."""

LOCK_ALLOWANCE = 4096
"""Bytes that the folder's lock file may take of `max_total_bytes`."""


class FileSettings(NamedTuple):
    """How records are written to files.

    Args:
        folder: Where the files are; made when it is missing.
        max_bytes: Size of one file before compression; 0 is no bound.
        interval: Seconds after a file's first record at which it is rotated; 0 is never.
        daily: Whether files are rotated at local midnight; a rotated file is named after the day that it holds.
        compression: Of rotated files: "gzip", "zstd" or "none".
        max_files: Rotated files of each kind that are kept; 0 is no bound.
        max_age_days: Days that rotated files are kept; 0 is no bound.
        max_total_bytes: Size of all files together, those being written included; 0 is no bound.
        per_process: Whether each process writes files of its own, with its id in their names.
        ai_loggers: Loggers whose records, and those of loggers below them, go to ``ai_responses.log``.
        ai_only: Whether records of ``ai_responses.log`` are left out of ``app.log``.
        ai_max_bytes: `max_bytes` for ``ai_responses.log``; 0 is the same.
        ai_max_files: `max_files` for ``ai_responses.log``; 0 is the same.
    """

    folder: str = "logs"
    max_bytes: int = 100 * MIB
    interval: float = 0.0
    daily: bool = False
    compression: str = "gzip"
    max_files: int = 10
    max_age_days: float = 0.0
    max_total_bytes: int = 0
    per_process: bool = False
    ai_loggers: tuple[str, ...] = ()
    ai_only: bool = False
    ai_max_bytes: int = 0
    ai_max_files: int = 0

    def file_limit(self, stream: str) -> int:
        """Returns the size of one file of this kind in bytes; 0 is no bound."""
        return (self.ai_max_bytes or self.max_bytes) if stream == "ai_responses" else self.max_bytes

    def count_limit(self, stream: str) -> int:
        """Returns how many rotated files of this kind are kept; 0 is no bound."""
        return (self.ai_max_files or self.max_files) if stream == "ai_responses" else self.max_files

    def least_total_bytes(self) -> int:
        """Returns the least `max_total_bytes`: for the files being written, one rotated, and its packed copy."""
        limits = [self.file_limit(stream) for stream in STREAMS]
        beside = 1 if self.compression == "none" else 2
        return sum(limits) + beside * max(limits) + LOCK_ALLOWANCE


def check_settings(settings: FileSettings) -> FileSettings:
    """Return the settings with every value of the kind that it is declared with.

    Raises:
        ConfigurationError: One cannot be used; the message says what is allowed.
    """
    values = settings._asdict()
    values["folder"] = _check_folder(settings.folder)
    for name in ("max_bytes", "max_files", "max_total_bytes", "ai_max_bytes", "ai_max_files"):
        _check_size(name, values[name])
    for name in ("interval", "max_age_days"):
        values[name] = _check_number(name, values[name])
    for name in ("daily", "per_process", "ai_only"):
        if not isinstance(values[name], bool):
            raise ConfigurationError(f"{name}={values[name]!r}: allowed is True, False")
    values["ai_loggers"] = _check_names("ai_loggers", settings.ai_loggers)
    checked = FileSettings(**values)
    _check_compression(checked.compression)
    _check_total(checked)
    return checked


def _check_folder(folder: object) -> str:
    try:
        path = os.fspath(folder)  # type: ignore[call-overload]
    except TypeError:
        path = None
    if not isinstance(path, str) or not path.strip() or "\0" in path:
        raise ConfigurationError(f"folder={folder!r}: allowed is a folder's path")
    return path


def _check_size(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigurationError(f"{name}={value!r}: allowed is a whole number >= 0")


def _check_number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ConfigurationError(f"{name}={value!r}: allowed is a number >= 0")
    return float(value)


def _check_names(name: str, value: object) -> tuple[str, ...]:
    names = tuple(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else None
    if names is None or not all(isinstance(one, str) and one for one in names):
        raise ConfigurationError(f"{name}={value!r}: allowed is a list of loggers' names")
    return names


def _check_compression(compression: object) -> None:
    if compression not in COMPRESSIONS:
        raise ConfigurationError(f"compression={compression!r}: allowed is {', '.join(COMPRESSIONS)}")
    if compression == "zstd" and sys.version_info < (3, 14):
        try:
            load_module("zstandard")
        except ImportError:
            raise ConfigurationError(
                "compression='zstd' needs the package zstandard: pip install 'otelog[zstd]'"
            ) from None


def _check_total(settings: FileSettings) -> None:
    if not settings.max_total_bytes:
        return
    if not settings.max_bytes:
        raise ConfigurationError("max_total_bytes needs max_bytes: a file that is never rotated cannot be bounded")
    least = settings.least_total_bytes()
    if settings.max_total_bytes < least:
        raise ConfigurationError(
            f"max_total_bytes={settings.max_total_bytes} is too small for files of max_bytes={settings.max_bytes}: "
            f"at least {least} are needed, or make max_bytes smaller"
        )
