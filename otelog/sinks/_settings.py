"""The settings of the rotating files, and their checks."""

from __future__ import annotations

from otelog._config.table import FileOptions
from otelog._runtime.compression import check_zstd
from otelog.exceptions import ConfigurationError

STREAMS = ("app", "errors", "ai_responses")
"""The kinds of files: all records, those of ERROR and above, those of language models."""

LOCK_ALLOWANCE = 4096
"""Bytes that the folder's lock file may take of `max_total_bytes`."""


class FileSettings(FileOptions, without=("level",)):
    """How records are written to files: the options of the table without ``file_``."""

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
    checked = settings.checked()
    if checked.compression == "zstd":
        check_zstd()
    _check_total(checked)
    return checked


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
