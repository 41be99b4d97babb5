"""A Redis of the tests' own, as Celery's broker: the machine's program, or Debian's without being installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.debian import unpack_packages
from tools.loopback import find_free_ports
from tools.waiting import end_process, wait_until

# The server, and the libraries that a Debian without anything lacks.
PACKAGES = ("redis-server", "redis-tools", "libatomic1", "libjemalloc2", "liblzf1", "libssl3", "libsystemd0")
START_SECONDS = 20.0


def find_redis() -> tuple[str, dict[str, str]]:
    """Return the server's program, and the variables that it needs.

    Raises:
        PackagesUnavailableError: there is none, and Debian's cannot be had.
    """
    found = shutil.which("redis-server")
    if found is not None:
        return found, {}
    tree = unpack_packages("redis", PACKAGES)
    multiarch = sysconfig.get_config_var("MULTIARCH")
    libraries = os.pathsep.join(str(tree / folder / multiarch) for folder in ("usr/lib", "lib"))
    return str(tree / "usr/bin/redis-server"), {"LD_LIBRARY_PATH": libraries}


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """Start a server that keeps nothing; yields its URL."""
    program, environ = find_redis()
    (port,) = find_free_ports(1)
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
            cwd=folder,
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: _answers(port), START_SECONDS, what="Redis answers")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        end_process(process, 10)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
