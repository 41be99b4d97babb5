"""Panels as the Foundation SDK builds them, with what all of ours have in common: sources, thresholds, legends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from grafana_foundation_sdk.builders import common as common_builder
from grafana_foundation_sdk.builders import dashboard as dashboard_builder
from grafana_foundation_sdk.builders import logs, loki, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

PROMETHEUS = common.DataSourceRef(type_val="prometheus", uid="${prometheus}")
LOKI = common.DataSourceRef(type_val="loki", uid="${loki}")
MIXED = common.DataSourceRef(type_val="datasource", uid="-- Mixed --")

GREEN, YELLOW, RED = "green", "yellow", "red"
RECORDS = "short"
PER_SECOND = "cps"
SHARE = "percentunit"

LEAST_INTERVAL = "1m"
"""Applications report once a minute: within less, a counter stands still or jumps."""

AnyPanel: TypeAlias = stat.Panel | table.Panel | timeseries.Panel | logs.Panel
Target: TypeAlias = prometheus.Dataquery | loki.Dataquery


@dataclass(frozen=True)
class Query:
    """One query of a panel.

    Attributes:
        expression: PromQL or LogQL, with Grafana's variables.
        name: What its series are called, ``{{label}}`` is replaced; in a table, its column.
        loki: For Loki, else for Prometheus.
    """

    expression: str
    name: str = ""
    loki: bool = False


@dataclass(frozen=True)
class Colors:
    """At which values green turns yellow and red; None: never."""

    yellow: float | None = None
    red: float | None = None

    def build(self) -> dashboard_builder.ThresholdsConfig:
        """Returns them as the SDK has them."""
        steps = [dashboard.Threshold(value=None, color=GREEN)]
        if self.yellow is not None:
            steps.append(dashboard.Threshold(value=self.yellow, color=YELLOW))
        if self.red is not None:
            steps.append(dashboard.Threshold(value=self.red, color=RED))
        return dashboard_builder.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


LOSS = Colors(red=1)
FILLING = Colors(yellow=0.5, red=0.8)


def make_stat(title: str, description: str, query: Query, colors: Colors, *, without_data: str = "0") -> stat.Panel:
    """Returns one number, coloured; `without_data` is shown where there is none."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(LOKI if query.loki else PROMETHEUS)
        .with_target(_make_target(query, "A", instant=True))
        .unit(RECORDS)
        .decimals(0)
        .no_value(without_data)
        .thresholds(colors.build())
        .color_mode(common.BigValueColorMode.BACKGROUND_SOLID)
        .graph_mode(common.BigValueGraphMode.NONE)
        .reduce_options(common_builder.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .height(4)
        .span(4)
    )


def make_series(title: str, description: str, unit: str, queries: Sequence[Query]) -> timeseries.Panel:
    """Returns lines over time."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(LOKI if queries[0].loki else PROMETHEUS)
        .interval(LEAST_INTERVAL)
        .unit(unit)
        .min(0)
        .line_width(1)
        .fill_opacity(10)
        .show_points(common.VisibilityMode.AUTO)
        .legend(
            common_builder.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.TABLE)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(common_builder.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
        .height(8)
        .span(12)
    )
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        panel = panel.with_target(_make_target(query, letter))
    return panel


def make_bars(title: str, description: str, queries: Sequence[Query]) -> timeseries.Panel:
    """Returns stacked bars of records: each holds exactly what was counted in its interval."""
    return (
        make_series(title, description, RECORDS, queries)
        .decimals(0)
        .draw_style(common.GraphDrawStyle.BARS)
        .fill_opacity(80)
        .stacking(common_builder.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
        .legend(
            common_builder.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.TABLE)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["sum"])
        )
    )


def mark_limits(panel: timeseries.Panel, colors: Colors) -> timeseries.Panel:
    """Draw the limits into the lines, whose scale then ends at 1."""
    style = common_builder.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
    return panel.max(1).thresholds(colors.build()).thresholds_style(style)


@dataclass(frozen=True)
class Difference:
    """A column of a table: one less another."""

    name: str
    minuend: str
    subtrahend: str


def make_table(
    title: str,
    description: str,
    key: str,
    columns: Sequence[Query],
    differences: Sequence[Difference],
    red: Sequence[str],
) -> table.Panel:
    """Returns a table with one line for each value of the label `key`, and a column for each query.

    Args:
        title: Of the panel.
        description: What it means, what to do.
        key: The label that all queries' results have.
        columns: The queries; the sources may be mixed.
        differences: Columns that are computed.
        red: The columns that turn red above 0.
    """
    panel = table.Panel().title(title).description(description).datasource(MIXED).unit(RECORDS).decimals(0)
    letters = "ABCDEFGHIJ"[: len(columns)]
    for letter, column in zip(letters, columns, strict=True):
        panel = panel.with_target(_make_target(column, letter, instant=True, table=True))
    names = {f"Value #{letter}": column.name for letter, column in zip(letters, columns, strict=True)}
    order = {name: number for number, name in enumerate((key, *names))}
    panel = panel.with_transformation(
        dashboard.DataTransformerConfig(
            id_val="filterFieldsByName", options={"include": {"pattern": f"^({key}|Value.*)$"}}
        )
    )
    panel = panel.with_transformation(
        dashboard.DataTransformerConfig(id_val="joinByField", options={"byField": key, "mode": "outer"})
    )
    panel = panel.with_transformation(
        dashboard.DataTransformerConfig(
            id_val="organize", options={"excludeByName": {}, "indexByName": order, "renameByName": names}
        )
    )
    for difference in differences:
        panel = panel.with_transformation(
            dashboard.DataTransformerConfig(
                id_val="calculateField",
                options={
                    "mode": "binary",
                    "alias": difference.name,
                    "binary": {"left": difference.minuend, "operator": "-", "right": difference.subtrahend},
                },
            )
        )
    for name in red:
        panel = panel.override_by_name(
            name,
            [
                dashboard.DynamicConfigValue(id_val="thresholds", value=LOSS.build().build()),
                dashboard.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-background"}),
            ],
        )
    return panel.height(8).span(24)


def make_logs(title: str, description: str, query: Query) -> logs.Panel:
    """Returns lines of Loki, the newest first."""
    return (
        logs.Panel()
        .title(title)
        .description(description)
        .datasource(LOKI)
        .with_target(_make_target(query, "A"))
        .show_time(True)
        .wrap_log_message(True)
        .enable_log_details(True)
        .sort_order(common.LogsSortOrder.DESCENDING)
        .dedup_strategy(common.LogsDedupStrategy.NONE)
        .height(10)
        .span(24)
    )


def _make_target(query: Query, letter: str, *, instant: bool = False, table: bool = False) -> Target:
    if query.loki:
        target = loki.Dataquery().expr(query.expression).ref_id(letter).datasource(LOKI)
        target = target if table else target.legend_format(query.name)
        return target.query_type("instant" if instant else "range")
    asked = prometheus.Dataquery().expr(query.expression).ref_id(letter).datasource(PROMETHEUS)
    asked = asked.editor_mode(QueryEditorMode.CODE)
    # A table's columns are renamed from "Value #A"; a legend would be in the way.
    asked = asked.format(PromQueryFormat.TABLE) if table else asked.legend_format(query.name)
    return asked.instant() if instant else asked.range()
