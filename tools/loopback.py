"""Ports of loopback for programs that cannot be given port 0."""

from __future__ import annotations

import itertools
import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

FIRST_PORT = 10_240
BLOCK = 200
"""Ports that one process has for itself at a time."""
MOST_BLOCKS = 5
"""Blocks that a process keeps: whoever was given a port of an older one is long done with it."""
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
LAST_PORT = int(_RANGE.read_text().split()[0]) - 1 if _RANGE.exists() else 32_767


class _Ports:
    """Gives out ports without end, each from a block that no other process has. Thread-safe."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """In a forked child: the parent goes on with its own."""
        # Held until the process ends.
        self._claims: list[socket.socket] = []
        self._candidates = self._find()
        self._asking = threading.Lock()

    def __next__(self) -> int:
        with self._asking:
            return next(self._candidates)

    def _find(self) -> Iterator[int]:
        blocks = list(range(FIRST_PORT, LAST_PORT - BLOCK + 2, BLOCK))
        begin = random.randrange(len(blocks))
        for first in itertools.cycle(blocks[begin:] + blocks[:begin]):
            if self._claim(first):
                yield from range(first, first + BLOCK)

    def _claim(self, first: int) -> bool:
        # Where the system has no names that end with a process, a block is anybody's.
        if not _RANGE.exists():
            return True
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0otelog-ports-{first}")
        except OSError:
            claim.close()
            return False
        self._claims.append(claim)
        if len(self._claims) > MOST_BLOCKS:
            self._claims.pop(0).close()
        return True


_ports = _Ports()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ports.begin_anew)


def find_free_ports(count: int) -> list[int]:
    """Return ports that were all free a moment ago, and that nobody else is given by chance.

    They are below the range from which the system takes the port of a server that asks for none, and that of a
    connection. Another process that asks here is given others, and none is returned again before many others were.
    Thread-safe.

    Raises:
        OSError: So many are not free.
    """
    found: list[int] = []
    for _ in range(LAST_PORT - FIRST_PORT):
        if len(found) == count:
            return found
        port = next(_ports)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        found.append(port)
    raise OSError(f"no {count} free ports from {FIRST_PORT} to {LAST_PORT}")
