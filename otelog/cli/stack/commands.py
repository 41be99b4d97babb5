"""`otelog stack up | down | status | logs | config | build`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from otelog.cli.group import Group
from otelog.cli.show.interruption import Stopping
from otelog.cli.show.readable import safe
from otelog.cli.stack.building import Workshop
from otelog.cli.stack.compose import ComposeStack, find_engine
from otelog.cli.stack.files import StackError, find_files
from otelog.cli.stack.programs import PROGRAMS
from otelog.cli.stack.servers import Server, describe_servers
from otelog.cli.stack.settings import (
    DEFAULT_FOLDER,
    PORTS,
    Settings,
    State,
    forget_state,
    lock_folder,
    make_folder,
    read_state,
    write_state,
)

if TYPE_CHECKING:
    from rich.console import Console

FOLLOW_SECONDS = 0.2

_NAMES = ("collector", "loki", "prometheus", "alertmanager")
_folder_option = click.option(
    "--data-dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_FOLDER,
    show_default=True,
    help="Where state, configurations, data and output are.",
)


@click.group(cls=Group)
def stack() -> None:
    """Run the back end on this machine: Collector, Loki, Prometheus and Alertmanager, with Grafana where Docker is.

    With a Docker engine that answers, docker compose runs the official images. Else the servers run natively: from
    PATH, or built once from their Go modules into the user's cache, which takes 12 minutes on two cores.
    """


@dataclass(frozen=True, slots=True)
class _Stack:
    """What every command needs."""

    files: Path
    folder: Path
    state: State

    @property
    def servers(self) -> list[Server]:
        return describe_servers(self.files, self.folder, self.state.settings)

    @property
    def compose(self) -> ComposeStack:
        return ComposeStack(self.files, self.folder, self.state.settings, os.environ)


def _read(folder: Path) -> _Stack:
    state = read_state(folder)
    if state is None:
        raise StackError(f"no stack of {folder} was started: otelog stack up")
    return _Stack(find_files(), folder, state)


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except StackError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
        sys.exit(130)


def _parse_ports(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    ports = {}
    for value in values:
        name, _equals, number = value.partition("=")
        if name not in PORTS or not number.isdigit() or not 0 < int(number) < 65536:
            raise click.BadParameter(f"{value!r} is not NAME=NUMBER with a name of {', '.join(PORTS)}")
        ports[name] = int(number)
    return ports


@stack.command()
@_folder_option
@click.option("--docker", "mode", flag_value="docker", help="With Docker, or not at all.")
@click.option("--native", "mode", flag_value="native", help="As native processes, also where Docker is.")
@click.option("--port", "ports", multiple=True, metavar="NAME=NUMBER", callback=_parse_ports, help="Another port.")
@click.option("--free-ports", is_flag=True, help="Ports that are free, so that another stack may run beside it.")
@click.option("--token-file", type=click.Path(exists=True, dir_okay=False), help="The bearer token of senders.")
@click.option("--tls-certificate", type=click.Path(exists=True, dir_okay=False), help="TLS for senders: certificate.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="TLS for senders: its key.")
@click.option("--tls-client-ca", type=click.Path(exists=True, dir_okay=False), help="mTLS: who signs senders.")
@click.option("--webhook", metavar="URL", help="Where alerts are sent.")
@click.option("--scrape", multiple=True, metavar="HOST:PORT", help="An application with a /metrics of its own.")
def up(
    *,
    folder: Path,
    mode: Literal["docker", "native"] | None,
    ports: dict[str, int],
    free_ports: bool,
    token_file: str | None,
    tls_certificate: str | None,
    tls_key: str | None,
    tls_client_ca: str | None,
    webhook: str | None,
    scrape: tuple[str, ...],
) -> None:
    """Start what does not run yet, and wait until it answers.

    A second `up` changes nothing; one with other options starts anew what they concern. Options hold until `down`.
    """
    from rich.console import Console

    from otelog.cli.stack.native import choose_free_ports

    if bool(tls_certificate) != bool(tls_key) or (tls_client_ca and not tls_certificate):
        raise click.UsageError("TLS needs --tls-certificate and --tls-key; --tls-client-ca goes with them")
    given: dict[str, Any] = {
        "token_file": token_file,
        "certificate": tls_certificate,
        "key": tls_key,
        "client_ca": tls_client_ca,
        "webhook": webhook,
        "scrape": scrape,
    }
    for name in ("token_file", "certificate", "key", "client_ca"):
        if given[name]:
            # The next command may be given in another folder.
            given[name] = str(Path(given[name]).resolve())
    with _clear_errors(), Stopping() as stopping:
        files = find_files()
        make_folder(folder)
        with lock_folder(folder):
            before = read_state(folder)
            settings = before.settings if before is not None else Settings()
            base = choose_free_ports() if free_ports and before is None else settings.ports
            settings = replace(
                settings, ports={**base, **ports}, **{name: value for name, value in given.items() if value}
            )
            chosen = _choose_mode(mode, before)
            state = State(chosen, settings, before.servers if before is not None else {})
            found = _Stack(files, folder, state)
            console = Console()
            if chosen == "docker":
                compose = found.compose
                # What cannot be is not remembered: `down` would have to live with it.
                compose.check()
                write_state(folder, state)
                compose.up()
                started = True
            else:
                started = _up_natively(found, console, stopping)
        found = _read(folder)
        _print_rows(_find_rows(found), console)
        if not started:
            click.echo("Everything runs already; nothing was changed.")
        _print_hints(found)


def _choose_mode(mode: Literal["docker", "native"] | None, before: State | None) -> Literal["docker", "native"]:
    if before is not None:
        if mode is not None and mode != before.mode:
            raise StackError(f"it runs with {before.mode} here: otelog stack down")
        return before.mode
    if mode == "native":
        return mode
    engine = find_engine(os.environ)
    if engine.usable:
        return "docker"
    if mode == "docker":
        raise StackError(f"{engine.why_not}: start the engine, or leave out --docker for native processes")
    click.echo(f"{engine.why_not}: native processes")
    return "native"


def _up_natively(found: _Stack, console: Console, stopping: Stopping) -> bool:
    from otelog.cli.stack.display import Display
    from otelog.cli.stack.native import NativeStack

    servers = found.servers
    with Display(console) as display:
        workshop = Workshop(found.files, os.environ, display.show_build)
        # Before anything is started: a build takes minutes.
        programs = {server.program: workshop.get(server.program) for server in servers}
        native = NativeStack(found.folder, found.state, display.show_step, stopping.hold)
        return bool(native.up(servers, programs.__getitem__, os.environ))


@stack.command()
@_folder_option
@click.option("--volumes", is_flag=True, help="Remove the data, too: all logs and metrics that were kept.")
def down(*, folder: Path, volumes: bool) -> None:
    """End what was started; the data stay unless --volumes is given."""
    from rich.console import Console

    from otelog.cli.stack.display import Display
    from otelog.cli.stack.native import NativeStack, remove_data

    with _clear_errors():
        state = read_state(folder) if folder.is_dir() else None
        if state is None:
            if volumes and folder.is_dir():
                remove_data(folder)
            click.echo(f"nothing of {folder} runs")
            return
        found = _Stack(find_files(), folder, state)
        with lock_folder(folder):
            if state.mode == "docker":
                found.compose.down(volumes=volumes)
                forget_state(folder)
            else:
                with Display(Console()) as display:
                    NativeStack(folder, state, display.show_step).down(found.servers)
            if volumes:
                remove_data(folder)


@stack.command()
@_folder_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(*, folder: Path, as_json: bool) -> None:
    """Show what runs and where it answers; the exit code is 1 if something does not."""
    from rich.console import Console

    with _clear_errors():
        found = _read(folder)
        rows = _find_rows(found)
        if as_json:
            document = {"mode": found.state.mode, "folder": str(folder.resolve()), "servers": rows}
            click.echo(json.dumps(document, indent=2))
        else:
            _print_rows(rows, Console())
    sys.exit(0 if all(row["ready"] for row in rows) else 1)


@stack.command()
@_folder_option
@click.option("--follow", "-f", is_flag=True, help="Follow until Ctrl-C.")
@click.option("--lines", "-n", type=click.IntRange(0), default=20, show_default=True, help="So many of each server.")
@click.argument("names", nargs=-1)
def logs(*, folder: Path, follow: bool, lines: int, names: tuple[str, ...]) -> None:
    """Print what the servers write of themselves (not your logs: those are for `otelog query`)."""
    from otelog.cli.stack.native import NativeStack

    with _clear_errors():
        found = _read(folder)
        if found.state.mode == "docker":
            found.compose.logs(names, follow=follow, lines=lines)
            return
        unknown = set(names) - set(_NAMES)
        if unknown:
            raise StackError(f"there is no {', '.join(sorted(unknown))}: {', '.join(_NAMES)}")
        native = NativeStack(folder, found.state, lambda name, text: None)
        _print_output({name: native.output_of(name) for name in names or _NAMES}, lines, follow=follow)


@stack.command()
@_folder_option
@click.option("--check", is_flag=True, help="Let each server's own program check it (builds promtool and amtool).")
def config(*, folder: Path, check: bool) -> None:
    """Show with which programs, files and settings the servers run, or would run."""
    from rich.console import Console

    from otelog.cli.stack.display import Display

    with _clear_errors():
        state = (read_state(folder) if folder.is_dir() else None) or State("native", Settings())
        found = _Stack(find_files(), folder, state)
        if state.mode == "docker":
            found.compose.config()
            return
        with Display(Console(stderr=True)) as display:
            workshop = Workshop(found.files, os.environ, display.show_build)
            if check:
                _check(found, workshop)
                return
        for server in found.servers:
            click.echo(f"{server.name}:")
            click.echo(f"  program: {workshop.find(server.program) or 'to be built'}")
            click.echo(f"  arguments: {' '.join(server.arguments)}")
            for name, value in server.environ.items():
                click.echo(f"  {name}: {value}")


def _check(found: _Stack, workshop: Workshop) -> None:
    make_folder(found.folder)
    bad = []
    with lock_folder(found.folder):
        for server in found.servers:
            server.write()
            program, *arguments = server.check
            done = subprocess.run(
                [str(workshop.get(program)), *arguments],
                env={**os.environ, **server.environ},
                cwd=server.config,
                capture_output=True,
                text=True,
                check=False,
            )
            click.echo(f"{server.name}: {'valid' if done.returncode == 0 else 'not valid'}")
            if done.returncode != 0:
                bad.append(f"{server.name}:\n{(done.stderr or done.stdout).strip()}")
    if bad:
        raise StackError("\n".join(bad))


@stack.command()
@click.argument("names", nargs=-1, type=click.Choice(sorted(PROGRAMS)))
def build(names: tuple[str, ...]) -> None:
    """Build programs ahead of time, all of the servers' unless NAMES are given, and print where they are."""
    from rich.console import Console

    from otelog.cli.stack.display import Display

    with _clear_errors(), Stopping(), Display(Console(stderr=True)) as display:
        workshop = Workshop(find_files(), os.environ, display.show_build)
        servers = ("otelog-collector", "loki", "prometheus", "alertmanager")
        places = [workshop.build(name) for name in names or servers]
    for place in places:
        click.echo(place)


