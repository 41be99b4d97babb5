"""Which command is where, and what to install for it: for the group, and for where there is not even click."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """Where a command is.

    Args:
        module: Its module, which imports nothing beyond click and otelog's core, so that its help needs no extra.
        attribute: The command in it.
        extra: What brings all that it imports when it runs; several with commas between them.
    """

    module: str
    attribute: str
    extra: str


COMMANDS = {
    "audit": Place("otelog.cli.audit.command", "audit", "cli"),
    "config": Place("otelog.cli.config", "config", "cli,config"),
    "demo": Place("otelog.cli.demo.command", "demo", "demo"),
    "dev": Place("otelog.cli.dev.command", "dev", "dev"),
    "doctor": Place("otelog.cli.doctor.command", "doctor", "run"),
    "drill": Place("otelog.cli.drill.command", "drill", "stack,metrics"),
    "query": Place("otelog.cli.search.query", "query", "query"),
    "run": Place("otelog.cli.run", "run", "run"),
    "stack": Place("otelog.cli.stack.commands", "stack", "stack"),
    "tail": Place("otelog.cli.search.tail", "tail", "cli"),
}

EVERY_COMMAND = "dev"
"""The extra for a developer's machine."""

EXIT_MISSING = 2
"""The exit code where something is missing."""

_DISTRIBUTIONS = {
    "click": "click",
    "duckdb": "duckdb",
    "flask": "Flask",
    "google": "protobuf",
    "google.protobuf": "protobuf",
    "jsonschema": "jsonschema",
    "opentelemetry.instrumentation": "opentelemetry-instrumentation",
    "opentelemetry.instrumentation.flask": "opentelemetry-instrumentation-flask",
    "opentelemetry.proto": "opentelemetry-proto",
    "psutil": "psutil",
    "rich": "rich",
    "urllib3": "urllib3",
    "waitress": "waitress",
    "websockets": "websockets",
    "yaml": "PyYAML",
}


def find_missing(error: BaseException) -> str | None:
    """Returns the distribution that an import has failed for, or None: then the installation is broken."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError):
            name = cause.name or ""
            while name:
                if name in _DISTRIBUTIONS:
                    return _DISTRIBUTIONS[name]
                name = name.rpartition(".")[0]
        cause = cause.__cause__
    return None


def advise(command: str | None, distribution: str) -> str:
    """Returns what to say where a distribution is missing.

    Args:
        command: Whose; None: of all of them.
        distribution: Its name.
    """
    place = COMMANDS.get(command or "")
    what, extra = (f"`otelog {command}`", place.extra) if place else ("the command line", EVERY_COMMAND)
    return f"{what} needs {distribution}: python -m pip install 'otelog[{extra}]'"
