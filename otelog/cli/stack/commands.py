"""`otelog stack up | down | status | logs | config | build`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from otelog.cli.group import Group
from otelog.cli.show.interruption import stopping
from otelog.cli.show.readable import safe
from otelog.cli.stack.building import Workshop, find_cache
from otelog.cli.stack.compose import ComposeStack, find_docker_problems, find_engine
from otelog.cli.stack.files import StackError, find_files
from otelog.cli.stack.grafana import find_provisioning, write_provisioning
from otelog.cli.stack.places import list_places, show_places
from otelog.cli.stack.preflight import find_disk_problems, find_option_problems
from otelog.cli.stack.programs import PROGRAM_OF, PROGRAMS, USUAL_PROGRAMS
from otelog.cli.stack.progress import Progress, ProgressFile, find_progress
from otelog.cli.stack.servers import Server, describe_servers
from otelog.cli.stack.settings import (
    DEFAULT_FOLDER,
    MAY_BE_ADDED,
    MAY_BE_LEFT_OUT,
    NATIVE_ONLY,
    PORTS,
    PORTS_OF,
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

    from otelog.cli.stack.display import Display

FOLLOW_SECONDS = 0.2

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
    """Run the back end on this machine: Collector, Loki, Prometheus, Alertmanager; where Docker is Jaeger and Grafana.

    With a Docker engine that answers, docker compose runs the official images. Else the servers run natively: from
    PATH, or built once from their Go modules into the user's cache: 12 minutes on two quiet cores, 46 on two busy ones.
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


