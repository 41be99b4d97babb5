"""What the keys of an event of structlog's mean, beside those that are fields of the record."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping
from types import FrameType
from typing import Any, NamedTuple

from otelog._capture.foreign_tracebacks import read_dicts, read_text
from otelog._capture.port import EVENT_NAME_KEY
from otelog._record.stacktrace import find_exception, is_true
from otelog._record.values import safe_str
from otelog._runtime.interruption import is_interruption

NEAR_NS = 1_000_000_000
"""A time that differs by less from the present one was taken by this process's clock for this very event."""

_SAME_CLOCK_NS = 2_000_000_000
"""A text with whole seconds differs by up to one from the time that it was made of."""

_BODY_KEYS = ("message", "msg")
"""Where the event is if a processor has renamed it."""

ODD_KEYS = frozenset({"exc_info", "exception", "stack_info", "stack", "positional_args", EVENT_NAME_KEY})
"""What is no field but means something, and is not in every event."""

_STACK_HEADER = "Stack (most recent call last)"

_DEBUG, _INFO, _WARNING, _ERROR, _CRITICAL = (
    (10, "DEBUG"),
    (20, "INFO"),
    (30, "WARNING"),
    (40, "ERROR"),
    (50, "CRITICAL"),
)
_METHODS: dict[str, tuple[int, str]] = {
    "debug": _DEBUG,
    "info": _INFO,
    "msg": _INFO,
    "log": _INFO,
    "warn": _WARNING,
    "warning": _WARNING,
    "err": _ERROR,
    "error": _ERROR,
    "failure": _ERROR,
    "exception": _ERROR,
    "critical": _CRITICAL,
    "fatal": _CRITICAL,
}
_LEVELS = {name: level for one, level in _METHODS.items() if one not in ("msg", "log") for name in (one, one.upper())}


class Odd(NamedTuple):
    """What was found in an event that is no field of it."""

    arguments: Any = None
    error: BaseException | None = None
    stack: FrameType | str | None = None
    event_name: str | None = None


NOTHING_ODD = Odd()


def take_level(fields: dict[Any, Any], method: str) -> tuple[int, str]:
    """Take the level out of an event's fields; else the method says it. Returns a level of `logging`, and its name."""
    name = fields.get("level")
    if type(name) is str:
        level = _LEVELS.get(name) or _find_level(name)
        if level is not None:
            del fields["level"]
            return level
    return _METHODS.get(method) or _find_level(method) or (logging.INFO, str(method).upper())


def _find_level(name: str) -> tuple[int, str] | None:
    """Returns the level that the application has given a name to."""
    upper = str(name).upper()
    number = logging.getLevelName(upper)
    return (number, upper) if type(number) is int else None


def take_body(fields: dict[Any, Any], event_key: str = "event") -> Any:
    """Take the body out of an event's fields; an event without one has an empty text."""
    if event_key in fields:
        return fields.pop(event_key)
    for key in _BODY_KEYS:
        if key in fields:
            return fields.pop(key)
    return ""


def take_time(fields: dict[Any, Any], now: int) -> tuple[int, bool]:
    """Take the time out of an event's fields, if it can be read.

    Args:
        fields: The event's fields.
        now: The present time, nanoseconds since 1970.

    Returns:
        The event's time, and whether it is another than the present one: that of another place.
    """
    stamp = fields.get("timestamp")
    if stamp is None:
        return now, False
    kind = type(stamp)
    if kind is str:
        found = _read_text(stamp, now)
    elif kind is float or kind is int:
        # What is no number of seconds since about 1973 is something else: milliseconds, a count.
        found = int(stamp * 1e9) if 1e8 < stamp < 9e9 else None
    else:
        found = datetime_ns(stamp) if isinstance(stamp, dt.datetime) else None
    if found is None:
        return now, False
    del fields["timestamp"]
    return (found, False) if -NEAR_NS < found - now < NEAR_NS else (found, True)


