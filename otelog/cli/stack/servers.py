"""How each server is started natively: its arguments, its environment, its configuration, and where it answers."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from otelog.cli.stack.files import StackError
from otelog.cli.stack.settings import HOST, PORTS_OF, Settings

NO_WEBHOOK = f"http://{HOST}:5001/"
"""Where alerts go that nobody asked for: Alertmanager shows them all the same."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server of the stack.

    Args:
        name: What it is called here.
        program: What runs, of `PROGRAMS`.
        arguments: After the program.
        environ: Over the environment of who starts it.
        config: The folder of its configuration, and its current folder.
        files: What is in that folder, by relative path.
        data: The folder of its data.
        ready: The URL that answers 200 when it is ready.
        ports: Those of `PORTS` that it listens on.
        about: What it is for.
        url: Its address, for people.
        stop_seconds: How long it may take to end.
        check: The program, with arguments, that checks its configuration.
    """

    name: str
    program: str
    arguments: tuple[str, ...]
    environ: Mapping[str, str]
    config: Path
    files: Mapping[str, bytes]
    data: Path
    ready: str
    ports: tuple[str, ...]
    about: str
    url: str
    stop_seconds: float
    check: tuple[str, ...]

    @property
    def programs(self) -> tuple[str, str]:
        """What runs it, and what checks it."""
        return self.program, self.check[0]

    def digest(self) -> str:
        """Returns what changes when the server would be started differently: its settings, or its files."""
        settings = json.dumps([self.program, self.arguments, sorted(self.environ.items())])
        made_of = hashlib.sha256(settings.encode())
        for name, content in sorted(self.files.items()):
            made_of.update(f"\0{name}\0{len(content)}\0".encode() + content)
        return made_of.hexdigest()[:16]

    def write(self) -> None:
        """Write its configuration, and make the folder of its data.

        Raises:
            StackError: They cannot be written.
        """
        try:
            shutil.rmtree(self.config, ignore_errors=True)
            for name, content in self.files.items():
                path = self.config / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self.data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(f"{error.filename or self.config} cannot be written: {error.strerror or error}") from error


def describe_servers(files: Path, folder: Path, settings: Settings) -> list[Server]:
    """Returns the servers as they would be started, in the order of their start, without those that are left out.

    Nothing is written yet.

    Args:
        files: The stack's files.
        folder: Where each server gets a folder of its own.
        settings: What is asked for.

    Raises:
        StackError: A file of the settings does not exist.
    """
    folder, collector = folder.resolve(), files / "collector"
    every = {
        "loki": _loki,
        "alertmanager": _alertmanager,
        "prometheus": _prometheus,
        "jaeger": _jaeger,
        "collector": _collector,
    }
    return [every[name](collector, folder / name, settings) for name in settings.names]


def _read(collector: Path, *names: str) -> dict[str, bytes]:
    return {name: (collector / name).read_bytes() for name in names}


def _collector(files: Path, folder: Path, settings: Settings) -> Server:
    ports = settings.ports
    overlays = ["otelcol.yaml"]
    environ = {
        "OTELOG_COLLECTOR_FOLDER": str(folder / "data"),
        "OTELOG_COLLECTOR_GRPC": f"{HOST}:{ports['otlp-grpc']}",
        "OTELOG_COLLECTOR_HTTP": f"{HOST}:{ports['otlp-http']}",
        "OTELOG_COLLECTOR_HEALTH": f"{HOST}:{ports['collector-health']}",
        "OTELOG_COLLECTOR_METRICS_HOST": HOST,
        "OTELOG_COLLECTOR_METRICS_PORT": str(ports["collector-metrics"]),
        "OTELOG_COLLECTOR_APPLICATIONS": f"{HOST}:{ports['applications']}",
        "OTELOG_LOKI_OTLP": f"http://{HOST}:{ports['loki']}/otlp",
    }
    if settings.token_file:
        overlays.append("token.yaml")
        environ["OTELOG_COLLECTOR_TOKEN_FILE"] = _existing(settings.token_file)
    if settings.certificate and settings.key:
        overlays.append("tls.yaml")
        environ["OTELOG_COLLECTOR_CERTIFICATE"] = _existing(settings.certificate)
        environ["OTELOG_COLLECTOR_KEY"] = _existing(settings.key)
        environ["OTELOG_COLLECTOR_CLIENT_CA"] = _existing(settings.client_ca) if settings.client_ca else ""
    if "jaeger" in settings.names:
        overlays.append("jaeger.yaml")
        environ["OTELOG_JAEGER_OTLP"] = f"http://{HOST}:{ports['jaeger-otlp']}"
    config = folder / "config"
    arguments = tuple(item for name in overlays for item in ("--config", str(config / name)))
    return Server(
        "collector",
        "otelog-collector",
        arguments,
        environ,
        config,
        _read(files, *overlays),
        folder / "data",
        f"http://{HOST}:{ports['collector-health']}/",
        PORTS_OF["collector"],
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        f"{settings.scheme}://{HOST}:{ports['otlp-http']}",
        30.0,
        ("otelog-collector", "validate", *arguments),
    )


def _loki(files: Path, folder: Path, settings: Settings) -> Server:
    ports = settings.ports
    config = folder / "config"
    rules = sorted(str(path.relative_to(files)) for path in (files / "loki-rules").rglob("*.yaml"))
    arguments = (f"-config.file={config / 'loki.yaml'}", "-config.expand-env=true")
    url = f"http://{HOST}:{ports['loki']}"
    return Server(
        "loki",
        "loki",
        arguments,
        {
            "OTELOG_LOKI_HOST": HOST,
            "OTELOG_LOKI_PORT": str(ports["loki"]),
            "OTELOG_LOKI_GRPC_PORT": str(ports["loki-grpc"]),
            "OTELOG_LOKI_FOLDER": str(folder / "data"),
            "OTELOG_LOKI_RULES": str(config / "loki-rules"),
            "OTELOG_LOKI_ALERTMANAGER": f"http://{HOST}:{ports['alertmanager']}",
        },
        config,
        _read(files, "loki.yaml", *rules),
        folder / "data",
        f"{url}/ready",
        PORTS_OF["loki"],
        "the logs: otelog query, otelog tail",
        url,
        60.0,
        ("loki", *arguments, "-verify-config"),
    )


def _prometheus(files: Path, folder: Path, settings: Settings) -> Server:
    ports = settings.ports
    rules = sorted(f"rules/{path.name}" for path in (files / "rules").glob("*.yaml"))
    config = folder / "config"
    targets = {
        "collector": [ports["collector-metrics"], ports["applications"]],
        "loki": [ports["loki"]],
        "prometheus": [ports["prometheus"]],
        "alertmanager": [ports["alertmanager"]],
        "jaeger": [ports["jaeger-metrics"]],
    }
    # What does not run is neither scraped, nor told of alerts.
    targets = {name: numbers if name in settings.names else [] for name, numbers in targets.items()}
    addresses = {name: [f"{HOST}:{number}" for number in numbers] for name, numbers in targets.items()}
    addresses["applications"] = list(settings.scrape)
    content = _read(files, "prometheus.yaml", *rules)
    content |= {f"targets/{name}.yaml": _describe_targets(several) for name, several in addresses.items()}
    url = f"http://{HOST}:{ports['prometheus']}"
    return Server(
        "prometheus",
        "prometheus",
        (
            f"--config.file={config / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=15d",
            f"--web.listen-address={HOST}:{ports['prometheus']}",
            "--log.level=warn",
        ),
        {},
        config,
        content,
        folder / "data",
        f"{url}/-/ready",
        PORTS_OF["prometheus"],
        "the counts, and the alert rules",
        url,
        30.0,
        ("promtool", "check", "config", str(config / "prometheus.yaml")),
    )


def _describe_targets(addresses: list[str]) -> bytes:
    # JSON is YAML, too.
    return json.dumps([{"targets": addresses}] if addresses else []).encode() + b"\n"


def _jaeger(files: Path, folder: Path, settings: Settings) -> Server:
    ports = settings.ports
    config = folder / "config"
    arguments = ("--config", str(config / "jaeger-config.yaml"))
    return Server(
        "jaeger",
        "jaeger",
        arguments,
        {
            "OTELOG_JAEGER_OTLP_LISTEN": f"{HOST}:{ports['jaeger-otlp']}",
            "OTELOG_JAEGER_QUERY": f"{HOST}:{ports['jaeger']}",
            "OTELOG_JAEGER_HEALTH": f"{HOST}:{ports['jaeger-health']}",
            "OTELOG_JAEGER_METRICS_HOST": HOST,
            "OTELOG_JAEGER_METRICS_PORT": str(ports["jaeger-metrics"]),
        },
        config,
        _read(files, "jaeger-config.yaml"),
        folder / "data",
        f"http://{HOST}:{ports['jaeger-health']}/status",
        PORTS_OF["jaeger"],
        "the traces, in memory: /api/traces/ID",
        f"http://{HOST}:{ports['jaeger']}",
        15.0,
        ("jaeger", "validate", *arguments),
    )


def _alertmanager(files: Path, folder: Path, settings: Settings) -> Server:
    port = settings.ports["alertmanager"]
    config = folder / "config"
    webhook = f"{settings.webhook or NO_WEBHOOK}\n".encode()
    url = f"http://{HOST}:{port}"
    told = settings.receivers or settings.webhook
    return Server(
        "alertmanager",
        "alertmanager",
        (
            f"--config.file={config / 'alertmanager.yaml'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address={HOST}:{port}",
            # There is no other to gossip with.
            "--cluster.listen-address=",
            "--log.level=warn",
        ),
        {},
        config,
        {"alertmanager.yaml": _tell_whom(files / "alertmanager.yaml", settings), "webhook-url": webhook},
        folder / "data",
        f"{url}/-/ready",
        PORTS_OF["alertmanager"],
        "alerts that fire" + (f", sent to {told}" if told else ""),
        url,
        15.0,
        ("amtool", "check-config", str(config / "alertmanager.yaml")),
    )


def _tell_whom(path: Path, settings: Settings) -> bytes:
    """Returns Alertmanager's configuration, with the integrations that are asked for behind its last receiver."""
    content = path.read_bytes()
    if not settings.receivers:
        return content
    head, line, _ = content.partition(b"\n  - name: people\n")
    given = Path(_existing(settings.receivers)).read_bytes()
    return head + line + b"".join(b"    " + one + b"\n" for one in given.splitlines())


def _existing(name: str) -> str:
    path = Path(name).resolve()
    if not path.is_file():
        raise StackError(f"{name} is not a file")
    return str(path)
