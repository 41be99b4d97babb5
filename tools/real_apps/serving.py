"""The application under gunicorn, with `otelog run`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tools.loopback import find_free_ports
from tools.waiting import wait_until

if TYPE_CHECKING:
    from types import TracebackType

START_SECONDS = 120.0
STOP_SECONDS = 60.0
HOST = "127.0.0.1"

# gunicorn listens before its workers have loaded the application: a file for each that has.
_HOOK = """\
def post_worker_init(worker):
    open({folder!r} + "/" + str(worker.pid), "w").close()
"""


class Server:
    """gunicorn with gthread workers; a context manager.

    Args:
        app: ``module:callable``, as gunicorn has it.
        checkout: The application's folder, where it is run.
        folder: For files of this run.
        environ: Variables beside those of this process.
        python: An interpreter of a virtual environment with gunicorn and otelog.
        workers: How many processes.
        threads: How many threads each of them has.
        options: More of gunicorn's.
        ready: What each worker prints when it is ready, if that is later than gunicorn thinks.

    Attributes:
        port: Where it answers, on loopback.
        output: The file with what it and the application print.
    """

    def __init__(
        self,
        app: str,
        checkout: Path,
        folder: Path,
        environ: Mapping[str, str],
        *,
        python: Path = Path(sys.executable),
        workers: int = 2,
        threads: int = 4,
        options: Sequence[str] = (),
        ready: str = "",
    ) -> None:
        (self.port,) = find_free_ports(1)
        self.workers = workers
        self.output = folder / "server.log"
        self._ready = folder / "ready"
        self._ready_text = ready
        hook = folder / "gunicorn_hook.py"
        # The folder must not look like a package's: the file is read by its path.
        self._ready.mkdir()
        hook.write_text(_HOOK.format(folder=str(self._ready)))
        # A virtual environment's python is a link, and what lies beside it counts.
        self._command = [
            *(str(python), "-m", "otelog.cli", "run", "--"),
            *("gunicorn", "--config", str(hook), "--worker-class", "gthread"),
            *("--workers", str(workers), "--threads", str(threads), "--bind", f"{HOST}:{self.port}"),
            *options,
            app,
        ]
        self._checkout = checkout
        self._environ = {**os.environ, **environ, "PYTHONUNBUFFERED": "1"}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._checkout,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            wait_until(self._is_ready, START_SECONDS, what=f"{self.workers} workers are ready:\n{self.said()}")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"gunicorn ended with {self._process.returncode}:\n{self.said()}")
        said = self.output.read_text(errors="replace").count(self._ready_text) if self._ready_text else self.workers
        return min(said, len(list(self._ready.iterdir()))) >= self.workers

    def said(self) -> str:
        """The end of what it and the application have printed."""
        return self.output.read_text(errors="replace")[-20000:]

    def stop(self) -> int:
        """End it with SIGTERM, and wait until all its processes have ended; returns its exit code. Idempotent.

        Raises:
            TimeoutError: It had to be killed.
        """
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise TimeoutError(f"gunicorn did not end within {STOP_SECONDS:g} s:\n{self.said()}") from None
