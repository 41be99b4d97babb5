"""Made-up histories of a stack, as Prometheus scrapes them, with the truth beside: what was really lost, and when.

A history is a simulation in steps of a second. Applications log, deliver, are answered late, send again, report late
and end; the Collector and Loki are restarted; Prometheus misses scrapes; records are lost. What every scrape would have
seen is written as the input of `promtool test rules`, and what was lost as series of their own (``truth``).
"""

from __future__ import annotations

import copy
import random
from collections import defaultdict
from dataclasses import dataclass, field

SCRAPE = 5
"""Seconds between two scrapes."""
REPORT = 60
LONGEST_REPORT = 30
"""Seconds that a report is on its way at most, with all attempts."""
COLLECTOR = 'job="otelog-collector",instance="collector:8888"'


@dataclass
class Application:
    """One instance.

    Args:
        job: Its service.
        instance: Its id; that of its target, too, if it is scraped.
        began: When.
        rate: Records a second while it is busy.
        scraped: It has a /metrics of its own, and reports nothing.
        knows_start: It says when it began; older releases do not.
    """

    job: str
    instance: str
    began: int
    rate: int
    scraped: bool = False
    knows_start: bool = True
    alive: bool = True
    delivered: int = 0
    waiting: int = 0
    unanswered: int = 0
    reports: list[tuple[int, int, int]] = field(default_factory=list)
    """On the way: when they arrive, when they have to have arrived, what they say."""


@dataclass
class Collector:
    """One process of the Collector: all that it forgets when it ends, but its queue."""

    began: float
    queue: int = 0
    accepted: int = 0
    sent: int = 0
    written: int = 0
    """To its file: what it had taken a second before."""
    counted: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    reported: dict[tuple[str, str], int] = field(default_factory=dict)
    reports: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    starts: dict[tuple[str, str], int] = field(default_factory=dict)


