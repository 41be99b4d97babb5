"""`examine` inside of a process: what it looks at, and what its report comes to."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import otelog
from otelog.doctor import Area, Finding, Report, examine
from otelog.testing import OTLPServer, Reply
from tests.arrivals import configured

ERROR = Finding("error", "logger.disabled", "shop", "is disabled", "enable it", ("shop",))
WARNING = Finding("warning", "logger.level", "root", "is at WARNING", "setLevel('INFO')")


@pytest.fixture
def server(own_loggers: None) -> Iterator[OTLPServer]:
    with configured() as one:
        yield one


def of(report: Report, name: str) -> Area:
    (area,) = [area for area in report.areas if area.name == name]
    return area


def test_every_area_of_a_configured_process_is_looked_at(server: OTLPServer) -> None:
    report = examine()
    # Other tests may have left applications of Flask's behind.
    areas = [area for area in report.areas if area.name != "application"]
    assert [area.name for area in areas] == [
        "settings",
        "packages",
        "providers",
        "loggers",
        "handlers",
        "limits",
        "endpoint",
    ]
    assert of(report, "endpoint").findings == ()
    assert of(report, "loggers").findings == ()
    assert Report(tuple(areas)).ok


def test_the_canary_is_not_in_the_applications_books(server: OTLPServer) -> None:
    examine()
    assert len(server.records) == 1
    assert otelog.stats().created == 0


def test_what_other_libraries_log_of_the_canary_is_not_in_the_books_either(
    server: OTLPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up, looked_up = socket.getaddrinfo, []

    def look_up_and_log(*arguments: Any, **keywords: Any) -> Any:
        logging.getLogger("resolver").error("look-up")
        looked_up.append(arguments)
        return look_up(*arguments, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", look_up_and_log)
    examine()
    assert looked_up
    assert otelog.stats().created == 0


def test_without_the_canary_nothing_is_sent(server: OTLPServer) -> None:
    report = examine(canary=False)
    assert server.connections == 0
    assert "endpoint" not in [area.name for area in report.areas]


def test_an_endpoint_that_refuses_is_not_ok(server: OTLPServer) -> None:
    server.script = [Reply(status=401)]
    report = examine()
    assert not report.ok
    assert "endpoint.unauthorized" in [finding.code for finding in report.findings]


def test_a_logger_that_does_not_reach_otelog_is_not_ok(server: OTLPServer) -> None:
    logging.getLogger("lost").disabled = True
    report = examine(canary=False)
    assert [(one.code, one.subject) for one in of(report, "loggers").findings] == [("logger.disabled", "lost")]
    assert not report.ok


def test_before_configure_that_is_the_error() -> None:
    first = examine(canary=False).areas[0]
    assert [finding.code for finding in first.findings] == ["application.not_configured"]


def test_a_file_that_cannot_be_used_is_the_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / "otelog.yaml"
    path.write_text("timeout: soon")
    monkeypatch.setenv("OTELOG_CONFIG_FILE", str(path))
    report = examine()
    assert [finding.code for finding in report.findings] == ["application.not_configured", "settings.refused"]
    assert not report.ok


def test_a_report_as_json_has_every_finding_with_its_area() -> None:
    report = Report((Area("loggers", ("a fact",), (ERROR, WARNING)),))
    assert json.loads(json.dumps(report.to_dict())) == {
        "ok": False,
        "conclusion": "1 error, 1 warning: begin with logger.disabled.",
        "errors": 1,
        "warnings": 1,
        "notes": 0,
        "facts": [{"area": "loggers", "fact": "a fact"}],
        "findings": [
            {
                "area": "loggers",
                "severity": "error",
                "code": "logger.disabled",
                "subject": "shop",
                "what": "is disabled",
                "advice": "enable it",
                "names": ["shop"],
            },
            {
                "area": "loggers",
                "severity": "warning",
                "code": "logger.level",
                "subject": "root",
                "what": "is at WARNING",
                "advice": "setLevel('INFO')",
                "names": [],
            },
        ],
    }


def test_warnings_are_allowed_and_told() -> None:
    report = Report((Area("loggers", (), (WARNING,)),))
    assert (report.ok, report.conclusion) == (True, "No error, but 1 warning.")


def test_nothing_wrong_is_all_well() -> None:
    assert Report(()).conclusion == "All is well."
