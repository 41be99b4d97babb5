"""When to send again, and how long to wait first."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import NamedTuple

RETRYABLE_STATUSES = frozenset({429, 502, 503, 504})
"""The HTTP statuses after which a request may be sent again. Source: OTLP, "Retryable Response Codes"."""

_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
_LARGEST_EXPONENT = 64


def is_retryable_status(status: int) -> bool:
    """Say whether a request that was answered with this status may be sent again.

    Source: OTLP, "Retryable Response Codes".
    """
    return status in RETRYABLE_STATUSES


def parse_http_date(value: str | None) -> datetime | None:
    """Read a date of HTTP in any of its three forms.

    Returns:
        The moment in UTC; None where there is none or it cannot be read. Never raises.
    """
    if value is None:
        return None
    # Here, because few programs ever need it, and it takes long to import.
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(value.strip())
        # HTTP's dates are GMT even where the form (asctime) or a sloppy server leaves that out.
        return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Read how long a server asks its client to stay away.

    Args:
        value: The header ``Retry-After``: seconds or a date.
        now: What the date is compared with, with a time zone.

    Returns:
        Seconds, 0.0 for a moment that has passed; None where nothing usable was said. Never raises.

    Source: RFC 9110, section 10.2.3; OTLP, "OTLP/HTTP Throttling".
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    moment = parse_http_date(text)
    return None if moment is None else max(0.0, (moment - now).total_seconds())


class Backoff(NamedTuple):
    """The waits between one request's attempts: exponential, bounded, spread by chance.

    Args:
        initial: Seconds before the second attempt.
        maximum: Seconds that no wait exceeds, chance included.
        multiplier: What each further wait is longer by.
        jitter: The share by which chance changes a wait, so that many clients do not return at one moment.

    Source: OTLP, "OTLP/HTTP Throttling": exponential backoff with jitter.
    """

    initial: float = 1.0
    maximum: float = 5.0
    multiplier: float = 1.5
    jitter: float = 0.2

    def delay(self, attempt: int, chance: float) -> float:
        """Return the seconds to wait after a failed attempt.

        Args:
            attempt: 0 for the first.
            chance: A random number of [0, 1).
        """
        planned = self.initial * self.multiplier ** min(attempt, _LARGEST_EXPONENT)
        spread = 1.0 + self.jitter * (2.0 * chance - 1.0)
        return min(self.maximum, planned * spread)
