"""`otelog drill` on the real stack: its alert, and no other, reaches the webhook, and ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from otelog.cli.drill.drills import DRILLS
from tests.stack.running import ROOT, RunningStack
from tests.stack.test_rules import listening
from tools.rules.__main__ import render_all
from tools.rules.alert import Times
from tools.rules.figures import make_groups
from tools.waiting import end_process, wait_until

FULL = os.environ.get("OTELOG_DRILLS") == "full"
"""With the windows and the pace of the committed files: three quarters of an hour, in `make soak`."""

SHORT = Times(scale=1 / 60, least=6)
"""Ten minutes are ten seconds."""

RULE_GROUPS = len(make_groups(SHORT))
SECONDS = 1800.0 if FULL else 90.0
EVALUATIONS = 8
# An application that logs, now and then an error, and reports its ledger each second. Its sleep is the pace of what it
# logs, in a process of its own; nothing in the test waits for it.
STEADY = """
import sys, time, otelog
otelog.configure(service_name="steady", endpoint=sys.argv[1])
log = otelog.get_logger("steady")
for turn in range(100_000):
    for number in range(20):
        log.info("work %s", number)
    if turn % 30 == 0:
        log.error("a failure now and then")
    time.sleep(1)
"""


class Live:
    """A stack at a quicker pace, with an application on it, and what its webhook was told."""

    def __init__(self, stack: RunningStack, told: list[dict[str, Any]]) -> None:
        self.stack = stack
        self._told = told

    def told(self, status: str) -> set[str]:
        """The names of the alerts that the webhook was told of."""
        return {alert["labels"]["alertname"] for alert in list(self._told) if alert["status"] == status}

    def forget(self) -> None:
        self._told.clear()

    def states(self) -> dict[str, str]:
        alerts = json.loads(self.stack.read("prometheus", "/api/v1/alerts"))["data"]["alerts"]
        return {alert["labels"]["alertname"]: alert["state"] for alert in alerts}

    def evaluations(self) -> int:
        """How often the rules were evaluated."""
        return self.stack.sum("prometheus", "prometheus_rule_group_iterations_total") // RULE_GROUPS

    def is_calm(self) -> bool:
        return self.states() == {"OtelogWatchdog": "firing"}

    def drill(self, name: str, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "otelog.cli", "drill", name, "--data-dir", str(self.stack.folder), *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def collector(self) -> psutil.Process:
        return psutil.Process(self.stack.statuses()["collector"]["pid"])


def quicken(stack: RunningStack) -> None:
    """Give the running servers the same rules with shorter windows, and a quicker pace."""
    config = stack.folder / "prometheus" / "config"
    (config / "rules" / "otelog.yaml").write_text(render_all(SHORT)["rules/otelog.yaml"], encoding="utf-8")
    pace(config / "prometheus.yaml", "scrape_interval|scrape_timeout|evaluation_interval", "1s")
    pace(stack.folder / "alertmanager" / "config" / "alertmanager.yaml", "group_wait|group_interval", "1s")
    statuses = stack.statuses()
    for name in ("prometheus", "alertmanager"):
        os.kill(statuses[name]["pid"], signal.SIGHUP)


def pace(path: Path, names: str, value: str) -> None:
    text, count = re.subn(rf"(?m)^(  (?:{names})): .*$", rf"\1: {value}", path.read_text(encoding="utf-8"))
    assert count == len(names.split("|"))
    path.write_text(text, encoding="utf-8")


@contextmanager
def steady(stack: RunningStack) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-c", STEADY, stack.endpoint], env={**os.environ, "OTEL_METRIC_EXPORT_INTERVAL": "1000"}
    )
    try:
        yield
    finally:
        end_process(process, 20.0)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    stack = RunningStack(tmp_path_factory.mktemp("drills") / "stack")
    with listening() as (url, told):
        stack.up("--webhook", url)
        try:
            if not FULL:
                quicken(stack)
            with steady(stack):
                one = Live(stack, told)
                jobs = 'count(otelog_collector_reports_total{job="steady"} > 2)'
                wait_until(lambda: bool(stack.query(jobs)) and one.is_calm(), SECONDS, what="calm")
                # What was missing while all of them started, with two seconds of patience.
                wait_until(lambda: one.told("firing") == one.told("resolved"), SECONDS, what="the start to be over")
                yield one
        finally:
            stack.run("down", "--volumes", check=False)


def test_steady_traffic_fires_the_watchdog_alone(live: Live) -> None:
    live.forget()
    before = live.evaluations()

    def is_over() -> bool:
        assert live.states() == {"OtelogWatchdog": "firing"}
        return live.evaluations() >= before + EVALUATIONS

    wait_until(is_over, SECONDS, what="some evaluations")
    assert live.told("firing") == set()


def test_the_alerts_of_each_drill_reach_the_webhook_and_end_and_no_other_does(live: Live) -> None:
    """All that need no server of the stack beside each other: each has a service of its own."""
    live.forget()
    names = [name for name, drill in DRILLS.items() if drill.traffic]
    processes = {name: live.drill(name) for name in names}
    said = {name: process.communicate(timeout=SECONDS)[0] for name, process in processes.items()}
    for name, process in processes.items():
        assert process.returncode == 0, said[name]
        for alert in DRILLS[name].alerts:
            assert f"{alert} is firing" in said[name]
    wanted = {alert for name in names for alert in DRILLS[name].alerts}
    wait_until(lambda: live.told("firing") >= wanted, SECONDS, what=f"the webhook to be told of {wanted}")
    wait_until(lambda: live.told("resolved") >= wanted, SECONDS, what=f"{wanted} to end")
    assert live.told("firing") == wanted
    silences = json.loads(live.stack.read("alertmanager", "/api/v2/silences"))
    assert {one["createdBy"] for one in silences} == {"otelog drill"}
    assert len(silences) == len(names)


def test_a_collector_that_stands_still_is_told_and_goes_on_after_ctrl_c(live: Live) -> None:
    live.forget()
    collector = live.collector()
    process = live.drill("collector-down", "--seconds", "3600")
    try:
        wait_until(lambda: live.told("firing") >= {"OtelogTargetDown"}, SECONDS, what="the webhook to be told")
        assert collector.status() == psutil.STATUS_STOPPED
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=SECONDS)
    finally:
        end(process, collector)
    assert process.returncode == 0, said
    assert collector.status() != psutil.STATUS_STOPPED
    wait_until(lambda: live.told("resolved") >= {"OtelogTargetDown"}, SECONDS, what="it to end")
    # A service of a drill that has ended is missed: Alertmanager was told not to mind, but from later on.
    assert live.told("firing") - {"OtelogLogSilence"} == {"OtelogTargetDown"}


def test_a_drill_that_is_killed_leaves_no_server_standing(live: Live) -> None:
    collector = live.collector()
    process = live.drill("collector-down", "--seconds", "3600")
    try:
        wait_until(lambda: collector.status() == psutil.STATUS_STOPPED, SECONDS, what="the Collector to stand still")
        process.kill()
        wait_until(lambda: collector.status() != psutil.STATUS_STOPPED, SECONDS, what="the Collector to go on")
    finally:
        end(process, collector)


def end(process: subprocess.Popen[str], collector: psutil.Process) -> None:
    """Leave nothing behind, whatever a test has found."""
    process.kill()
    process.communicate()
    collector.resume()
