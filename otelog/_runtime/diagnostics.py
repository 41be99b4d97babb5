"""otelog's own words: lines on standard error, never records."""

from __future__ import annotations

import os
import time

from otelog._runtime.shown_text import hide_secrets, show_hidden

INTERVAL = 30.0
"""Seconds between two lines of the same key."""

_last_said: dict[str, float] = {}


def warn(key: str, message: str, *, interval: float = INTERVAL) -> bool:
    """Write one line to standard error, at most once an interval for each key.

    It writes to the file descriptor, not to ``sys.stderr``: a test or a framework may have put a stream there that
    logs, and a lock of that stream may be held by the very thread that logs.

    Args:
        key: What is rate-limited together.
        message: One line, without the "otelog:" in front; it steers no terminal, and its URLs show no secrets.
        interval: Seconds during which a second line of this key is kept back.

    Returns:
        Whether the line was written. Never raises. Thread-safe: two threads may at worst both write.
    """
    now = time.monotonic()
    said = _last_said.get(key)
    if said is not None and now - said < interval:
        return False
    _last_said[key] = now
    # Server's words, texts of exceptions and URLs are in it: none may steer the terminal, or show a token.
    return write_line(f"otelog: {show_hidden(hide_secrets(message))}")


def write_line(line: str) -> bool:
    """Write one line to standard error's descriptor. Returns whether it could; never raises."""
    try:
        os.write(2, f"{line}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        return False
    return True
