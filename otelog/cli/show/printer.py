"""Records on standard output, in the form that the command line asks for."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from otelog.cli.show.readable import describe, describe_fully, has_trace, to_json

if TYPE_CHECKING:
    from otelog.cli.show.filters import Record

MOST_TRACES = 20
"""Stack traces that are shown of what is found where nobody has asked for them; more would hide the records."""


@dataclass(frozen=True, slots=True)
class Form:
    """What records shall look like.

    Args:
        as_json: As one JSON object a line, with all that a line has.
        full: As everything that is known of each, a value a line.
        traces: Whether stack traces are below their records; None: where standard output is a terminal.
    """

    as_json: bool = False
    full: bool = False
    traces: bool | None = None


def form_options(*, lines_only: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `Form`; it is called with one argument `form` instead of them.

    Args:
        lines_only: Whether the command has neither ``--json`` nor ``--full``.
    """
    options = [
        click.option(
            "-x",
            "--traces/--no-traces",
            default=None,
            help="Stack traces below their records, or not. On a terminal they are shown"
            + ("." if lines_only else f", the first {MOST_TRACES} of what is found."),
        ),
    ]
    if not lines_only:
        options += [
            click.option("--full", is_flag=True, help="Everything that is known of a record, a value a line."),
            click.option("--json", "as_json", is_flag=True, help="One JSON object a line."),
        ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def call(traces: bool | None, full: bool = False, as_json: bool = False, **values: Any) -> None:
            if as_json and (full or traces):
                raise click.UsageError(f"--json has every field: it goes without {'--full' if full else '--traces'}")
            command(form=Form(as_json, full, traces), **values)

        for option in reversed(options):
            call = option(call)
        return call

    return decorate


class Printer:
    """Prints records.

    Args:
        form: What they shall look like.
        live: Whether they are printed as they come: then there is no end to their number, and no bound to their traces.

    Thread safety: for one thread.
    """

    def __init__(self, form: Form, *, live: bool) -> None:
        self._form = form
        self._live = live
        self._traces = (sys.stdout.isatty() or form.full) if form.traces is None else form.traces
        self._is_bounded = form.traces is None and not live and not form.full
        # As the console exporter, by rich, and many programs do; otherwise click looks at the stream.
        self._colour = False if os.environ.get("NO_COLOR") else True if os.environ.get("FORCE_COLOR") else None
        self._shown = self._left_out = 0
        self._is_first = True

    def print(self, records: Iterable[Record]) -> None:
        """Print records in their order."""
        for record in records:
            click.echo(self._describe(record), color=self._colour)

    def end(self) -> None:
        """Say on standard error what was not shown, if anything."""
        if self._left_out:
            traces = f"{self._left_out:,} more stack traces are" if self._left_out > 1 else "1 more stack trace is"
            click.echo(f"{traces} not shown; --traces shows all", err=True)

    def _describe(self, record: Record) -> str:
        if self._form.as_json:
            return to_json(record)
        if self._form.full:
            before, self._is_first = "" if self._is_first else "\n", False
            return before + describe_fully(record, traces=self._traces)
        traces = self._traces
        if traces and self._is_bounded and has_trace(record):
            traces = self._shown < MOST_TRACES
            self._shown += traces
            self._left_out += not traces
        return describe(record, traces=traces)
