"""`otelog demo`: a shop, its customers and a receiver, and the reconciliation of what went between them."""

from __future__ import annotations

import importlib.util
import os
import sys
from datetime import datetime
from pathlib import Path

import click

from otelog.cli.extras import advise
from otelog.cli.group import MissingExtraError
from otelog.cli.parameters import COLLECTOR_URL, Number
from otelog.cli.show.interruption import Interruption

_NEEDED = {
    "flask": "Flask",
    "waitress": "waitress",
    "opentelemetry.instrumentation.flask": "opentelemetry-instrumentation-flask",
}


@click.command()
@click.option(
    "--seconds",
    type=Number(min=0),
    default=15.0,
    show_default=True,
    help="How long customers come; 0 means until Ctrl-C.",
)
@click.option(
    "--endpoint",
    type=COLLECTOR_URL,
    metavar="URL",
    help="Base URL of a running Collector to use instead of the receiver of the demo.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("otelog-demo"),
    show_default=True,
    help="Where each run makes a folder for its files.",
)
@click.option(
    "--rate",
    type=Number(min=0.1, max=500),
    default=20.0,
    show_default=True,
    help="Requests a second of all customers together.",
)
def demo(seconds: float, endpoint: str | None, data_dir: Path, rate: float) -> None:
    """Run a shop that logs through otelog, and see every record arrive.

    Shop, customers and receiver are three processes. At the end the figures of all hops are compared; the exit code is
    1 if they differ.
    """
    missing = [package for module, package in _NEEDED.items() if not _is_installed(module)]
    if missing:
        raise MissingExtraError(advise("demo", ", ".join(missing)))
    from rich.console import Console

    from otelog.cli.demo.play import Run

    folder = data_dir / f"run-{datetime.now().astimezone():%Y%m%d-%H%M%S}-{os.getpid()}"
    with Interruption() as interruption:
        run = Run(Console(), interruption, seconds=seconds or None, endpoint=endpoint, folder=folder, rate=rate)
        sys.exit(run.play())


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
