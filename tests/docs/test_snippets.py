"""Every snippet of the pages works as it stands: Python runs, files are loaded, command lines are parsed.

tools/reader.py finds the snippets, and what the comments in front of them say.
"""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import click
import pytest
import tomllib
import trustme

from otelog._config.file import load
from otelog._config.resolve import resolve
from otelog.loki import Entry
from otelog.testing import OTLPServer
from tests.docs.shell import check_command, is_variable, list_commands
from tests.loki_double import LokiDouble
from tools.reader import Snippet, list_snippets

SNIPPETS = [snippet for snippet in list_snippets() if snippet.state == "tested"]
HERE, LOKI = "http://localhost:4318", "http://localhost:3100"
"""The addresses of the Collector and of Loki in the pages; servers of the test's own take their places."""
SECONDS = 180


def of(language: str) -> list[object]:
    return [pytest.param(one, id=one.name) for one in SNIPPETS if one.language == language]


def write_files(snippet: Snippet, folder: Path) -> None:
    """Write the files of its page that a snippet needs."""
    files = {
        one.notes["file"].strip(): one.text for one in SNIPPETS if "file" in one.notes and one.page == snippet.page
    }
    for name in snippet.notes.get("needs", "").split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(files[name], encoding="utf-8")


@pytest.fixture
def loki() -> Iterator[LokiDouble]:
    """A Loki that holds one record, in the labels and the metadata of the pages."""
    with LokiDouble() as double:
        labels, metadata = {"service_name": "checkout"}, {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}
        double.entries.append(Entry(time.time_ns() - 10**9, "order 7 is paid", labels, metadata))
        yield double


def run_python(
    snippet: Snippet, folder: Path, server: OTLPServer, loki: LokiDouble
) -> subprocess.CompletedProcess[str]:
    """Run a snippet as a script, in an empty folder, with this server as the Collector."""
    base = server.endpoint.removesuffix("/v1/logs")
    write_files(snippet, folder)
    parts = (snippet.notes.get("setup", ""), snippet.text, snippet.notes.get("after", ""))
    script = folder / "snippet.py"
    script.write_text("\n".join(parts).replace(HERE, base).replace(LOKI, loki.url), encoding="utf-8")
    for file in folder.glob("*.y*ml"):
        file.write_text(file.read_text(encoding="utf-8").replace(HERE, base), encoding="utf-8")
    environ = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": base, "OTEL_METRICS_EXPORTER": "none"}
    command = [sys.executable, "-W", "error::SyntaxWarning", str(script)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, check=False, cwd=folder, env=environ
    )


@pytest.mark.parametrize("snippet", of("python"))
def test_python_runs_as_it_stands(snippet: Snippet, tmp_path: Path, loki: LokiDouble) -> None:
    if "only parsed" in snippet.notes:
        compile(snippet.text, snippet.name, "exec")
        return
    with OTLPServer() as server:
        done = run_python(snippet, tmp_path, server, loki)
        bodies = sorted(record.body.string_value for record in server.records)
    assert done.returncode == 0, done.stderr
    assert "otelog: " not in done.stderr
    if "prints" in snippet.notes:
        assert done.stdout.strip() == snippet.notes["prints"].strip()
    if "arrives" in snippet.notes:
        wanted = sorted(body.strip() for body in snippet.notes["arrives"].split(";"))
        assert len(bodies) == len(wanted)
        assert all(fnmatchcase(body, pattern) for body, pattern in zip(bodies, wanted, strict=True)), bodies


@pytest.mark.parametrize("snippet", of("yaml"))
def test_a_configuration_file_is_correct(snippet: Snippet, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    if "only parsed" in snippet.notes:
        assert yaml.safe_load(snippet.text)
        return
    path = tmp_path / "otelog.yaml"
    path.write_text(snippet.text, encoding="utf-8")
    assert load(str(path)).values
    assert not resolve({"config_file": str(path)}, {}).warnings


@pytest.mark.parametrize("snippet", of("ini"))
def test_variables_are_those_that_are_read(snippet: Snippet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "only parsed" in snippet.notes:
        assert configparser.ConfigParser().read_string(snippet.text) is None
        return
    lines = [line for line in snippet.text.splitlines() if line and not line.startswith("#")]
    variables = dict(line.split("=", 1) for line in lines)
    assert len(variables) == len(lines)
    assert [name for name in variables if not is_variable(name)] == []
    # The files that are named are there where it is used.
    monkeypatch.chdir(tmp_path)
    authority = trustme.CA()
    client = authority.issue_cert("client.example")
    authority.cert_pem.write_to_path("ca.pem")
    client.cert_chain_pems[0].write_to_path("client.pem")
    client.private_key_pem.write_to_path("client.key")
    assert not resolve({}, variables).warnings


@pytest.mark.parametrize("snippet", of("sh"))
def test_a_command_line_is_one_that_is_taken(snippet: Snippet) -> None:
    commands = list_commands(snippet.text)
    assert commands
    for words in commands:
        check_command(words)


@pytest.mark.parametrize("snippet", [*of("json"), *of("toml")])
def test_data_can_be_read(snippet: Snippet) -> None:
    assert json.loads(snippet.text) if snippet.language == "json" else tomllib.loads(snippet.text)


# The checks themselves.


@pytest.mark.parametrize(
    "line",
    [
        "otelog dve",
        "otelog dev --tial",
        "otelog dev --port many",
        "otelog query --last none",
        "otelog stack up --ports loki=3101",
        "otelog run -- gunikorn shop:app",
        "otelog doctor one two",
        "pip install 'otelog[flusk]'",
        "make demos",
        "OTELOG_LEVLE=DEBUG otelog dev",
        "python -m tools.no_such_tool",
        "no-such-command",
    ],
)
def test_a_command_line_that_is_wrong_is_found_out(line: str) -> None:
    with pytest.raises((AssertionError, click.ClickException)):
        for words in list_commands(line):
            check_command(words)


def test_what_a_snippet_does_not_deliver_is_found_out(tmp_path: Path, loki: LokiDouble) -> None:
    snippet = Snippet("page.md", 1, "python", "import otelog\notelog.configure()\n", {"arrives": "paid"})
    with pytest.raises(AssertionError):
        test_python_runs_as_it_stands(snippet, tmp_path, loki)


@pytest.mark.parametrize("line", ["OTELOG_LEVLE=INFO", "OTELOG_LEVEL=LOUD", "OTEL_EXPORTER_OTLP_PROTOCOL=smoke"])
def test_a_variable_that_has_no_effect_is_found_out(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError):
        test_variables_are_those_that_are_read(Snippet("page.md", 1, "ini", f"{line}\n"), tmp_path, monkeypatch)
