"""Ctrl-C and its like, as a flag first."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interruption:
    """Turn the first SIGINT, SIGTERM or SIGHUP into `asked`, and any later one into KeyboardInterrupt.

    A context manager for the main thread; the handlers of before are put back at its end.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        # A plain flag, not an Event: setting one in a handler can hang on the lock of a wait it interrupts.
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ignore_more(self) -> None:
        """Let no further signal disturb what must be finished."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def stopping() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into KeyboardInterrupt. For the main thread."""

    def take(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handled_by(take):
        yield


@contextmanager
def deferred() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP wait until the block has ended, as it has to be finished; none is lost.

    In another thread than the main one it does nothing: signals are handled in that one.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        with _handled_by(lambda number, frame: came.append(number)):
            yield
    finally:
        for number in dict.fromkeys(came):
            signal.raise_signal(number)


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, one in before.items():
            signal.signal(number, one)
