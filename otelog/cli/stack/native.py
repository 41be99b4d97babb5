"""The stack as native processes: started apart from this one, known by id, and ended by id."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import psutil
import urllib3

from otelog.cli.show.interruption import deferred
from otelog.cli.stack.files import StackError
from otelog.cli.stack.ports import find_port_problems
from otelog.cli.stack.servers import Server
from otelog.cli.stack.settings import PORTS_OF, Running, Settings, State, forget_state, write_state

READY_SECONDS = 90.0
"""How long a server may take until it answers; one that has much to read again after a crash needs long."""

OTHERS_STOP_SECONDS = 30.0
"""How long a server may take to end that is left out now."""

_POLL_SECONDS = 0.1
_CREATED_TOLERANCE = 1.0
_SHOWN_LINES = 15

Say = Callable[[str, str], None]
"""Called with the progress: the server, and what it is doing."""


class NativeStack:
    """The processes of one folder. For one thread, under the folder's lock.

    Args:
        folder: Where state, configurations, data and the servers' own output are.
        state: What is known already.
        say: Called with the progress.
    """

    def __init__(self, folder: Path, state: State, say: Say) -> None:
        self._folder = folder
        self._state = state
        self._say = say
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def up(self, servers: list[Server], find: Callable[[str], Path], environ: Mapping[str, str]) -> list[str]:
        """Start what does not run, or runs with other settings, and wait until it is ready; end what is left out.

        Args:
            servers: All of them, in the order of their start.
            find: Gives a program's executable.
            environ: The environment that the servers get.

        Returns:
            The names of those that were started, and of those that were ended because they are left out.

        Raises:
            StackError: A port is taken, or a server does not become ready. What this call started is ended again.
        """
        digests = {server.name: server.digest() for server in servers}
        left_out = self._stop_others(servers)
        wanted = [server for server in servers if not self._runs_as(server.name, digests[server.name])]
        for server in reversed(wanted):
            self._stop(server.name, server.stop_seconds)
        # Somebody may have taken one since it was looked before the build.
        ports = {name: self._state.settings.ports[name] for server in wanted for name in server.ports}
        if problems := find_port_problems(ports, again=True):
            raise StackError("\n".join(problems))
        try:
            for server in wanted:
                server.write()
                executable = find(server.program)
                # What is started is known, or it would be left behind.
                with deferred():
                    self._start(server, digests[server.name], executable, environ)
            self._wait_ready(wanted)
        except BaseException:
            # A second Ctrl-C must not leave behind what the first one was to end.
            with deferred():
                for server in reversed(wanted):
                    self._stop(server.name, server.stop_seconds)
                if not self._state.servers:
                    forget_state(self._folder)
            raise
        return [*(server.name for server in wanted), *left_out]

    def down(self, servers: list[Server]) -> list[str]:
        """End what runs, the first of the way first, so that each can still hand over; returns the names of those."""
        ended = [server.name for server in reversed(servers) if self._stop(server.name, server.stop_seconds)]
        ended += self._stop_others(servers)
        forget_state(self._folder)
        return ended

    def _stop_others(self, servers: list[Server]) -> list[str]:
        names = {server.name for server in servers}
        others = [name for name in self._state.servers if name not in names]
        return [name for name in others if self._stop(name, OTHERS_STOP_SECONDS)]

    def find_process(self, name: str) -> psutil.Process | None:
        """Returns the process of a server, or None where it has ended."""
        running = self._state.servers.get(name)
        return None if running is None else _find_process(running)

    def list_ports(self, settings: Settings) -> list[int]:
        """Returns the ports that the servers listen on which run, started with these settings."""
        running = [name for name in self._state.servers if self.find_process(name) is not None]
        return [settings.ports[port] for name in running for port in PORTS_OF[name]]

    def _runs_as(self, name: str, digest: str) -> bool:
        running = self._state.servers.get(name)
        return running is not None and running.digest == digest and _find_process(running) is not None

    def _start(self, server: Server, digest: str, executable: Path, environ: Mapping[str, str]) -> None:
        self._say(server.name, "starting")
        output = self.output_of(server.name)
        output.parent.mkdir(exist_ok=True)
        if output.exists():
            os.replace(output, output.with_suffix(".log.1"))
        with output.open("wb") as file:
            try:
                child = subprocess.Popen(
                    [str(executable), *server.arguments],
                    env={**environ, **server.environ},
                    cwd=server.config,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    # Ctrl-C in this terminal is for us; and they stay when it is closed.
                    start_new_session=True,
                )
            except OSError as error:
                raise StackError(f"{executable} cannot be started: {error.strerror or error}") from error
        self._children[server.name] = child
        self._know(server.name, Running(child.pid, psutil.Process(child.pid).create_time(), digest))

    def output_of(self, name: str) -> Path:
        """Returns the file with what a server writes."""
        return self._folder / "output" / f"{name}.log"

    def _wait_ready(self, servers: list[Server]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        waiting = list(servers)
        while waiting:
            for server in list(waiting):
                child = self._children[server.name]
                if child.poll() is not None:
                    raise StackError(
                        f"the {server.name} ended at once with code {child.returncode}:\n"
                        f"{read_end(self.output_of(server.name), _SHOWN_LINES)}"
                    )
                if answers(server.ready):
                    self._say(server.name, "ready")
                    waiting.remove(server)
                elif time.monotonic() > deadline:
                    raise StackError(
                        f"the {server.name} was not ready within {READY_SECONDS:.0f} s ({server.ready}):\n"
                        f"{read_end(self.output_of(server.name), _SHOWN_LINES)}"
                    )
            if waiting:
                time.sleep(_POLL_SECONDS)

    def _stop(self, name: str, seconds: float) -> bool:
        process = self.find_process(name)
        if process is not None:
            self._say(name, "ending")
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
                if not _wait_gone(process, seconds):
                    self._say(name, f"did not end within {seconds:.0f} s, killed")
                    process.kill()
                    _wait_gone(process, seconds)
            self._say(name, "ended")
        child = self._children.pop(name, None)
        if child is not None:
            child.wait()
        if name in self._state.servers:
            self._know(name, None)
        return process is not None

    def _know(self, name: str, running: Running | None) -> None:
        servers = {known: value for known, value in self._state.servers.items() if known != name}
        if running is not None:
            servers[name] = running
        self._state = replace(self._state, servers=servers)
        write_state(self._folder, self._state)


def answers(url: str) -> bool:
    """Returns whether a URL answers 200 now; never through a proxy."""
    try:
        with urllib3.PoolManager(retries=False, timeout=2.0) as pool:
            return pool.request("GET", url).status == 200
    except (urllib3.exceptions.HTTPError, OSError):
        return False


def read_end(path: Path, lines: int) -> str:
    """Returns the last lines of a file, or what is wrong with it. Never raises."""
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError as error:
        return f"({path}: {error.strerror or error})"


def remove_data(folder: Path) -> None:
    """Remove all that the stack has written into its folder, and the folder if nothing else is in it.

    Raises:
        StackError: It cannot be removed.
    """
    try:
        for name in (*PORTS_OF, "grafana", "output"):
            if (folder / name).exists():
                shutil.rmtree(folder / name)
        for name in ("lock", "webhook-url"):
            (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
    except OSError as error:
        raise StackError(f"{error.filename or folder} cannot be removed: {error.strerror or error}") from error


def _find_process(running: Running) -> psutil.Process | None:
    # An id alone may be another process by now.
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(running.pid)
        same = abs(process.create_time() - running.created) < _CREATED_TOLERANCE
        if same and not _has_ended(process):
            return process
    return None


def _wait_gone(process: psutil.Process, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not _has_ended(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _has_ended(process: psutil.Process) -> bool:
    """Returns whether a process has let go of its ports: whoever takes its children over may not have reaped it yet."""
    try:
        # Its first thread is a zombie first; the others close what is open when the last of them has ended.
        return not process.is_running() or (process.status() == psutil.STATUS_ZOMBIE and process.num_threads() < 2)
    except psutil.Error:
        return True
