"""Threads by their ids."""

from __future__ import annotations

import threading


def find_thread_name(thread_id: int) -> str | None:
    """Returns the name of a thread that is alive, or None. Takes no lock; safe in any thread."""
    # Reading a dict that other threads change is one step; threading.enumerate() would take a lock.
    thread = threading._active.get(thread_id)  # type: ignore[attr-defined]
    return None if thread is None else str(thread.name)
