"""`otelog config`: what it says of a file, and of what is in force."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from otelog._config import table
from otelog.cli.commands import otelog


def run(*words: str, code: int = 0, **environ: str) -> tuple[str, str]:
    done = CliRunner().invoke(otelog, ["config", *words], env=environ)
    assert done.exit_code == code, done.output
    return done.stdout, done.stderr


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "otelog.yaml"
    path.write_text("level: debug\nheaders:\n  authorization: s3cret\nmax_queue_size: 500\n", encoding="utf-8")
    return path


def test_a_correct_file_is_said_to_be_correct(file: Path) -> None:
    assert run("check", str(file))[0] == f"{file} is correct\n"


def test_every_mistake_is_told_and_the_exit_says_so(file: Path) -> None:
    file.write_text("levle: INFO\nmax_queue_size: no\n", encoding="utf-8")
    out, error = run("check", str(file), code=1)
    assert out == ""
    assert error.splitlines() == [
        f"{file}:1: levle: is not an option; did you mean level?",
        f"{file}:2: max_queue_size: False is not allowed; allowed: a whole number >= 1",
    ]


def test_what_does_not_fit_together_is_a_mistake_too(file: Path) -> None:
    file.write_text("max_queue_size: 5\nmax_export_batch_size: 6\n", encoding="utf-8")
    assert "a batch must fit into the queue" in run("check", str(file), code=1)[1]
    assert "a batch must fit into the queue" in run("show", "--file", str(file), code=1)[1]


def test_what_is_in_force_is_shown_with_where_it_comes_from(file: Path) -> None:
    out, error = run("show", OTELOG_CONFIG_FILE=str(file), OTEL_SERVICE_NAME="shop", OTELOG_BLOCK_TIMEOUT="soon")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert set(lines) == {option.name for option in table.OPTIONS}
    assert lines["level"].split() == ["level", "DEBUG", f"{file}:1"]
    assert lines["headers"].split() == ["headers", "authorization=***", f"{file}:2"]
    assert lines["max_queue_size"].split() == ["max_queue_size", "500", "records", f"{file}:4"]
    assert lines["service_name"].split() == ["service_name", "shop", "OTEL_SERVICE_NAME"]
    assert lines["config_file"].split() == ["config_file", str(file), "OTELOG_CONFIG_FILE"]
    assert lines["timeout"].split() == ["timeout", "10.0", "s", "default"]
    assert lines["certificate_file"].split() == ["certificate_file", "default"]
    assert "s3cret" not in out
    assert error.startswith("OTELOG_BLOCK_TIMEOUT: ")


def test_exporters_are_shown_with_what_they_say_themselves(file: Path) -> None:
    file.write_text(
        "exporters:\n"
        "  - otlp\n"
        "  - {type: otlp, name: second, headers: {authorization: s3cret}, level: ERROR}\n"
        "  - {type: console, format: json, loggers: [shop]}\n",
        encoding="utf-8",
    )
    shown = json.loads(run("show", "--json", "--file", str(file))[0])["exporters"]
    assert shown == {
        "value": "otlp, otlp(name=second level=ERROR headers=authorization=***), console(loggers=shop format=json)",
        "source": f"{file}:1",
    }
    file.write_text("exporters: [none]", encoding="utf-8")
    assert json.loads(run("show", "--json", "--file", str(file))[0])["exporters"]["value"] == "none"


def test_it_is_shown_as_json(file: Path) -> None:
    shown = json.loads(run("show", "--json", "--file", str(file))[0])
    assert shown["level"] == {"value": "DEBUG", "source": f"{file}:1"}
    assert shown["code_attributes"] == {"value": "true", "source": "default"}


def test_the_schema_is_printed() -> None:
    assert json.loads(run("schema")[0])["properties"]["level"]["type"] == ["string", "integer"]
