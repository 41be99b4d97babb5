"""`otelog config`: check a configuration file, and see what is in force and why."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, NoReturn

import click

from otelog._config.file import json_schema, load
from otelog._config.kinds import LEVEL, Entry
from otelog._config.proxy import hide_credentials
from otelog._config.resolve import explain
from otelog._config.table import EXPORTERS, OPTIONS, Option
from otelog._runtime.shown_text import hide_secrets
from otelog.cli.group import Group
from otelog.cli.show.readable import safe, safe_lines
from otelog.exceptions import ConfigurationError


@click.group(cls=Group)
def config() -> None:
    """Check a configuration file, and see what is in force."""


@config.command()
@click.argument("file", type=click.Path(dir_okay=False))
def check(file: str) -> None:
    """Say whether FILE can be used: every mistake with its line, and what is allowed there."""
    try:
        # Also what only shows when values are seen together.
        load(file)
        explain({"config_file": file}, {})
    except ConfigurationError as error:
        _refuse(error)
    click.echo(f"{file} is correct")


@config.command()
@click.option("--file", type=click.Path(dir_okay=False), help="A configuration file, instead of OTELOG_CONFIG_FILE.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, one object with value and source for each option.")
def show(file: str | None, as_json: bool) -> None:
    """Show every option's value in this environment, and where it comes from. Secrets are not shown."""
    try:
        settings, sources = explain({"config_file": file})
    except ConfigurationError as error:
        _refuse(error)
    rows = [(option.name, _show(option, getattr(settings, option.name)), sources[option.name]) for option in OPTIONS]
    if as_json:
        click.echo(json.dumps({name: {"value": value, "source": source} for name, value, source in rows}, indent=2))
    else:
        _print_table(rows)
    for warning in settings.warnings:
        click.echo(safe(warning), err=True)


@config.command()
def schema() -> None:
    """Print the JSON Schema of the file, for editors."""
    click.echo(json.dumps(json_schema(), indent=2))


def _refuse(error: ConfigurationError) -> NoReturn:
    if isinstance(error.__cause__, ImportError):
        # Nothing was looked at: the group says what to install.
        raise error.__cause__
    click.echo(safe_lines(str(error)), err=True)
    sys.exit(1)


def _show(option: Option[Any], value: object) -> str:
    if option.kind is EXPORTERS and isinstance(value, tuple):
        return ", ".join(_show_entry(entry) for entry in value) or "none"
    if value is None or value == {} or value == ():
        return ""
    if option.secret and isinstance(value, dict):
        return ", ".join(f"{name}=***" for name in value)
    if option.secret and isinstance(value, str):
        return hide_credentials(value)
    if isinstance(value, bool):
        return str(value).lower()
    if option.kind is LEVEL and isinstance(value, int):
        return str(logging.getLevelName(value))
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return hide_secrets(f"{value} {option.unit}".rstrip())


def _show_entry(entry: Entry) -> str:
    kind = entry.kind or type(entry.exporter).__name__
    said = {"name": entry.name, "loggers": ",".join(entry.loggers), "max_queue_size": entry.max_queue_size}
    if entry.level is not None:
        said["level"] = logging.getLevelName(entry.level)
    for key, option in EXPORTERS.kinds.get(entry.kind, {}).items():
        if option.name in entry.options:
            said[key] = _show(option, entry.options[option.name])
    shown = " ".join(f"{key}={value}" for key, value in said.items() if value)
    return f"{kind}({shown})" if shown else kind


def _print_table(rows: list[tuple[str, str, str]]) -> None:
    rows = [(name, safe(value), safe(source)) for name, value, source in rows]
    if not sys.stdout.isatty():
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        for name, value, source in rows:
            click.echo(f"{name:{widths[0]}}  {value:{widths[1]}}  {source}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table: Any = Table("option", "value", "comes from", header_style="bold")
    for name, value, source in rows:
        table.add_row(name, Text(value), Text(source), style="dim" if source == "default" else None)
    Console().print(table)
