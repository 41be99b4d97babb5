"""The names of log files: whose they are, what they hold, and the order in which they were rotated.

======================================  ==============================================================================
``app.log``                             being written
``app.12345.log``                       being written by the process 12345 (`per_process`)
``app.20261124-212937-0001.log``        rotated at that second in UTC, in which no hour comes twice
``app.20261124-0001.log``               `daily`: a part of that local day, rotated before the day was over
``app.20261124.log``                    `daily`: the day, or its last part
``….log.gz``, ``….log.zst``             packed
``….log.gz.tmp``                        being packed
======================================  ==============================================================================

Names of one kind and process sort in the order of rotation. Where the clock was set back, a name that would sort
before the last one takes that one's time and the next number; where there is none left, the next second (or day).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from datetime import date, datetime, timedelta, timezone
from datetime import time as clock
from functools import lru_cache
from typing import NamedTuple

from otelog.sinks._settings import STREAMS

MOST_KNOWN_NAMES = 4096
"""Names that are remembered: a folder is looked through at each rotation, and to read a time takes long."""

MOST_NUMBER = 9999
"""The last number of one second or day."""

_NAME = re.compile(
    rf"(?P<stream>{'|'.join(STREAMS)})"
    r"(?:\.(?P<owner>[0-9]{1,7}(?:-[0-9]{1,3})?))?"
    r"(?:\.(?P<stamp>[0-9]{8}(?:-[0-9]{6})?(?:-[0-9]{4})?))?"
    r"\.log(?P<packing>\.gz|\.zst)?(?P<unfinished>\.tmp)?"
)
_SECOND = "%Y%m%d-%H%M%S"
_TIMED_LENGTH = len("20261124-212937-0001")
_DAY_LENGTH = len("20261124")


class LogName(NamedTuple):
    """A file's name, taken apart.

    Args:
        stream: The kind.
        owner: The process, or "".
        stamp: When it was rotated, or "".
        packing: ".gz", ".zst" or "".
        unfinished: Whether it is still being packed.
    """

    stream: str
    owner: str = ""
    stamp: str = ""
    packing: str = ""
    unfinished: bool = False

    @property
    def base(self) -> str:
        """The name without what packing adds."""
        return ".".join(part for part in (self.stream, self.owner, self.stamp, "log") if part)

    @property
    def order(self) -> tuple[str, str]:
        """What rotated files are sorted by, oldest first, whoever wrote them."""
        return self.stamp + ".", self.base


@lru_cache(maxsize=MOST_KNOWN_NAMES)
def parse_name(name: str) -> LogName | None:
    """Returns the parts of a log file's name, or None if it is not one of ours."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    stream, owner, stamp, packing, unfinished = match.group("stream", "owner", "stamp", "packing", "unfinished")
    if (packing and not stamp) or (unfinished and not packing) or (stamp and read_time(stamp) is None):
        return None
    return LogName(stream, owner or "", stamp or "", packing or "", bool(unfinished))


def read_time(stamp: str) -> float | None:
    """Returns the moment of rotation that a stamp tells, for a day its end; None if it is no stamp."""
    try:
        if len(stamp) == _TIMED_LENGTH:
            return _read_second(stamp).timestamp()
        if len(stamp) in (_DAY_LENGTH, _DAY_LENGTH + 5):
            following = _read_day(stamp) + timedelta(days=1)
            return time.mktime((following.year, following.month, following.day, 0, 0, 0, 0, 0, -1))
    except (ValueError, OverflowError):
        pass
    return None


def next_second_stamp(now: float, taken: Iterable[str]) -> str:
    """Returns the stamp of a file that is rotated now.

    Args:
        now: Seconds since 1970.
        taken: The stamps of the files of the same kind and process.
    """
    second = datetime.fromtimestamp(now, timezone.utc).strftime(_SECOND)
    last = max((stamp for stamp in taken if len(stamp) == _TIMED_LENGTH), default="")
    if last[:-5] < second:
        return f"{second}-0001"
    number = int(last[-4:])
    if number < MOST_NUMBER:
        return f"{last[:-5]}-{number + 1:04}"
    following = _read_second(last) + timedelta(seconds=1)
    return f"{following.strftime(_SECOND)}-0001"


def next_day_stamp(day: date, taken: Iterable[str], *, is_over: bool) -> str:
    """Returns the stamp of a file that holds this day.

    Args:
        day: The local day of the file's first record.
        taken: The stamps of the files of the same kind and process.
        is_over: Whether nothing more of that day will come.
    """
    last = max((stamp for stamp in taken if len(stamp) in (_DAY_LENGTH, _DAY_LENGTH + 5)), key=_end, default="")
    text = f"{day:%Y%m%d}"
    if last[:_DAY_LENGTH] < text:
        return text if is_over else f"{text}-0001"
    last_day, number = last[:_DAY_LENGTH], int(last[_DAY_LENGTH + 1 :] or MOST_NUMBER)
    if last_day == text and is_over and len(last) > _DAY_LENGTH:
        return text
    if number < MOST_NUMBER:
        return f"{last_day}-{number + 1:04}"
    return f"{_read_day(last_day) + timedelta(days=1):%Y%m%d}-0001"


def _end(stamp: str) -> str:
    # As in a name: the dot sorts after the hyphen, so that the day's parts come before its end.
    return stamp + "."


def _read_day(stamp: str) -> date:
    # Not by strptime: it has a lock, which a child inherits taken if its parent is in there as it forks.
    return date(int(stamp[:4]), int(stamp[4:6]), int(stamp[6:8]))


def _read_second(stamp: str) -> datetime:
    return datetime.combine(
        _read_day(stamp), clock(int(stamp[9:11]), int(stamp[11:13]), int(stamp[13:15])), timezone.utc
    )
