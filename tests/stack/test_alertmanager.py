"""Alertmanager's configuration: who is told of what, by its own tool."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from otelog.cli.stack.servers import describe_servers
from otelog.cli.stack.settings import Settings
from tests.stack.binaries_dash import find_binary
from tests.stack.servers_dash import ROOT

CONFIG = ROOT / "collector" / "alertmanager.yaml"
PAGE = ROOT / "docs" / "how-to" / "alerts.md"
RULES = [ROOT / "collector" / name for name in ("rules/otelog.yaml", "loki-rules/fake/otelog.yaml")]


def amtool(*arguments: str) -> str:
    """Run amtool; it has to be content."""
    done = subprocess.run([str(find_binary("amtool")), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def receivers_of_page() -> str:
    """The file that the page shows."""
    found = re.search(r"(?s)```yaml\n(email_configs:.*?)```", PAGE.read_text(encoding="utf-8"))
    assert found is not None
    return found[1]


def test_amtool_finds_nothing_wrong() -> None:
    assert "SUCCESS" in amtool("check-config", str(CONFIG))


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [(["alertname=OtelogRecordsLost", "severity=critical"], "people"), (["severity=none"], "nobody")],
)
def test_people_are_told_of_everything_but_the_watchdog(labels: list[str], receiver: str) -> None:
    assert amtool("config", "routes", "test", f"--config.file={CONFIG}", *labels).split() == [receiver]


def test_what_is_inhibited_and_by_what_are_alerts_of_the_rules() -> None:
    text = CONFIG.read_text(encoding="utf-8")
    rules = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in RULES]
    known = {rule["alert"] for document in rules for group in document["groups"] for rule in group["rules"]}
    for rule in yaml.safe_load(text)["inhibit_rules"]:
        for matcher in [*rule["source_matchers"], *rule["target_matchers"]]:
            label, _, pattern = re.split(r"\s*(=~|=)\s*", matcher)
            if label == "alertname":
                for one in pattern.strip('"').split("|"):
                    assert any(re.fullmatch(one, name) for name in known), one


def test_receivers_of_another_file_take_the_place_of_the_webhook(tmp_path: Path) -> None:
    """Natively by otelog, with docker compose by init.sh; both have the same result."""
    given = tmp_path / "receivers.yaml"
    given.write_text(receivers_of_page(), encoding="utf-8")
    settings = replace(Settings(), receivers=str(given))
    (server,) = [one for one in describe_servers(ROOT, tmp_path, settings) if one.name == "alertmanager"]
    server.write()
    path = server.config / "alertmanager.yaml"
    assert "SUCCESS" in amtool("check-config", str(path))
    people = yaml.safe_load(path.read_text(encoding="utf-8"))["receivers"][-1]
    assert {"name", "email_configs", "slack_configs", "webhook_configs"} == set(people)
    assert "webhook-url" not in json.dumps(people)
    script = (ROOT / "docker" / "init.sh").read_text(encoding="utf-8")
    commands = re.findall(r"(?m)^  (sed .*) >>? \S+$", script)
    assert len(commands) == 2
    shell = (
        "; ".join(commands)
        .replace("/etc/otelog/collector", str(CONFIG.parent))
        .replace("/run/secrets/receivers", str(given))
    )
    done = subprocess.run(["sh", "-c", shell], capture_output=True, check=True)
    assert done.stdout == path.read_bytes()


def test_no_secret_is_in_the_committed_configuration() -> None:
    text = CONFIG.read_text(encoding="utf-8")
    assert not re.search(r"(?m)^\s+(-\s+)?(url|api_url|auth_password|password|credentials|service_key):", text)
