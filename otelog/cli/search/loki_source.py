"""Which of the two is asked, Loki or files: what the command line's words and options amount to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from otelog.cli.search.loki_filters import is_logql
from otelog.exceptions import ConfigurationError
from otelog.sinks._settings import STREAMS

if TYPE_CHECKING:
    from otelog.loki import LokiClient

DEFAULT_URL = "http://localhost:3100"
PROBE_TIMEOUT = 2.0
"""Seconds for the question whether there is a Loki, where nobody has asked for it."""


class Source(NamedTuple):
    """Where to look.

    Args:
        client: Of the Loki that is asked, and to be closed; None: files are.
        logql: What is asked of Loki, as it was given.
        files: Files and folders, as they were given; none: those of the usual folder.
    """

    client: LokiClient | None
    logql: str | None
    files: list[Path]


stream_option = click.option(
    "--stream",
    "streams",
    type=click.Choice(STREAMS),
    multiple=True,
    default=("app",),
    show_default=True,
    help="Which files of a folder that otelog writes; may be repeated.",
)
"""Which kinds of a folder's files a command reads."""


def loki_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say where Loki is."""
    token = click.option(
        "--loki-token-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        envvar="OTELOG_LOKI_TOKEN_FILE",
        help="A file with the bearer token for Loki.",
    )
    url = click.option(
        "--loki",
        metavar="URL",
        default=DEFAULT_URL,
        show_default=True,
        envvar="OTELOG_LOKI",
        show_envvar=True,
        help="Ask the Loki at this address.",
    )
    return url(token(command))


def choose(
    context: click.Context, words: tuple[str, ...], *, loki: str, loki_token_file: Path | None, folder: Path
) -> Source:
    """Decide where to look.

    Loki is asked if it is named, or there is LogQL. If there is neither that nor a file, it is asked where one answers
    at the usual address, and files are read otherwise.

    Args:
        context: The command's.
        words: Its arguments: LogQL, or files.
        loki: The option.
        loki_token_file: The option.
        folder: Where files are, for the message.

    Raises:
        click.ClickException: The words do not go together, or an option cannot be used.
    """
    queries = [word for word in words if is_logql(word) and not Path(word).exists()]
    files = [Path(word) for word in words if word not in queries]
    if len(queries) > 1:
        raise click.UsageError(f"one query at a time, and these are {len(queries)}")
    logql = queries[0] if queries else None
    if logql is not None and files:
        raise click.UsageError("LogQL is for Loki; in files, --level, --text, --where and the like say what is meant")
    named = context.get_parameter_source("loki")
    asked = (
        logql is not None
        or named is ParameterSource.COMMANDLINE
        or (named is ParameterSource.ENVIRONMENT and not files)
    )
    streams = context.get_parameter_source("streams") is ParameterSource.COMMANDLINE
    if not asked and (files or streams):
        return Source(None, None, files)
    where = ", ".join(map(str, files)) if files else f"the files in {folder}"
    try:
        from otelog.loki import LokiClient
    except ImportError as error:
        if asked and not files:
            raise
        click.echo(f"Loki is not looked for: {error}; this is from {where}", err=True)
        return Source(None, None, files)
    headers = _read_token(loki_token_file)
    try:
        client = LokiClient(loki, headers=headers)
        if asked and not files:
            return Source(client, logql, files)
        with LokiClient(loki, headers=headers, timeout=PROBE_TIMEOUT) as probe:
            if probe.is_ready():
                return Source(client, logql, [])
    except ConfigurationError as error:
        raise click.BadParameter(str(error), param_hint="--loki") from error
    client.close()
    click.echo(f"no Loki answers at {loki}; this is from {where}", err=True)
    return Source(None, None, files)


def _read_token(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{path} cannot be read: {error}") from error
    if not token or not token.isascii() or not token.isprintable():
        raise click.ClickException(f"{path} has no token in it")
    return {"Authorization": f"Bearer {token}"}