class History:
    """A simulation, second by second.

    Args:
        seed: Of all that happens by chance.
        polite: Nothing is restarted while anybody logs, and nothing but what the caller loses is lost.
    """

    def __init__(self, seed: int, *, polite: bool = False) -> None:
        self.chance = random.Random(seed)
        self.polite = polite
        self.now = 0
        self.series: dict[str, dict[int, str]] = defaultdict(dict)
        self.shown: dict[str, set[str]] = defaultdict(set)
        self.lost: dict[str, int] = defaultdict(int)
        self.applications: list[Application] = []
        self.collector: Collector | None = None
        # Other endpoints are scraped a little earlier.
        self.collector_before: Collector | None = None
        self.loki_before: list[dict[str, float]] = []
        self.queue = 0
        self.loki_began: float | None = -600.0
        self.loki_received = 0
        self.scraping = True
        self.busy = True
        self.quiet: list[tuple[int, dict[str, int]]] = []
        """Moments at which all can be known, and what was lost by then."""

    def be_quiet(self, seconds: int) -> None:
        """Nobody logs for so long; at the end all can be known."""
        self.busy = False
        self.run(seconds)
        self.quiet.append(((self.now - 1) // SCRAPE * SCRAPE, dict(self.lost)))

    def start_collector(self) -> None:
        self.collector = Collector(self.now - 0.5, queue=self.queue)

    def stop_collector(self) -> None:
        if self.collector is not None:
            self.queue = self.collector.queue
        self.collector = None

    def restart_loki(self) -> None:
        self.loki_began, self.loki_received = float(self.now), 0

    def start(self, job: str, *, rate: int, scraped: bool = False, knows_start: bool = True) -> Application:
        name = f"{job}-{len(self.applications)}"
        one = Application(job, name, self.now, rate, scraped, knows_start)
        self.applications.append(one)
        return one

    def lose_before_collector(self, one: Application, count: int) -> None:
        """Answered by somebody else, and gone."""
        one.delivered += count
        self.lost[f'truth{{job="{one.job}"}}'] += count

    def lose_in_output(self, count: int) -> None:
        """Accepted, and in no queue."""
        if self.collector is not None:
            self.collector.accepted += count
            self.lost['truth_in_output{exporter="otlp_http/loki"}'] += count

    def lose_before_loki(self, count: int) -> None:
        """Answered by somebody else, and gone."""
        if self.collector is not None:
            self.collector.accepted += count
            self.collector.sent += count
            self.lost["truth_in_loki"] += count

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            if self.collector is not None:
                self.collector.written = self.collector.accepted
            for one in self.applications:
                if one.alive:
                    self._log(one)
                self._report(one)
            self._send_to_loki()
            if self.now % SCRAPE == 0:
                self._scrape()
            self.collector_before = copy.copy(self.collector)
            self.loki_before = [*self.loki_before[-1:], self._loki()]
            self.now += 1

    def end(self, one: Application) -> None:
        """In an orderly way: with a last report."""
        one.alive = False
        one.reports.append((self.now, self.now + LONGEST_REPORT, one.delivered))

    def _log(self, one: Application) -> None:
        if self.busy:
            one.waiting += self.chance.randint(0, 2 * one.rate)
        collector = self.collector
        if collector is not None:
            if one.unanswered:
                # What was counted and not answered comes again.
                self._count(collector, one, one.unanswered)
                one.delivered += one.unanswered
                one.unanswered = 0
            if one.waiting:
                self._count(collector, one, one.waiting)
                if not self.polite and self.chance.random() < 0.02:
                    one.unanswered = one.waiting
                else:
                    one.delivered += one.waiting
                one.waiting = 0
        if not one.scraped and self.now % REPORT == hash_of(one.instance) % REPORT:
            late = 0 if self.polite or self.chance.random() < 0.7 else self.chance.randint(1, LONGEST_REPORT)
            one.reports.append((self.now + late, self.now + LONGEST_REPORT, one.delivered))

    def _count(self, collector: Collector, one: Application, count: int) -> None:
        collector.counted[one.job, one.instance] += count
        collector.accepted += count
        collector.queue += count

    def _report(self, one: Application) -> None:
        """One after the other; what does not arrive is tried again for a while."""
        if not one.reports:
            return
        arrives, gives_up, delivered = one.reports[0]
        if arrives > self.now:
            return
        key = one.job, one.instance
        if self.collector is not None:
            self.collector.reported[key] = delivered
            self.collector.reports[key] += 1
            if one.knows_start:
                self.collector.starts[key] = one.began
            one.reports.pop(0)
        elif gives_up <= self.now:
            one.reports.pop(0)

    def _send_to_loki(self) -> None:
        collector = self.collector
        if collector is None or not collector.queue or self.loki_began is None:
            return
        count = collector.queue if self.polite else self.chance.randint(0, collector.queue)
        self.loki_received += count
        if not self.polite and self.chance.random() < 0.01:
            # It answers too late.
            return
        collector.queue -= count
        collector.sent += count

    def _scrape(self) -> None:
        for name, count in self.lost.items():
            self.series[name][self.now] = str(count)
        if not self.scraping:
            # After it nobody remembers what there was.
            self.shown.clear()
            return
        self._see("counts", self._counts(self.collector))
        self._see("collector", self._own(self.collector_before))
        self._see("loki", self.loki_before[0] if self.loki_before else {})
        for one in self.applications:
            if one.scraped:
                labels = f'job="{one.job}",instance="{one.instance}"'
                mine = {
                    f'otelog_log_records_exported_total{{{labels},exporter="otlp"}}': float(one.delivered),
                    f"process_start_time_seconds{{{labels}}}": float(one.began),
                }
                if not one.knows_start:
                    mine.popitem()
                self._see(one.instance, mine if one.alive else {})

    def _loki(self) -> dict[str, float]:
        if self.loki_began is None:
            return {}
        return {
            'process_start_time_seconds{job="loki"}': self.loki_began,
            'loki_distributor_lines_received_total{job="loki"}': float(self.loki_received),
        }

    def _see(self, target: str, found: dict[str, float]) -> None:
        for name, value in found.items():
            self.series[name][self.now] = f"{value:.10g}"
        for name in self.shown[target] - set(found):
            self.series[name][self.now] = "stale"
        self.shown[target] = set(found)

    def _counts(self, collector: Collector | None) -> dict[str, float]:
        found: dict[str, float] = {}
        if collector is None:
            return found
        where = 'instance="collector:8889"'
        for (job, instance), count in collector.counted.items():
            labels = f'job="{job}",service_instance_id="{instance}",{where}'
            found[f"otelog_collector_instance_records_total{{{labels}}}"] = count
        for (job, instance), count in collector.reports.items():
            labels = f'job="{job}",service_instance_id="{instance}",{where}'
            found[f"otelog_collector_reports_total{{{labels}}}"] = count
        for (job, instance), count in collector.reported.items():
            labels = f'job="{job}",instance="{instance}",otel_component_type="otlp_http_log_exporter"'
            found[f"otel_sdk_exporter_log_exported_total{{{labels}}}"] = count
        for (job, instance), began in collector.starts.items():
            found[f'otelog_log_start_time_seconds{{job="{job}",instance="{instance}"}}'] = began
        return found

    def _own(self, collector: Collector | None) -> dict[str, float]:
        # Of a second before: it is another endpoint.
        up = {f"up{{{COLLECTOR}}}": float(collector is not None)}
        if collector is None:
            return up
        of_loki, of_file = (f'{COLLECTOR},exporter="{name}"' for name in ("otlp_http/loki", "file/app"))
        slow = 0 if self.polite else self.chance.random()
        return up | {
            f"otelcol_process_uptime_seconds_total{{{COLLECTOR}}}": self.now - collector.began + slow,
            f"otelcol_receiver_accepted_log_records_total{{{COLLECTOR}}}": float(collector.accepted),
            f'otelcol_exporter_in_flight_requests{{{of_loki},data_type="logs"}}': 0.0,
            f'otelcol_exporter_in_flight_requests{{{of_file},data_type="logs"}}': 0.0,
            f"otelcol_exporter_sent_log_records_total{{{of_file}}}": float(collector.written),
            f'otelcol_exporter_queue_size{{{of_loki},data_type="logs"}}': float(collector.queue),
            f"otelcol_exporter_sent_log_records_total{{{of_loki}}}": float(collector.sent),
        }

    def input_series(self) -> list[dict[str, str]]:
        """What promtool reads."""
        return [
            {"series": name, "values": " ".join(seen.get(at, "_") for at in range(0, self.now, SCRAPE))}
            for name, seen in self.series.items()
        ]


def hash_of(text: str) -> int:
    """The same in each process."""
    return sum(text.encode()) * 7


def make_rude_history(seed: int, seconds: int = 900) -> History:
    """Anything may happen at any time."""
    history = History(seed)
    chance = history.chance
    history.run(chance.randint(0, 20))
    history.start_collector()
    history.run(chance.choice((1, 10, 60)))
    jobs = ["shop", "mail", "desk"]
    while history.now < seconds:
        living = [one for one in history.applications if one.alive]
        if len(living) < 3:
            job = chance.choice(jobs)
            history.start(job, rate=chance.choice((0, 1, 20)), scraped=job == "desk", knows_start=chance.random() < 0.7)
        history.run(chance.randint(1, 60))
        event = chance.randrange(11)
        if event == 0:
            history.stop_collector()
            history.run(chance.choice((0, 1, 3, 10, 40)))
            history.start_collector()
        elif event == 1 and living:
            history.end(chance.choice(living))
        elif event == 2 and living:
            chance.choice(living).alive = False
        elif event == 3:
            history.scraping = False
            history.run(chance.randint(5, 120))
            if chance.random() < 0.3:
                history.stop_collector()
                history.run(chance.choice((0, 3)))
                history.start_collector()
            history.run(chance.choice((0, 3, 30)))
            history.scraping = True
        elif event == 4 and living:
            history.lose_before_collector(chance.choice(living), 100)
        elif event == 5:
            history.lose_in_output(100)
        elif event == 6:
            history.lose_before_loki(100)
        elif event == 7:
            history.restart_loki()
        elif event == 8:
            history.busy = not history.busy
    return history


def make_polite_history(seed: int, rounds: int = 2) -> History:
    """Something is restarted or lost while nobody logs, and there is time to see it before they go on."""
    history = History(seed, polite=True)
    chance = history.chance
    history.start_collector()
    history.run(10)
    for job in ("shop", "mail"):
        history.start(job, rate=chance.choice((1, 20)))
    history.start("old", rate=5, knows_start=False)
    history.start("desk", rate=5, scraped=True)
    history.run(240)
    for _ in range(rounds):
        history.be_quiet(200)
        event = chance.randrange(5)
        if event == 0:
            history.stop_collector()
            history.run(chance.choice((0, 10)))
            history.start_collector()
        elif event == 1:
            one = chance.choice([one for one in history.applications if one.alive and not one.scraped])
            history.end(one)
            history.start(one.job, rate=one.rate, knows_start=one.knows_start)
        elif event == 2:
            history.restart_loki()
        history.run(260)
        history.busy = True
        history.run(chance.randint(60, 90))
        history.lose_before_collector(chance.choice([one for one in history.applications if one.alive]), 100)
        history.lose_in_output(100)
        history.lose_before_loki(100)
        history.run(30)
    history.be_quiet(200)
    return history
