# ruff: noqa: RUF001 - multiples and ranges are written with their signs
"""What the runs say: medians and spreads, ratios to the floor of the same round, goals, and all of it as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.catalog import PEERS
from benchmarks.peers import FLOOR
from benchmarks.sink_peers import PEER_OF_GOAL

Runs = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Spread:
    """A figure over its runs: the median, the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float]) -> Spread | None:
        """Reduce values to their spread. Returns: None if there are none."""
        found = list(values)
        return cls(statistics.median(found), min(found), max(found)) if found else None


@dataclass(frozen=True)
class Row:
    """One peer under one load: its figures, or why it has none."""

    peer: str
    load: str
    error: str | None
    figures: dict[str, Spread]


@dataclass(frozen=True)
class Goal:
    """One target; ``measured`` is None if a run that it needs is missing or void."""

    name: str
    target: float
    unit: str
    at_least: bool
    measured: Spread | None

    @property
    def verdict(self) -> str:
        """Say whether the median reaches the target: "met", "missed" or "not measured"."""
        if self.measured is None:
            return "not measured"
        reached = self.measured.median >= self.target if self.at_least else self.measured.median <= self.target
        return "met" if reached else "missed"


_FIGURES = ("cpu_us", "delivered_per_s", "memory_mb", "p50_us", "p99_us", "p999_us", "max_us", "timer_us")
# What the issue asks of otelog's three peers, as a multiple of the floor or of another peer.
_CPU_GOALS = {"otelog-facade": "≤ 0.8", "otelog-handler": "≤ 1.8", "otelog-processor": "≤ ½ of sdk-http"}


def summarize(runs: Runs) -> list[Row]:
    """Reduce the trials to one row for each peer and load.

    One void trial makes the whole row void: a peer that loses records has no price.

    Returns: rows in the order the peers and loads first ran.
    """
    rows = []
    for load, peer in dict.fromkeys((run["load"], run["peer"]) for run in sorted(runs, key=lambda run: run["round"])):
        mine = [run for run in runs if run["peer"] == peer and run["load"] == load]
        errors = [run["error"] for run in mine if run["error"]]
        figures: dict[str, Spread] = {}
        if not errors:
            for name in _FIGURES:
                _put(figures, name, (run[name] for run in mine if name in run))
            _put(figures, "cpu_ratio", ratios(runs, "cpu_us", load, peer, FLOOR))
            _put(figures, "p999_ratio", ratios(runs, "p999_us", load, peer, FLOOR))
        error = None
        if errors:
            error = errors[0] if len(errors) == len(mine) else f"{errors[0]} ({len(errors)} of {len(mine)} runs)"
        rows.append(Row(peer, load, error, figures))
    order = list(PEERS)
    return sorted(rows, key=lambda row: (row.load, order.index(row.peer)))


def _put(figures: dict[str, Spread], name: str, values: Iterable[float]) -> None:
    spread = Spread.over(values)
    if spread is not None:
        figures[name] = spread


def ratios(runs: Runs, figure: str, load: str, peer: str, base: str) -> list[float]:
    """Divide a peer's figure by another peer's in the same round.

    Returns: one ratio a round that has both, none if any trial of either is void.
    """
    values: dict[str, dict[int, float]] = {peer: {}, base: {}}
    for run in runs:
        if run["load"] == load and run["peer"] in values:
            if run["error"]:
                return []
            if figure in run:
                values[run["peer"]][run["round"]] = run[figure]
    return [values[peer][n] / values[base][n] for n in values[peer] if values[base].get(n)]


def judge(runs: Runs, rows: Sequence[Row], probes: Runs) -> list[Goal]:
    """Hold the figures against the targets. Returns: every goal, measured or not."""
    found = {(row.peer, row.load): row.figures for row in rows}

    def figure(peer: str, load: str, name: str) -> Spread | None:
        return found.get((peer, load), {}).get(name)

    def probed(probe: str, value: Callable[[dict[str, Any]], float]) -> Spread | None:
        mine = [run for run in probes if run["probe"] == probe]
        return Spread.over(value(run) for run in mine) if all(not run["error"] for run in mine) else None

    half = Spread.over(ratios(runs, "cpu_us", "burst", "otelog-processor", "sdk-http"))
    bridges = {
        "structlog to otelog": Spread.over(ratios(runs, "cpu_us", "burst", "otelog-structlog", "structlog")),
        "loguru to otelog": Spread.over(ratios(runs, "cpu_us", "burst", "otelog-loguru", "loguru-direct")),
    }
    queue = [probed(name, lambda run: run["mb"]) for name in ("full-queue-rss", "full-queue-heap")]
    sdk, own = probed("import-sdk", lambda run: run["ms"]), probed("import-otelog", lambda run: run["ms"])
    imports = None
    if sdk is not None and own is not None:
        imports = Spread(own.median / sdk.median, own.low / sdk.median, own.high / sdk.median)
    return [
        Goal("CPU of the facade, delivered", 0.8, "× floor", False, figure("otelog-facade", "burst", "cpu_ratio")),
        Goal("CPU of LoggingHandler, delivered", 1.8, "× floor", False, figure("otelog-handler", "burst", "cpu_ratio")),
        Goal("CPU under the SDK's Logger, delivered", 0.5, "× stock SDK", False, half),
        *(
            Goal(f"CPU of {name}, delivered", 1.0, "× its own JSON file", False, bridge)
            for name, bridge in bridges.items()
        ),
        Goal("p99.9 of a facade call, burst", 100, "µs", False, figure("otelog-facade", "burst", "p999_us")),
        Goal("p99.9 of a facade call, paced", 1.5, "× floor", False, figure("otelog-facade", "paced", "p999_ratio")),
        Goal("facade, delivered", 150_000, "records/s", True, figure("otelog-facade", "burst", "delivered_per_s")),
        Goal(
            "disabled level, message only, above an empty method",
            60,
            "ns",
            False,
            probed("disabled", lambda run: run["message_ns"] - run["empty_message_ns"]),
        ),
        Goal(
            "disabled level, the whole record, above an empty method with the same arguments",
            60,
            "ns",
            False,
            probed("disabled", lambda run: run["record_ns"] - run["empty_record_ns"]),
        ),
        Goal("import otelog + configure()", 1.5, "× import of the SDK's logs", False, imports),
        Goal("full queue of 10,000 records, resident", 20, "MB", False, queue[0]),
        Goal("full queue of 10,000 records, Python heap", 20, "MB", False, queue[1]),
    ]


