"""The real Collector with this project's configuration, on free ports of loopback, its files in one folder."""

from __future__ import annotations

import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.loopback import find_free_ports
from tools.waiting import end_process, wait_until

START_SECONDS = 30.0
STOP_SECONDS = 20.0

_CONFIGURATIONS = Path(__file__).resolve().parents[1] / "collector"

# A proxy of the environment must not stand between us and loopback.
open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def find_collector(given: str | None) -> Path | None:
    """Find the Collector: what is given, else OTELOG_COLLECTOR, else the newest build in the user's cache.

    Returns: an existing file, or None.
    """
    named = given or os.environ.get("OTELOG_COLLECTOR")
    if named:
        return Path(named) if Path(named).is_file() else None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otelog"
    built = [path for path in cache.glob("programs/otelog-collector-*/otelog-collector") if os.access(path, os.X_OK)]
    return max(built, key=lambda path: path.stat().st_mtime, default=None)


class CollectorStartError(RuntimeError):
    """The Collector ended before it was ready."""


class Collector:
    """A running Collector with collector/otelcol.yaml. Not thread-safe.

    Args:
        binary: Its executable.
        folder: For its files; it exists.
        overlays: Files of collector/ that are laid over the configuration.
        environ: Variables for these.

    Attributes:
        endpoint: Where it takes OTLP over HTTP.
        grpc_endpoint: Where it takes OTLP over gRPC.
        applications: Where it shows the applications' metrics, and its counts of their records.
        file: Where its records are, whole after `stop`; it need not exist before the first one.

    Raises:
        CollectorStartError: It ended.
        TimeoutError: It was not ready in time.
    """

    def __init__(
        self, binary: Path, folder: Path, overlays: Sequence[str] = (), environ: Mapping[str, str] | None = None
    ) -> None:
        http, grpc, health, self._metrics_port, applications, loki = find_free_ports(6)
        self.endpoint = f"http://127.0.0.1:{http}"
        self.grpc_endpoint = f"http://127.0.0.1:{grpc}"
        self.applications = f"http://127.0.0.1:{applications}/metrics"
        self.file = folder / "logs" / "app.jsonl"
        self._health = f"http://127.0.0.1:{health}/"
        self._output = folder / "collector.log"
        environ = {
            **os.environ,
            # Nobody is there: what is for Loki waits in the queue on disk.
            "OTELOG_LOKI_OTLP": f"http://127.0.0.1:{loki}/otlp",
            **(environ or {}),
            "OTELOG_COLLECTOR_HTTP": f"127.0.0.1:{http}",
            "OTELOG_COLLECTOR_GRPC": f"127.0.0.1:{grpc}",
            "OTELOG_COLLECTOR_HEALTH": f"127.0.0.1:{health}",
            "OTELOG_COLLECTOR_METRICS_HOST": "127.0.0.1",
            "OTELOG_COLLECTOR_METRICS_PORT": str(self._metrics_port),
            "OTELOG_COLLECTOR_APPLICATIONS": f"127.0.0.1:{applications}",
            "OTELOG_COLLECTOR_FOLDER": str(folder),
            "OTELOG_COLLECTOR_FILE_MEGABYTES": "4096",
            "OTELOG_COLLECTOR_MEMORY_MIB": "1024",
        }
        command = [str(binary)]
        for name in ("otelcol.yaml", *overlays):
            command += ["--config", str(_CONFIGURATIONS / name)]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(command, env=environ, cwd=folder, stdout=output, stderr=output)
        try:
            wait_until(self._is_ready, START_SECONDS, what="the Collector's health check")
        except BaseException:
            self.stop()
            raise

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise CollectorStartError(f"the Collector ended: {self._output.read_text(errors='replace')[-3000:]}")
        try:
            with open_url(self._health, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def metric(self, name: str, **labels: str) -> int:
        """The sum of one of the Collector's own metrics over all samples with these labels."""
        return self._sum(f"http://127.0.0.1:{self._metrics_port}/metrics", name, labels)

    def counted(self, name: str, **labels: str) -> int:
        """The sum of one of the metrics that it shows for the applications, over all samples with these labels."""
        return self._sum(self.applications, name, labels)

    def _sum(self, url: str, name: str, labels: Mapping[str, str]) -> int:
        with open_url(url, timeout=10) as answer:
            text = answer.read().decode()
        samples = re.findall(rf"^{re.escape(name)}(?:{{([^}}]*)}})? (\S+)$", text, re.MULTILINE)
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return int(sum(float(value) for found, value in samples if all(one in found for one in wanted)))

    def accepted(self) -> int:
        """Log records that the receiver took, as the Collector counts them."""
        return self.metric("otelcol_receiver_accepted_log_records_total")

    def stop(self) -> None:
        """End the process, in an orderly way if it can; then its file is complete. Idempotent."""
        end_process(self._process, STOP_SECONDS)
