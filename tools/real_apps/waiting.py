"""Waiting for a condition."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], timeout: float, *, what: str) -> None:
    """Ask every 20 ms until the condition is true.

    Args:
        condition: Asked at least once.
        timeout: Seconds.
        what: For the message of the failure.

    Raises:
        TimeoutError: It did not become true in time.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:g} s: {what}")
        time.sleep(0.02)
