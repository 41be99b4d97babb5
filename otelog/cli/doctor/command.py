"""`otelog doctor`: why records do not arrive, and what to do about it."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import click

from otelog._config.resolve import resolve
from otelog._setup.configure import shutdown
from otelog._setup.state import settings_in_force
from otelog.cli.doctor.application import check_target, load_application, set_up
from otelog.cli.parameters import COLLECTOR_URL, Number
from otelog.cli.show.readable import to_json
from otelog.doctor import Area, Finding, Report
from otelog.doctor._examination import examine_application, examine_endpoints, examine_process, examine_settings
from otelog.doctor._settings import refuse_settings
from otelog.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

EXIT_WRONG = 1

SHUTDOWN_SECONDS = 2.0


@click.command()
@click.argument("app", required=False)
@click.option("--config", "config_file", type=click.Path(dir_okay=False), help="A configuration file.")
@click.option(
    "--endpoint",
    type=COLLECTOR_URL,
    metavar="URL",
    help="The Collector, instead of what the environment or the file says.",
)
@click.option("--request", metavar="PATH", help="Ask APP for this path, and look at the records inside.")
@click.option("--canary/--no-canary", default=True, show_default=True, help="Send one record to the endpoint.")
@click.option(
    "--timeout",
    type=Number(0, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds for the endpoint's answer.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 after warnings, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def doctor(
    ctx: click.Context,
    *,
    app: str | None,
    config_file: str | None,
    endpoint: str | None,
    request: str | None,
    canary: bool,
    timeout: float,
    strict: bool,
    as_json: bool,
) -> None:
    """Say why records do not arrive, and what to do about it.

    Without APP: the settings of this environment, the packages, and the endpoint, which is sent one record. With APP
    (shop:app, shop:create_app() or FILE.py:app) the application is imported here as `otelog run` would have it, and
    its loggers and handlers are followed; nothing that it logs leaves the process, unless it calls otelog.configure()
    itself.

    Exits with 0 if there is no error, 1 if there is one, 2 if it was asked the wrong way.
    """
    from rich.console import Console

    from otelog.cli.doctor.screen import show_report

    if app is not None:
        check_target(app)
    elif request is not None:
        raise click.UsageError("--request needs APP")
    keywords = {"config_file": config_file, "endpoint": endpoint}
    # What the application prints is not ours to mix with the report.
    with redirect_stdout(sys.stderr):
        report = Report(tuple(_examine(keywords, app, request, timeout if canary else None)))
        shutdown(SHUTDOWN_SECONDS)
    if as_json:
        click.echo(to_json(report.to_dict(), indent=2))
    else:
        Console(highlight=False).print(show_report(report))
    wrong = not report.ok or (strict and report.count("warning") > 0)
    code = EXIT_WRONG if wrong else 0
    if app is not None:
        _end_process(code)
    ctx.exit(code)


def _examine(keywords: dict[str, Any], app: str | None, request: str | None, timeout: float | None) -> Iterator[Area]:
    try:
        settings = resolve(keywords)
        target = None
        if app is not None:
            set_up(keywords)
            ours = settings_in_force()
            target, unusable = _load(app)
            told = settings_in_force()
            if told is not None and told is not ours:
                # The application has its own call of configure().
                settings = told
    except ConfigurationError as error:
        yield Area("settings", (), (refuse_settings(error),))
        return
    yield from examine_settings(settings)
    if app is not None:
        yield from examine_process(settings)
        yield unusable if unusable is not None else examine_application(target, request)
    if timeout is not None and not settings.sdk_disabled:
        yield examine_endpoints(settings, timeout)


def _load(app: str) -> tuple[Any, Area | None]:
    """Returns the application, or why there is none."""
    try:
        return load_application(app), None
    except (click.UsageError, ConfigurationError):
        raise
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        what = f"raised {type(error).__name__} while it was imported: {error}"
        finding = Finding(
            "error",
            "application.not_imported",
            app,
            what,
            "see the traceback on standard error; is an environment set?",
        )
        return None, Area("application", (), (finding,))


def _end_process(code: int) -> None:
    """End the process here if the application has threads that would keep it for ever."""
    here = threading.current_thread()
    if any(not thread.daemon and thread is not here for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
