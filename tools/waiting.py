"""Waiting for a condition, and for the end of a process."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def wait_until(condition: Callable[[], Result], timeout: float = 10.0, *, what: str = "") -> Result:
    """Ask until the condition is true, and return what it said.

    Args:
        condition: asked every 10 ms, at least once after the deadline.
        timeout: seconds.
        what: what is waited for, for the message of the failure.

    Raises:
        TimeoutError: it did not become true in time.
    """
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        late = time.monotonic() >= deadline
        result = condition()
        if result:
            return result
        if late:
            raise TimeoutError(f"not within {timeout:g} s: {what or getattr(condition, '__name__', condition)}")
        pause.wait(0.01)


def end_process(process: subprocess.Popen[bytes], seconds: float) -> None:
    """End a process, in an orderly way if it can within `seconds`. Idempotent."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(seconds)
