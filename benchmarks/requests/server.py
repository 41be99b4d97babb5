"""gunicorn with one worker of four threads, on a core of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.peers import DRAIN_SECONDS, Conditions
from benchmarks.rounds import clean_environment

THREADS = 4
STOP_SECONDS = 15.0
ROOT = Path(__file__).resolve().parent.parent.parent


def pin(process: subprocess.Popen[Any], *, server: bool) -> None:
    """Give a process the server's core, the first, or that of all others, the last, where that can be said."""
    if hasattr(os, "sched_setaffinity"):
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(process.pid, {min(cores) if server else max(cores)})


class Gunicorn:
    """Serves one set-up for the length of a ``with`` block.

    Raises: RuntimeError with the server's last output, from any of its methods, if it is gone.
    """

    def __init__(self, setup: str, conditions: Conditions) -> None:
        self._setup = setup
        self._conditions = conditions
        self.port = 0
        self._folder = tempfile.TemporaryDirectory(prefix="otelog-bench-")
        self._output = Path(self._folder.name) / "output"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Gunicorn:
        application = f"make_application({self._setup!r}, {json.dumps(asdict(self._conditions))!r})"
        # The socket is handed over listening: requests wait in it until the worker is there.
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener, self._output.open("wb") as output:
            self.port = listener.getsockname()[1]
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gunicorn", f"benchmarks.requests.application:{application}"),
                    *("--worker-class", "gthread", "--workers", "1", "--threads", str(THREADS)),
                    *("--bind", f"fd://{listener.fileno()}", "--keep-alive", "60"),
                    *("--log-level", "warning", "--no-control-socket"),
                ],
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env=clean_environment(),
                pass_fds=[listener.fileno()],
            )
        pin(self._process, server=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._folder.cleanup()

    def ask(self, path: str) -> dict[str, Any]:
        """Ask one of the application's own paths. Returns: its figures."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=DRAIN_SECONDS) as answer:
                figures: dict[str, Any] = json.load(answer)
                return figures
        except OSError as error:
            raise RuntimeError(f"{error}; the server says: {self.tail()}") from error

    def tail(self) -> str:
        """Read the last line of the server's output. Returns: at most 200 characters."""
        lines = self._output.read_text(errors="replace").strip().splitlines() or ["nothing"]
        return lines[-1][:200]
