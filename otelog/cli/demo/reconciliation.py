"""Whether the figures of a run agree, hop by hop."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from otelog import Stats

# The application asked for these; a record removed for any other reason is lost.
_WANTED_REMOVALS = frozenset({"filtered", "sampled", "deduplicated"})


@dataclass(frozen=True, slots=True)
class Figures:
    """The ledger of one process at one moment, in a form that travels as JSON; all numbers are records."""

    created: int = 0
    queued: int = 0
    accepted: int = 0
    exported: int = 0
    waiting: int = 0
    in_flight: int = 0
    resent: int = 0
    outcome_unknown: int = 0
    truncated: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    removed: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, stats: Stats) -> Figures:
        """Take the figures of `otelog.stats()`."""
        return cls.read({name: getattr(stats, name) for name in cls.__slots__})

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Figures:
        """Read what `write` wrote."""
        return cls(**{name: _copy(values[name]) for name in cls.__slots__})

    def write(self) -> dict[str, object]:
        """Return the figures as JSON-ready data."""
        return {name: _copy(getattr(self, name)) for name in self.__slots__}

    @property
    def pending(self) -> int:
        """Records that are still on their way inside the process."""
        return self.queued + self.waiting + self.in_flight

    @property
    def losses(self) -> dict[str, int]:
        """Lost records by reason, reasons without any left out."""
        lost = Counter(self.refused) + Counter(self.dropped)
        return dict(lost + Counter({why: n for why, n in self.removed.items() if why not in _WANTED_REMOVALS}))

    @property
    def removals(self) -> dict[str, int]:
        """Records that were removed on request, by reason, reasons without any left out."""
        return {why: n for why, n in self.removed.items() if n and why in _WANTED_REMOVALS}

    @property
    def unaccounted(self) -> int:
        """Created records that no other figure has; 0 unless the ledger is wrong.

        The two identities of `otelog.Stats` and `otelog.ExporterStats`, added up for one exporter.
        """
        known = sum(self.refused.values()) + sum(self.removed.values()) + sum(self.dropped.values())
        return self.created - known - self.exported - self.pending


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What one process sent against what arrived.

    Attributes:
        figures: The ledger of the process.
        received: Records that the receiver has of it; None if nobody here can know.
        in_file: Records that the file has of it; None if nobody here can know.
        final: Whether the ledger is the one of the end; if not, what was sent is not known.
    """

    figures: Figures
    received: int | None
    in_file: int | None
    final: bool = True

    @property
    def differences(self) -> list[str]:
        """Say hop by hop what does not agree; empty if all does."""
        found = []
        if not self.final:
            found.append("inside the shop: it left no final ledger, so what it sent is not known")
        elif self.figures.unaccounted:
            found.append(f"inside the shop: {_records(abs(self.figures.unaccounted))} created but not accounted for")
        elif self.figures.pending:
            found.append(f"inside the shop: {_records(self.figures.pending)} neither delivered nor counted as lost")
        if self.final and self.received is not None:
            found += _compare("shop -> receiver", self.figures.exported, "exported", self.received, "received")
            if self.received != self.figures.exported and self.figures.outcome_unknown:
                unknown = _records(self.figures.outcome_unknown)
                found[-1] += f"; the answer for {unknown} never came, so they may have arrived all the same"
        if self.received is not None and self.in_file is not None:
            found += _compare("receiver -> file", self.received, "received", self.in_file, "in the file")
        return found


class FileCount:
    """Count the records in a file of JSON lines by service instance, a further stretch at each call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset_bytes = 0
        self._by_instance: Counter[str | None] = Counter()

    def read_on(self) -> Mapping[str | None, int]:
        """Count the whole lines that were added since the last call and return the counts so far.

        A line that is not a JSON object counts for nobody. A missing file has none.

        Raises:
            OSError: If the file cannot be read.
        """
        if not self._path.exists():
            return self._by_instance
        with self._path.open("rb") as file:
            file.seek(self._offset_bytes)
            for line in file:
                # The receiver may be writing this very line; it is whole at the next call.
                if not line.endswith(b"\n"):
                    break
                self._offset_bytes += len(line)
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                if isinstance(record, dict):
                    self._by_instance[record.get("service.instance.id")] += 1
        return self._by_instance


def _compare(hop: str, before: int, did: str, after: int, came: str) -> list[str]:
    if before == after:
        return []
    word = "missing" if after < before else "too many"
    return [f"{hop}: {_records(abs(before - after))} {word} ({before:,} {did}, {after:,} {came})"]


def _records(number: int) -> str:
    return f"{number:,} record" if number == 1 else f"{number:,} records"


def _copy(value: Any) -> Any:
    return value if isinstance(value, int) else dict(value)
