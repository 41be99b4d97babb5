"""The stack with Docker: `docker compose` does the work."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otelog.cli.stack.files import StackError
from otelog.cli.stack.settings import Settings

ASK_SECONDS = 10.0
"""How long an engine may take to answer."""

PROJECT = "otelog"


@dataclass(frozen=True, slots=True)
class Engine:
    """What is known of Docker here: whether it does, and if not, why."""

    usable: bool
    why_not: str = ""


def find_engine(environ: Mapping[str, str]) -> Engine:
    """Returns whether there is a Docker engine that answers, and Compose. Never raises."""
    if shutil.which("docker", path=environ.get("PATH")) is None:
        return Engine(usable=False, why_not="no docker on PATH")
    for command, why_not in (
        (["docker", "info", "--format", "{{.ServerVersion}}"], "no Docker engine answers"),
        (["docker", "compose", "version", "--short"], "docker has no compose plugin"),
    ):
        try:
            done = subprocess.run(
                command, env=dict(environ), capture_output=True, text=True, check=False, timeout=ASK_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired):
            return Engine(usable=False, why_not=why_not)
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            return Engine(usable=False, why_not=f"{why_not} ({said[-1]})" if said else why_not)
    return Engine(usable=True)


def find_docker_problems(files: Path, settings: Settings) -> list[str]:
    """Returns what is asked for that is for native processes only."""
    problems = []
    if settings.scrape:
        problems.append(
            "--scrape is for native processes; with Docker, write the application's address into a file "
            f"applications-NAME.yaml in {files / 'collector' / 'targets'}"
        )
    if settings.without:
        problems.append("--without is for native processes: with Docker nothing is built that it could save")
    return problems


class ComposeStack:
    """One compose project.

    Args:
        files: The stack's files.
        folder: Where a file for it may be left.
        settings: What is asked for.
        environ: The environment for `docker`.
    """

    def __init__(self, files: Path, folder: Path, settings: Settings, environ: Mapping[str, str]) -> None:
        self._command = ["docker", "compose", "--project-name", PROJECT, "--file", str(files / "docker-compose.yml")]
        self._environ = dict(environ)
        for name, port in settings.ports.items():
            self._environ[f"OTELOG_PORT_{name.upper().replace('-', '_')}"] = str(port)
        if settings.token_file:
            self._environ["OTELOG_TOKEN_FILE"] = str(Path(settings.token_file).resolve())
        if settings.certificate and settings.key:
            self._environ["OTELOG_TLS_CERTIFICATE"] = str(Path(settings.certificate).resolve())
            self._environ["OTELOG_TLS_KEY"] = str(Path(settings.key).resolve())
            if settings.client_ca:
                self._environ["OTELOG_TLS_CLIENT_CA"] = str(Path(settings.client_ca).resolve())
        if settings.webhook:
            # Its address may hold a secret: a file is not shown with the container's environment.
            webhook = folder.resolve() / "webhook-url"
            webhook.write_text(f"{settings.webhook}\n", encoding="utf-8")
            webhook.chmod(0o600)
            self._environ["OTELOG_WEBHOOK_FILE"] = str(webhook)
        if settings.receivers:
            self._environ["OTELOG_RECEIVERS_FILE"] = str(Path(settings.receivers).resolve())
        self._command += ["--profile", "alerting"]

    def up(self) -> None:
        """Start what does not run, and wait until it is healthy; Compose shows how it goes.

        Raises:
            StackError: It does not become healthy.
        """
        self._run("up", "--detach", "--wait", "--remove-orphans")

    def down(self, *, volumes: bool) -> None:
        """End what runs, and remove its data if `volumes` says so.

        Raises:
            StackError: It does not end.
        """
        self._run("--profile", "demo", "down", "--remove-orphans", *(["--volumes"] if volumes else []))

    def logs(self, names: tuple[str, ...], *, follow: bool, lines: int) -> None:
        """Print what the services wrote.

        Raises:
            StackError: There is no such service.
        """
        self._run("logs", "--tail", str(lines), *(["--follow"] if follow else []), *names)

    def config(self) -> None:
        """Print the configuration as Compose understands it.

        Raises:
            StackError: It is not valid.
        """
        self._run("config")

    def find_states(self) -> dict[str, str]:
        """Returns what Docker says of each service: ``running (healthy)``, ``exited (1)`` and the like.

        Raises:
            StackError: It does not answer.
        """
        command = [*self._command, "ps", "--all", "--format", "json"]
        done = subprocess.run(command, env=self._environ, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise StackError(f"docker compose ps: {done.stderr.strip()}")
        states = {}
        for line in done.stdout.splitlines():
            found: dict[str, Any] = json.loads(line)
            more = found.get("Health") or (found["ExitCode"] if found["State"] == "exited" else "")
            states[str(found["Service"])] = f"{found['State']} ({more})" if more != "" else str(found["State"])
        return states

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([*self._command, *arguments], env=self._environ, check=False)
        if done.returncode != 0:
            raise StackError(f"docker compose {arguments[0]} ended with {done.returncode}; what it says is above")
