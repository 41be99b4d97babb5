"""`otelog run`: run any Python program with otelog set up in it, without a change to its code."""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from otelog._config.resolve import explain
from otelog.cli.parameters import COLLECTOR_URL
from otelog.exceptions import ConfigurationError

_OWN_ENDPOINTS = tuple(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT" for signal in ("LOGS", "METRICS", "TRACES"))
# uWSGI forks behind Python's back, and lets no thread run, unless it is set to.
_UWSGI_NEEDS = ("UWSGI_ENABLE_THREADS", "UWSGI_PY_CALL_OSAFTERFORK")


class _NotExecutable(click.ClickException):
    """COMMAND is there, but cannot be run; the exit code is the one that shells use."""

    exit_code = 126


class _NotFound(click.ClickException):
    """There is no COMMAND; the exit code is the one that shells use."""

    exit_code = 127


_HELP = """Run COMMAND with otelog set up in it, and in every Python process that it starts.

\b
otelog run -- flask --app shop run
otelog run --service-name shop -- gunicorn -w 4 shop:app
otelog run -- python app.py

What is not an option here is said by the environment or the configuration file.
"""


# What stands behind the command's name is the command's.
@click.command(help=_HELP, context_settings={"allow_interspersed_args": False})
@click.option("--service-name", metavar="NAME", help="The service that the records belong to (OTEL_SERVICE_NAME).")
@click.option(
    "--endpoint", type=COLLECTOR_URL, metavar="URL", help="Base URL of the Collector (OTEL_EXPORTER_OTLP_ENDPOINT)."
)
@click.option("--config", type=click.Path(dir_okay=False), help="A configuration file (OTELOG_CONFIG_FILE).")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(service_name: str | None, endpoint: str | None, config: str | None, command: tuple[str, ...]) -> None:
    """Run a command with otelog set up in it, and in every Python process that it starts."""
    environ = _make_environment(os.environ.copy(), service_name, endpoint, config)
    try:
        # A file that was asked for by name is an error if it cannot be read; one of the environment is a warning.
        settings, sources = explain(
            {"config_file": environ["OTELOG_CONFIG_FILE"]} if config is not None else {}, environ
        )
    except ConfigurationError as error:
        # In the command itself this would be a traceback, and the command would go on without otelog.
        raise click.UsageError(str(error)) from error
    if sources["handle_sigterm"] == "default":
        # What is stopped from outside would take its last records along. Servers that handle it themselves still do.
        environ["OTELOG_HANDLE_SIGTERM"] = "true"
    # Late: most of what this command does needs no transport.
    from otelog.cli.traces import keeps_traces

    if sources["traces_exporter"] == "default" and keeps_traces(settings):
        environ["OTEL_TRACES_EXPORTER"] = "otlp"
    _warn_of_missing_instrumentation()
    program = _find_program(command[0])
    if Path(program).name in ("uwsgi", "pyuwsgi"):
        for variable in _UWSGI_NEEDS:
            environ.setdefault(variable, "true")
    try:
        # Python finds its virtual environment by the name that it is called by.
        os.execve(program, [program, *command[1:]], environ)
    except OSError as error:
        raise _NotExecutable(f"{command[0]} cannot be run: {error.strerror}") from error


def _make_environment(
    environ: dict[str, str], service_name: str | None, endpoint: str | None, config: str | None
) -> dict[str, str]:
    if service_name is not None:
        environ["OTEL_SERVICE_NAME"] = service_name
    if endpoint is not None:
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
        # They would win against the one that was just given.
        for variable in _OWN_ENDPOINTS:
            environ.pop(variable, None)
    if config is not None:
        # The command may change the folder.
        environ["OTELOG_CONFIG_FILE"] = os.path.abspath(config)
    environ["OTEL_PYTHON_DISTRO"] = environ["OTEL_PYTHON_CONFIGURATOR"] = "otelog"
    # There is a sitecustomize in it, which Python imports as it starts: children, too, have it from the environment.
    from opentelemetry.instrumentation import auto_instrumentation

    folder = str(Path(auto_instrumentation.__file__).parent)
    others = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != folder]
    working_folder = _find_working_folder()
    if working_folder is not None and working_folder not in others:
        # As `opentelemetry-instrument` does: an instrumentation may look for the application's own modules, before a
        # command such as gunicorn has made them importable.
        others.insert(0, working_folder)
    environ["PYTHONPATH"] = os.pathsep.join([folder, *others])
    return environ


def _find_working_folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        # It has been removed.
        return None


def _find_program(name: str) -> str:
    # First where otelog is installed: another environment's programs would not find it.
    own = str(Path(sys.executable).parent)
    found = shutil.which(name, path=os.pathsep.join([own, os.environ.get("PATH", os.defpath)]))
    if found is not None:
        return os.path.abspath(found)
    if re.fullmatch(r"python(3(\.\d+)?)?", name):
        return sys.executable
    if Path(name).is_dir():
        raise _NotExecutable(f"{name} is a folder")
    if Path(name).is_file():
        advice = f": otelog run -- python {name}" if name.endswith(".py") else ""
        raise _NotExecutable(f"{name} is not executable{advice}")
    raise _NotFound(f"{name} was not found, neither in {own} nor on PATH")


def _warn_of_missing_instrumentation() -> None:
    for name in ("flask", "django", "celery"):
        if find_spec(name) is not None and find_spec(f"opentelemetry.instrumentation.{name}") is None:
            inside = "task" if name == "celery" else "request"
            click.echo(
                f"Warning: without opentelemetry-instrumentation-{name} no record has a {inside}'s trace id: "
                f"python -m pip install 'otelog[{name}]'",
                err=True,
            )
