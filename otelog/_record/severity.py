"""Severity: Python's levels as OpenTelemetry's numbers, and those numbers as a closed set of names."""

from __future__ import annotations

import logging

from otelog.exceptions import ConfigurationError

# The first number of each range and the Python level it stands for.
# Source: logs data model, "Field: SeverityNumber", and its appendix with the mapping of other formats.
_RANGE_STARTS: tuple[tuple[int, int], ...] = ((0, 1), (10, 5), (20, 9), (30, 13), (40, 17), (50, 21))
_NUMBERS_PER_RANGE = 4

SEVERITY_RANGES: tuple[str, ...] = ("unspecified", "trace", "debug", "info", "warn", "error", "fatal")
"""The closed set of names that `severity_range` answers with, least severe first."""

MOST_SEVERE = 24
"""FATAL4, the largest severity number."""

LEAST_URGENT = 17
"""ERROR: records from here up may take the reserve of a queue, and are the last to be evicted."""


def _interpolate(levelno: int) -> int:
    if levelno <= 0:
        return 0
    start, number = next(pair for pair in reversed(_RANGE_STARTS) if levelno >= pair[0])
    # Rounded up, so that a level just above INFO shows as more than INFO; never into the next range,
    # so that a level just below INFO still shows as DEBUG.
    return number + min(_NUMBERS_PER_RANGE - 1, (_NUMBERS_PER_RANGE * (levelno - start) + 9) // 10)


# Beyond the last entry every level is FATAL4, so the table is the whole function.
_NUMBERS: tuple[int, ...] = tuple(_interpolate(levelno) for levelno in range(61))


def severity_number(levelno: int) -> int:
    """Return the OpenTelemetry severity number for a Python level.

    The named levels map as usual (DEBUG 5, INFO 9, WARNING 13, ERROR 17, CRITICAL 21); a level between two of them
    is interpolated within its range, a level below DEBUG lies in the TRACE range, a level above CRITICAL in the
    FATAL range.

    Args:
        levelno: A level of `logging`. Anything that is not a whole number counts as no level.

    Returns:
        1 to 24, or 0 (unspecified) for NOTSET, negative levels and what is not a level.

    Never raises. Safe in any thread.

    Source: logs data model, "Field: SeverityNumber".
    """
    try:
        return _NUMBERS[levelno] if 0 <= levelno <= 60 else (24 if levelno > 60 else 0)
    except Exception:  # a LogRecord made by hand may hold anything
        return 0


def severity_range(number: int) -> str:
    """Return the name of the range that an OpenTelemetry severity number lies in.

    Args:
        number: A severity number, usually 0 to 24.

    Returns:
        One of `SEVERITY_RANGES`; "unspecified" for 0 and for numbers outside 1 to 24.

    Never raises for an int. Safe in any thread.

    Source: logs data model, "Field: SeverityNumber".
    """
    if 1 <= number <= 24:
        return SEVERITY_RANGES[(number + _NUMBERS_PER_RANGE - 1) // _NUMBERS_PER_RANGE]
    return SEVERITY_RANGES[0]


def level_number(level: int | str) -> int:
    """Return the Python level that a name or a number means.

    Args:
        level: A name known to `logging` in any case ("info", "WARNING", one added by `logging.addLevelName`),
            a whole number of at least 0, or such a number as text ("20").

    Returns:
        The level as a number of `logging`.

    Raises:
        ConfigurationError: If it is neither; the message says what is allowed.
    """
    if isinstance(level, int) and not isinstance(level, bool) and level >= 0:
        return int(level)
    if isinstance(level, str):
        name = level.strip()
        if name.isascii() and name.isdigit() and len(name) < 10:
            return int(name)
        for spelling in (name, name.upper()):
            number = logging.getLevelName(spelling)
            if type(number) is int:
                return number
    raise ConfigurationError(
        "level must be DEBUG, INFO, WARNING, ERROR, CRITICAL, a name added with logging.addLevelName "
        f"or a whole number of at least 0, not {level!r}"
    )
