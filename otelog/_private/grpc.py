"""Private names of grpcio that are read, and what is done where a release has none of that name.

The library itself is not imported here. Its names are those of objects, so that a release without them is seen by none
but whoever asks: `tests/otlp/test_grpc.py` looks at the one that is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["find_calls", "is_connected"]


def find_calls(channel: Any) -> Callable[[], bool] | None:
    """Returns what says whether the library still works on calls of a channel; None: that cannot be seen.

    There is no public way to ask: a thread of the library's own takes the channel's events until no call is left.
    """
    state = getattr(channel, "_call_state", None)
    if not hasattr(state, "managed_calls"):
        return None
    return lambda: bool(getattr(state, "managed_calls", True))


def is_connected(channel: Any, ready: Any) -> bool:
    """Returns whether a channel has a connection; True where that cannot be seen.

    The public way to ask has a thread of its own that goes on asking.

    Args:
        channel: The channel.
        ready: The library's ``ChannelConnectivity.READY``.
    """
    try:
        return bool(channel._channel.check_connectivity_state(False) == ready.value[0])
    except Exception:
        return True
