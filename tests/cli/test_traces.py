"""Stack traces and whole records, in what `otelog query`, `tail` and `dev` show, whatever they come from."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from rich.console import Console

from otelog.cli.commands import otelog
from otelog.cli.show.printer import MOST_TRACES
from otelog.cli.show.screen import show_trace
from otelog.loki import Entry
from tests.cli.test_dev import Dev, devs, start
from tests.cli.test_query import line, to_otlp_json
from tests.loki_double import LokiDouble
from tests.sinks.test_stack_text import CHAINED
from tools.waiting import wait_until

__all__ = ["devs"]

FAILED = {
    "exception.type": "shop.PaymentError",
    "exception.message": "not paid",
    "exception.stacktrace": CHAINED,
    "order_id": 7,
}
TRACE_LINES = [f"    {text}" for text in CHAINED.rstrip("\n").split("\n")]


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def run(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(otelog, list(map(str, words)))
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def make_document() -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add(schema_url="https://example.com/resource")
    for key, value in {"service.name": "shop", "host.name": "one", "cloud.region": "west"}.items():
        resource.resource.attributes.add(key=key).value.string_value = value
    scope = resource.scope_logs.add()
    scope.scope.name, scope.scope.version = "shop.orders", "1.2"
    scope.scope.attributes.add(key="kind").value.string_value = "own"
    record = scope.log_records.add(time_unix_nano=time.time_ns(), severity_text="ERROR", flags=1)
    record.body.string_value = "charge failed"
    for key, text in FAILED.items():
        record.attributes.add(key=key).value.string_value = str(text)
    return request


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


def on_terminal(*words: object, **environ: str) -> str:
    """Run a command whose standard output is a terminal, to its end, and return what that shows."""
    reader, writer = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "otelog.cli", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, **environ},
    )
    os.close(writer)
    shown = b""
    try:
        # A terminal whose other side is gone is an error to read from.
        while part := os.read(reader, 65536):
            shown += part
    except OSError:
        pass
    os.close(reader)
    errors = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 0, errors
    return shown.decode().replace("\r\n", "\n") + errors


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def test_a_trace_is_below_its_record_when_it_is_asked_for_and_not_otherwise(tmp_path: Path) -> None:
    path = write(tmp_path / "x.log", line("before"), line("charge failed", level="ERROR", **FAILED), line("after"))
    before, failed, *trace, after = run("query", path, "-x").splitlines()
    assert failed.endswith(
        " ERROR    shop.orders charge failed shop.PaymentError: not paid service.name=shop order_id=7"
    )
    assert trace == TRACE_LINES
    assert run("query", path).splitlines() == run("query", path, "--no-traces").splitlines() == [before, failed, after]
    assert [json.loads(one) for one in run("query", path, "--json").splitlines()][1]["exception.stacktrace"] == CHAINED


def test_the_stack_of_a_call_is_a_trace_too(tmp_path: Path) -> None:
    stack = 'Stack (most recent call last):\n  File "/app/shop.py", line 1, in pay'
    path = write(tmp_path / "x.log", line("here", **{"code.stacktrace": stack}))
    assert run("query", path, "--traces").splitlines()[1:] == [f"    {text}" for text in stack.split("\n")]


def test_on_a_terminal_traces_are_shown_and_frames_of_libraries_are_dim(tmp_path: Path) -> None:
    path = write(tmp_path / "x.log", line("charge failed", level="ERROR", **FAILED))
    shown = on_terminal("query", path)
    assert plain(shown).splitlines()[1:] == TRACE_LINES
    lines = dict(zip(TRACE_LINES, shown.splitlines()[1:], strict=True))
    assert lines["        self.dialect.do_execute("].startswith("\x1b[2m")
    assert lines['      File "/app/shop/orders.py", line 12, in pay'].startswith("    ")
    assert lines["    shop.PaymentError: not paid"].startswith("\x1b[31m")
    assert "PaymentError(" not in on_terminal("query", path, "--no-traces")


def test_colours_can_be_turned_off_and_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.log", line("charge failed", level="ERROR", **FAILED))
    shown = on_terminal("query", path, NO_COLOR="1")
    assert "\x1b" not in shown and "raise PaymentError" in shown
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[31mERROR" in run("query", path)


def test_on_a_terminal_the_first_traces_of_many_are_shown_and_the_others_told(tmp_path: Path) -> None:
    path = write(tmp_path / "x.log", *[line(f"{n}", **FAILED) for n in range(MOST_TRACES + 2)], line("last"))
    shown = plain(on_terminal("query", path))
    assert shown.count("raise PaymentError") == MOST_TRACES
    assert shown.splitlines()[-1] == "2 more stack traces are not shown; --traces shows all"
    assert plain(on_terminal("query", path, "-x")).count("raise PaymentError") == MOST_TRACES + 2


@pytest.mark.parametrize("words", [("-x",), ("--full",)])
def test_nothing_in_a_trace_or_a_field_steers_the_terminal(tmp_path: Path, words: tuple[str, ...]) -> None:
    bad = "a\x1b[2Jb\u202ec\rd\x07\u2028e\x9bf"
    record = line(
        bad,
        **{f"k{bad}": {bad: [bad]}, "exception.type": bad, "exception.stacktrace": f'  File "{bad}", line 1\n{bad}'},
    )
    shown = run("query", write(tmp_path / "x.log", record), *words)
    assert not set("\x1b\u202e\r\x07\u2028\x9b") & set(shown)
    assert shown.count("a\\x1b[2Jb\\u202ec\\rd\\x07\\u2028e\\x9bf") >= 4
    assert all(text.startswith("    ") for text in shown.split("\n")[1:-1])


def test_everything_that_is_known_of_a_line(tmp_path: Path) -> None:
    record = line("charge failed", level="ERROR", function="pay", line=12, sql="SELECT 1\nFROM x", **FAILED)
    assert run("query", write(tmp_path / "x.log", record, line("next")), "--full").splitlines() == [
        "2026-11-24 20:00:00.000 ERROR    shop.orders charge failed",
        "    timestamp: 2026-11-24T20:00:00.000000+00:00",
        "    function: pay",
        "    line: 12",
        "    attributes",
        "        service.name: shop",
        "        sql: SELECT 1",
        "            FROM x",
        "        exception.type: shop.PaymentError",
        "        exception.message: not paid",
        "        order_id: 7",
        "    exception.stacktrace",
        *[f"    {text}" for text in TRACE_LINES],
        "",
        "2026-11-24 20:00:00.000 INFO     shop.orders next",
        "    timestamp: 2026-11-24T20:00:00.000000+00:00",
        "    attributes",
        "        service.name: shop",
    ]
    assert "raise PaymentError" not in run("query", tmp_path / "x.log", "--full", "--no-traces")


def test_the_collectors_files_have_resource_and_scope_too_and_json_is_what_it_was(tmp_path: Path) -> None:
    path = write(tmp_path / "app.jsonl", to_otlp_json(make_document()))
    assert run("query", path, "-x").splitlines()[1:] == TRACE_LINES
    shown = run("query", path, "--full")
    for expected in ("host.name: one", "cloud.region: west", "version: 1.2", "kind: own", "flags: 1", "order_id: 7"):
        assert f"        {expected}\n" in shown
    assert "        schemaUrl: https://example.com/resource\n" in shown
    assert shown.splitlines()[-len(TRACE_LINES) :] == [f"    {text}" for text in TRACE_LINES]
    assert not {"host.name", "sections", "flags"} & set(json.loads(run("query", path, "--json")))


def test_loki_has_the_trace_in_its_metadata() -> None:
    metadata = {name.replace(".", "_"): str(value) for name, value in FAILED.items()}
    labels = {"service_name": "shop", "deployment_environment_name": "test"}
    with LokiDouble() as double:
        double.entries = [Entry(time.time_ns() - 10**9, "charge failed", labels, {**metadata, "flags": "1"})]
        words = ("query", '{service_name="shop"}', "--loki", double.url)
        assert run(*words, "-x").splitlines()[1:] == TRACE_LINES
        shown = run(*words, "--full")
        assert plain(on_terminal(*words)).splitlines()[1:] == TRACE_LINES
    assert "    stream labels\n        service_name: shop\n        deployment_environment_name: test\n" in shown
    assert "    record\n        flags: 1\n" in shown
    assert "        order_id: 7\n" in shown


@pytest.mark.parametrize("words", [("--full",), ("-x",)])
def test_json_has_no_other_form(tmp_path: Path, words: tuple[str, ...]) -> None:
    path = write(tmp_path / "x.log", line("x"))
    assert "--json has every field" in run("query", path, "--json", *words, code=2)
    assert json.loads(run("query", path, "--json", "--no-traces"))["message"] == "x"


SENDER = """
import sys, otelog
otelog.configure(service_name="shop", endpoint=sys.argv[1])
log = otelog.get_logger("shop")
try:
    {}["missing"]
