"""Child processes that never outlive their parent."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import IO

START_TIMEOUT = 30.0
KEPT_ERROR_LINES = 40

_URL = re.compile(r"http://\S+")


class ChildError(Exception):
    """A child process ended, or did not get ready, when it should not have."""


class Child:
    """One child process: its first URLs, the latest JSON line it printed, and its end.

    The process gets a session of its own, so that Ctrl-C reaches only the parent, and standard input as a pipe: when
    the parent is gone, however it went, the pipe ends, and `leave_with_parent` ends the child. For one thread.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the process.

        Args:
            name: What messages call it.
            command: The program with its arguments.
            environment: All of its environment variables.

        Raises:
            OSError: If it cannot be started.
        """
        self.name = name
        self.latest: dict[str, Any] = {}
        self.errors: deque[str] = deque(maxlen=KEPT_ERROR_LINES)
        self._first_line = ""
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            threading.Thread(
                target=self._read_output, args=(self._process.stdout,), name=f"{name}-output", daemon=True
            ),
            threading.Thread(
                target=self._read_errors, args=(self._process.stderr,), name=f"{name}-errors", daemon=True
            ),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def wait_ready(self, *, timeout: float = START_TIMEOUT, idle: Callable[[], None]) -> list[str]:
        """Wait for the first line of output and return the URLs in it.

        Args:
            timeout: Seconds.
            idle: Called several times a second while waiting; it may raise.

        Raises:
            ChildError: If the process ends first, or time does.
        """
        deadline = time.monotonic() + timeout
        while not self._first_line:
            if not self.is_running():
                self._join_readers()
                raise ChildError(f"the {self.name} ended at once with code {self._process.returncode}")
            if time.monotonic() > deadline:
                raise ChildError(f"the {self.name} was not ready within {timeout:.0f} s")
            idle()
            time.sleep(0.05)
        return _URL.findall(self._first_line)

    def stop(self, timeout: float, *, idle: Callable[[], None]) -> None:
        """Ask the process to end with SIGTERM and wait for it.

        Args:
            timeout: Seconds; after them it is killed.
            idle: Called several times a second while waiting; it may raise.

        Raises:
            ChildError: If it had ended before, had to be killed, or ended with another code than 0.
        """
        if not self.is_running():
            self._join_readers()
            raise ChildError(f"the {self.name} ended by itself with code {self._process.returncode}")
        self._process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + timeout
        while self.is_running():
            if time.monotonic() > deadline:
                self.kill()
                raise ChildError(f"the {self.name} did not end within {timeout:.0f} s and was killed")
            idle()
            time.sleep(0.05)
        self._join_readers()
        if self._process.returncode:
            raise ChildError(f"the {self.name} ended with code {self._process.returncode}")

    def kill(self) -> None:
        """End the process at once if it still runs; idempotent. Never raises."""
        if self.is_running():
            self._process.kill()
        self._process.wait()
        self._join_readers()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _join_readers(self) -> None:
        for reader in self._readers:
            reader.join(2.0)

    def _read_output(self, stream: IO[str]) -> None:
        for line in stream:
            if line.startswith("{"):
                try:
                    self.latest = json.loads(line)
                except ValueError:
                    continue
            elif not self._first_line:
                self._first_line = line

    def _read_errors(self, stream: IO[str]) -> None:
        for line in stream:
            self.errors.append(line.rstrip("\n"))


def leave_with_parent() -> None:
    """Send SIGTERM to this process when its standard input ends, that is, when its parent has closed it or is gone."""

    def wait_for_end() -> None:
        # Not sys.stdin: its lock, held by a daemon thread, would abort the interpreter at exit.
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_end, name="parent-watch", daemon=True).start()
