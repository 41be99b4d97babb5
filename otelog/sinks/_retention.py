"""What is kept of rotated files: by number, age and size."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from otelog._runtime.diagnostics import warn
from otelog._runtime.inherited import close_file, identify, open_file, opening
from otelog.sinks._folder_lock import FolderLock, identify_path
from otelog.sinks._names import LogName, parse_name, read_time
from otelog.sinks._settings import FileSettings

DAY_SECONDS = 86_400.0


class LogFile(NamedTuple):
    """A log file as it lies in the folder."""

    name: LogName
    path: str
    size: int


class Retention:
    """Deletes what is over the limits; each method is called by whoever holds the folder's lock.

    Only files that are ours by their whole name are seen at all. What cannot be deleted is reported, and left.

    Args:
        folder: The folder's path.
        settings: The limits.
        lock: The folder's lock.
    """

    def __init__(self, folder: str, settings: FileSettings, lock: FolderLock) -> None:
        self._folder = folder
        self._settings = settings
        self._lock = lock

    def scan(self) -> list[LogFile]:
        """Returns all log files of the folder, oldest rotated ones first."""
        return sorted(self._find(), key=lambda file: file.name.order)

    def _find(self) -> Iterator[LogFile]:
        # A fork in the middle would leave its child the folder's descriptor.
        with opening.lock, os.scandir(self._folder) as entries:
            listed = list(entries)
        for entry in listed:
            name = parse_name(entry.name)
            if name is not None:
                with suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode):
                        yield LogFile(name, entry.path, found.st_size)

    def tidy(self, now: float) -> None:
        """Finish what a process that was killed has left, and keep the limits by number and age."""
        by_base = group(self.scan())
        for files in by_base.values():
            self._tidy_one(files)
        self.keep_count("", by_base)
        if self._settings.max_age_days:
            oldest = now - self._settings.max_age_days * DAY_SECONDS
            for files in by_base.values():
                rotated = read_time(files[0].name.stamp)
                if rotated is not None and rotated < oldest:
                    self._delete(files)

    def _tidy_one(self, files: list[LogFile]) -> None:
        raw = [file for file in files if not file.name.packing]
        if any(file.name.packing and not file.name.unfinished for file in files):
            # It was packed, and not yet deleted: each record belongs into one file.
            for file in raw:
                self._remove(file.path)
        for file in files:
            if file.name.unfinished and not any(is_claimed(one.path) for one in raw):
                self._remove(file.path)

    def keep_count(self, stream: str, by_base: dict[str, list[LogFile]] | None = None) -> None:
        """Keep the limits by number, and make room for one more file of this kind ("": of none)."""
        by_kind: dict[str, list[list[LogFile]]] = {}
        for files in (group(self.scan()) if by_base is None else by_base).values():
            by_kind.setdefault(files[0].name.stream, []).append(files)
        for kind, bases in by_kind.items():
            limit = self._settings.count_limit(kind)
            if limit:
                for files in bases[: max(0, len(bases) + (kind == stream) - limit)]:
                    self._delete(files)

    def make_room(self, size: int, *, keep: str = "") -> bool:
        """Make the folder's total leave room for so many bytes more.

        The oldest rotated files go first. If there are none left, which only other settings than today's can have
        caused, the largest file that is being written goes.

        Args:
            size: Bytes that will be written.
            keep: The base of a rotated file that is being packed: neither it nor a file being written may go for that.

        Returns:
            Whether there is room; also True where nothing more can be deleted that should be.

        Raises:
            OSError: The bytes alone are over the limit (EFBIG).
        """
        if not self._settings.max_total_bytes:
            return True
        limit = self.check_fits(size)
        total = sum(file.size for file in self._find())
        if total + size <= limit:
            return True
        files = self.scan()
        for base, group_files in group(files).items():
            if base != keep:
                total -= self._delete(group_files)
                if total + size <= limit:
                    return True
        if keep:
            return False
        for file in sorted((file for file in files if not file.name.stamp), key=lambda file: -file.size):
            total -= self._delete([file])
            if total + size <= limit:
                break
        return True

    def check_fits(self, size: int) -> int:
        """Return how many bytes all files together may have, as `max_total_bytes` is set.

        Raises:
            OSError: So many bytes alone are more (EFBIG).
        """
        limit = self._settings.max_total_bytes
        with suppress(FileNotFoundError):
            limit -= os.stat(self._lock.path).st_size
        if size > limit:
            raise OSError(errno.EFBIG, "a line alone is over max_total_bytes", self._folder)
        return limit

    def _delete(self, files: list[LogFile]) -> int:
        # The unfinished one first, then the raw one: whatever is left if the process is killed here is whole.
        return sum(
            file.size
            for file in sorted(files, key=lambda file: (not file.name.unfinished, file.name.packing))
            if self._remove(file.path)
        )

    def _remove(self, path: str) -> bool:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            warn(f"file.retention:{self._folder}", f"{path} cannot be deleted: {error.strerror}")
            return False
        return True


def group(files: list[LogFile]) -> dict[str, list[LogFile]]:
    """Returns rotated files by their base, oldest first: a file and its packed copy are one."""
    by_base: dict[str, list[LogFile]] = {}
    for file in files:
        if file.name.stamp:
            by_base.setdefault(file.name.base, []).append(file)
    return by_base


def claim(path: str) -> int | None:
    """Open a file and take its own lock, for as long as the descriptor is open.

    Returns:
        The descriptor, to be closed by `unclaim`, or None if another process has it or there is no such file.
    """
    try:
        descriptor = open_file(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if identify_path(path) == identify(os.fstat(descriptor)):
            return descriptor
    except BlockingIOError:
        pass
    except BaseException:
        unclaim(descriptor)
        raise
    unclaim(descriptor)
    return None


def unclaim(descriptor: int) -> None:
    """Give a claim back."""
    with suppress(OSError):
        close_file(descriptor, identify(os.fstat(descriptor)))


def is_claimed(path: str) -> bool:
    """Returns whether a process has the file's own lock."""
    try:
        descriptor = claim(path)
    except OSError:
        return True
    if descriptor is None:
        return identify_path(path) is not None
    unclaim(descriptor)
    return False