except KeyError:
    log.exception("charge failed")
otelog.shutdown()
"""


@pytest.mark.parametrize(("words", "is_shown"), [(("-x",), True), ((), False)])
def test_the_tail_of_dev_shows_traces(tmp_path: Path, devs: list[Dev], words: tuple[str, ...], is_shown: bool) -> None:
    dev = start(devs, tmp_path, "--tail", *words)
    dev.send(SENDER, OTEL_METRICS_EXPORTER="none")
    wait_until(lambda: len(dev.records("app")) == 1, what="the record")
    shown = dev.end()
    assert "charge failed KeyError: 'missing'" in shown
    assert ("    KeyError: 'missing'\n" in shown) is is_shown


# The screen of `otelog dev`.


def show(records: list[dict[str, Any]], rows: int) -> list[str]:
    console = Console(width=100, height=40)
    shown = show_trace(records, rows=rows)
    if shown is None:
        return []
    with console.capture() as captured:
        console.print(shown)
    return [text.rstrip() for text in captured.get().splitlines()]


def test_the_screen_shows_the_last_trace_in_as_many_rows_as_there_are() -> None:
    other = {**FAILED, "exception.stacktrace": "E: other"}
    records = [line("older", **other), line("charge failed", level="ERROR", **FAILED), line("young")]
    assert show(records, 20)[1:] == CHAINED.rstrip("\n").split("\n")
    assert show(records, 20)[0] == "last exception 20:00:00.000 shop.orders charge failed"
    few = show(records, 4)
    assert len(few) == 4
    assert few[-1] == "shop.PaymentError: not paid"
    assert show([line("young")], 20) == show(records, 2) == []
