"""A stack that `otelog stack` started, and what its servers say of themselves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from otelog.loki import LokiClient

ROOT = Path(__file__).resolve().parents[2]
UP_SECONDS = 1500
SENDER_SECONDS = 600
FILES = ("app", "errors", "ai_responses")
# `{"timeUnixNano":` begins a record, and cannot be inside of one: quotes in texts are escaped.
_RECORD = b'{"timeUnixNano":'
_NAME = re.compile(rb'"service\.name","value":\{"stringValue":"([^"]*)"')

# A proxy of the environment must not stand between the test and loopback.
open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

Labels = tuple[tuple[str, str], ...]


class RunningStack:
    """The stack of one folder, on free ports; native unless `mode` is ``--docker``."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None, *, mode: str = "--native") -> None:
        self.folder = folder
        self._mode = mode
        self.environ = {**os.environ, **(environ or {})}
        self.ports: dict[str, int] = {}

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `otelog stack`."""
        command, *rest = arguments
        done = subprocess.run(
            [sys.executable, "-m", "otelog.cli", "stack", command, "--data-dir", str(self.folder), *rest],
            env=self.environ,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=UP_SECONDS,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def up(self, *arguments: str) -> str:
        """Start what does not run; returns what it printed."""
        done = self.run("up", self._mode, "--free-ports", *arguments)
        self.ports = json.loads((self.folder / "state.json").read_text())["settings"]["ports"]
        return done.stdout

    def down(self, *arguments: str) -> None:
        self.run("down", *arguments)

    def statuses(self) -> dict[str, dict[str, Any]]:
        """What `otelog stack status` says, by server."""
        document = json.loads(self.run("status", "--json", check=False).stdout)
        return {server["name"]: server for server in document["servers"]}

    def kill(self, name: str) -> None:
        """End a server with SIGKILL, and wait until it is gone."""
        pid = self.statuses()[name]["pid"]
        os.kill(pid, 9)
        deadline = time.monotonic() + 20
        while Path(f"/proc/{pid}").exists() and _state_of(pid) != "Z":
            assert time.monotonic() < deadline

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['otlp-http']}"

    def read(self, port: str, path: str, **query: str) -> str:
        """What a server answers."""
        url = f"http://127.0.0.1:{self.ports[port]}{path}"
        with open_url(f"{url}?{urllib.parse.urlencode(query)}" if query else url, timeout=60) as answer:
            return str(answer.read().decode())

    def samples(self, port: str, name: str) -> dict[Labels, float]:
        """The samples of one metric on a server's /metrics."""
        found = {}
        for labels, value in re.findall(
            rf"^{re.escape(name)}(?:{{([^}}]*)}})? (\S+)$", self.read(port, "/metrics"), re.MULTILINE
        ):
            found[tuple(sorted(re.findall(r'(\w+)="([^"]*)"', labels)))] = float(value)
        return found

    def sum(self, port: str, name: str, **labels: str) -> int:
        """The sum of one metric over the samples with these labels."""
        wanted = set(labels.items())
        return int(sum(value for found, value in self.samples(port, name).items() if wanted <= set(found)))

    def counted(self) -> dict[str, dict[str, int]]:
        """What the Collector has counted, by service and severity."""
        counts: dict[str, dict[str, int]] = {}
        for labels, value in self.samples("applications", "otelog_collector_log_records_total").items():
            found = dict(labels)
            counts.setdefault(found["job"], {})[found["severity"]] = int(value)
        return counts

    def queued(self) -> int:
        """How many records the Collector has on the way to Loki."""
        queue = self.sum("collector-metrics", "otelcol_exporter_queue_size")
        return queue + self.sum("collector-metrics", "otelcol_exporter_in_flight_requests")

    def held(
        self, minutes: int = 60, *, by: str = "service_name", selector: str = '{service_name=~".+"}'
    ) -> dict[str, int]:
        """How many records Loki holds of the last minutes."""
        query = f"sum by ({by}) (count_over_time({selector}[{minutes}m]))"
        answer = json.loads(self.read("loki", "/loki/api/v1/query", query=query, time=str(time.time_ns() + 10**9)))
        return {item["metric"].get(by, ""): int(item["value"][1]) for item in answer["data"]["result"]}

    def different(self, selector: str = '{service_name=~".+"}') -> dict[str, int]:
        """How many different records of the last hour Loki holds, by service; a record is its number."""
        now = time.time_ns()
        with LokiClient(f"http://127.0.0.1:{self.ports['loki']}", timeout=60) as loki:
            entries = loki.query_range(selector, start=now - 3600 * 10**9, end=now)
            found = {(entry.labels["service_name"], entry.metadata["number"]) for entry in entries}
        return dict(Counter(service for service, _ in found))

    def written(self) -> dict[str, Counter[str]]:
        """How many records are in each kind of file, by service."""
        counts = {}
        for stream in FILES:
            counts[stream] = Counter[str]()
            for path in (self.folder / "collector" / "data" / "logs").glob(f"{stream}*.jsonl"):
                counts[stream].update(count_records(path))
        return counts

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus answers to an instant query."""
        result: list[dict[str, Any]] = json.loads(self.read("prometheus", "/api/v1/query", query=expression))["data"][
            "result"
        ]
        return result


def _state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def count_records(path: Path) -> Iterator[str]:
    """The service of every record in a file of the Collector."""
    with path.open("rb") as file:
        for line in file:
            # A document holds several resources; each begins with its attributes, then its records follow.
            for part in line.split(b'{"resource":{')[1:]:
                name = _NAME.search(part)
                assert name is not None
                yield from [name[1].decode()] * part.count(_RECORD)


class Sender:
    """A process that logs the load of tests/stack/load.py."""

    def __init__(
        self, endpoint: str, name: str, count: int, options: dict[str, Any] | None = None, rate: float = 0
    ) -> None:
        self._errors = tempfile.TemporaryFile("a+")  # noqa: SIM115 (it is closed with the process)
        self.errors = ""
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.stack.load",
                endpoint,
                name,
                str(count),
                json.dumps(options or {}),
                str(rate),
            ],
            cwd=ROOT,
            # The tests' own environment turns the metrics off, and here they are what is looked at.
            env={name: value for name, value in os.environ.items() if name != "OTEL_METRICS_EXPORTER"},
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    @property
    def pid(self) -> int:
        return self._process.pid

    def finish(self, *, stop: bool = False) -> dict[str, Any]:
        """Wait for its end, after asking for it if `stop` says so, and return its books."""
        if stop:
            self.stop()
        output, _ = self._process.communicate(timeout=SENDER_SECONDS)
        self._end()
        assert self._process.returncode == 0, self.errors
        books: dict[str, Any] = json.loads(output)
        return books

    def stop(self) -> None:
        """Ask for its end."""
        if self._process.poll() is None:
            self._process.terminate()

    def said(self) -> str:
        """What it has written to standard error so far."""
        self._errors.seek(0)
        return self._errors.read()

    def kill(self) -> None:
        """Idempotent, also after its end."""
        if not self._errors.closed:
            self._process.kill()
            self._process.communicate()
            self._end()

    def _end(self) -> None:
        self.errors = self.said()
        self._errors.close()
