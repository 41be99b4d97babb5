"""A command in a terminal, as a user types it: what it shows, Ctrl-C, its exit code."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tools.waiting import wait_until

COLUMNS, ROWS = 120, 30
SAID = 4_000
"""Characters of the output in a failure's message."""
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Terminal:
    """A command that runs in a terminal of its own, by bash; a context manager, which ends it.

    Args:
        command: What is typed; several lines are run in turn, up to the first that fails.
        folder: Where.
        environ: The whole environment.

    Thread safety: for one thread.
    """

    def __init__(self, command: str, folder: Path, environ: Mapping[str, str]) -> None:
        self.command = command
        self._read: list[str] = []
        self._screen, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        try:
            self.process = subprocess.Popen(
                ["bash", "-e", "-c", command],
                cwd=folder,
                env={**environ, "TERM": "xterm"},
                stdin=end,
                stdout=end,
                stderr=end,
                start_new_session=True,
                # Whoever began this in the background may have it ignored; a terminal does not.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
            )
        finally:
            os.close(end)
        self._reader = threading.Thread(target=self._collect)
        self._reader.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _collect(self) -> None:
        # A character may come in two pieces.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            try:
                some = os.read(self._screen, 65536)
            except OSError:  # the last process that had the terminal has gone
                return
            if not some:
                return
            self._read.append(decoder.decode(some))

    @property
    def output(self) -> str:
        """All that was shown so far, without colours and movements of the cursor."""
        return _CONTROL.sub("", "".join(self._read))

    def wait_for(self, pattern: str, seconds: float) -> re.Match[str]:
        """Wait until a regular expression is found in what is shown.

        Raises:
            TimeoutError: It was not there in time, or the command has ended without it.
        """

        def find() -> re.Match[str] | bool:
            ended = self.process.poll() is not None
            if ended:
                self._reader.join(seconds)
            return re.search(pattern, self.output) or ended

        try:
            found = wait_until(find, seconds, what=pattern)
        except TimeoutError as error:
            raise TimeoutError(f"{self.command!r} has not shown {pattern!r}, but\n{self.output[-SAID:]}") from error
        if isinstance(found, re.Match):
            return found
        raise TimeoutError(
            f"{self.command!r} has ended ({self.process.returncode}) without {pattern!r}\n{self.output[-SAID:]}"
        )

    def wait(self, seconds: float) -> int:
        """Wait for the command's end. Returns: its exit code."""
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code

    def interrupt(self, seconds: float) -> int:
        """Press Ctrl-C. Returns: the exit code."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        return self.wait(seconds)

    def close(self) -> None:
        """End the command, and all that it has started, if it still runs. May be called again."""
        if self._screen < 0:
            return
        # It has ended, unless what it has started has not.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        os.close(self._screen)
        self._screen = -1
