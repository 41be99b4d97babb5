"""The files of received records, with the counts of what is in them."""

from __future__ import annotations

import threading
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING

from otelog._config.table import MIB
from otelog.sinks._folder import LogFolder
from otelog.sinks._settings import FileSettings, check_settings

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from otelog.cli.show.lines import Line

KEPT_LINES = 2000
KEPT_BYTES = 8 * MIB
MAX_INSTANCES = 1000
"""Service instances that are counted apart; those after them are counted together, without a name."""

MAX_FILE_BYTES = 100 * MIB
MAX_FILES = 10
ERROR_NUMBER = 17
"""From this severity number on a record is in errors.log, too. Source: logs data model, "SeverityNumber"."""


class Journal:
    """Write lines to rotating files, count them by service instance, and keep the latest at hand.

    Every record is in app.log; those of ERROR and above are in errors.log as well, those with an attribute ``gen_ai.*``
    and those of `ai_loggers` in ai_responses.log. Any thread may call any method; one lock, held while the files are
    written, orders them all.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        max_bytes: int = MAX_FILE_BYTES,
        ai_loggers: Iterable[str] = (),
        kept_lines: int = KEPT_LINES,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        """Make the folder; lines that are in it stay.

        Args:
            folder: Where the files are.
            max_bytes: Size at which a file is rotated; 0 is never. The last `MAX_FILES` of each kind are kept.
            ai_loggers: Loggers whose records, and those of loggers below them, go to ai_responses.log.
            kept_lines: How many of the latest lines `after` can return.
            kept_bytes: How many characters they may have together.

        Raises:
            OSError: If the folder cannot be written.
            ConfigurationError: If a value cannot be used.
        """
        self.folder = Path(folder)
        self._ai_loggers = tuple(f"{name}." for name in ai_loggers)
        settings = FileSettings(
            folder=str(folder), max_bytes=max_bytes, max_files=MAX_FILES, ai_loggers=tuple(ai_loggers)
        )
        self._files = LogFolder(check_settings(settings))
        self._files.probe()
        self._kept_lines = kept_lines
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._closed = False
        self._latest: deque[str] = deque()
        self._latest_bytes = 0
        self._written = 0
        self._counts: dict[tuple[str | None, str | None], Counter[str]] = {}

    def append(self, lines: Sequence[Line]) -> None:
        """Write the lines to all their files, then count them: all of them, or none.

        Raises:
            OSError: If they could not be written. Nothing is counted; whole lines that were written stay, and are there
                twice when the sender comes again.
            ValueError: The journal is closed.
        """
        if not lines:
            return
        data = [f"{line.text}\n".encode() for line in lines]
        with self._lock:
            if self._closed:
                raise ValueError("the journal is closed")
            for stream, chosen in (
                (
                    "errors",
                    [text for text, line in zip(data, lines, strict=True) if line.severity_number >= ERROR_NUMBER],
                ),
                ("ai_responses", [text for text, line in zip(data, lines, strict=True) if self._is_ai(line)]),
                # The last one: what is in app.log is in its other files, too.
                ("app", data),
            ):
                if chosen:
                    self._files.append(stream, chosen)
            for line in lines:
                key = (line.service, line.instance)
                if key not in self._counts and len(self._counts) >= MAX_INSTANCES:
                    key = (None, None)
                self._counts.setdefault(key, Counter())[line.severity] += 1
                self._keep(line.text)
            self._written += len(lines)

    def after(self, number: int) -> tuple[int, list[str]]:
        """Return the number of the last line written and the kept lines whose number is greater than `number`.

        Lines are numbered from 1 in the order they were written by this journal.
        """
        with self._lock:
            first = self._written - len(self._latest)
            return self._written, list(self._latest)[max(0, number - first) :]

    def received(self, instance: str) -> int:
        """Return how many records of a service instance there are."""
        with self._lock:
            return sum(sum(counter.values()) for key, counter in self._counts.items() if key[1] == instance)

    def counts(self) -> dict[str, object]:
        """Return the counts as JSON-ready data: in all, by service, by service instance; each by severity."""
        with self._lock:
            instances = [(key, Counter(counter)) for key, counter in self._counts.items()]
            written = self._written
        services: dict[str | None, Counter[str]] = {}
        for (service, _), counter in instances:
            services.setdefault(service, Counter()).update(counter)
        return {
            "records": written,
            "services": [{"service": service, **_show(counter)} for service, counter in services.items()],
            "instances": [
                {"service": service, "instance": instance, **_show(counter)}
                for (service, instance), counter in instances
            ],
        }

    def close(self) -> None:
        """Close the files; idempotent. A later `append` raises ValueError."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._files.close()

    def _is_ai(self, line: Line) -> bool:
        return line.is_ai or (bool(self._ai_loggers) and f"{line.logger}.".startswith(self._ai_loggers))

    def _keep(self, text: str) -> None:
        self._latest.append(text)
        self._latest_bytes += len(text)
        while len(self._latest) > self._kept_lines or self._latest_bytes > self._kept_bytes:
            self._latest_bytes -= len(self._latest.popleft())


def _show(counter: Counter[str]) -> dict[str, object]:
    return {"records": sum(counter.values()), "severities": dict(counter)}
