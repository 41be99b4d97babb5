"""Traffic with restarts, in which nothing may seem to be missing; then losses, each of which exactly one hop shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.dashboards.grafana import targets
from tests.drills.live import LINE_BYTES, Live, Told
from tools.waiting import wait_until

LOST = 100
START_MARGIN = 7
"""An instance has to be so many seconds younger than the Collector to be known as such, and a little more."""
WAIT = 240.0
MISSING = {
    "application to Collector": "sum(otelog:missing_in_collector:records)",
    "in the Collector": "sum(otelog:missing_in_output:records)",
    "Collector to Loki": "sum(otelog:missing_in_loki:records)",
}
COUNTED = {
    "in an application": 'sum(otelog_log_refused_total{reason="queue_full"})',
    "an output failed": "sum(otelcol_exporter_send_failed_log_records_total)",
    "Loki has discarded": "sum(loki_discarded_samples_total)",
}
HOPS = MISSING | COUNTED
UNTOLD = (
    "otelog:delivered:records unless on (job) otelog:missing_in_collector:records"
    ' unless on (job) otelog:incomparable{hop="collector"}'
)
"""What an application has delivered is not compared, and nobody says why."""

SEEN = "count(count by (job) (otelog:seen:seconds or otelog:scraped:records))"


@dataclass
class Seen:
    """What was seen.

    Args:
        evaluations: At how many evaluations a service, an output or Loki was compared.
        wrong: What seemed to be missing while nothing was lost.
        silent: Services that were neither compared nor said to be incomparable.
        grey: At how many evaluations something was incomparable, by reason.
        created: By all applications.
        hops: When a loss was first shown, what each hop showed more than before, by the hop of the loss.
        all: What each showed in the end, after all losses.
        board: What the panels of the delivery ledger's board showed in the end.
    """

    evaluations: int = 0
    wrong: list[Any] = field(default_factory=list)
    silent: list[Any] = field(default_factory=list)
    grey: dict[str, int] = field(default_factory=dict)
    created: int = 0
    hops: dict[str, dict[str, int]] = field(default_factory=dict)
    all: dict[str, int] = field(default_factory=dict)
    board: dict[str, int] = field(default_factory=dict)


def run(folder: Path, *, pace: int, seconds: float, events: Sequence[str] = (), rate: int = 50) -> Seen:
    """Run it all.

    Args:
        folder: For the servers' files; it exists, and is empty.
        pace: How many times faster than usual Prometheus is, and all windows are shorter.
        seconds: How long there is traffic, in which things are restarted in turn.
        events: What is restarted, of `EVENTS`; all, if it is not given.
        rate: Records a second of each application.
    """
    seen = Seen()
    with ExitStack() as stack:
        live = stack.enter_context(closing(Live(folder, pace)))
        for name in ("loki", "collector", "prometheus"):
            live.start(name)
        _be_older(live, START_MARGIN)
        began = time.time()
        _restart(live, stack, seen, seconds, events or tuple(EVENTS), rate)
        _judge(live, seen, began)
        _be_older(live, START_MARGIN + 30 / pace)
        one = stack.enter_context(_living(Told(live, "witness")))
        one.tell("log 10 10")
        wait_until(lambda: live.value('otelog:counted:records{job="witness"}') == 10, WAIT, what="the witness is seen")
        before = {name: live.value(expression) for name, expression in HOPS.items()}
        for name, lose in LOSSES.items():
            seen.hops[name] = _lose(live, one, name, lose)
        seen.created += one.end()["created"]
        _go_on(live, 60 / pace)
        seen.all = {name: round(live.value(expression) - before[name]) for name, expression in HOPS.items()}
        seen.board = {
            name: round(live.value(target.fill_in())) for target in targets() if (name := target.name) in ON_THE_BOARD
        }
    return seen


class _living:
    """Ends a process in any case."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def __enter__(self) -> Told:
        return self._told

    def __exit__(self, *_: object) -> None:
        self._told.kill()


def _be_older(live: Live, seconds: float) -> None:
    """Until the Collector is so old."""
    wait_until(
        lambda: live.value("time() - otelog:collector_steady:seconds") > seconds,
        WAIT + seconds,
        what=f"the Collector to be {seconds} seconds old",
    )


def _restart_collector(live: Live) -> None:
    live.stop("collector")
    live.start("collector")


def _kill_collector(live: Live) -> None:
    live.kill("collector")
    live.start("collector")


def _restart_prometheus(live: Live) -> None:
    live.stop("prometheus")
    live.start("prometheus")


def _restart_both(live: Live) -> None:
    live.stop("prometheus")
    _kill_collector(live)
    live.start("prometheus")


EVENTS: dict[str, Callable[[Live], None] | None] = {
    "application": None,
    "prometheus": _restart_prometheus,
    "collector": _restart_collector,
    "prometheus and collector": _restart_both,
    "application again": None,
    "collector, killed": _kill_collector,
}
"""What is restarted, in this order."""


