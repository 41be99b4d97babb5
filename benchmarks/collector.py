"""A real Collector that takes OTLP and throws it away: the far end of every OTLP peer."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Literal

from tools.loopback import find_free_ports
from tools.waiting import end_process, wait_until

START_SECONDS = 20.0
STOP_SECONDS = 10.0

_CONFIGURATION = """
receivers:
  otlp:
    protocols:
      http: {{endpoint: "127.0.0.1:{http}"}}
      grpc: {{endpoint: "127.0.0.1:{grpc}"}}
exporters:
  nop:
service:
  telemetry:
    logs: {{level: warn}}
    metrics:
      readers:
        - pull:
            exporter:
              prometheus: {{host: 127.0.0.1, port: {metrics}, without_type_suffix: false, without_units: false}}
  pipelines:
    logs: {{receivers: [otlp], exporters: [nop]}}
    traces: {{receivers: [otlp], exporters: [nop]}}
    metrics: {{receivers: [otlp], exporters: [nop]}}
"""


class NopCollector:
    """Runs the Collector for the length of a ``with`` block, on free loopback ports.

    Args: binary: the Collector's executable.
    Raises: OSError if it cannot be started, RuntimeError (with its last output) if it ends, TimeoutError if it
        does not become ready.
    """

    def __init__(self, binary: str | os.PathLike[str]) -> None:
        self._binary = os.fspath(binary)
        http, grpc, self._metrics_port = find_free_ports(3)
        self.endpoint = f"http://127.0.0.1:{http}"
        self.grpc_endpoint = f"http://127.0.0.1:{grpc}"
        self._configuration = _CONFIGURATION.format(http=http, grpc=grpc, metrics=self._metrics_port)
        self._folder = tempfile.TemporaryDirectory(prefix="otelog-bench-")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> NopCollector:
        folder = Path(self._folder.name)
        (folder / "otelcol.yaml").write_text(self._configuration)
        with (folder / "output").open("wb") as output:
            # One core, and always the same: its threads must not push a peer's off the processor, which is paid for in
            # the peer's time.
            self._process = subprocess.Popen(
                [self._binary, "--config", str(folder / "otelcol.yaml")],
                stdout=output,
                stderr=output,
                env={**os.environ, "GOMAXPROCS": "1"},
            )
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(self._process.pid, {max(os.sched_getaffinity(0))})
        process = self._process
        try:
            wait_until(
                lambda: process.poll() is not None or self._ready(), START_SECONDS, what="the Collector is ready"
            )
            if process.poll() is not None:
                tail = (folder / "output").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the Collector ended:\n{tail}")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            end_process(self._process, STOP_SECONDS)
        self._folder.cleanup()

    def _ready(self) -> bool:
        # Its metrics come up before its receivers: ready is when the receiver answers an empty request.
        try:
            request = urllib.request.Request(
                self.endpoint + "/v1/logs", data=b"", headers={"Content-Type": "application/x-protobuf"}
            )
            with urllib.request.urlopen(request, timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def accepted(self, kind: Literal["logs", "spans"]) -> int:
        """Ask the Collector's own metric how many records or spans its receiver accepted since it started.

        Returns: the sum over its receivers' transports. Raises: OSError if the Collector is gone.
        """
        name = "log_records" if kind == "logs" else "spans"
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        samples = re.findall(rf"^otelcol_receiver_accepted_{name}_total(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        return int(sum(float(sample) for sample in samples))

    def version(self) -> str:
        """Ask the executable for its version. Returns: its one line."""
        return subprocess.run([self._binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()
