"""The queue's largest length, for readers who each have seen it up to another moment.

The worker tells the length in front of each batch that it takes. Nobody else makes a queue shorter, so these are all
the maxima there are, but for what is in the queue when it is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

RECENT_SECONDS = 60
"""What a reader is told of who cannot be told from others."""


class PeakWatch(Protocol):
    """What a reader keeps; all methods are called under the ledger's `moving`."""

    def note(self, length: int) -> None:
        """Notice a length of the queue."""

    def read(self, queued: int) -> int:
        """Returns the largest length; `queued` is the length now."""

    def forget(self) -> None:
        """Begin anew, in a forked child."""


class PeakSinceReading:
    """The largest length since it was read last: for one reader.

    Args:
        peak: The largest until now.
    """

    __slots__ = ("__weakref__", "_peak")

    def __init__(self, peak: int) -> None:
        self._peak = peak

    def note(self, length: int) -> None:
        if length > self._peak:
            self._peak = length

    def read(self, queued: int) -> int:
        peak, self._peak = max(self._peak, queued), queued
        return peak

    def forget(self) -> None:
        self._peak = 0


class RecentPeak:
    """The largest length of the last `RECENT_SECONDS`, and up to a second more: for any number of readers.

    Args:
        clock: Seconds, monotonic.
    """

    __slots__ = ("__weakref__", "_clock", "_peaks", "_seconds")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.forget()

    def forget(self) -> None:
        self._seconds = [-1] * (RECENT_SECONDS + 1)
        self._peaks = [0] * (RECENT_SECONDS + 1)

    def note(self, length: int) -> None:
        second = int(self._clock())
        place = second % len(self._seconds)
        if self._seconds[place] != second or length > self._peaks[place]:
            self._peaks[place] = length
            self._seconds[place] = second

    def read(self, queued: int) -> int:
        self.note(queued)
        oldest = int(self._clock()) - RECENT_SECONDS
        return max(peak for second, peak in zip(self._seconds, self._peaks, strict=True) if second >= oldest)