def _find_rows(found: _Stack) -> list[dict[str, Any]]:
    from otelog.cli.stack.native import NativeStack, answers

    servers = found.servers
    native = NativeStack(found.folder, found.state, lambda name, text: None)
    states = found.compose.find_states() if found.state.mode == "docker" else {}
    rows: list[dict[str, Any]] = []
    for server in servers:
        process = native.find_process(server.name)
        if found.state.mode == "docker":
            # The Collector's image can run nothing but the Collector: a neighbour looks whether it is well.
            text = states.get({"collector": "collector-health"}.get(server.name, server.name), "not there")
            ready = text == "running (healthy)"
        elif process is None:
            ready, text = False, "ended by itself" if server.name in found.state.servers else "not started"
        else:
            ready = answers(server.ready)
            text = "ready" if ready else "does not answer"
        rows.append(
            {
                "name": server.name,
                "state": text,
                "ready": ready,
                "url": server.url,
                "about": server.about,
                "pid": None if process is None else process.pid,
            }
        )
    if "grafana" in states:
        port = found.state.settings.ports["grafana"]
        rows.append(
            {
                "name": "grafana",
                "state": states["grafana"],
                "ready": states["grafana"] == "running (healthy)",
                "url": f"http://127.0.0.1:{port}",
                "about": "the dashboards",
                "pid": None,
            }
        )
    return rows


