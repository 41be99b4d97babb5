"""The tally of a batch on its way to one exporter: the fate of each record, written into the ledger once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from otelog._ledger.counters import Ledger
from otelog._record.row import COLUMNS
from otelog._record.severity import severity_range


class BatchTally:
    """Writes the fate of each record of one batch into the ledger, once.

    A shutdown that has run out of time closes it; what an exporter says afterwards changes nothing.

    Args:
        ledger: Where `size` records are in flight for this exporter.
        name: The exporter's name in the ledger.
        size: Records of the batch.
        severity_ranges: Returns the severity ranges of a part of the batch; asked only for what is lost.
        waiting: The records are not in flight yet, but wait for that; see `begin`.
        counted: Whether the ledger has counted them already; else it answers for nothing before `enter`.

    Thread safety: all methods may be called by any thread.
    """

    def __init__(
        self,
        ledger: Ledger,
        name: str,
        size: int,
        severity_ranges: Callable[[int, int], Sequence[str]],
        *,
        waiting: bool = False,
        counted: bool = True,
    ) -> None:
        self._ledger = ledger
        self._name = name
        self._severity_ranges = severity_ranges
        self._all = bytearray(b"\x01" * size)
        self._open = self._all if counted else bytearray(size)
        self.is_counted = counted
        self._waiting = waiting
        self.all_exported = True

    def enter(self) -> None:
        """Answer for the records from now on: they are counted. Needs no memory."""
        self._open = self._all
        self.is_counted = True

    def begin(self) -> bool:
        """Count what waits as in flight; returns whether there is anything that is not settled yet."""
        with self._ledger.moving:
            if self._waiting:
                self._ledger.begin_move()
                try:
                    self._ledger.begin(self._name, self._open.count(1))
                    self._waiting = False
                finally:
                    self._ledger.end_move()
            return not self.is_closed()

    def is_closed(self) -> bool:
        """Returns whether every record is settled."""
        return not any(self._open)

    def void(self) -> None:
        """Count nothing: another tally of the same records has settled them."""
        self._open = bytearray(len(self._open))
        self.all_exported = False

    def settle(self, start: int, stop: int, reason: str | None) -> None:
        """Count these records as exported (None) or as dropped for a reason, unless they are settled already."""
        with self._ledger.moving:
            count = self._open.count(1, start, stop)
            if not count:
                return
            dropped: list[tuple[str, str]] = []
            if reason is not None:
                self.all_exported = False
                ranges = self._severity_ranges(start, stop)
                dropped = [(reason, ranges[at - start]) for at in range(start, stop) if self._open[at]]
            exported = 0 if dropped else count
            self._ledger.settle(self._name, exported, dropped, waiting=self._waiting, mark=self._make_mark(start, stop))

    def settle_partly(self, start: int, stop: int, rejected: int) -> None:
        """Count these records as exported but for `rejected` of them, of which nobody knows which they are."""
        with self._ledger.moving:
            count = self._open.count(1, start, stop)
            rejected = min(rejected, count)
            if rejected:
                self.all_exported = False
            dropped = [("rejected", "unspecified")] * rejected
            self._ledger.settle(self._name, count - rejected, dropped, mark=self._make_mark(start, stop))

    def _make_mark(self, start: int, stop: int) -> Callable[[], object]:
        """Returns what marks these records as settled: one call of C, all or nothing."""
        return partial(self._open.__setitem__, slice(start, stop), bytearray(stop - start))

    def turn_to(
        self,
        size: int,
        severity_ranges: Callable[[int, int], Sequence[str]],
        lost: Sequence[tuple[str, str]],
        *,
        filtered: int = 0,
    ) -> None:
        """Go on with a batch whose order is another.

        Args:
            size: Its records.
            severity_ranges: As at the making.
            lost: Reason and severity range of each that is lost and no longer in it.
            filtered: How many are not in it because the exporter does not want them.
        """
        with self._ledger.moving:
            if self.is_closed():
                return
            left = bytearray(b"\x01" * size)

            def mark() -> None:
                self._open = left
                self._severity_ranges = severity_ranges

            self.all_exported = self.all_exported and not lost
            if lost or filtered:
                self._ledger.settle(self._name, 0, lost, filtered=filtered, waiting=self._waiting, mark=mark)
            else:
                mark()

    def explain(self, cause: str, reason: str | None = None) -> None:
        """Keep in words why the last attempt has failed (None), or why records are dropped for a reason."""
        counts = self._ledger.exporters[self._name]
        with self._ledger.moving:
            if reason is None:
                counts.failure = cause
            else:
                counts.causes[reason] = cause

    def resend(self, count: int) -> None:
        """Count records that are sent again although an earlier request may have delivered them."""
        self._beside("resent", count)

    def leave_unknown(self, count: int) -> None:
        """Count records of a request that was sent and never answered."""
        self._beside("outcome_unknown", count)

    def truncate(self, count: int) -> None:
        """Count records that were cut to fit, and are delivered so; before they are settled."""
        self._beside("truncated", count)

    def _beside(self, what: str, count: int) -> None:
        ledger = self._ledger
        counts = ledger.exporters[self._name]
        ledger.begin_move()
        try:
            if not self.is_closed():
                setattr(counts, what, getattr(counts, what) + count)
        finally:
            ledger.end_move()

    def close(self, reason: str) -> None:
        """Count whatever is still open as dropped for this reason."""
        self.settle(0, len(self._open), reason)


def row_severity_ranges(sources: Sequence[Any], start: int, stop: int) -> list[str]:
    """Returns the severity ranges of rows, given their sources."""
    return [severity_range(source.severity_number) for source in sources[start:stop]]


def open_tally(rows: list[Any], ledger: Ledger, name: str, *, counted: bool = True) -> BatchTally:
    """Returns the tally of rows that are in flight for this exporter, or will be when they are counted."""
    sources = rows[1::COLUMNS]

    def ranges(start: int, stop: int) -> list[str]:
        return row_severity_ranges(sources, start, stop)

    return BatchTally(ledger, name, len(sources), ranges, counted=counted)
