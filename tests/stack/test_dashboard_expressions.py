"""The boards' PromQL over histories that a run of a minute does not have: yesterday, restarts, what is not known."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.dashboards.grafana import Value, targets
from tests.stack.binaries_dash import find_binary

TARGETS = {target.name: target for target in targets()}
MISSING = "otelog:missing_in_collector:records"
UNKNOWN = "otelog:incomparable"
INSTANCE = 'job="shop/checkout",instance="i-1"'
OTHER = 'job="shop/desk",instance="i-2"'
PROCESSOR = 'otel_component_name="p/0",otel_component_type="batching_log_processor"'


@dataclass(frozen=True)
class Case:
    """What Prometheus holds, a sample a minute, and what a panel's query must say at a time."""

    panel: str
    series: dict[str, str]
    at: str
    expected: list[tuple[str, float]]
    values: dict[str, Value] = field(default_factory=dict)


CREATED = f"otel_sdk_log_created_total{{{INSTANCE}}}"
LOST = f'otelog_log_refused_total{{{INSTANCE},reason="queue_full"}}'
COUNTED = 'otelog_collector_log_records_total{job="shop/checkout",severity="info"}'
ERRORS = 'otelog_collector_log_records_total{job="shop/checkout",severity="error"}'
PEAK, SIZE, CAPACITY = (
    f"{name}{{{INSTANCE},{PROCESSOR}}}"
    for name in (
        "otelog_log_queue_peak",
        "otel_sdk_processor_log_queue_size",
        "otel_sdk_processor_log_queue_capacity",
    )
)
CHECKOUT = {"service": ["checkout"]}

CASES = {
    "nothing is missing, and it is known of all: 0": Case(
        "otelog-ledger: Not in Collector A", {f'{MISSING}{{job="shop/checkout"}}': "0x60"}, "30m", [("{}", 0)]
    ),
    "a service that cannot be compared makes no 0 of the others": Case(
        "otelog-ledger: Not in Collector A",
        {
            f'{MISSING}{{job="shop/checkout"}}': "0x60",
            f'{UNKNOWN}{{job="shop/desk",hop="collector",reason="collector_restart"}}': "1x60",
        },
        "30m",
        [],
    ),
    "it does not matter where it is not chosen": Case(
        "otelog-ledger: Not in Collector A",
        {
            f'{MISSING}{{job="shop/checkout"}}': "0x60",
            f'{UNKNOWN}{{job="shop/desk",hop="collector",reason="collector_restart"}}': "1x60",
        },
        "30m",
        [("{}", 0)],
        CHECKOUT,
    ),
    "nor at another hop": Case(
        "otelog-ledger: Not in Collector A",
        {
            f'{MISSING}{{job="shop/checkout"}}': "0x60",
            f'{UNKNOWN}{{job="shop/checkout",hop="loki",reason="restart"}}': "1x60",
        },
        "30m",
        [("{}", 0)],
    ),
    "a loss that is known is shown, whatever is not known beside it": Case(
        "otelog-ledger: Not in Collector A",
        {
            f'{MISSING}{{job="shop/checkout"}}': "7x60",
            f'{UNKNOWN}{{job="shop/desk",hop="collector",reason="collector_restart"}}': "1x60",
        },
        "30m",
        [("{}", 7)],
    ),
    "one hop that is not known makes no 0 on the first board": Case(
        "otelog-logs: Missing on the way A",
        {
            f'{MISSING}{{job="shop/checkout"}}': "0x60",
            f'{UNKNOWN}{{job="loki",hop="loki",reason="restart"}}': "1x60",
        },
        "30m",
        [],
    ),
    "nobody reports: no figure": Case("otelog-ledger: Lost A", {"up{}": "1x60"}, "30m", []),
    "somebody reports, and nothing is lost: 0": Case("otelog-ledger: Lost A", {CREATED: "0+10x60"}, "30m", [("{}", 0)]),
    "a counter that is born with its first losses has them": Case(
        "otelog-ledger: Lost A", {CREATED: "0+10x60", LOST: "_x20 85x40"}, "30m", [("{}", 85)]
    ),
    "the table says when it was, to the minute": Case(
        "otelog-ledger: Lost, by reason B",
        {CREATED: "0+10x60", LOST: "0x20 85x40"},
        "50m",
        [('{service="checkout",instance="i-1",reason="queue_full"}', 21 * 60 * 1000)],
    ),
    "what was not lost has no line": Case(
        "otelog-ledger: Lost, by reason A",
        {CREATED: "0+10x60", LOST: "0x60", LOST.replace("queue_full", "too_large"): "0x20 3x40"},
        "50m",
        [('{service="checkout",instance="i-1",reason="too_large"}', 3)],
    ),
    "a queue that was full for a moment is seen": Case(
        "otelog-ledger: Fullest queue A",
        {PEAK: "16x60", SIZE: "0x60", CAPACITY: "16x60"},
        "30m",
        [("{}", 1)],
    ),
    "a target that does not answer is counted": Case(
        "otelog-ledger: Targets down A",
        {'up{job="loki"}': "1x9 0x60", 'up{job="prometheus"}': "1x60"},
        "30m",
        [("{}", 1)],
    ),
    "the watchdog is no alert that somebody must look at": Case(
        "otelog-ledger: Alerts firing A",
        {"up{}": "1x60", 'ALERTS{alertname="OtelogWatchdog",alertstate="firing"}': "1x60"},
        "30m",
        [("{}", 0)],
    ),
    "the errors of the same hour yesterday": Case(
        "otelog-errors: Same time yesterday A", {ERRORS: "0+2x2000", COUNTED: "0+2x2000"}, "1800m", [("{}", 120)]
    ),
    "yesterday without an error is 0": Case(
        "otelog-errors: Same time yesterday A", {COUNTED: "0+2x2000"}, "1800m", [("{}", 0)]
    ),
    "nothing is known of yesterday": Case(
        "otelog-errors: Same time yesterday A", {ERRORS: "0+2x60", COUNTED: "0+2x60"}, "50m", []
    ),
    "three times as many as yesterday": Case(
        "otelog-errors: Times yesterday's A",
        {ERRORS: "0+2x1000 2000+6x1000", COUNTED: "0+2x2000"},
        "1800m",
        [("{}", 3)],
    ),
    "no error yesterday: a ratio to nothing is none": Case(
        "otelog-errors: Times yesterday's A", {ERRORS: "_x1700 0+6x200", COUNTED: "0+2x2000"}, "1800m", []
    ),
}


@pytest.fixture(scope="module")
def promtool() -> Path:
    return find_binary("promtool")


@pytest.mark.parametrize("name", CASES)
def test_a_panels_query_says(promtool: Path, name: str, tmp_path: Path) -> None:
    case = CASES[name]
    samples = [{"labels": labels, "value": value} for labels, value in case.expected]
    asked = {"expr": TARGETS[case.panel].fill_in(case.values), "eval_time": case.at, "exp_samples": samples}
    series = [{"series": series, "values": values} for series, values in case.series.items()]
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [asked]}
    path = tmp_path / "case.yaml"
    # JSON is YAML, too.
    path.write_text(json.dumps({"evaluation_interval": "1m", "rule_files": [], "tests": [test]}), encoding="utf-8")
    command = [str(promtool), "test", "rules", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
