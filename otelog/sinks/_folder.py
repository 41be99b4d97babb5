"""A folder of rotating log files, which several processes may write to."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import stat
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from itertools import accumulate

from otelog._runtime.diagnostics import warn
from otelog._runtime.inherited import Identity, close_file, identify, is_open
from otelog._runtime.threads import Lock
from otelog.sinks._folder_lock import (
    FolderLock,
    identify_path,
    open_in_folder,
)
from otelog.sinks._names import LogName, next_day_stamp, next_second_stamp
from otelog.sinks._packing import Packer
from otelog.sinks._retention import Retention, claim, unclaim
from otelog.sinks._settings import STREAMS, FileSettings

WRITE_BYTES = 1024 * 1024
"""Bytes that are written under the folder's lock at once, unless one line is longer."""

TIDY_SECONDS = 60.0
"""Seconds between two looks at the age of rotated files, while records come; a rotation looks as well."""

MOST_OWNERS = 100
"""Processes with the same id, in containers that share a folder, that each get files of their own."""


class WriteError(OSError):
    """Not all lines were written.

    Args:
        error: What the system said.
        path: Which file it is about.
        written: How many of the lines are in the file.
    """

    def __init__(self, error: OSError, path: str, written: int) -> None:
        super().__init__(error.errno or errno.EIO, error.strerror or str(error), path)
        self.written = written


class LineTooLargeError(WriteError):
    """The line after those that are written cannot be kept, whatever else is deleted."""


class _Live:
    """A file that is being written.

    Args:
        name: Its name.
        path: Its path.
        descriptor: Open for reading and appending.
        identity: What it is.
    """

    __slots__ = ("birth", "descriptor", "identity", "name", "path", "size")

    def __init__(self, name: LogName, path: str, descriptor: int, identity: Identity) -> None:
        self.name = name
        self.path = path
        self.descriptor = descriptor
        self.identity = identity
        self.birth: float | None = None
        self.size = -1
        """What this process has left it with."""

    def is_there(self) -> bool:
        """Returns whether the descriptor still is the file of this name."""
        return identify_path(self.path) == self.identity and is_open(self.descriptor, self.identity)

    def close(self) -> None:
        close_file(self.descriptor, self.identity)


