# ruff: noqa: RUF001 - multiples and ranges are written with their signs
"""What the runs say: medians and spreads, what logging adds to a request, and whether the target is met."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.report import Goal, Runs, Spread, format_spread
from benchmarks.requests.application import BARE, BESIDE, LOG_CALLS, OTELOG, SETUPS, STOCK, TRACED
from benchmarks.requests.server import THREADS

SHARE = 0.25
"""What otelog's logging may add to a request, as a share of what the stock SDK's adds."""

Figures = dict[str, Spread]


def added(runs: Runs, setup: str, load: str = "closed") -> dict[int, float]:
    """Subtract the base's CPU from a set-up's in the same round.

    Returns: µs a request by round, of the rounds that have both; nothing if any run of either is void.
    """
    found: dict[str, dict[int, float]] = {setup: {}, TRACED: {}}
    for run in runs:
        if run["setup"] in found and run["load"] == load:
            if run["error"]:
                return {}
            found[run["setup"]][run["round"]] = run["cpu_us"]
    return {number: cpu - found[TRACED][number] for number, cpu in found[setup].items() if number in found[TRACED]}


def shares(runs: Runs, setup: str, load: str = "closed") -> list[float]:
    """Divide what a set-up's logging adds by what the stock SDK's adds in the same round. Returns: one a round."""
    stock = added(runs, STOCK, load)
    return [cpu / stock[number] for number, cpu in added(runs, setup, load).items() if stock.get(number, 0.0) > 0.0]


def judge(runs: Runs) -> list[Goal]:
    """Hold the figures against the target. Returns: the goals, measured or not."""
    words = {OTELOG: "otelog's logging", BESIDE: "otelog's logging beside another handler"}
    return [
        Goal(f"CPU that {what} adds to a request", SHARE, "× stock SDK's", False, Spread.over(shares(runs, setup)))
        for setup, what in words.items()
    ]


def _figures(runs: Runs, setup: str, load: str) -> Figures | str:
    mine = [run for run in runs if run["setup"] == setup and (run["load"] == load or run["error"])]
    errors = [run["error"] for run in mine if run["error"]]
    if errors:
        return errors[0] if len(errors) == len(mine) else f"{errors[0]} ({len(errors)} of {len(mine)} runs)"
    names = ("cpu_us", "behind_us", "requests_per_s", "p50_ms", "p99_ms", "max_ms")
    spreads: dict[str, Spread | None] = {name: Spread.over(run[name] for run in mine if name in run) for name in names}
    if setup not in (BARE, TRACED):
        spreads["added_us"] = Spread.over(added(runs, setup, load).values())
        spreads["share"] = Spread.over(shares(runs, setup, load))
    return {name: spread for name, spread in spreads.items() if spread is not None}


_COLUMNS = {
    "closed": (
        ("requests/s", "requests_per_s"),
        ("CPU µs/request", "cpu_us"),
        ("behind µs", "behind_us"),
        ("logging adds µs", "added_us"),
        ("× stock SDK's", "share"),
        ("p99 ms", "p99_ms"),
    ),
    "paced": (
        ("p50 ms", "p50_ms"),
        ("p99 ms", "p99_ms"),
        ("max ms", "max_ms"),
        ("CPU µs/request", "cpu_us"),
        ("behind µs", "behind_us"),
        ("logging adds µs", "added_us"),
        ("× stock SDK's", "share"),
    ),
}


def _table(runs: Runs, load: str, setups: Sequence[str]) -> list[str]:
    columns = _COLUMNS[load]
    lines = ["| set-up | " + " | ".join(title for title, _ in columns) + " |", "|---" + "|--:" * len(columns) + "|"]
    for setup in setups:
        figures = _figures(runs, setup, load)
        if isinstance(figures, str):
            cells = [f"**{figures}**" if figures.startswith("void") else figures, *[""] * (len(columns) - 1)]
        else:
            cells = [format_spread(figures.get(name)) for _, name in columns]
        lines.append("| " + " | ".join([SETUPS[setup].title, *cells]) + " |")
    return lines


def write_table(results: dict[str, Any], runs: Runs) -> str:
    """Render the whole report as Markdown.

    Args: results: ``date``, ``machine``, ``versions`` and ``plan``.
    Returns: the text, ending in a line feed.
    """
    plan, machine = results["plan"], results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    setups = [name for name in SETUPS if any(run["setup"] == name for run in runs)]
    facts = (
        f"{results['date']}: {machine['cores']} cores ({machine['processor']}), {machine['system']}, "
        f"{machine['python']}. Rounds: {plan['rounds']}; each figure is their median, with the lowest and the highest. "
        f"{versions}."
    )
    scene = (
        f"A Flask view with {LOG_CALLS} calls of standard `logging`, under gunicorn: one gthread worker of {THREADS} "
        "threads on one core; client and Collector have another. CPU is the whole worker, from the first request until "
        "all is delivered; behind is what of it threads took that serve no request; what logging adds is counted from "
        "the traced base of the same round."
    )
    goals = [
        f"| {goal.name} | ≤ {goal.target:g} {goal.unit} | {format_spread(goal.measured)} | {goal.verdict} |"
        for goal in judge(runs)
    ]
    lines = [
        *(facts, "", scene, ""),
        f"**As fast as it goes**: {plan['requests']:,} requests over {plan['connections']} connections.",
        *("", *_table(runs, "closed", setups), ""),
        f"**{plan['rate']:,.0f} requests a second**: {plan['paced_requests']:,} of them.",
        *("", *_table(runs, "paced", setups), ""),
        *("**Targets**", "", "| what | target | measured | |", "|---|--:|--:|---|", *goals),
    ]
    return "\n".join(lines) + "\n"
