"""Texts of others never steer a terminal, and secrets in URLs never stand where they are shown."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

import otelog
from otelog import ConfigurationError
from otelog._config.kinds import Entry
from otelog._config.resolve import resolve, resolve_exporter
from otelog._otlp.exchange import TransportSettings
from otelog._runtime import diagnostics
from otelog._runtime.shown_text import hide_secrets, show_hidden
from otelog.cli.commands import otelog as command
from otelog.cli.show.screen import show_ledgers, show_records, show_services
from otelog.doctor import Finding
from otelog.doctor._findings import make_area
from otelog.loki import LokiClient, LokiError
from otelog.testing import OTLPServer, Reply
from tests.pipelines import make_logger
from tools.loopback import find_free_ports

STEERING = "".join(
    map(chr, (0x1B, 0x07, 0x7F, 0x85, 0x9B, 0x9D, 0x61C, 0x200B, 0x200E, 0x200F, 0x2028, *range(0x202A, 0x202F)))
) + "".join(map(chr, (*range(0x2066, 0x206A), 0xFEFF)))
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
EVIL = f"a{STEERING}b"
SECRET = "s3cret"
TOKENS = (
    f"http://c.example:4318/in?token={SECRET}",
    f"https://c.example/in?x=1&api_key={SECRET}&y",
    f"https://c.example/in?{SECRET}",
)


def test_what_steers_a_terminal_is_shown_as_python_writes_it() -> None:
    shown = show_hidden(f"{EVIL}\n\ud800é")
    assert not RAW.search(shown)
    assert "\n" not in shown
    assert shown.endswith("b\\n\\ud800é")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://c:4318/v1/logs answered 400", "http://c:4318/v1/logs answered 400"),
        (f"http://u:{SECRET}@c/x is bad", "http://***@c/x is bad"),
        (f"https://{SECRET}@c?a=1", "https://***@c?a=***"),
        (f"(http://u:p@{SECRET}@c/?a={SECRET}&b={SECRET}#f), then", "(http://***@c/?a=***&b=***#f), then"),
        (f"'http://c/?{SECRET}' and http://d/", "'http://c/?***' and http://d/"),
        ("is it running? see a@b.example", "is it running? see a@b.example"),
        ("http://c/? what", "http://c/? what"),
    ],
)
def test_secrets_of_urls_are_hidden_and_nothing_else_is(text: str, shown: str) -> None:
    assert hide_secrets(text) == shown


def test_a_diagnostic_shows_neither(capfd: pytest.CaptureFixture[str]) -> None:
    diagnostics.warn("foreign text", f"{EVIL}\nhttp://u:{SECRET}@c/?k={SECRET}", interval=0)
    (line,) = capfd.readouterr().err.splitlines()
    assert not RAW.search(line)
    assert SECRET not in line


@pytest.mark.parametrize("url", TOKENS)
def test_settings_do_not_show_the_secrets_of_a_url(url: str) -> None:
    headers = {"authorization": SECRET}
    entry = {"type": "otlp", "endpoint": url, "headers": headers}
    settings = resolve({"endpoint": url, "headers": headers, "exporters": [entry]}, {})
    assert SECRET in settings.endpoint
    for shown in (
        repr(settings),
        repr(settings.exporters),
        str(settings),
        repr(resolve_exporter({"endpoint": url, "headers": headers}, {})),
        repr(TransportSettings(endpoint=url, headers=headers)),
        repr(Entry("otlp", options={"headers": headers, "endpoint": url})),
    ):
        assert SECRET not in shown


@pytest.mark.parametrize(
    "bad",
    [
        f"http://u:{SECRET}@c",
        f"http://u:a/{SECRET}@c",
        f"u:{SECRET}@c:4318",
        f"c:4318?token={SECRET}",
        f"ftp://c/?token={SECRET}",
        f"http://c/?token={SECRET}#fragment",
        f"http://c/ ?token={SECRET}",
    ],
)
def test_a_bad_endpoint_is_told_of_without_its_secrets(bad: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve({"endpoint": bad}, {})
    assert SECRET not in str(caught.value)
    assert SECRET not in "".join(resolve({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": bad}).warnings)
    with pytest.raises(ConfigurationError) as caught:
        resolve({"exporters": [{"type": "otlp", "endpoint": bad}]}, {})
    assert SECRET not in str(caught.value)


def test_a_finding_of_the_doctor_shows_no_secret() -> None:
    url = TOKENS[0]
    area = make_area("endpoint", [url], [Finding("error", "endpoint.x", url, f"says {url}", f"set {url}")])
    assert SECRET not in repr(area)


def test_loki_is_told_of_without_its_password() -> None:
    (port,) = find_free_ports(1)
    with LokiClient(f"http://u:{SECRET}@127.0.0.1:{port}") as client, pytest.raises(LokiError) as caught:
        client.query_instant("vector(1)")
    assert SECRET not in str(caught.value)
    with pytest.raises(ConfigurationError) as refused:
        LokiClient(f"http://u:{SECRET}@c/?x={SECRET}")
    assert SECRET not in str(refused.value)


def test_a_failed_delivery_is_told_of_without_secrets(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What another test has made it say is not kept back here.
    monkeypatch.setattr(diagnostics, "_last_said", {})
    with OTLPServer([Reply(status=400, headers={"Content-Type": "text/plain"}, body=EVIL.encode())]) as server:
        exporter = otelog.OTLPLogExporter(endpoint=f"{server.endpoint}/v1/logs?token={SECRET}")
        processor = otelog.BatchLogRecordProcessor(exporter)
        make_logger(processor).info("x")
        processor.shutdown()
    said = capfd.readouterr().err
    assert "answered 400" in said
    assert SECRET not in said
    assert not RAW.search(said)


# The commands.

VALUES: dict[str, Any] = {
    "timestamp": "2026-11-30T12:00:00.000000+00:00",
    "level": EVIL,
    "logger": EVIL,
    "message": EVIL,
    "module": None,
    "function": None,
    "line": None,
    "thread": None,
    "process": 1,
    "trace_id": EVIL,
    "span_id": None,
    "service.name": EVIL,
    "[/] [red]": EVIL,
    EVIL: [EVIL, {EVIL: EVIL}],
}


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "app.log").write_text(f"{json.dumps(VALUES, ensure_ascii=False)}\n")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("query", "LOGS"),
        ("query", "LOGS", "--json"),
        ("query", "LOGS", "--group-by", "service.name"),
        ("query", "LOGS", "--group-by", "service.name", "--json"),
        ("query", f"no{EVIL}folder"),
        ("query", "LOGS", "--where", EVIL),
        ("tail", f"no{EVIL}folder"),
        ("config", "check", f"no{EVIL}file"),
        ("audit", "--loki", f"http://127.0.0.1:9/{EVIL}", "--json"),
    ],
    ids=lambda arguments: " ".join(arguments[:3]).encode("ascii", "replace").decode(),
)
def test_a_command_writes_nothing_that_steers_a_terminal(arguments: tuple[str, ...], logs: Path) -> None:
    given = [str(logs) if argument == "LOGS" else argument for argument in arguments]
    # click's runner takes the place of the streams; a process of its own has real ones.
    done = subprocess.run(
        [sys.executable, "-m", "otelog.cli", *given], capture_output=True, timeout=60, check=False, cwd=logs.parent
    )
    shown = (done.stdout + done.stderr).decode()
    assert shown
    assert not RAW.search(shown), ascii(shown)
    assert "Traceback" not in shown


def test_json_that_is_escaped_says_the_same(logs: Path) -> None:
    done = CliRunner().invoke(command, ["query", str(logs), "--json"])
    assert json.loads(done.stdout) == VALUES


def test_the_screens_show_nothing_that_steers_a_terminal() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    counts = {"records": 1, "severities": {"INFO": 1}}
    ledger = {"created": 1, "queued": 0, "in_flight": 0, "exported": 1, "received": 1, "difference": 0, "lost": {}}
    for name in (EVIL, "[/] [red]x"):
        console.print(show_records([VALUES], width=180, rows=3))
        console.print(show_services([{"service": name, **counts}]))
        console.print(show_ledgers([{"service": name, "instance": name, **ledger}]))
    shown = console.export_text(styles=False)
    assert "[/] [red]x" in shown
    assert not RAW.search(shown), ascii(shown)


def test_the_configuration_is_shown_without_secrets() -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": TOKENS[0], "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={SECRET}"}
    for arguments in (["config", "show"], ["config", "show", "--json"], ["doctor", "--json"], ["doctor"]):
        done = CliRunner().invoke(command, arguments, env=environment)
        assert done.stdout
        assert SECRET not in done.output, arguments