def _restart(live: Live, stack: ExitStack, seen: Seen, seconds: float, events: Sequence[str], rate: int) -> None:
    """Restart things in turn, while three services log."""
    services = {name: stack.enter_context(_living(Told(live, name))) for name in ("shop", "mail")}
    services["desk"] = stack.enter_context(_living(Told(live, "desk", "scrape")))
    for told in services.values():
        told.tell(f"rate {rate}")
    # Of one that Prometheus has never seen nothing need be said when the Collector is restarted.
    wait_until(lambda: live.value(SEEN) == len(services), WAIT, what="all services are seen")
    for name in events:
        _go_on(live, seconds / (len(events) + 1))
        event = EVENTS[name]
        if event is not None:
            event(live)
            continue
        seen.created += services["mail"].end()["created"]
        services["mail"] = stack.enter_context(_living(Told(live, "mail")))
        services["mail"].tell(f"rate {rate}")
    _go_on(live, seconds / (len(events) + 1))
    for told in services.values():
        told.tell("rate 0")
        seen.created += told.end()["created"]
    _go_on(live, 30 / live.pace)


def _go_on(live: Live, seconds: float) -> None:
    """Until Prometheus has evaluated its rules for so long."""
    until = time.time() + seconds
    wait_until(lambda: _evaluated_at(live) >= until, WAIT + seconds, what="evaluations")


def _evaluated_at(live: Live) -> float:
    return live.value("max(timestamp(otelog:collector_start:seconds)) or max(timestamp(up))")


def _judge(live: Live, seen: Seen, began: float) -> None:
    """What every evaluation since then says."""
    # The last evaluation may be half done.
    now = time.time() - 10 / live.pace
    for expression in MISSING.values():
        for one in live.evaluations(expression, began, now):
            seen.evaluations += len(one["values"])
            seen.wrong += [(expression, at, value) for at, value in one["values"] if float(value) > 0]
    seen.silent += live.evaluations(UNTOLD, began, now)
    for one in live.evaluations("count by (reason) (otelog:incomparable)", began, now):
        seen.grey[one["metric"]["reason"]] = len(one["values"])


def _lose(live: Live, one: Told, name: str, lose: Callable[[Live, Told], None]) -> dict[str, int]:
    """Lose records at one hop; returns what each shows more than before, as soon as that one shows them."""
    before = {hop: live.value(expression) for hop, expression in HOPS.items()}
    lose(live, one)
    wait_until(lambda: live.value(HOPS[name]) >= before[name] + LOST, WAIT, what=f"{LOST} records lost: {name}")
    # What it has in common with the other hops is evaluated after it.
    _go_on(live, 10 / live.pace)
    return {hop: round(live.value(expression) - before[hop]) for hop, expression in HOPS.items()}


def _lose_in_application(live: Live, one: Told) -> None:
    live.before_collector.hold()
    one.tell(f"overflow {LOST}")
    live.before_collector.release()
    one.tell("rate 0")


def _lose_before_collector(live: Live, one: Told) -> None:
    live.before_collector.mode = "swallow"
    one.tell(f"log {LOST} 10")
    live.before_collector.mode = "pass"


def _lose_before_loki(live: Live, one: Told) -> None:
    live.before_loki.mode = "swallow"
    swallowed = live.before_loki.swallowed
    sent = live.value("sum(otelcol_exporter_sent_log_records_total{exporter='otlp_http/loki'})")
    one.tell(f"log {LOST} 10")
    wait_until(
        lambda: live.value("sum(otelcol_exporter_sent_log_records_total{exporter='otlp_http/loki'})") == sent + LOST,
        WAIT,
        what="the Collector to have sent them",
    )
    live.before_loki.mode = "pass"
    assert live.before_loki.swallowed > swallowed


def _fail_in_output(live: Live, one: Told) -> None:
    live.before_loki.mode = "refuse"
    failed = live.value(COUNTED["an output failed"])
    one.tell(f"log {LOST} 10")
    wait_until(lambda: live.value(COUNTED["an output failed"]) == failed + LOST, WAIT, what="Loki's refusal")
    live.before_loki.mode = "pass"


def _discard_in_loki(live: Live, one: Told) -> None:
    discarded = live.value(COUNTED["Loki has discarded"])
    one.tell(f"log {LOST} {LINE_BYTES + 1}")
    wait_until(lambda: live.value(COUNTED["Loki has discarded"]) == discarded + LOST, WAIT, what="Loki's refusal")


LOSSES: dict[str, Callable[[Live, Told], None]] = {
    "in an application": _lose_in_application,
    "application to Collector": _lose_before_collector,
    "Collector to Loki": _lose_before_loki,
    "an output failed": _fail_in_output,
    "Loki has discarded": _discard_in_loki,
}
"""Each loses 100 records, at the hop of that name. What Loki discards it has answered with an error, too."""

EXPECTED = {
    "application to Collector": LOST,
    "in the Collector": 0,
    "Collector to Loki": LOST,
    "in an application": LOST,
    "an output failed": 2 * LOST,
    "Loki has discarded": LOST,
}
"""What each hop shows in the end."""

ON_THE_BOARD = {
    "otelog-ledger: Lost A": LOST,
    "otelog-ledger: Not in Collector A": LOST,
    "otelog-ledger: Not in outputs A": 0,
    "otelog-ledger: Not in Loki A": LOST,
    "otelog-ledger: By service G": LOST,
}
"""What panels show of them in the end."""
