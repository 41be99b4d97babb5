"""The process that holds a server: python -m otelog.cli.drill.hold PID CREATED.

It lets the server go on at SIGTERM, and when its standard input ends: also if the drill itself was killed.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

import psutil

CREATED_TOLERANCE = 1.0


def main(pid: str, created: str) -> None:
    """Hold the process until there is word."""
    process = psutil.Process(int(pid))
    if abs(process.create_time() - float(created)) > CREATED_TOLERANCE:
        raise SystemExit(f"{pid} is another process by now")
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.suspend()
        print("held", flush=True)
        while os.read(0, 4096):
            pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        process.resume()


def _leave(signal_number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
