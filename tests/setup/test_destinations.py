"""The list of exporters, from what the user says to where the records arrive."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter

import otelog
from otelog._setup import configure
from otelog.exceptions import ConfigurationError
from otelog.testing import OTLPServer
from tests.arrivals import bodies, configured

log = otelog.get_logger("shop")


def messages(path: Path) -> list[Any]:
    return [json.loads(line)["message"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_two_collectors_get_the_same_records_and_only_the_first_gets_its_headers() -> None:
    with OTLPServer() as other:
        exporters = ["otlp", {"type": "otlp", "name": "other", "endpoint": other.endpoint, "level": "error"}]
        with configured(exporters=exporters, headers={"authorization": "s3cret"}) as server:
            log.info("one")
            log.error("two")
            assert otelog.flush(10.0)
            assert bodies(server.records) == ["one", "two"]
            assert bodies(other.records) == ["two"]
            assert {request.headers.get("authorization") for request in server.requests} == {"s3cret"}
            assert {request.headers.get("authorization") for request in other.requests} == {None}
            assert {name: (one.exported, one.filtered) for name, one in otelog.stats().exporters.items()} == {
                "otlp": (2, 0),
                "other": (1, 1),
            }


def test_credentials_of_the_environment_are_for_its_own_server_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret")
    with OTLPServer() as other, configured(exporters=["otlp", {"type": "otlp", "endpoint": other.endpoint}]) as server:
        log.info("one")
        assert otelog.flush(10.0)
        assert {request.headers.get("authorization") for request in server.requests} == {"s3cret"}
        assert {request.headers.get("authorization") for request in other.requests} == {None}


def test_an_entry_may_go_to_the_same_server_with_other_headers() -> None:
    with configured(headers={"authorization": "s3cret"}) as server:
        entry = {"type": "otlp", "endpoint": server.endpoint, "headers": {"x-tenant": "t-1"}}
        otelog.configure(exporters=["otlp", entry], endpoint=server.endpoint, headers={"authorization": "s3cret"})
        log.info("one")
        assert otelog.flush(10.0)
        sent = [(one.headers.get("x-tenant"), one.headers.get("authorization")) for one in server.requests]
        assert (len(sent), set(sent)) == (2, {(None, "s3cret"), ("t-1", None)})


def test_an_entry_with_another_protocol_needs_an_endpoint() -> None:
    pytest.importorskip("grpc")
    with pytest.raises(ConfigurationError, match="protocol=grpc beside endpoint=.* needs an endpoint of its own"):
        otelog.configure(exporters=["otlp", {"type": "otlp", "protocol": "grpc"}])
    entry = {"type": "otlp", "protocol": "grpc", "endpoint": "http://127.0.0.1:9", "name": "second"}
    with configured(exporters=["otlp", entry], shutdown_timeout=0.2) as server:
        log.info("one")
        otelog.flush(1.0)
        assert bodies(server.records) == ["one"]
        assert set(otelog.stats().exporters) == {"otlp", "second"}


def test_what_an_entry_says_beats_the_general_options(tmp_path: Path) -> None:
    exporters = ["file", {"type": "file", "name": "second", "folder": tmp_path / "second", "loggers": ["shop.cart"]}]
    with configured(exporters=exporters, file_folder=tmp_path / "first", file_level="WARNING"):
        log.info("one")
        log.warning("two")
        otelog.get_logger("shop.cart").warning("three")
        otelog.get_logger("shop.cart").info("four")
        assert otelog.flush(10.0)
    assert messages(tmp_path / "first" / "app.log") == ["two", "three"]
    assert messages(tmp_path / "second" / "app.log") == ["three"]


def test_words_in_the_environment_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "otlp,file")
    monkeypatch.setenv("OTELOG_FILE_FOLDER", str(tmp_path / "logs"))
    with configured() as server:
        log.info("one")
        assert otelog.flush(10.0)
        assert bodies(server.records) == ["one"]
    assert messages(tmp_path / "logs" / "app.log") == ["one"]


def test_none_sends_nothing_anywhere() -> None:
    with configured(exporters=["none"]) as server:
        log.info("one")
        assert otelog.flush(10.0)
        assert server.requests == []
        assert otelog.stats().exporters == {}


def test_a_second_configure_with_other_exporters_delivers_what_was_there(tmp_path: Path) -> None:
    memory = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    with configured(exporters=["otlp", memory], schedule_delay_millis=60_000) as server:
        log.info("one")
        otelog.configure(exporters=[memory, "file"], file_folder=tmp_path, endpoint=server.endpoint)
        log.info("two")
        assert otelog.flush(10.0)
        assert bodies(server.records) == ["one"]
        assert [one.log_record.body for one in memory.get_finished_logs()] == ["one", "two"]
        assert messages(tmp_path / "app.log") == ["two"]


def test_the_plain_console_handler_is_replaced_by_option_and_put_back(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler()
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with configured(exporters=["console"], replace_console_handler=True, console_format="json"):
            assert handler not in root.handlers
            logging.getLogger("std").warning("once")
            assert otelog.flush(10.0)
            lines = capsys.readouterr().err.splitlines()
            assert [json.loads(line)["message"] for line in lines] == ["once"]
            otelog.configure(exporters=["console"], replace_console_handler=False, console_format="json")
            assert handler in root.handlers
        with configured(exporters=["console"], replace_console_handler=True):
            assert handler not in root.handlers
            configure.reset()
            assert handler in root.handlers
    finally:
        root.removeHandler(handler)
