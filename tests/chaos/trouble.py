"""What is short in a process for a while, and signals that raise."""

from __future__ import annotations

import errno
import logging
import os
import random
import resource
import signal
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

HUGE_STACK = 1 << 30
ROOM = 256 << 20
FILE_LIMIT = 49_152
"""More than an oracle's file ever has."""


class OwnError(Exception):
    """What a signal handler of the application's raises."""


class OwnStop(BaseException):
    """The same, as frameworks do it that do not want to be caught."""


LEAKING = [
    function.__code__
    for name in ("_acquireLock", "_releaseLock")
    if (function := getattr(logging, name, None)) is not None
]
"""Up to Python 3.12 an exception in one of these leaves `logging`'s lock taken for ever, with or without otelog."""
AGAIN = 1e-4

CALLED_BY_WEAKREF = [
    code
    for kind in (weakref.WeakSet, weakref.WeakKeyDictionary, weakref.WeakValueDictionary)
    for code in kind.__init__.__code__.co_consts
    if isinstance(code, CodeType)
]
"""Python itself lets no exception out of what is called when an object goes, as it does with `__del__`."""

OTHERS = "others"
ERRORS: dict[str, type[BaseException]] = {"exception": OwnError, "base": OwnStop, "keyboard": KeyboardInterrupt}


@contextmanager
def no_threads() -> Iterator[bool]:
    """Have no thread be started, as under a limit of threads; gives whether it is so."""
    stack = threading.stack_size(HUGE_STACK)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    # Less room where the process has had more a moment ago.
    for room in (ROOM, ROOM // 8, 0):
        resource.setrlimit(resource.RLIMIT_AS, (size + room, hard))
        if is_short := not _can_start_thread():
            break
    try:
        yield is_short
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        threading.stack_size(stack)


def _can_start_thread() -> bool:
    import _thread

    try:
        _thread.start_new_thread(lambda: None, ())
    except RuntimeError:
        return False
    return True


@contextmanager
def no_descriptors() -> Iterator[bool]:
    """Have no descriptor be opened; gives whether it is so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = os.dup(2)
    os.close(least)
    # Another thread may close one meanwhile.
    for least_now in range(least, -1, -1):
        resource.setrlimit(resource.RLIMIT_NOFILE, (least_now, hard))
        if is_short := _is_refused(lambda: os.close(os.dup(2)), errno.EMFILE):
            break
    try:
        yield is_short
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def small_files(folder: Path) -> Iterator[bool]:
    """Have no file grow over `FILE_LIMIT`, as on a full disk; gives whether it is so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, hard))
    file = os.open(folder / "probe", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        yield _is_refused(lambda: os.pwrite(file, b"x", FILE_LIMIT), errno.EFBIG)
    finally:
        os.close(file)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _is_refused(attempt: Callable[[], object], number: int) -> bool:
    try:
        attempt()
    except OSError as error:
        return error.errno == number
    return False


class Signals:
    """A handler that raises in the main thread, once for each time that it is armed.

    Args:
        kind: What it raises, a key of `ERRORS`.
        source: "timer", or "thread": another thread sends it.
        way: Returns which call is being made.
    """

    def __init__(self, kind: str, source: str, way: Callable[[], str]) -> None:
        self.error = ERRORS[kind]
        self.fired = 0
        self.lost: Counter[str] = Counter()
        """Where the program was when an exception was raised that nobody has seen."""
        self.others = 0
        """Those that the standard library or the SDK has caught, or Python in a finalizer or the like."""
        self._way = way
        self._armed = False
        self._by_timer = source == "timer"
        self._unseen = ""
        self._main = threading.main_thread().ident
        self._pause = threading.Event()
        self._shooter: threading.Thread | None = None
        self._number = signal.SIGALRM if self._by_timer else signal.SIGUSR1
        signal.signal(self._number, self._handle)

    def start(self, chance: random.Random) -> None:
        """Begin to send them."""
        if not self._by_timer:
            self._shooter = threading.Thread(target=self._shoot, args=(chance,), name="shooter", daemon=True)
            self._shooter.start()

    def stop(self) -> None:
        """Send no more."""
        self._armed = False
        self._note_lost()
        self._pause.set()
        if self._by_timer:
            signal.setitimer(signal.ITIMER_REAL, 0)
        elif self._shooter is not None:
            self._shooter.join()

    def arm(self, chance: random.Random) -> None:
        """Let the handler raise, soon."""
        self._note_lost()
        self._armed = True
        if self._by_timer:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(2e-6, 3e-4))

    def disarm(self) -> None:
        """Let it raise no more."""
        self._armed = False

    def note_seen(self) -> None:
        """Say that its exception has come to the application."""
        self._unseen = ""

    def _note_lost(self) -> None:
        if self._unseen == OTHERS:
            self.others += 1
        elif self._unseen:
            self.lost[self._unseen] += 1
        self._unseen = ""

    def _shoot(self, chance: random.Random) -> None:
        while not self._pause.wait(chance.uniform(0, 5e-4)):
            signal.pthread_kill(self._main or 0, self._number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._armed and _is_inside(frame, LEAKING):
            # Later, then.
            if self._by_timer:
                signal.setitimer(signal.ITIMER_REAL, AGAIN)
        elif self._armed:
            self._armed = False
            self.fired += 1
            self._unseen = f"{self._way()}, {_describe(frame, self.error)}"
            if self._unseen.endswith(OTHERS):
                self._unseen = OTHERS
            raise self.error


def _is_inside(frame: FrameType | None, functions: list[CodeType]) -> bool:
    # On top of them may be this very handler, for the signal before.
    while frame is not None:
        if frame.f_code in functions:
            return True
        frame = frame.f_back
    return False


def _describe(frame: FrameType | None, error: type[BaseException]) -> str:
    """Return the place of a frame, or `OTHERS` if it is for others to let the exception through."""
    modules = []
    place = frame
    while place is not None:
        if place.f_code.co_name == "__del__" or place.f_code in CALLED_BY_WEAKREF:
            return OTHERS
        modules.append(f"{place.f_globals.get('__name__')}:{place.f_code.co_name}:{place.f_lineno}")
        place = place.f_back
    # The standard library and the SDK have their own `except Exception`.
    if issubclass(error, Exception) and not modules[0].startswith(("otelog", "tests.chaos")):
        return OTHERS
    return " < ".join(modules[:4])
