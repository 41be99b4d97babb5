"""What a record is between the caller and the worker: nine values in a row, and what they point to.

A queued record is no object of its own. Its nine values lie one after the other in the queue's list, so that a full
queue gives Python's cyclic collector nothing to walk, and a record costs one ``list.extend``. The columns are:

====  ============  ==================================================================================================
 no.  name          value
====  ============  ==================================================================================================
 0    time_ns       when the call was made, nanoseconds since 1970
 1    source        a `Source` (scope, level and, for the handler, the call site) or a `Special`
 2    span_context  the current ``SpanContext``, or None
 3    message       the template, a str; or a body that is already an AnyValue
 4    arguments     a tuple of exact scalars for the template, or None
 5    fields        the attributes, a dict of str to AnyValue, or None
 6    code          the caller's code object, or None where `source` knows the call site
 7    offset        the instruction's offset in that code object (``f_lasti``); of an SDK record: when it was observed
 8    thread_id     ``threading.get_ident()`` of the caller
====  ============  ==================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otelog._record.stacktrace import CapturedException, CapturedStack

COLUMNS = 9
"""How many values a queued record has."""

SLOT_BYTES = 1024
"""What a record is counted with, at least, in the queue's bound by bytes; one that is larger is a `Special`."""

FIELD_BYTES = 40
"""What a field or an argument counts beside its text, in the estimate of a record's size."""


class CodeSite(NamedTuple):
    """Where a log call stands in the source."""

    file_path: str
    function_name: str
    line_number: int


class SdkPart(NamedTuple):
    """What only records of the SDK's Logger have."""

    resource: Resource
    scope: InstrumentationScope | None
    limits: Any


class Source:
    """What all records of one logger and level (and, for the handler, of one call site) have in common.

    An encoder hangs its encoded forms on it (`sites`, `static`), so that they are made once.
    """

    __slots__ = (
        "given_time",
        "scope_name",
        "sdk",
        "severity_number",
        "severity_text",
        "short_names",
        "site",
        "sites",
        "special",
        "static",
    )

    def __init__(
        self,
        scope_name: str,
        severity_number: int,
        severity_text: str | None,
        site: CodeSite | None = None,
        *,
        short_names: bool = False,
        sdk: SdkPart | None = None,
        given_time: bool = False,
    ) -> None:
        self.scope_name = scope_name
        self.severity_number = severity_number
        self.severity_text = severity_text
        self.site = site
        self.short_names = short_names
        """Whether functions are named as the standard library names them, without class or outer function."""
        self.sdk = sdk
        """Set where the records come from the SDK's Logger: their column 7 is the observed time, not an offset."""
        self.given_time = given_time
        """Whether times are given with the records, and are not this process's clock at the call."""
        self.special = False
        # The encoders' own; with each form stands whose it is, as several may work at once.
        self.sites: dict[int, Any] = {}
        self.static: tuple[object, bytes] = (None, b"")


class Special:
    """A record that has more than the nine columns hold."""

    __slots__ = (
        "discarded",
        "event_name",
        "exception",
        "extra_units",
        "given_time",
        "severity_number",
        "source",
        "special",
        "stack",
    )

    def __init__(
        self,
        source: Source,
        *,
        exception: CapturedException | None = None,
        stack: CapturedStack | str | None = None,
        event_name: str | None = None,
        discarded: int = 0,
        given_time: bool = False,
    ) -> None:
        self.source = source
        self.severity_number = source.severity_number
        self.exception = exception
        self.stack = stack
        self.event_name = event_name
        self.discarded = discarded
        self.special = True
        self.extra_units = 0
        """The units of the queue's bound by bytes that this record takes beside its slot."""
        self.given_time = given_time or source.given_time


class SpanIds(NamedTuple):
    """The ids of a span where no SpanContext object is at hand; quacks like one as far as the worker looks."""

    trace_id: int
    span_id: int
    trace_flags: int


MOST_TIME_NS = 2**63 - 1_000_000_000
"""No time is as late: stores count in 64 bits with a sign. Below it there is room for `next_time`."""


def find_times(time_ns: Any, observed_ns: Any, now: Callable[[], int]) -> tuple[int, int]:
    """Returns a record's time and when it was observed, as OTLP can say them: nanoseconds since 1970, 0 if unknown.

    A time before 1970, of a clock that is wrong, is unknown, and so is one beyond `MOST_TIME_NS` or what is no number.
    If neither is known the record was observed now; if the clock says no good time either, a store takes the time of
    the record's arrival.
    """
    time_ns, observed_ns = _read_time(time_ns), _read_time(observed_ns)
    if not time_ns and not observed_ns:
        observed_ns = _read_time(now())
    return time_ns, observed_ns


def _read_time(time_ns: Any) -> int:
    try:
        number = int(time_ns)
    except (TypeError, ValueError, OverflowError):
        return 0
    return number if 0 < number < MOST_TIME_NS else 0


OWN_CLOCK_WINDOW_NS = 1_000_000_000
GIVEN_TIME_WINDOW_NS = 1_000


def next_time(time_ns: int, last_ns: int, window_ns: int) -> int:
    """Returns a time after the last one, so that two equal lines never share a nanosecond: Loki would keep one of them.

    Threads put their records in a little out of order; what is older by `window_ns` or more is another matter (a clock
    that was set back), and begins a new count. A time that was given with the record is moved past ties only.
    """
    return last_ns + 1 if time_ns <= last_ns and last_ns - time_ns < window_ns else time_ns