def judge_sinks(runs: Runs) -> list[Goal]:
    """Hold the sinks' figures against their target. Returns: every goal, measured or not."""
    half = Spread.over(ratios(runs, "cpu_us", "burst", "otelog-file", PEER_OF_GOAL))
    return [Goal("CPU of the file sink, through the facade", 0.5, "× QueueListener", False, half)]


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def format_spread(spread: Spread | None) -> str:
    """Format a figure for a table. Returns: the median, with the lowest and the highest if they differ."""
    if spread is None:
        return "–"
    if spread.low == spread.high:
        return _number(spread.median)
    return f"{_number(spread.median)} <sub>{_number(spread.low)}–{_number(spread.high)}</sub>"


_COLUMNS = {
    "burst": (
        ("CPU µs/record", "cpu_us"),
        ("CPU × floor", "cpu_ratio"),
        ("p50 µs", "p50_us"),
        ("p99 µs", "p99_us"),
        ("p99.9 µs", "p999_us"),
        ("max µs", "max_us"),
        ("delivered/s", "delivered_per_s"),
        ("memory MB", "memory_mb"),
    ),
    "paced": (
        ("CPU µs/record", "cpu_us"),
        ("p50 µs", "p50_us"),
        ("p99 µs", "p99_us"),
        ("p99.9 µs", "p999_us"),
        ("p99.9 × floor", "p999_ratio"),
        ("max µs", "max_us"),
        ("delivered/s", "delivered_per_s"),
        ("memory MB", "memory_mb"),
    ),
}


def _load_table(load: str, rows: Sequence[Row]) -> list[str]:
    columns = _COLUMNS[load]
    goals = load == "burst"
    heads = ["peer", *(title for title, _ in columns), *(["target, × floor"] if goals else [])]
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|--:" * (len(heads) - 1) + "|"]
    for row in rows:
        if row.load != load:
            continue
        if row.error:
            cells = [f"**{row.error}**" if row.error.startswith("void") else row.error, *[""] * (len(heads) - 2)]
        else:
            cells = [format_spread(row.figures.get(name)) for _, name in columns]
            cells += [_CPU_GOALS.get(row.peer, "")] if goals else []
        lines.append("| " + " | ".join([PEERS[row.peer].title, *cells]) + " |")
    return lines


def write_table(results: dict[str, Any], rows: Sequence[Row], goals: Sequence[Goal]) -> str:
    """Render the whole report as Markdown.

    Args: results: ``date``, ``machine``, ``versions`` and ``plan`` as in latest.json.
    Returns: the text, ending in a line feed.
    """
    plan, machine = results["plan"], results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    timers = [row.figures["timer_us"].median for row in rows if "timer_us" in row.figures]
    facts = (
        f"{results['date']}: {machine['cores']} cores ({machine['processor']}), {machine['system']}, "
        f"{machine['python']}. Rounds: {plan['rounds']}; each figure is their median, with the lowest and the highest. "
        f"{versions}."
    )
    burst = (
        f"**A burst of {plan['records']:,} calls** in one thread; CPU is the whole process, from the first call until "
        "all is delivered; p50 to max are the caller's own wait."
    )
    paced = (
        f"**{plan['rate']:,.0f} calls a second** for {plan['paced_seconds']:g} s; here the CPU holds the pacing loop "
        "too, the same for all."
    )
    lines = [
        facts,
        "",
        burst,
        "",
        *_load_table("burst", rows),
        "",
        *([paced, "", *_load_table("paced", rows), ""] if any(row.load == "paced" for row in rows) else []),
        "**Targets**",
        "",
        "| what | target | measured | |",
        "|---|--:|--:|---|",
    ]
    for goal in goals:
        bound = f"{'≥' if goal.at_least else '≤'} {goal.target:,g} {goal.unit}"
        lines.append(f"| {goal.name} | {bound} | {format_spread(goal.measured)} | {goal.verdict} |")
    ran = {row.peer for row in rows if not row.error}
    notes = [f"{peer.title}: {peer.note}" for peer in PEERS.values() if peer.note and peer.name in ran]
    if timers:
        notes.append(f"the timer's own {statistics.median(timers):.2f} µs is in every call's figure")
    lines += ["", "Notes: " + "; ".join(notes) + "."] if notes else []
    return "\n".join(lines) + "\n"


def plain(items: Iterable[Row | Goal]) -> list[dict[str, Any]]:
    """Turn rows or goals into what JSON can hold. Returns: dicts; a goal's has its verdict."""
    found = []
    for item in items:
        entry = asdict(item)
        if isinstance(item, Goal):
            entry["verdict"] = item.verdict
        found.append(entry)
    return found
