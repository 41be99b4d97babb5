"""The group of the `otelog` subcommands, each imported when it is asked for."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from otelog import __version__
from otelog._runtime.shown_text import hide_secrets
from otelog.cli.extras import COMMANDS, advise, find_missing
from otelog.cli.group import Group, MissingExtraError


class LazyGroup(Group):
    """Import a subcommand only when it is asked for, and what it needs only when it runs: help needs no extra."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        command = getattr(importlib.import_module(place.module), place.attribute)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it refuses is said without secrets or what steers a terminal.

        Raises:
            click.ClickException: As the command says, or since it needs a distribution that is not there.
        """
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            from otelog.cli.show.readable import safe_lines

            # A server's answer, a file's name or a URL may be in it. Only the first constructor sets it.
            vars(error)["message"] = safe_lines(hide_secrets(error.message))
            raise
        except ImportError as error:
            missing = find_missing(error)
            if missing is None:
                raise
            raise MissingExtraError(advise(ctx.invoked_subcommand, missing)) from error


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"otelog {__version__}")
        ctx.exit()


@click.command(cls=LazyGroup)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
def otelog() -> None:
    """Deliver every log record, or say why not."""
    for stream in (sys.stdout, sys.stderr):
        # A log message may hold any character; a terminal that cannot show it must not end the command.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
