"""The real Collector, Loki and Prometheus, each of which can be restarted, with the project's files at another pace."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.drills.between import Between
from tests.stack.binaries_dash import find_binary
from tests.stack.servers_dash import ROOT, clean_environ, get_json, open_url, write_targets
from tools.loopback import find_free_ports
from tools.waiting import end_process, wait_until

START_SECONDS = 60.0
STOP_SECONDS = 30.0
ANSWER_SECONDS = 90.0
LINE_BYTES = 2048
HOUR = 3600


def shorten(rules: str, pace: int) -> str:
    """The rules with all durations below an hour, and the seconds that they are compared with, divided.

    Args:
        rules: The text of collector/rules/recording.yaml.
        pace: By what; 1 for none.
    """
    if pace == 1:
        return rules

    def divide(found: re.Match[str]) -> str:
        before, number, unit = found.groups()
        seconds = int(number) * (60 if unit == "m" else 1)
        assert seconds % pace == 0, found[0]
        return f"{before}{seconds // pace}{'s' if unit else ''}"

    rules = re.sub(r"(offset |\[)(?!1s)(\d+)([sm])\b", divide, rules)
    return re.sub(r"(time\(\) - )(\d{1,3})()\b", divide, rules)


class Live:
    """Three servers, with a server between the applications and the Collector and one between that and Loki.

    Args:
        folder: For all that they write.
        pace: How many times faster than usual Prometheus is.
    """

    def __init__(self, folder: Path, pace: int) -> None:
        self.folder, self.pace = folder, pace
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._configuration = folder / "configuration"
        shutil.copytree(ROOT / "collector", self._configuration)
        prometheus = self._configuration / "prometheus.yaml"
        text = prometheus.read_text(encoding="utf-8")
        text, changes = re.subn(
            r"(?m)^(  (?:scrape_interval|scrape_timeout|evaluation_interval)): (\d)s$",
            lambda found: f"{found[1]}: {1000 * int(found[2]) // pace}ms",
            text,
        )
        assert changes == 3, "collector/prometheus.yaml has another shape"
        prometheus.write_text(text, encoding="utf-8")
        rules = self._configuration / "rules" / "recording.yaml"
        rules.write_text(shorten(rules.read_text(encoding="utf-8"), pace), encoding="utf-8")
        ports = find_free_ports(8)
        self._http, self._grpc, self._health, self._metrics, self._counts, self._loki, self._loki_grpc, port = ports
        self.prometheus = f"http://127.0.0.1:{port}"
        self._prometheus_port = port
        targets = self._configuration / "targets"
        self.scraped = targets / "applications.yaml"
        write_targets(targets / "collector.yaml", self._metrics, self._counts)
        write_targets(targets / "loki.yaml", self._loki)
        write_targets(targets / "prometheus.yaml", port)
        (targets / "alertmanager.yaml").write_text("[]")
        self.before_collector = Between(self._http, 200)
        self.before_loki = Between(self._loki, 204)

    def start(self, name: str) -> None:
        """Start one of "loki", "collector" and "prometheus", and wait until it is ready."""
        arguments, ready, environ = self._describe(name)
        with (self.folder / f"{name}.log").open("ab") as output:
            process = subprocess.Popen(
                [str(find_binary(name)), *arguments],
                env={**clean_environ(), **environ},
                cwd=self.folder,
                stdout=output,
                stderr=output,
            )
        self._running[name] = process

        def is_ready() -> bool:
            assert process.poll() is None, (self.folder / f"{name}.log").read_text(errors="replace")[-3000:]
            try:
                with open_url(ready, timeout=5) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        wait_until(is_ready, START_SECONDS, what=f"{name} to answer")

    def _describe(self, name: str) -> tuple[list[str], str, Mapping[str, str]]:
        if name == "loki":
            arguments = [f"-config.file={self._configuration / 'loki.yaml'}", "-config.expand-env=true"]
            environ = {
                "OTELOG_LOKI_PORT": str(self._loki),
                "OTELOG_LOKI_GRPC_PORT": str(self._loki_grpc),
                "OTELOG_LOKI_FOLDER": str(self.folder / "loki"),
                "OTELOG_LOKI_LINE": f"{LINE_BYTES}B",
            }
            return arguments, f"http://127.0.0.1:{self._loki}/ready", environ
        if name == "collector":
            environ = {
                "OTELOG_COLLECTOR_HTTP": f"127.0.0.1:{self._http}",
                "OTELOG_COLLECTOR_GRPC": f"127.0.0.1:{self._grpc}",
                "OTELOG_COLLECTOR_HEALTH": f"127.0.0.1:{self._health}",
                "OTELOG_COLLECTOR_METRICS_HOST": "127.0.0.1",
                "OTELOG_COLLECTOR_METRICS_PORT": str(self._metrics),
                "OTELOG_COLLECTOR_APPLICATIONS": f"127.0.0.1:{self._counts}",
                "OTELOG_COLLECTOR_FOLDER": str(self.folder / "collector"),
                "OTELOG_LOKI_OTLP": f"{self.before_loki.url}/otlp",
            }
            return [f"--config={self._configuration / 'otelcol.yaml'}"], f"http://127.0.0.1:{self._health}/", environ
        arguments = [
            f"--config.file={self._configuration / 'prometheus.yaml'}",
            f"--storage.tsdb.path={self.folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{self._prometheus_port}",
            "--log.level=warn",
        ]
        return arguments, f"{self.prometheus}/-/ready", {}

    def stop(self, name: str) -> None:
        """In an orderly way."""
        end_process(self._running.pop(name), STOP_SECONDS)

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.kill()
        process.wait(STOP_SECONDS)

    def close(self) -> None:
        for name in list(self._running):
            self.stop(name)
        self.before_collector.close()
        self.before_loki.close()

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query."""
        found: list[dict[str, Any]] = get_json(f"{self.prometheus}/api/v1/query", query=expression)["data"]["result"]
        return found

    def value(self, expression: str) -> float:
        """The sum of an instant query's series; 0 without any."""
        return sum(float(one["value"][1]) for one in self.ask(expression))

    def evaluations(self, expression: str, since: float, until: float) -> list[dict[str, Any]]:
        """What an expression was at each evaluation."""
        return list(
            get_json(
                f"{self.prometheus}/api/v1/query_range",
                query=expression,
                start=f"{since:.3f}",
                end=f"{until:.3f}",
                step=f"{5 / self.pace:g}",
            )["data"]["result"]
        )


class Told:
    """A process of told.py."""

    def __init__(self, live: Live, service: str, way: str = "otlp") -> None:
        self.service = service
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.drills.told", live.before_collector.url, service, way],
            cwd=ROOT,
            env={
                **clean_environ(),
                "OTEL_METRIC_EXPORT_INTERVAL": str(60_000 // (6 * live.pace) if live.pace > 1 else 60_000),
                "OTEL_METRICS_EXPORTER": "none" if way == "scrape" else "otlp",
                "PYTHONUNBUFFERED": "1",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.books = self._read()
        if way == "scrape":
            write_targets(live.scraped, self.books["port"], job=service)

    def tell(self, command: str) -> dict[str, int]:
        """Have it do something, and wait until it is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        self.books = self._read()
        return self.books

    def _read(self) -> dict[str, int]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self.service} has ended"
        books: dict[str, int] = json.loads(line)
        return books

    def end(self) -> dict[str, int]:
        """In an orderly way."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self.books = self._read()
        self._process.wait(ANSWER_SECONDS)
        return self.books

    def kill(self) -> None:
        """Idempotent."""
        self._process.kill()
        self._process.wait(ANSWER_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with open(os.devnull, "w"):
                pipe.close()
