"""A real Loki for one test module, with collector/loki.yaml, all its ports on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from otelog.loki import LokiClient
from tools.loopback import find_free_ports
from tools.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 20.0
MOST_PUSHED = 5000

# A proxy of the environment must not stand between the test and loopback.
open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class LokiStartError(Exception):
    """Loki ended before it was ready."""


class LokiServer:
    """A running Loki; its data are in `folder` and stay when it is started again."""

    def __init__(self, binary: Path, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        port, grpc = find_free_ports(2)
        self.url = f"http://127.0.0.1:{port}"
        self._output = folder / "loki.log"
        self._folder = folder
        self._command = [
            str(binary),
            f"-config.file={ROOT / 'collector' / 'loki.yaml'}",
            "-config.expand-env=true",
        ]
        self._environ = {
            **os.environ,
            **(environ or {}),
            "OTELOG_LOKI_PORT": str(port),
            "OTELOG_LOKI_GRPC_PORT": str(grpc),
            "OTELOG_LOKI_FOLDER": str(folder / "data"),
        }
        self.start()

    def start(self) -> None:
        """Start it, and wait until it takes questions."""
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, env=self._environ, cwd=self._folder, stdout=output, stderr=output
            )
        try:
            with LokiClient(self.url, timeout=5.0) as client:
                wait_until(lambda: self._is_ready(client), START_SECONDS, what="Loki's readiness")
        except BaseException:
            self.kill()
            raise

    def _is_ready(self, client: LokiClient) -> bool:
        if self._process.poll() is not None:
            raise LokiStartError(self._output.read_text(errors="replace")[-3000:])
        return client.is_ready()

    def push(self, values: list[tuple[int, str, dict[str, str]]], **labels: str) -> None:
        """Put entries (time, line, metadata) into one stream."""
        for first in range(0, len(values), MOST_PUSHED):
            part = [[str(time_ns), line, more] for time_ns, line, more in values[first : first + MOST_PUSHED]]
            body = json.dumps({"streams": [{"stream": labels, "values": part}]}).encode()
            request = urllib.request.Request(f"{self.url}/loki/api/v1/push", body, {"Content-Type": "application/json"})
            with open_url(request, timeout=60) as answer:
                assert answer.status == 204

    def kill(self) -> None:
        """End it with SIGKILL; what it had acknowledged is in its log on disk. Idempotent."""
        self._process.kill()
        self._process.wait(STOP_SECONDS)
