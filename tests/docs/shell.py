"""What a line of a shell snippet is checked for: commands, options, extras, targets and variables that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import tomllib
from packaging.requirements import Requirement

from otelog._config.table import OPTIONS
from otelog.cli.commands import otelog

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
STACK = (ROOT / "docs" / "reference" / "stack.md").read_text(encoding="utf-8")
OTHERS = {"curl", "docker", "cd", "mkdir", "kill", "cat", "source", "git"}
"""Commands of others that are taken as they are."""
PROGRAMS = {
    "flask",
    "granian",
    "gunicorn",
    "uvicorn",
    "hypercorn",
    "waitress-serve",
    "celery",
    "python",
    "uwsgi",
    "django-admin",
}
"""What is run behind ``otelog run --``."""
FOREIGN_VARIABLES = {
    "PROMETHEUS_MULTIPROC_DIR",
    "OTEL_PYTHON_DISTRO",
    "OTELOG_LOKI",
    "OTEL_LOGS_EXPORTER",
    # The SDK's tracer provider reads these.
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
}
_ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)", re.DOTALL)


def list_commands(text: str) -> list[list[str]]:
    """Returns the commands of a snippet, each as its words; a backslash continues a line, and ``&&`` joins two."""
    commands: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while "&&" in words:
            at = words.index("&&")
            commands.append(words[:at])
            words = words[at + 1 :]
        commands.append(words)
    return [[word for word in words if word != "&"] for words in commands if words]


def is_variable(name: str) -> bool:
    """Whether otelog, its stack or a library beside it reads this variable."""
    return name in FOREIGN_VARIABLES or any(name in option.variables for option in OPTIONS) or f"`{name}`" in STACK


def check_command(words: list[str]) -> None:
    """Raise if one of otelog's commands, options, extras, targets or variables is not there."""
    if words[0] == "export":
        words = words[1:]
    while words and (found := _ASSIGNMENT.fullmatch(words[0])):
        assert is_variable(found[1]), f"nothing reads {found[1]}"
        words = words[1:]
    if not words:
        return
    program, arguments = Path(words[0]).name, words[1:]
    if program == "otelog":
        check_otelog(arguments)
    elif program in ("pip", "pip3"):
        check_pip(arguments)
    elif program == "make":
        for target in arguments:
            if "=" not in target:
                assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), f"make has no {target}"
    elif program in ("python", "python3"):
        check_python(arguments)
    elif program == "opentelemetry-instrument":
        assert arguments[0] in PROGRAMS
    else:
        assert program in OTHERS | PROGRAMS, f"{program} is not a command that a page may show: see OTHERS"


def check_otelog(arguments: list[str]) -> None:
    """Raise if click would not take these arguments. Files need not be there."""
    command: click.Command = otelog
    context = click.Context(command, info_name="otelog")
    while isinstance(command, click.Group):
        _, rest, _ = command.make_parser(context).parse_args(list(arguments))
        if not rest:
            return
        name, *arguments = rest
        found = command.get_command(context, name)
        assert found is not None, f"{context.command_path} has no command {name}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    given, left, _ = command.make_parser(context).parse_args(list(arguments))
    assert not left, f"{context.command_path} does not take {left}"
    for parameter in command.params:
        value = given.get(parameter.name)
        if isinstance(parameter.type, (click.Path, click.File)) or value is click.core.UNSET:
            continue
        if value not in (None, ()) and not getattr(parameter, "is_flag", False):
            parameter.type_cast_value(context, value)
    if context.command_path == "otelog run":
        program = given["command"][0]
        assert Path(program).name in PROGRAMS, f"{program} is not in PROGRAMS"


def check_pip(arguments: list[str]) -> None:
    """Raise if an extra that is installed does not exist."""
    assert arguments[0] == "install"
    requirements = [word for word in arguments[1:] if not word.startswith("-") and not word.endswith(".txt")]
    for requirement in requirements:
        # A folder with extras, as in a checkout.
        wanted = Requirement(requirement.replace(".", "otelog", 1) if requirement.startswith(".") else requirement)
        if wanted.name == "otelog":
            assert wanted.extras <= set(PROJECT["optional-dependencies"]), wanted.extras


def check_python(arguments: list[str]) -> None:
    """Raise if a module of this repository that is run does not exist."""
    if arguments[:1] == ["-m"]:
        top, *_ = parts = arguments[1].split(".")
        if top in ("benchmarks", "tools", "tests", "otelog"):
            path = ROOT.joinpath(*parts)
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), arguments[1]
        elif top == "pip":
            check_pip(arguments[2:])
    elif arguments and arguments[0].startswith(("tools/", "benchmarks/")):
        assert (ROOT / arguments[0]).exists(), arguments[0]
