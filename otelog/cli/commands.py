"""The group of the `otelog` subcommands, each imported when it is asked for."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from otelog import __version__
from otelog._runtime.shown_text import hide_secrets

# name: (module, attribute, extra that holds what the module imports)
_COMMANDS = {
    "audit": ("otelog.cli.audit.command", "audit", "cli"),
    "config": ("otelog.cli.config", "config", "cli"),
    "demo": ("otelog.cli.demo.command", "demo", "demo"),
    "dev": ("otelog.cli.dev.command", "dev", "cli"),
    "doctor": ("otelog.cli.doctor.command", "doctor", "run"),
    "query": ("otelog.cli.search.query", "query", "cli"),
    "run": ("otelog.cli.run", "run", "run"),
    "stack": ("otelog.cli.stack.commands", "stack", "stack"),
    "tail": ("otelog.cli.search.tail", "tail", "cli"),
}


class LazyGroup(click.Group):
    """Import a subcommand only when it runs, so that `otelog --version` stays quick and extras stay apart."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help."""
        return sorted(_COMMANDS)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it refuses is said without secrets or what steers a terminal."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            from otelog.cli.show.readable import safe_lines

            # A server's answer, a file's name or a URL may be in it. Only the first constructor sets it.
            vars(error)["message"] = safe_lines(hide_secrets(error.message))
            raise

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, or say in a ClickException what to install for it."""
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, extra = _COMMANDS[cmd_name]
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] == "otelog":
                raise
            raise click.ClickException(
                f"`otelog {cmd_name}` needs {error.name}: python -m pip install 'otelog[{extra}]'"
            ) from error
        assert isinstance(command, click.Command)
        return command


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
