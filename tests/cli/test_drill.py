"""`otelog drill` without a stack: what it says, sends and undoes. With one: tests/stack/test_drills_alerts.py."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from otelog.cli.drill.drills import DRILLS
from otelog.testing import OTLPServer
from tools.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 90.0


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "otelog.cli", "drill", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_every_drill_is_of_alerts_that_there_are_and_on_the_page_of_alerts() -> None:
    document = yaml.safe_load((ROOT / "collector" / "rules" / "otelog.yaml").read_text(encoding="utf-8"))
    rules = {rule["alert"]: rule for group in document["groups"] for rule in group["rules"]}
    page = (ROOT / "docs" / "how-to" / "alerts.md").read_text(encoding="utf-8")
    for drill in DRILLS.values():
        assert set(drill.alerts) <= set(rules)
        assert f"/d/{drill.board}" in {rules[name]["annotations"]["dashboard"] for name in drill.alerts}
    shown = {
        name: set(re.findall(r"Otelog\w+", rest)) for name, rest in re.findall(r"(?m)^otelog drill (\S+) +#(.*)", page)
    }
    assert shown == {name: set(drill.alerts) for name, drill in DRILLS.items()}


def test_a_server_that_is_not_ours_cannot_be_held(tmp_path: Path) -> None:
    process = start(tmp_path, "collector-down")
    said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "needs a stack that runs natively here: otelog stack up --native" in said


def test_a_burst_is_sent_to_any_endpoint_and_says_what_to_watch(tmp_path: Path) -> None:
    with OTLPServer() as server:
        process = start(tmp_path, "error-burst", "--endpoint", server.endpoint, "--seconds", "0")
        said, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, said
        assert len(server.records) == 200
        assert {record.severity_text for record in server.records} == {"ERROR"}
    assert "Watch the board /d/otelog-errors (errors by service), and OtelogErrorBurst" in said
    assert "within 30 s" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_silence_ends_with_a_record_however_the_drill_ends(tmp_path: Path, number: signal.Signals) -> None:
    with OTLPServer() as server:
        process = start(tmp_path, "silence", "--endpoint", server.endpoint)
        try:
            wait_until(lambda: len(server.records) == 301, SECONDS, what="the records before the silence")
            process.send_signal(number)
            wait_until(lambda: len(server.records) == 302, SECONDS, what="the record after it")
            said, _ = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
            process.communicate()
        assert server.records[-1].body.string_value == "the drill is over"
        if number != signal.SIGKILL:
            assert "Undone: otelog-drill logs again, and ends." in said