def _parse_added(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    names = {name.strip() for value in values for name in value.split(",")}
    if unknown := sorted(names - set(MAY_BE_ADDED)):
        raise click.BadParameter(f"{', '.join(unknown)}: what may be added is {', '.join(MAY_BE_ADDED)}")
    return tuple(name for name in MAY_BE_ADDED if name in names)


def _parse_left_out(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    names = {name.strip() for value in values for name in value.split(",")}
    if unknown := sorted(names - set(MAY_BE_LEFT_OUT)):
        raise click.BadParameter(f"{', '.join(unknown)}: what may be left out is {', '.join(MAY_BE_LEFT_OUT)}")
    if "prometheus" in names:
        # It would never be told of an alert.
        names.add("alertmanager")
    return tuple(name for name in MAY_BE_LEFT_OUT if name in names)


@stack.command()
@_folder_option
@click.option("--docker", "mode", flag_value="docker", help="With Docker, or not at all.")
@click.option("--native", "mode", flag_value="native", help="As native processes, also where Docker is.")
@click.option("--port", "ports", multiple=True, metavar="NAME=NUMBER", callback=_parse_ports, help="Another port.")
@click.option("--free-ports", is_flag=True, help="Ports that are free, so that another stack may run beside it.")
@click.option(
    "--without",
    multiple=True,
    metavar="NAME,...",
    callback=_parse_left_out,
    help="Leave out prometheus (and with it the Alertmanager) or alertmanager for now; an `up` without it adds them.",
)
@click.option(
    "--with",
    "added",
    multiple=True,
    metavar="NAME,...",
    callback=_parse_added,
    help="Add jaeger, which keeps traces: four minutes more of build, once. With Docker it is there anyway.",
)
@click.option("--token-file", type=click.Path(exists=True, dir_okay=False), help="The bearer token of senders.")
@click.option("--tls-certificate", type=click.Path(exists=True, dir_okay=False), help="TLS for senders: certificate.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="TLS for senders: its key.")
@click.option("--tls-client-ca", type=click.Path(exists=True, dir_okay=False), help="mTLS: who signs senders.")
@click.option("--webhook", metavar="URL", help="Where alerts are sent.")
@click.option(
    "--receivers",
    type=click.Path(exists=True, dir_okay=False),
    help="Where alerts are sent: a file with e-mail, Slack and the like, as one receiver of Alertmanager has them.",
)
@click.option("--scrape", multiple=True, metavar="HOST:PORT", help="An application with a /metrics of its own.")
def up(
    *,
    folder: Path,
    mode: Literal["docker", "native"] | None,
    ports: dict[str, int],
    free_ports: bool,
    tls_certificate: str | None,
    tls_key: str | None,
    tls_client_ca: str | None,
    token_file: str | None,
    receivers: str | None,
    **others: Any,
) -> None:
    """Start what does not run yet, and wait until it answers.

    Options, ports, disks and the folder are checked before anything is built or started. A second `up` changes nothing;
    one with other options starts anew what they concern. Options hold until `down`, but for --without.
    """
    from rich.console import Console

    from otelog.cli.stack.ports import choose_free_ports

    if bool(tls_certificate) != bool(tls_key) or (tls_client_ca and not tls_certificate):
        raise click.UsageError("TLS needs --tls-certificate and --tls-key; --tls-client-ca goes with them")
    files_given = {
        "token_file": token_file,
        "certificate": tls_certificate,
        "key": tls_key,
        "client_ca": tls_client_ca,
        "receivers": receivers,
    }
    # The next command may be given in another folder.
    given = {**others, **{name: str(Path(value).resolve()) for name, value in files_given.items() if value}}
    with _clear_errors(), stopping(), contextlib.ExitStack() as held:
        files = find_files()
        problems: list[str] = []
        before = _take_folder(folder, held, problems)
        settings = before.settings if before is not None else Settings()
        base = choose_free_ports() if free_ports and before is None else settings.ports
        given = {name: value for name, value in given.items() if value or name == "without"}
        settings = replace(settings, ports={**base, **ports}, **given)
        problems += find_option_problems(settings, given)
        chosen = _choose_mode(mode, before, problems)
        if chosen == "docker":
            # Nothing has to be built for it.
            settings = replace(settings, added=MAY_BE_ADDED)
        state = State(chosen, settings, before.servers if before is not None else {})
        console = Console()
        found = _Stack(files, folder, state)
        if chosen == "docker":
            _up_with_docker(found, before, problems)
            started = True
        else:
            started = _up_natively(found, before, problems, console)
        found = _read(folder)
        if chosen == "native":
            write_provisioning(files, folder, found.state.settings)
        _print_rows(found, _find_rows(found), console)
        if not started:
            click.echo("Everything runs already; nothing was changed.")
        _print_hints(found)


def _take_folder(folder: Path, held: contextlib.ExitStack, problems: list[str]) -> State | None:
    """Lock the folder, and return what is known of a stack there; add what is in the way to `problems`."""
    try:
        make_folder(folder)
        held.enter_context(lock_folder(folder))
    except StackError as error:
        problems.append(str(error))
    try:
        return read_state(folder)
    except StackError as error:
        if not problems:
            problems.append(str(error))
        return None


def _choose_mode(
    mode: Literal["docker", "native"] | None, before: State | None, problems: list[str]
) -> Literal["docker", "native"]:
    if before is not None:
        if mode is not None and mode != before.mode:
            problems.append(f"it runs with {before.mode} here: otelog stack down")
        return before.mode
    if mode == "native":
        return mode
    engine = find_engine(os.environ)
    if engine.usable:
        return "docker"
    if mode == "docker":
        problems.append(f"{engine.why_not}: start the engine, or leave out --docker for native processes")
        return mode
    click.echo(f"{engine.why_not}: native processes")
    return "native"


def _refuse(problems: list[str]) -> None:
    if problems:
        every = "nothing was built or started:\n- " + "\n- ".join(problems)
        raise StackError(every if len(problems) > 1 else problems[0])


def _up_with_docker(found: _Stack, before: State | None, problems: list[str]) -> None:
    from otelog.cli.stack.ports import find_port_problems

    settings = found.state.settings
    problems += find_docker_problems(found.files, settings)
    if before is None:
        problems += find_port_problems({name: port for name, port in settings.ports.items() if name not in NATIVE_ONLY})
    _refuse(problems)
    # What cannot be is not remembered: `down` would have to live with it.
    write_state(found.folder, found.state)
    found.compose.up()


def _up_natively(found: _Stack, before: State | None, problems: list[str], console: Console) -> bool:
    from otelog.cli.stack.native import NativeStack
    from otelog.cli.stack.ports import find_port_problems

    settings = found.state.settings
    with _open_workshop(found.files, console) as (workshop, progress, display):
        native = NativeStack(found.folder, found.state, progress.report_step)
        names = settings.names
        to_build = [program for name in names if not workshop.find(program := PROGRAM_OF[name])]
        wanted = {port: settings.ports[port] for name in names for port in PORTS_OF[name]}
        own = [] if before is None else native.list_ports(before.settings)
        problems += find_port_problems(wanted, own, again=before is not None)
        problems += find_disk_problems(found.folder, to_build, os.environ, find_cache(os.environ))
        _refuse(problems)
        servers = found.servers
        display.announce(progress.plan(to_build), sooner="prometheus" in to_build)
        # Before anything is started: a build takes minutes.
        programs = {server.program: workshop.get(server.program) for server in servers}
        return bool(native.up(servers, programs.__getitem__, os.environ))


@contextlib.contextmanager
def _open_workshop(files: Path, console: Console) -> Iterator[tuple[Workshop, ProgressFile, Display]]:
    from otelog.cli.stack.display import Display

    with Display(console) as display, ProgressFile(find_cache(os.environ), display.show) as progress:
        yield Workshop(files, os.environ, progress.report), progress, display


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
@click.option("--follow", "-f", is_flag=True, help="Follow what is built and started until that has ended.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(*, folder: Path, follow: bool, as_json: bool) -> None:
    """Show what runs and where it answers, and what is being built; the exit code is 1 if something does not answer."""
    from rich.console import Console

    from otelog.cli.stack.display import follow_progress
    from otelog.cli.stack.health import find_notes

    cache = find_cache(os.environ)
    with _clear_errors():
        if follow:
            follow_progress(lambda: find_progress(cache), Console(stderr=True))
        going = find_progress(cache)
        state = read_state(folder) if folder.is_dir() else None
        # While its programs are built there is no stack yet.
        found = _read(folder) if state is not None or not going else None
        rows = [] if found is None else _find_rows(found)
        settings = Settings() if found is None else found.state.settings
        # That a server answers does not say that it is well.
        prometheus = [row["url"] for row in rows if row["name"] == "prometheus" and row["ready"]]
        notes = find_notes(prometheus[0]) if prometheus else []
        if as_json:
            document = {
                "mode": None if found is None else found.state.mode,
                "folder": str(folder.resolve()),
                "servers": rows,
                "without": settings.without,
                "notes": notes,
                "building": [asdict(one) for one in going],
            }
            click.echo(json.dumps(document, indent=2))
        else:
            _print_status(found, rows, settings, going, notes)
    sys.exit(0 if rows and all(row["ready"] for row in rows) else 1)


def _print_status(
    found: _Stack | None, rows: list[dict[str, Any]], settings: Settings, going: list[Progress], notes: list[str]
) -> None:
    from rich.console import Console

    if found is not None:
        _print_rows(found, rows, Console())
    if settings.without:
        alerts = "" if "prometheus" not in settings.without else "; till then nobody watches, and no alert fires"
        click.echo(f"left out: {', '.join(settings.without)}; `otelog stack up` adds them{alerts}")
    for note in notes:
        click.echo(safe(f"note: {note}"))
    for one in going:
        click.echo(safe(f"process {one.pid} builds or starts: {one.describe(time.time())}"))


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
        known = [server.name for server in found.servers]
        if unknown := set(names) - set(known):
            raise StackError(f"there is no {', '.join(sorted(unknown))}: {', '.join(known)}")
        native = NativeStack(folder, found.state, lambda name, text: None)
        _print_output({name: native.output_of(name) for name in names or known}, lines, follow=follow)


@stack.command()
@_folder_option
@click.option("--check", is_flag=True, help="Let each server's own program check it (builds promtool and amtool).")
def config(*, folder: Path, check: bool) -> None:
    """Show with which programs, files and settings the servers run, or would run."""
    from rich.console import Console

    with _clear_errors():
        state = (read_state(folder) if folder.is_dir() else None) or State("native", Settings())
        found = _Stack(find_files(), folder, state)
        if state.mode == "docker":
            found.compose.config()
            return
        with _open_workshop(found.files, Console(stderr=True)) as (workshop, progress, _):
            if check:
                progress.plan(workshop.find_missing(program for one in found.servers for program in one.programs))
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
    """Build programs ahead of time, all of the servers' but Jaeger's unless NAMES are given; print where they are."""
    from rich.console import Console

    wanted = names or USUAL_PROGRAMS
    with (
        _clear_errors(),
        stopping(),
        _open_workshop(find_files(), Console(stderr=True)) as (workshop, progress, display),
    ):
        to_build = workshop.find_unbuilt(wanted)
        _refuse(find_disk_problems(find_cache(os.environ), to_build, os.environ, find_cache(os.environ)))
        display.announce(progress.plan(to_build))
        places = [workshop.build(name) for name in wanted]
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
    if found.state.mode == "docker":
        port = found.state.settings.ports["grafana"]
        text = states.get("grafana", "not there")
        rows.append(
            {
                "name": "grafana",
                "state": text,
                "ready": text == "running (healthy)",
                "url": f"http://127.0.0.1:{port}",
                "about": "the dashboards",
                "pid": None,
            }
        )
    return rows


def _print_rows(found: _Stack, rows: list[dict[str, Any]], console: Console) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("server", "state", "address", "what for"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        colour = "green" if row["ready"] else "red"
        table.add_row(row["name"], f"[{colour}]{row['state']}[/]", row["url"], row["about"])
    if found.state.mode == "native":
        table.add_row("grafana", "not here", "", "the boards: with Docker, or in your own Grafana (below)")
    console.print(table)
    if found.state.mode == "native":
        click.echo(
            "Grafana is not built natively. With a Docker engine: otelog stack down, then otelog stack up --docker.\n"
            f"With a Grafana of your own: GF_PATHS_PROVISIONING={find_provisioning(found.folder)}"
        )


def _print_hints(found: _Stack) -> None:
    settings = found.state.settings
    endpoint = f"{settings.scheme}://127.0.0.1:{settings.ports['otlp-http']}"
    click.echo(f"\nTry it: otelog demo --endpoint {endpoint}\nThen open:")
    for line in show_places(list_places(found.state, '{service_name=~".+"}')):
        click.echo(f"  {line}")


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