def datetime_ns(moment: dt.datetime) -> int | None:
    """Returns a moment in nanoseconds since 1970, or None for one that cannot be said so. One without a zone is local.

    Never raises.
    """
    try:
        # A float has no room for all digits.
        return int(moment.timestamp() // 1) * 1_000_000_000 + moment.microsecond * 1000
    except Exception as error:
        if is_interruption(error):
            raise
        return None


def _read_text(text: str, now: int) -> int | None:
    if not 16 <= len(text) <= 40:
        return None
    try:
        # Before 3.11 it does not know the letter.
        moment = dt.datetime.fromisoformat(text[:-1] + "+00:00" if text[-1] in "Zz" else text)
    except ValueError:
        return None
    found = datetime_ns(moment)
    if moment.tzinfo is not None and moment.microsecond:
        return found
    if found is not None and -_SAME_CLOCK_NS < found - now < _SAME_CLOCK_NS:
        # It says when this was called, less precisely than our clock does.
        return found if moment.microsecond else now
    if moment.tzinfo is None:
        # Local time, or Greenwich's: structlog's own processor writes both alike.
        other = datetime_ns(moment.replace(tzinfo=dt.timezone.utc))
        if other is not None and -_SAME_CLOCK_NS < other - now < _SAME_CLOCK_NS:
            return other if moment.microsecond else now
    return found


def take_odd(fields: dict[Any, Any], frame: FrameType | None) -> Odd:
    """Take out of an event's fields what is no field: arguments, exception, stack, the name of an event.

    An exception that is text or dicts already becomes fields.

    Args:
        fields: The event's fields.
        frame: The application's frame, whose stack may be wanted.
    """
    arguments = event_name = error = None
    stack: FrameType | str | None = None
    given = fields.get("positional_args")
    if type(given) is tuple:
        del fields["positional_args"]
        arguments = given
    if "exc_info" in fields:
        exc_info = fields.pop("exc_info")
        if type(exc_info) is tuple and exc_info and exc_info[0] is None:
            exc_info = True
        error = find_exception(exc_info)
    written = fields.get("exception")
    if type(written) is str:
        found: dict[str, Any] | None = read_text(written)
    else:
        found = read_dicts(written)
    if found is not None:
        del fields["exception"]
        for key, value in found.items():
            fields.setdefault(key, value)
    if "stack_info" in fields and is_true(fields.pop("stack_info")):
        stack = frame
    shown = fields.get("stack")
    if type(shown) is str and shown.startswith(_STACK_HEADER):
        del fields["stack"]
        stack = shown
    if EVENT_NAME_KEY in fields:
        event_name = safe_str(fields.pop(EVENT_NAME_KEY))
    return Odd(arguments, error, stack, event_name)


class WrappedEvent(NamedTuple):
    """What a record of `logging` is made of that has an event for a ProcessorFormatter in it."""

    message: Any
    fields: dict[Any, Any]
    odd: Odd
    time_ns: int
    is_given: bool


def is_wrapped_event(message: object, fields: Mapping[Any, Any]) -> bool:
    """Returns whether a record of `logging` is an event that structlog has wrapped for its ProcessorFormatter.

    Args:
        message: The record's ``msg``.
        fields: What the record has beside the standard library's own fields.
    """
    return "_logger" in fields and "_name" in fields and isinstance(message, dict)


def read_wrapped_event(event_dict: Any, fields: dict[Any, Any], scope: str, now: int) -> WrappedEvent:
    """Returns what such a record says.

    Args:
        event_dict: The record's ``msg``; it is left as it is.
        fields: The other fields of the record; changed.
        scope: The record's logger.
        now: When the record was made, nanoseconds since 1970.
    """
    event = dict(dict.items(event_dict))
    take_level(event, fields["_name"])
    del fields["_logger"], fields["_name"]
    if event.get("logger") == scope:
        del event["logger"]
    time, is_given = take_time(event, now)
    odd = take_odd(event, None)
    message = take_body(event)
    return WrappedEvent(message, {**event, **fields}, odd, time, is_given)
