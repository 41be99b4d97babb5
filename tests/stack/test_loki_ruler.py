"""The rules on contents, in the ruler of the real Loki: loaded without error, and told to the real Alertmanager."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.stack.servers_dash import ROOT, get_json, run_servers
from tests.stack.test_rules import CONTENTS, listening
from tools.waiting import wait_until

SECONDS = 60.0
# It collects what another process has written to standard error, as a platform does; and it fails often.
COLLECTS = """
import sys, otelog
otelog.configure(service_name="collected", endpoint=sys.argv[1])
log = otelog.get_logger("stderr")
log.info('{"otelog": "receipt", "time": "2026-01-01T00:00:00Z", "pid": 7, "lost": 3}')
log.info('a text about {"otelog": "receipt", ...} is none')
for number in range(101):
    try:
        raise KeyError(number)
    except KeyError:
        # No error: a burst of these is told instead.
        log.warning("failed", exc_info=True)
assert otelog.shutdown()
"""


def test_a_receipt_and_a_burst_of_exceptions_reach_the_webhook(tmp_path: Path) -> None:
    names = {
        rule["alert"]
        for group in yaml.safe_load(CONTENTS.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    }
    with listening() as (url, told), run_servers(tmp_path, url) as servers:

        def rules() -> dict[str, dict[str, Any]]:
            groups = get_json(f"{servers.loki}/prometheus/api/v1/rules")["data"]["groups"]
            return {rule["name"]: rule for group in groups for rule in group["rules"]}

        wait_until(lambda: {one["health"] for one in rules().values()} == {"ok"}, SECONDS, what="rules evaluated")
        assert set(rules()) == names
        assert {one["state"] for one in rules().values()} == {"inactive"}
        subprocess.run([sys.executable, "-c", COLLECTS, servers.otlp], check=True, cwd=ROOT, timeout=SECONDS)

        def summaries() -> dict[str, str]:
            return {one["labels"]["alertname"]: one["annotations"]["summary"] for one in list(told)}

        wait_until(lambda: summaries().keys() >= names, SECONDS, what=f"the webhook to be told of {names}")
        assert summaries()["OtelogReceiptSeen"] == "1 processes of collected have ended with losses"
        assert summaries()["OtelogExceptionBurst"] == "collected has logged 101 exceptions KeyError"
