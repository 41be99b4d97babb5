"""What is typed wrongly is said, with what was probably meant; nothing runs."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from otelog.cli.commands import otelog
from tests.installation.test_missing_extras import PATHS


def call(*words: object) -> Result:
    return CliRunner().invoke(otelog, [str(word) for word in words], prog_name="otelog")


@pytest.mark.parametrize("url", ["foo", "localhost:4318", "http://", "http://:4318", "http://h:0", "http://h:x", ""])
@pytest.mark.parametrize("command", ["run", "doctor", "demo"])
def test_an_endpoint_that_is_no_url_is_a_usage_error(command: str, url: str) -> None:
    rest = ["--", "true"] if command == "run" else []
    done = call(command, "--endpoint", url, *rest)
    assert done.exit_code == 2
    assert "Invalid value for '--endpoint'" in done.stderr
    assert "give one such as http://localhost:4318" in done.stderr


def test_a_url_is_refused_without_its_password() -> None:
    done = call("run", "--endpoint", "http://me:hunter2@host", "--", "true")
    assert done.exit_code == 2
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--config", "{folder}/none.yaml", "--", "true"),
        ("dev", "--port", "70000"),
        ("dev", "--port", "otlp"),
        ("dev", "--max-bytes", "-1"),
        ("dev", "--level", "LOUD"),
        ("dev", "--where", "level"),
        ("demo", "--seconds", "nan"),
        ("demo", "--seconds", "-1"),
        ("demo", "--rate", "inf"),
        ("query", "--since", "99999999999d", "{folder}"),
        ("query", "--since", "yesterday", "{folder}"),
        ("query", "--last", "0", "{folder}"),
        ("query", "--loki", "foo", '{{app="shop"}}'),
        ("query", "--loki-token-file", "{folder}/none", "{folder}"),
        ("doctor", "--timeout", "nan"),
        ("audit", "--wait", "nan"),
    ],
)
def test_a_value_that_cannot_be_used_is_a_usage_error(words: tuple[str, ...], tmp_path: Path) -> None:
    done = call(*(word.format(folder=tmp_path) for word in words))
    assert (done.exit_code, done.stdout) == (2, "")
    assert re.search(r"^Error: ", done.stderr, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "meant"),
    [(("dve",), "dev"), (("qeury",), "query"), (("stack", "sttus"), "status"), (("config", "chek"), "check")],
)
def test_a_command_that_does_not_exist_suggests_one(words: tuple[str, ...], meant: str) -> None:
    done = call(*words)
    assert done.exit_code == 2
    assert f"No such command {words[-1]!r}. Did you mean {meant!r}?" in done.stderr


@pytest.mark.parametrize(
    ("words", "meant"),
    [(("run", "--endpont", "x"), "--endpoint"), (("dev", "--fodler", "x"), "--folder"), (("--versoin",), "--version")],
)
def test_an_option_that_does_not_exist_suggests_one(words: tuple[str, ...], meant: str) -> None:
    done = call(*words)
    assert done.exit_code == 2
    assert re.search(f"No such option:? .*{words[-1] if len(words) == 1 else words[1]}.*{meant}", done.stderr)


def test_summaries_in_the_help_are_whole() -> None:
    for path in PATHS:
        command: click.Command = otelog
        for name in path:
            assert isinstance(command, click.Group)
            found = command.get_command(click.Context(command), name)
            assert found is not None
            command = found
        if isinstance(command, click.Group):
            lines = call(*path, "--help").stdout.partition("\nCommands:\n")[2]
            assert lines
            assert "..." not in lines
