# ruff: noqa: RUF001 - multiples are written with their sign
"""The plot: CPU as bars in multiples of the floor, and the caller's p99.9 under both loads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.catalog import PEERS
from benchmarks.peers import FLOOR
from benchmarks.report import Row, Spread

# Mid tones keep their contrast on a white page and on a dark one; blue against grey is seen with any colour vision.
OWN, OTHER, TEXT, RULE = "#2f81d6", "#8b8f94", "#7a7f85", "#8b8f94"
# Lets the whisker be seen inside its bar.
BAR_ALPHA = 0.6


def write_plot(rows: Sequence[Row], file: Path, caption: str) -> None:
    """Draw the rows into an SVG file with a transparent background.

    Raises: ImportError without matplotlib, OSError if the file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("svg")
    # Text stays text: small, sharp and searchable. The salt makes equal figures give equal files.
    mpl.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "otelog",
            "font.family": "sans-serif",
            "font.size": 10,
            "text.color": TEXT,
            "axes.labelcolor": TEXT,
            "xtick.color": TEXT,
            "ytick.color": TEXT,
            "axes.edgecolor": RULE,
        }
    )
    from matplotlib import pyplot as plt

    by_load = {load: {row.peer: row.figures for row in rows if row.load == load} for load in ("burst", "paced")}
    names = [name for name in by_load["burst"] if "cpu_ratio" in by_load["burst"][name]]
    names.sort(key=lambda name: by_load["burst"][name]["cpu_ratio"].median)
    figure, (cpu, wait) = plt.subplots(
        1, 2, figsize=(11.5, 1.6 + 0.4 * max(3, len(names))), sharey=True, width_ratios=(1.25, 1)
    )
    places = range(len(names))
    colours = [OWN if name.startswith("otelog") else OTHER for name in names]
    _draw_cpu(cpu, [by_load["burst"][name]["cpu_ratio"] for name in names], colours)
    for load, marker, filled in (("burst", "o", True), ("paced", "D", False)):
        spreads = [by_load[load].get(name, {}).get("p999_us") for name in names]
        _draw_wait(wait, spreads, colours, marker, filled)
    _finish_wait(wait)
    cpu.set_yticks(list(places), [_label(name) for name in names])
    cpu.invert_yaxis()
    for axes in (cpu, wait):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    for label, name in zip(cpu.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name.startswith("otelog") else "normal")
    figure.text(0.01, 0.01, caption, fontsize=8, ha="left", va="bottom")
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Title": "otelog and its peers"})
    plt.close(figure)


def _label(name: str) -> str:
    return (
        PEERS[name]
        .title.replace("otelog BatchLogRecordProcessor under", "otelog processor under")
        .replace(" (the floor)", ", delivers nothing" if name == FLOOR else "")
    )


def _draw_cpu(axes: Any, spreads: Sequence[Spread], colours: Sequence[str]) -> None:
    medians = [spread.median for spread in spreads]
    whiskers = [[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]]
    places = range(len(spreads))
    axes.barh(places, medians, color=colours, alpha=BAR_ALPHA, height=0.62)
    axes.errorbar(medians, places, xerr=whiskers, fmt="none", ecolor=TEXT, elinewidth=1.4, capsize=3)
    for place, spread in enumerate(spreads):
        axes.annotate(
            f"{spread.median:.2f} ×" if spread.median < 10 else f"{spread.median:.0f} ×",
            (spread.high, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontweight="bold" if colours[place] == OWN else "normal",
        )
    axes.axvline(1, color=RULE, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xlim(0, max((spread.high for spread in spreads), default=1) * 1.14)
    axes.set_title("CPU per delivered record, × the floor (burst)", fontsize=10, loc="left", color=TEXT)


def _draw_wait(axes: Any, spreads: Sequence[Spread | None], colours: Sequence[str], marker: str, filled: bool) -> None:
    for place, spread in enumerate(spreads):
        if spread is None:
            continue
        height = place - 0.14 if filled else place + 0.14
        axes.plot([spread.low, spread.high], [height, height], color=colours[place], linewidth=1.8)
        axes.plot(
            [spread.median],
            [height],
            marker,
            markersize=5.5,
            color=colours[place],
            markerfacecolor=colours[place] if filled else "none",
            markeredgewidth=1.4,
        )


def _finish_wait(axes: Any) -> None:
    from matplotlib.lines import Line2D

    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, position: f"{value / 1000:g} ms" if value >= 1000 else f"{value:g} µs")
    axes.grid(axis="x", color=RULE, alpha=0.3, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title("the caller's wait, p99.9 (log scale)", fontsize=10, loc="left", color=TEXT)
    keys = [
        Line2D([], [], color=TEXT, marker="o", linewidth=1.2, label="burst"),
        Line2D([], [], color=TEXT, marker="D", markerfacecolor="none", linewidth=1.2, label="paced"),
    ]
    axes.legend(handles=keys, loc="upper right", frameon=False, fontsize=9)
