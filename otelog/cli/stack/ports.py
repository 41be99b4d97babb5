"""The ports of a stack: which are free, and who has those that are not."""

from __future__ import annotations

import contextlib
import random
import socket
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

import psutil

from otelog.cli.stack.settings import HOST, PORTS

FIRST_FREE = 10_240
"""Below are the ports that servers are known by."""

_CONNECTIONS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def choose_free_ports() -> dict[str, int]:
    """Returns a free port for each of `PORTS`; somebody else may take one before it is used.

    None is from the range from which the system takes the ports of connections: servers start one after the other, and
    each that is asked whether it is ready is asked by a connection.
    """
    usual = set(PORTS.values())
    candidates = range(FIRST_FREE, _find_end_of_free())
    # Tried in any order: a stack that is chosen for at the same time gets others.
    free = (
        port for port in random.sample(candidates, len(candidates)) if port not in usual and not _find_hindrance(port)
    )
    return dict(zip(PORTS, free, strict=False))


def _find_end_of_free() -> int:
    # Of other systems it begins here, or later; where all ports are a connection's, there is no better one.
    first = 32_768
    with contextlib.suppress(OSError, ValueError):
        first = int(_CONNECTIONS.read_text().split()[0])
    return first if first > FIRST_FREE + 1000 else 32_768


def find_port_problems(wanted: Mapping[str, int], own: Collection[int] = (), *, again: bool = False) -> list[str]:
    """Returns what is wrong with ports, each with what to do.

    Args:
        wanted: The ports by name.
        own: Those that this stack's own servers listen on now.
        again: The stack has its ports already, so that `--free-ports` would change nothing.
    """
    names = defaultdict(list)
    for name, port in wanted.items():
        names[port].append(name)
    problems = []
    choose_all = "" if again else ", or let --free-ports choose all"
    for port, several in names.items():
        if len(several) > 1:
            problems.append(
                f"port {port} is wanted for {' and '.join(several)}: choose another with --port {several[-1]}=NUMBER"
            )
        if port not in own and (why := _find_hindrance(port)):
            name = several[0]
            problems.append(f"port {port} ({name}) {why}choose another with --port {name}=NUMBER{choose_all}")
    return problems


def _find_hindrance(port: int) -> str:
    try:
        socket.create_server((HOST, port)).close()
    except PermissionError as error:
        return f"may not be opened ({error.strerror}): "
    except OSError:
        return f"is taken{_describe_owner(port)}: end that, "
    return ""


def _describe_owner(port: int) -> str:
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()}, process {connection.pid}"
    return ""
