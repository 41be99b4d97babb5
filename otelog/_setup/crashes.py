"""What a crash of the interpreter leaves behind: written by `faulthandler` at once, and a record at the next start.

Each process has a file of its own in the folder, and holds an ``flock`` on it for as long as it lives: a file that
nobody holds is of a process that has ended, whoever has its process id by now. An empty one says that it has ended
without a crash. What is in another becomes one record; the file is removed when that has been delivered.
"""

from __future__ import annotations

import faulthandler
import os
import re
import time
import weakref
from datetime import datetime, timezone
from stat import S_ISREG
from typing import Any

from otelog._capture.active_pipeline import ACTIVE_PIPELINE, UnconfiguredPort
from otelog._record.row import Source
from otelog._runtime.diagnostics import warn
from otelog._runtime.inherited import Identity, close_file, identify, open_file
from otelog._runtime.lifetime import unwatch, watch_pipeline
from otelog._runtime.replacing import keep
from otelog._runtime.threads import start_thread
from otelog._setup.state import CONFIGURED

try:
    import fcntl as _fcntl
except ImportError:
    _fcntl = None  # type: ignore[assignment]

fcntl: Any = _fcntl
"""None on a platform without it, which has no way to tell whose file is whose."""

CRASH_EVENT = "crash"
"""The event name of the record."""

SCOPE = "faulthandler"
MOST_TEXT_BYTES = 64 * 1024
"""Bytes of a file that are read: it begins with what has happened."""

MOST_REPORTED = 100
"""Files that one start reports; the next one goes on."""

FILE_MODE = 0o640
FOLDER_MODE = 0o750
DELIVERY_SECONDS = 30.0
"""How long one attempt waits for the delivery of what was found."""

_NAME = re.compile(r"crash-(\d+)-[0-9a-f]+\.txt")


class _Target:
    """What `faulthandler` holds on to, until it is disabled or enabled with another file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """Return the descriptor that it writes to."""
        return self._descriptor

    def flush(self) -> None:
        """There is nothing in between."""


class _Found:
    """A file of a process that has crashed, held by this process until its record has been delivered."""

    def __init__(self, path: str, descriptor: int, identity: Identity) -> None:
        self.path = path
        self.descriptor = descriptor
        self.identity = identity

    def remove(self) -> None:
        """Remove the file, which nobody reports again. Never raises."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            warn(
                f"crash_folder:{self.path}",
                f"{self.path} cannot be removed, and is reported at each start: {error.strerror}",
            )
        self.let_go()

    def let_go(self) -> None:
        """Leave the file to whoever starts next."""
        close_file(self.descriptor, self.identity)


