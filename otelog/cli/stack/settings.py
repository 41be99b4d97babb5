"""What `otelog stack up` was asked for, and the file that remembers it together with what runs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from otelog.cli.stack.files import StackError

HOST = "127.0.0.1"

PORTS = {
    "otlp-grpc": 4317,
    "otlp-http": 4318,
    "collector-health": 13133,
    "collector-metrics": 8888,
    "applications": 8889,
    "loki": 3100,
    "loki-grpc": 9095,
    "prometheus": 9090,
    "alertmanager": 9093,
    "jaeger": 16686,
    "jaeger-otlp": 14318,
    "jaeger-health": 14133,
    "jaeger-metrics": 14269,
    "grafana": 3000,
}
"""The ports by name, with their defaults."""

NATIVE_ONLY = ("loki-grpc", "jaeger-otlp", "jaeger-health", "jaeger-metrics")
"""Those that nobody outside of the stack needs: with Docker they stay in its network."""

PORTS_OF = {
    "loki": ("loki", "loki-grpc"),
    "alertmanager": ("alertmanager",),
    "prometheus": ("prometheus",),
    "jaeger": ("jaeger", "jaeger-otlp", "jaeger-health", "jaeger-metrics"),
    "collector": ("otlp-grpc", "otlp-http", "collector-health", "collector-metrics", "applications"),
}
"""Those of each server that runs natively, in the order of their start."""

MAY_BE_LEFT_OUT = ("prometheus", "alertmanager")
"""The servers without which records are still taken, kept and found."""

MAY_BE_ADDED = ("jaeger",)
"""The servers that run natively only when they are asked for: building them takes minutes more."""

DEFAULT_FOLDER = Path("otelog-stack")
_STATE = "state.json"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """What a running stack was started with.

    Args:
        ports: All of `PORTS`.
        token_file: A file with the token that senders must know.
        certificate: TLS for senders, with `key`; PEM files.
        client_ca: Whose certificates senders must have (mTLS); a PEM file.
        webhook: Where Alertmanager sends alerts.
        receivers: A file with the integrations that it sends alerts by, instead of the webhook.
        scrape: Applications with a ``/metrics`` of their own, each ``host:port``.
        without: Servers that are left out for now, of `MAY_BE_LEFT_OUT`.
        added: Servers that are asked for, of `MAY_BE_ADDED`.
    """

    ports: dict[str, int] = field(default_factory=lambda: dict(PORTS))
    token_file: str | None = None
    certificate: str | None = None
    key: str | None = None
    client_ca: str | None = None
    webhook: str | None = None
    receivers: str | None = None
    scrape: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The servers that run natively with these settings, in the order of their start."""
        left_out = {*self.without, *MAY_BE_ADDED} - set(self.added)
        return tuple(name for name in PORTS_OF if name not in left_out)

    @property
    def scheme(self) -> str:
        """``https`` where senders speak TLS."""
        return "https" if self.certificate else "http"


@dataclass(frozen=True, slots=True)
class Running:
    """One process: its id, when that process was created (Unix time), and a digest of what it was started with."""

    pid: int
    created: float
    digest: str


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a stack that was started."""

    mode: Literal["docker", "native"]
    settings: Settings
    servers: dict[str, Running] = field(default_factory=dict)


def make_folder(folder: Path) -> None:
    """Make the folder of the stack, and see that it can be written.

    Raises:
        StackError: It cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A file of another name would not show that the state can be replaced.
        probe = folder / f".{_STATE}.probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StackError(
            f"{folder} cannot be written ({error.strerror or error}): choose another folder with --data-dir"
        ) from error


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Let one command at a time change the stack of a folder.

    Raises:
        StackError: Another one does.
    """
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError(
                f"another `otelog stack` is running in {folder}: wait until it is done (otelog stack status --follow)"
            ) from error
        yield


def read_state(folder: Path) -> State | None:
    """Returns what was written, or None if there is nothing.

    Raises:
        StackError: It cannot be understood.
    """
    path = folder / _STATE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StackError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        document: dict[str, Any] = json.loads(text)
        known = {one.name for one in fields(Settings)}
        settings = {name: value for name, value in document["settings"].items() if name in known}
        settings |= {name: tuple(settings.get(name, ())) for name in ("scrape", "without", "added")}
        settings["ports"] = {**PORTS, **settings.get("ports", {})}
        servers = {name: Running(**value) for name, value in document["servers"].items()}
        return State(document["mode"], Settings(**settings), servers)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StackError(f"{path} is damaged: end the servers that it names, then remove it") from error


def write_state(folder: Path, state: State) -> None:
    """Replace what is known, whole or not at all."""
    path, new = folder / _STATE, folder / f".{_STATE}.new"
    new.write_text(json.dumps({"version": _VERSION, **asdict(state)}, indent=2) + "\n", encoding="utf-8")
    os.replace(new, path)


def forget_state(folder: Path) -> None:
    """Remove what is known; idempotent."""
    (folder / _STATE).unlink(missing_ok=True)
