"""Ports of loopback for programs that cannot be given port 0."""

from __future__ import annotations

import itertools
import random
import socket
from pathlib import Path

FIRST_PORT = 10_240
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LAST_PORT = int(_RANGE.read_text().split()[0]) - 1 if _RANGE.exists() else 32_767

# Each process begins elsewhere, so that two that run at once rarely ask for the same.
_candidates = itertools.cycle(range(FIRST_PORT, _LAST_PORT + 1))
for _ in range(random.randrange(_LAST_PORT - FIRST_PORT)):
    next(_candidates)


def find_free_ports(count: int) -> list[int]:
    """Return ports that were all free a moment ago, and that nobody else is given by chance.

    They are below the range from which the system takes the port of a server that asks for none, and that of a
    connection; and none is returned again before all others were. Thread-safe.

    Raises:
        OSError: So many are not free.
    """
    found: list[int] = []
    for _ in range(_LAST_PORT - FIRST_PORT):
        if len(found) == count:
            return found
        port = next(_candidates)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        found.append(port)
    raise OSError(f"no {count} free ports from {FIRST_PORT} to {_LAST_PORT}")