class CrashFolder:
    """This process's file, and those that were found.

    It is told of forks and of the process's end as a pipeline that ends after all others.
    """

    ends_last = True

    def __init__(self, folder: str) -> None:
        self.folder = os.path.abspath(folder)
        self._own: _Found | None = None
        self._target: weakref.ref[_Target] | None = None
        self._found: list[_Found] = []
        self._lost = 0

    def open(self) -> None:
        """Have a crash of this process written to a file of its own, unless the application has seen to that itself."""
        if faulthandler.is_enabled():
            return
        path = os.path.join(self.folder, f"crash-{os.getpid()}-{time.time_ns():x}.txt")
        try:
            os.makedirs(self.folder, FOLDER_MODE, exist_ok=True)
            descriptor = open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
        except OSError as error:
            warn(
                f"crash_folder:{self.folder}",
                f"a crash would leave no record: {path} cannot be opened: {error.strerror}",
            )
            return
        own = _Found(path, descriptor, identify(os.fstat(descriptor)))
        if not _lock(descriptor):
            warn(f"crash_folder:{self.folder}", f"a crash would leave no record: {self.folder} has no flock()")
            own.remove()
            return
        target = _Target(descriptor)
        try:
            faulthandler.enable(target, all_threads=True)
        except (OSError, RuntimeError, ValueError) as error:
            warn(f"crash_folder:{self.folder}", f"a crash would leave no record: {error}")
            own.remove()
            return
        self._own, self._target = own, weakref.ref(target)

    def close(self) -> None:
        """Take that back; a `faulthandler` that the application has enabled since stays as it is."""
        own, self._own = self._own, None
        if own is None:
            return
        if self._target is not None and self._target() is not None:
            faulthandler.disable()
        self._target = None
        if _is_empty(own.descriptor):
            own.remove()
        else:
            own.let_go()

    def report(self) -> None:
        """Make a record of each process that has crashed; remove what others have left empty. Never raises."""
        try:
            names = sorted(name for name in os.listdir(self.folder) if _NAME.fullmatch(name))
        except OSError:
            return
        self._lost = 0 if CONFIGURED.processor is None else CONFIGURED.processor.stats().lost
        for name in names:
            if len(self._found) >= MOST_REPORTED:
                break
            try:
                self._look_at(os.path.join(self.folder, name))
            except FileNotFoundError:
                # Another process was quicker.
                continue
            except OSError as error:
                warn("crash_folder", f"{os.path.join(self.folder, name)} cannot be read: {error.strerror}")
        if self._found:
            start_thread(self._remove_delivered, "otelog-crashes")

    def _look_at(self, path: str) -> None:
        descriptor = open_file(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        stat = os.fstat(descriptor)
        found = _Found(path, descriptor, identify(stat))
        # One that is locked is of a process that lives, or is being reported by another one right now; one without a
        # name was reported.
        if not S_ISREG(stat.st_mode) or not _lock(descriptor) or os.fstat(descriptor).st_nlink == 0:
            found.let_go()
            return
        text = os.read(descriptor, MOST_TEXT_BYTES)
        if not text:
            found.remove()
            return
        _record(text, stat.st_mtime, stat.st_size, path)
        self._found.append(found)

    def _remove_delivered(self, seconds: float = DELIVERY_SECONDS) -> None:
        """Remove what was reported, if nothing has been lost since: whose record that was, nobody can tell."""
        processor = CONFIGURED.processor
        if not self._found or processor is None or not processor.force_flush(seconds * 1000):
            return
        if processor.stats().lost == self._lost:
            self._remove_found()

    def _remove_found(self) -> None:
        found, self._found = self._found, []
        for one in found:
            one.remove()

    # As a pipeline.

    def restart_after_fork(self) -> None:
        """The parent's descriptors were closed: this process has a file of its own, and reports nothing."""
        self._found = []
        own, self._own = self._own, None
        if own is None:
            return
        if self._target is not None and self._target() is not None:
            faulthandler.disable()
        self.open()

    def has_work(self) -> bool:
        """Returns whether there is a file to be removed."""
        return self._own is not None

    def nudge(self) -> None:
        """There is nothing to be delivered."""

    def deliver(self, deadline: float, *, last: bool) -> bool:
        """Do nothing; returns True."""
        return True

    def end_with_process(self, deadline: float) -> None:
        """Remove what has been delivered, and what this process did not need."""
        self._remove_delivered(0.0)
        self.close()


class _State:
    """What outlives a reload of this module."""

    here: CrashFolder | None = None


_state: _State = keep(globals(), "_state", _State)


def install(folder: str) -> None:
    """Report what earlier processes have left in a folder, and have this one leave something if it crashes."""
    if fcntl is None:
        warn("crash_folder", "crash_folder needs flock(), which this platform has not")
        return
    here = _state.here
    if here is None or here.folder != os.path.abspath(folder):
        uninstall()
        here = _state.here = CrashFolder(folder)
        here.report()
        here.open()
        watch_pipeline(here)


def uninstall() -> None:
    """Take that back. What has not been delivered is reported by the next start."""
    here, _state.here = _state.here, None
    if here is not None:
        unwatch(here)
        here.end_with_process(0.0)
        for one in here._found:
            one.let_go()
        here._found = []


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_empty(descriptor: int) -> bool:
    try:
        return os.fstat(descriptor).st_size == 0
    except OSError:
        return False


def _record(text: bytes, crashed: float, size: int, path: str) -> None:
    port = ACTIVE_PIPELINE.port
    if isinstance(port, UnconfiguredPort):
        return
    shown = text.decode("utf-8", "replace")
    if size > len(text):
        shown += f"\n... {size - len(text)} bytes left out"
    headline = next((line.strip() for line in shown.splitlines() if line.strip()), "crash")
    fields: dict[str, Any] = {
        "exception.stacktrace": shown,
        "process.pid": int(os.path.basename(path).split("-")[1]),
        "crash.time": datetime.fromtimestamp(crashed, timezone.utc).isoformat(timespec="milliseconds"),
        "crash.file": path,
    }
    source = Source(SCOPE, 21, "CRITICAL")
    try:
        port.capture(time.time_ns(), source, headline[:1000], None, fields, event_name=CRASH_EVENT)
    except MemoryError as shortage:
        port.refuse_for_memory(source, shortage)
