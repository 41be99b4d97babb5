"""The lock of a folder: whoever holds it may write, rename and delete the folder's log files."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from otelog._runtime.inherited import Identity, close_file, identify, is_open, open_file
from otelog._runtime.threads import sleep

LOCK_NAME = ".otelog.lock"
FILE_MODE = 0o640
"""Permissions of the files that are made, less the process's umask: the owner's, readable for its group."""

FOLDER_MODE = 0o750
"""Permissions of a folder that is made, less the process's umask."""

LOCK_PATIENCE = 1.0
"""Seconds that one attempt waits for other processes; a process that is stopped while it holds the lock may keep it."""

_FIRST_PAUSE = 0.0002
_LONGEST_PAUSE = 0.005
_MOST_BIRTH_BYTES = 64 * 1024


def identify_path(path: str) -> Identity | None:
    """Returns what the file of this name is, or None if there is none."""
    try:
        return identify(os.stat(path, follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return None


def open_in_folder(folder: str, name: str, flags: int) -> int:
    """Open a file for reading and writing, and make it, and its folder, where they are missing.

    Raises:
        OSError: It cannot be opened.
    """
    path = os.path.join(folder, name)
    flags |= os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return open_file(path, flags, FILE_MODE)
    except FileNotFoundError:
        os.makedirs(folder, FOLDER_MODE, exist_ok=True)
        return open_file(path, flags, FILE_MODE)


class FolderLock:
    """An ``flock`` on one file of the folder; a context manager that may be nested.

    The file also keeps when the files that are being written had their first record, so that a restart does not begin
    their time anew: a line for each, with name, inode and seconds since 1970.

    Args:
        folder: The folder's path.

    Thread safety: none; `LogFolder` holds its own lock around it.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.path = os.path.join(folder, LOCK_NAME)
        self._descriptor = -1
        self._identity: Identity = (0, 0)
        self._depth = 0
        self._patience_ends = math.inf

    def __enter__(self) -> None:
        """Take the lock.

        Raises:
            OSError: It cannot be had.
        """
        if not self._depth:
            self._acquire(min(time.monotonic() + LOCK_PATIENCE, self._patience_ends))
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back."""
        self._depth -= 1
        if not self._depth and self._descriptor >= 0:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            except OSError:
                # Somebody has closed it, which has given it back as well.
                self._descriptor = -1

    @contextmanager
    def until(self, moment: float) -> Iterator[None]:
        """Hold the lock; others are waited for until this monotonic moment, or as long as ever."""
        self._patience_ends = moment
        try:
            with self:
                yield
        finally:
            self._patience_ends = math.inf

    def _acquire(self, deadline: float) -> None:
        while True:
            self._open()
            self._wait(deadline)
            # The folder may have been removed, and made again, while this waited.
            if identify_path(self.path) == self._identity:
                return
            if time.monotonic() >= deadline:
                raise OSError(errno.EAGAIN, "the lock file is replaced all the time", self.path)

    def _open(self) -> None:
        if self._descriptor >= 0:
            if identify_path(self.path) == self._identity and is_open(self._descriptor, self._identity):
                return
            self.close()
        self._descriptor = open_in_folder(self._folder, LOCK_NAME, 0)
        self._identity = identify(os.fstat(self._descriptor))

    def _wait(self, deadline: float) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise OSError(errno.EAGAIN, "another process holds the folder's lock", self.path) from None
            sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            close_file(descriptor, self._identity)

    def read_births(self) -> dict[str, tuple[int, float]]:
        """Returns inode and first record's time of each file by name; what cannot be read is left out. Holding it."""
        births: dict[str, tuple[int, float]] = {}
        for line in os.pread(self._descriptor, _MOST_BIRTH_BYTES, 0).splitlines():
            with suppress(ValueError):
                name, inode, birth = line.decode("ascii").split(" ")
                births[name] = int(inode), float(birth)
        return births

    def write_birth(self, name: str, inode: int, birth: float) -> None:
        """Keep when a file had its first record, and forget files that are no more. Holding it.

        Raises:
            OSError: It cannot be written.
        """
        births = {
            known: entry
            for known, entry in self.read_births().items()
            if os.path.exists(os.path.join(self._folder, known))
        }
        births[name] = inode, birth
        data = "".join(f"{name} {inode} {birth!r}\n" for name, (inode, birth) in births.items()).encode("ascii")
        os.pwrite(self._descriptor, data, 0)
        os.ftruncate(self._descriptor, len(data))
