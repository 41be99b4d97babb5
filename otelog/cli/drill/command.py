"""`otelog drill`: something that alerts are for happens on the running stack, is seen, and is undone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otelog.cli.drill.drills import DRILLS
from otelog.cli.parameters import COLLECTOR_URL, Number
from otelog.cli.show.interruption import Interruption

if TYPE_CHECKING:
    from otelog.cli.drill.play import Place

DEFAULT_ENDPOINT = "http://localhost:4318"


@click.command()
@click.argument("name", type=click.Choice(list(DRILLS)), metavar="NAME")
@click.option(
    "--endpoint",
    type=COLLECTOR_URL,
    metavar="URL",
    help=f"Base URL of the Collector; that of the stack in --data-dir, else {DEFAULT_ENDPOINT}, if not given.",
)
@click.option(
    "--data-dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("otelog-stack"),
    show_default=True,
    help="The folder of the running stack.",
)
@click.option(
    "--seconds", type=Number(min=0), help="How long it lasts; if not given, until its alerts fire, or should have."
)
def drill(name: str, endpoint: str | None, folder: Path, seconds: float | None) -> None:
    """Make something happen that an alert is for, see it, and have it undone, also on Ctrl-C.

    NAME is overflow, error-burst, loki-refusing, collector-down or silence. Where the stack of --data-dir runs, the
    alerts are watched, and the exit code is 1 if they do not fire in time.
    """
    from otelog.cli.drill.play import play

    one = DRILLS[name]
    place = _find_place(folder, endpoint)
    click.echo(f"{name}: {one.about}.")
    click.echo(f"Watch the board /d/{one.board} ({one.seen_on}), and {' and '.join(one.alerts)},")
    click.echo(f"within {one.within:.0f} s. What each alert means: docs/how-to/alerts.md. Ctrl-C ends and undoes it.")
    with Interruption() as interruption:
        fired = play(name, one, place, seconds, interruption, click.echo)
    sys.exit(0 if fired else 1)


def _find_place(folder: Path, endpoint: str | None) -> Place:
    from otelog.cli.drill.play import Place
    from otelog.cli.stack.files import StackError
    from otelog.cli.stack.settings import HOST, read_state

    try:
        state = read_state(folder)
    except StackError as error:
        raise click.ClickException(str(error)) from error
    if state is None:
        return Place(endpoint or DEFAULT_ENDPOINT, None, None, None)
    settings = state.settings
    own = f"{settings.scheme}://{HOST}:{settings.ports['otlp-http']}"
    if endpoint is not None and endpoint != own:
        # Another stack's alerts are not to be seen here.
        return Place(endpoint, None, None, None)
    prometheus = None if "prometheus" in settings.without else f"http://{HOST}:{settings.ports['prometheus']}"
    alertmanager = None
    if "alertmanager" not in settings.without:
        alertmanager = f"http://{HOST}:{settings.ports['alertmanager']}"
    running = state.servers.get("collector")
    return Place(own, prometheus, alertmanager, None if running is None else (running.pid, running.created))
