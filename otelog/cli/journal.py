"""The file of received records, with the counts of what is in it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otelog.cli.lines import Line

KEPT_LINES = 500
KEPT_BYTES = 4 * 1024 * 1024


class Journal:
    """Append lines to a file, count them by service instance, and keep the latest at hand.

    Any thread may call any method; one lock, held while the file is written, orders them all.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, kept_lines: int = KEPT_LINES, kept_bytes: int = KEPT_BYTES
    ) -> None:
        """Open the file for appending; its folder is made if need be.

        Args:
            path: The file; lines that are in it stay.
            kept_lines: How many of the latest lines `after` can return.
            kept_bytes: How many characters they may have together.

        Raises:
            OSError: If the file cannot be opened.
        """
        self.path = Path(path)
        self._kept_lines = kept_lines
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._latest: deque[str] = deque()
        self._latest_bytes = 0
        self._written = 0
        self._counts: dict[tuple[str | None, str | None], Counter[str]] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: a line is in the kernel's hands before it is counted, whatever happens to this process.
        self._file = self.path.open("ab", buffering=0)
        self._end_torn_line()

    def append(self, lines: Sequence[Line]) -> None:
        """Write the lines, then count them: all of them, or none.

        Raises:
            OSError: If they could not be written; what was written of them is taken back, nothing is counted.
        """
        if not lines:
            return
        data = memoryview("".join(f"{line.text}\n" for line in lines).encode())
        with self._lock:
            size_bytes = os.fstat(self._file.fileno()).st_size
            try:
                while data:
                    data = data[self._file.write(data) or 0 :]
            except OSError:
                self._cut(size_bytes)
                raise
            for line in lines:
                self._counts.setdefault((line.service, line.instance), Counter())[line.severity] += 1
                self._keep(line.text)
            self._written += len(lines)

    def after(self, number: int) -> tuple[int, list[str]]:
        """Return the number of the last line written and the kept lines whose number is greater than `number`.

        Lines are numbered from 1 in the order they were written by this journal.
        """
        with self._lock:
            first = self._written - len(self._latest)
            return self._written, list(self._latest)[max(0, number - first) :]

    def counts(self) -> dict[str, object]:
        """Return the counts as JSON-ready data: in all, by service instance, by severity."""
        with self._lock:
            return {
                "records": self._written,
                "instances": [
                    {
                        "service": service,
                        "instance": instance,
                        "records": sum(counter.values()),
                        "severities": dict(counter),
                    }
                    for (service, instance), counter in self._counts.items()
                ],
            }

    def close(self) -> None:
        """Close the file; idempotent. A later `append` raises ValueError."""
        with self._lock:
            self._file.close()

    def _keep(self, text: str) -> None:
        self._latest.append(text)
        self._latest_bytes += len(text)
        while len(self._latest) > self._kept_lines or self._latest_bytes > self._kept_bytes:
            self._latest_bytes -= len(self._latest.popleft())

    def _cut(self, size_bytes: int) -> None:
        # A pipe or a device cannot be cut; the sender learns of the failure either way.
        with contextlib.suppress(OSError):
            self._file.truncate(size_bytes)

    def _end_torn_line(self) -> None:
        if self.path.is_file() and self.path.stat().st_size:
            with open(self.path, "rb") as written:
                written.seek(-1, os.SEEK_END)
                if written.read(1) != b"\n":
                    self._file.write(b"\n")