def _print_rows(rows: list[dict[str, Any]], console: Console) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("server", "state", "address", "what for"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        colour = "green" if row["ready"] else "red"
        table.add_row(row["name"], f"[{colour}]{row['state']}[/]", row["url"], row["about"])
    console.print(table)


def _print_hints(found: _Stack) -> None:
    settings = found.state.settings
    endpoint = f"{settings.scheme}://127.0.0.1:{settings.ports['otlp-http']}"
    loki = "" if settings.ports["loki"] == PORTS["loki"] else f" --loki http://127.0.0.1:{settings.ports['loki']}"
    click.echo(f"\nTry it:  otelog demo --endpoint {endpoint}")
    click.echo(f"         otelog query '{{service_name=~\".+\"}}' --since 10m{loki}")


def _print_output(outputs: dict[str, Path], lines: int, *, follow: bool) -> None:
    from otelog.cli.stack.native import read_end

    width = max(map(len, outputs))
    places = {}
    for name, path in outputs.items():
        places[name] = path.stat().st_size if path.exists() else 0
        for line in read_end(path, lines).splitlines() if lines else ():
            click.echo(safe(f"{name:{width}} | {line}"))
    while follow:
        for name, path in outputs.items():
            size = path.stat().st_size if path.exists() else 0
            if size < places[name]:
                # It was started anew.
                places[name] = 0
            if size > places[name]:
                with path.open("rb") as file:
                    file.seek(places[name])
                    text = file.read()
                whole = text[: text.rfind(b"\n") + 1]
                places[name] += len(whole)
                for line in whole.decode(errors="replace").splitlines():
                    click.echo(safe(f"{name:{width}} | {line}"))
        time.sleep(FOLLOW_SECONDS)