class LogFolder:
    """Appends lines to the files of a folder, rotates them, has them packed, and keeps the limits.

    Whoever appends to a file, rotates or deletes one holds the folder's ``flock``, and looks whether the file that it
    has open still has its name. With `per_process`, appending needs no lock: a process has the ``flock`` of its own
    files, by which others see that it lives; what it leaves is rotated by the next process that rotates anything.

    A file's time begins with its first record, and is kept in the lock file; if that is lost, at the last record.

    Args:
        settings: Checked by `otelog.sinks._settings.check_settings`.
        clock: Seconds since 1970, for the names and times of rotation.

    Thread safety: all methods may be called by any thread; after a fork, the child opens files of its own.
    """

    def __init__(self, settings: FileSettings, *, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        # Absolute: an application may change its folder, as daemons do.
        self.path = os.path.abspath(settings.folder)
        self._clock = clock
        # Where the total is bounded, even an append changes what all processes share.
        self._appends_freely = settings.per_process and not settings.max_total_bytes
        self._lives: dict[str, _Live] = {}
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._mutex = Lock()
        self._lock = FolderLock(self.path)
        self._retention = Retention(self.path, self.settings, self._lock)
        self._packer = self._make_packer()
        self._next_tidy: float | None = None

    def _make_packer(self) -> Packer:
        return Packer(self.path, self.settings.compression, self._retention, self._hold)

    @contextmanager
    def _hold(self) -> Iterator[None]:
        with self._mutex, self._lock:
            yield

    def append(self, stream: str, lines: Sequence[bytes], *, until: float = math.inf) -> None:
        """Write lines to the files of one kind, in order.

        Args:
            stream: "app", "errors" or "ai_responses".
            lines: Each with its line end.
            until: Monotonic moment up to which other processes are waited for, if it comes before the patience's end.

        Raises:
            WriteError: Not all of them are written; `written` says how many are. Nothing of another one is left, so
                that the caller can go on there later. `LineTooLargeError`: it should go on behind the line after those.
        """
        if self._pid != os.getpid():
            self.restart_after_fork()
        ends = [0, *accumulate(map(len, lines))]
        written = 0
        try:
            while written < len(lines):
                # Not held for all of them: other processes wait.
                with self._mutex:
                    if self._appends_freely:
                        written = self._append_some(stream, lines, ends, written)
                    else:
                        with self._lock.until(until):
                            written = self._append_some(stream, lines, ends, written)
        except OSError as error:
            path = error.filename if isinstance(error.filename, str) else os.path.join(self.path, f"{stream}.log")
            kind = LineTooLargeError if error.errno == errno.EFBIG and error.filename == self.path else WriteError
            raise kind(error, path, written) from error

    def probe(self) -> None:
        """Make the folder, and see whether files can be made in it.

        Raises:
            OSError: They cannot.
        """
        with self._hold():
            self._lock.close()
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), self.path)

    def restart_after_fork(self) -> None:
        """Forget in a forked child what is the parent's: `otelog._runtime.inherited` closes it; open when needed."""
        if self._pid != os.getpid():
            self._lives.clear()
            self._start()

    def close(self, timeout: float = 5.0) -> None:
        """Close the files, and end the thread that packs; idempotent. A later `append` opens them again.

        Args:
            timeout: Seconds to wait for the thread, which leaves a file that it is packing as it was.
        """
        if self._pid != os.getpid():
            return
        deadline = time.monotonic() + timeout
        self._packer.close(timeout)
        # A thread that hangs in a write, as on a file server that is gone, keeps its file.
        if self._mutex.acquire(timeout=max(0.0, deadline - time.monotonic())):
            try:
                for stream in STREAMS:
                    self._let_go(stream)
                self._lock.close()
                self._packer = self._make_packer()
            finally:
                self._mutex.release()

    # With the mutex held, and the folder's lock but where a process appends freely.

    def _append_some(self, stream: str, lines: Sequence[bytes], ends: list[int], at: int) -> int:
        """Write as many lines as may be written at once; returns the number of those that are written by then."""
        now = self._clock()
        if self._next_tidy is None or not 0 <= self._next_tidy - now <= TIDY_SECONDS:
            self._tidy(now)
        limit = self.settings.file_limit(stream)
        if self.settings.max_total_bytes:
            # Nothing is rotated for a line that cannot be kept anyway; one byte more may have to end a torn line.
            self._retention.check_fits(ends[at + 1] - ends[at] + 1)
        may_rotate = True
        while True:
            live, size = self._ready(stream)
            if live.birth is None or not size:
                self._note_birth(live, size, now)
            torn = size and size != live.size and os.pread(live.descriptor, 1, size - 1) != b"\n"
            lead = 1 if torn else 0
            if size and may_rotate and self._is_due(live, size + lead + ends[at + 1] - ends[at], limit, now):
                may_rotate = self._rotate(stream, live, now)
                continue
            room = WRITE_BYTES if not limit else min(WRITE_BYTES, limit - size - lead)
            stop = max(at + 1, bisect_right(ends, ends[at] + room) - 1)
            need = ends[stop] - ends[at] + lead
            if not self.settings.max_total_bytes:
                break
            self._retention.make_room(need)
            if live.is_there():
                break
        whole = b"".join(lines[at:stop]) if stop - at > 1 else lines[at]
        return self._write(live, size, b"\n" + whole if torn else whole, lead, ends, at, stop)

    def _write(self, live: _Live, size: int, data: bytes, lead: int, ends: list[int], at: int, stop: int) -> int:
        written = 0
        try:
            while written < len(data):
                step = os.write(live.descriptor, data[written:] if written else data)
                if not step:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                written += step
        except OSError:
            # What is whole is in, and is not written again; a line that is half in is cut off. If that cannot be done,
            # the next write ends it.
            kept = max(at, bisect_right(ends, ends[at] + written - lead) - 1)
            live.size = -1
            with suppress(OSError):
                os.ftruncate(live.descriptor, size + lead + ends[kept] - ends[at] if kept > at else size)
            if kept == at:
                raise
            return kept
        live.size = size + written
        return stop

    def _is_due(self, live: _Live, size: int, limit: int, now: float) -> bool:
        if limit and size > limit:
            return True
        birth = now if live.birth is None else live.birth
        # Either way: a clock that was set back by more than the interval must not stop rotation.
        if self.settings.interval and abs(now - birth) >= self.settings.interval:
            return True
        return self.settings.daily and now > birth and local_day(now) > local_day(birth)

    def _ready(self, stream: str) -> tuple[_Live, int]:
        """Return the file of this kind, open, and its size."""
        live = self._lives.get(stream)
        if live is not None:
            if live.is_there():
                return live, os.fstat(live.descriptor).st_size
            self._let_go(stream)
        with self._lock:
            live = self._open(stream)
        self._lives[stream] = live
        return live, os.fstat(live.descriptor).st_size

    def _open(self, stream: str) -> _Live:
        if not self.settings.per_process:
            return self._open_name(LogName(stream))
        for number in range(1, MOST_OWNERS + 1):
            owner = f"{self._pid}" if number == 1 else f"{self._pid}-{number}"
            live = self._open_name(LogName(stream, owner))
            try:
                # Kept for as long as it is open: it tells that the file's writer is alive.
                fcntl.flock(live.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                live.close()
                if not isinstance(error, BlockingIOError):
                    raise
            else:
                return live
        raise OSError(errno.EEXIST, "other processes have all the names for this process's id", self.path)

    def _open_name(self, name: LogName) -> _Live:
        descriptor = open_in_folder(self.path, name.base, os.O_APPEND)
        found = os.fstat(descriptor)
        live = _Live(name, os.path.join(self.path, name.base), descriptor, identify(found))
        if not stat.S_ISREG(found.st_mode):
            live.close()
            raise OSError(errno.EINVAL, "it is not a regular file", live.path)
        return live

    def _let_go(self, stream: str) -> None:
        live = self._lives.pop(stream, None)
        if live is not None:
            live.close()

    def _note_birth(self, live: _Live, size: int, now: float) -> None:
        """Know when the file had its first record, which may be the one that is about to be written."""
        timed = self.settings.interval or self.settings.daily
        live.birth = now
        if not timed:
            return
        inode = live.identity[1]
        # What cannot be kept costs a rotation that comes too late after a restart, and nothing else.
        try:
            with self._lock:
                if size:
                    known = self._lock.read_births().get(live.name.base)
                    if known is not None and known[0] == inode:
                        live.birth = known[1]
                        return
                    live.birth = min(now, os.fstat(live.descriptor).st_mtime)
                self._lock.write_birth(live.name.base, inode, live.birth)
        except OSError as error:
            warn(f"file.birth:{self.path}", f"{self._lock.path} cannot be written: {error.strerror}")

    def _tidy(self, now: float) -> None:
        """Look after what is left in the folder by others, and after the age of rotated files."""
        self._next_tidy = now + TIDY_SECONDS
        try:
            with self._lock:
                self._adopt(now)
                self._retention.tidy(now)
                self._packer.wake()
        except OSError as error:
            self._tell("the folder cannot be tidied up", error)

    def _adopt(self, now: float) -> None:
        """Rotate the files of processes that are no more."""
        for file in self._retention.scan():
            if file.name.stamp or not file.name.owner:
                continue
            descriptor = claim(file.path)
            if descriptor is None:
                continue
            try:
                if file.size:
                    last = min(now, os.fstat(descriptor).st_mtime)
                    self._rename(file.name, file.path, last, now, over=True)
                else:
                    os.unlink(file.path)
            finally:
                unclaim(descriptor)

    def _rotate(self, stream: str, live: _Live, now: float) -> bool:
        """Give the file its final name. Returns whether that was possible; if not, it reports that."""
        birth = now if live.birth is None else live.birth
        try:
            with self._lock:
                if live.is_there():
                    self._rename(live.name, live.path, birth, now, over=local_day(now) > local_day(birth))
                self._let_go(stream)
                if self.settings.per_process:
                    self._adopt(now)
                self._retention.tidy(now)
                self._packer.wake()
        except FileNotFoundError:
            # The folder is gone: it will be made again.
            self._let_go(stream)
        except OSError as error:
            self._tell(f"{live.path} cannot be rotated", error)
            return False
        return True

    def _rename(self, name: LogName, path: str, birth: float, now: float, *, over: bool) -> None:
        kind = (name.stream, name.owner)
        taken = [
            file.name.stamp
            for file in self._retention.scan()
            if file.name.stamp and (file.name.stream, file.name.owner) == kind
        ]
        if self.settings.daily:
            stamp = next_day_stamp(local_day(birth), taken, is_over=over)
        else:
            stamp = next_second_stamp(now, taken)
        self._retention.keep_count(name.stream)
        os.rename(path, os.path.join(self.path, name._replace(stamp=stamp).base))

    def _tell(self, what: str, error: OSError) -> None:
        warn(f"file.rotation:{self.path}", f"{what} ({self.path}): {error.strerror}; it is tried again")


def local_day(moment: float) -> date:
    """Returns the day of this moment in local time."""
    found = time.localtime(moment)
    return date(found.tm_year, found.tm_mon, found.tm_mday)
