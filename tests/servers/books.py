"""What a process of a tested server knows at its end: one file with its ledger, for each process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry import _logs

from otelog._setup.configure import add_observer

if TYPE_CHECKING:
    from otelog import Stats
    from otelog._ledger.counters import Ledger

FOLDER = "SERVER_TESTS_FOLDER"


def keep() -> None:
    """Have this process, and those forked from it, write their last ledger into the test's folder. Idempotent."""
    folder = os.environ.get(FOLDER)
    # A test imports the application, too.
    if folder is not None and not _kept:
        _kept.append(_Keeper(Path(folder)))
        add_observer(_kept[0])


_kept: list[_Keeper] = []


class _Keeper:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, ledger: Ledger, last: bool) -> None:
        if last:
            book = {**describe(ledger.read()), "pid": os.getpid(), "instance": find_instance()}
            # A process has one; written whole, so that nobody reads half of it.
            path = self._folder / f"{os.getpid()}.json"
            path.with_suffix(".new").write_text(json.dumps(book))
            path.with_suffix(".new").rename(path)


def find_instance() -> str:
    """The ``service.instance.id`` of this process."""
    provider: Any = _logs.get_logger_provider()
    return str(provider.resource.attributes["service.instance.id"])


def describe(stats: Stats) -> dict[str, int]:
    """The figures of a ledger: what was made, where it is, and what is counted as lost."""
    return {
        "created": stats.created,
        "exported": stats.exported,
        "held": stats.queued + stats.waiting + stats.in_flight,
        "lost": sum(stats.refused.values()) + stats.removed["invalid"] + sum(stats.dropped.values()),
    }
