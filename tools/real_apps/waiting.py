"""Waiting for a condition, and free ports."""

from __future__ import annotations

import socket
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


def find_free_ports(count: int) -> list[int]:
    """Return ports of loopback that were all free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
