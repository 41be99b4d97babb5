"""A group of commands whose help is whole, and which knows what was probably meant."""

from __future__ import annotations

from typing import Any

import click

from otelog.cli.extras import EXIT_MISSING

NO_LIMIT = 10_000
"""Characters of a command's summary in its group's help."""


class MissingExtraError(click.ClickException):
    """The command needs a distribution that is not there."""

    exit_code = EXIT_MISSING


class Group(click.Group):
    """A group as click has it, with whole summaries in its help, and a suggestion for a command that does not exist."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with their summaries, in as many lines as they take."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [
            (name, command.get_short_help_str(NO_LIMIT))
            for name, command in commands
            if command is not None and not command.hidden
        ]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names.

        Raises:
            click.UsageError: There is none; it says which one was probably meant.
        """
        name = args[0]
        if ctx.resilient_parsing or name.startswith("-") or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        # Only needed on the way to an error, and its import is not free.
        from difflib import get_close_matches

        near = get_close_matches(name, self.list_commands(ctx), n=1)
        raise click.UsageError(f"No such command {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""), ctx)

    def group(self, *arguments: Any, **keywords: Any) -> Any:
        """Make a group of this kind in this one."""
        return super().group(*arguments, **{"cls": Group, **keywords})
