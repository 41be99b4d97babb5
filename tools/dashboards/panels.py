"""Panels as the Foundation SDK builds them, with what all of ours have in common: sources, thresholds, legends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from grafana_foundation_sdk.builders import bargauge, logs, loki, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import common as common_builder
from grafana_foundation_sdk.builders import dashboard as dashboard_builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

from tools.dashboards.links import Link

PROMETHEUS = common.DataSourceRef(type_val="prometheus", uid="${prometheus_datasource}")
LOKI = common.DataSourceRef(type_val="loki", uid="${loki_datasource}")
MIXED = common.DataSourceRef(type_val="datasource", uid="-- Mixed --")

GREEN, YELLOW, RED = "green", "yellow", "red"
GREY = "#808080"
"""Nobody knows: neither well nor ill."""

WHOLE = "locale"
"""A whole number with separators: a difference of two that are rounded is wrong."""
PER_SECOND = "cps"
SHARE = "percentunit"
SECONDS = "s"
BYTES = "bytes"
MOMENT = "dateTimeFromNow"

LEAST_INTERVAL = "1m"
"""Applications report once a minute: within less, a counter stands still or jumps."""

MOST_LINES = 100
"""Of one query for records. Loki would give 5,000, which are megabytes at each refresh."""

MOST_QUERIES = "ABCDEFGHIJ"

AnyPanel: TypeAlias = stat.Panel | table.Panel | timeseries.Panel | logs.Panel | bargauge.Panel
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


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its heading, and for a label or a query's column what it is called there.
        width: Pixels that it needs at least.
        unit: Of its values.
        red: Whether it turns red above 0; a value that is not there is grey.
        links: Where its values lead to.
        label: What it is called in the data, if that is no good heading.
        unknown: What stands in place of a value that is not there.
    """

    name: str
    width: int
    unit: str = ""
    red: bool = False
    links: tuple[Link, ...] = ()
    label: str = ""
    unknown: str = ""


def make_stat(
    title: str,
    description: str,
    query: Query,
    colors: Colors,
    *,
    without_data: str,
    unit: str = WHOLE,
    links: Sequence[Link] = (),
) -> stat.Panel:
    """Returns one number, coloured; where there is none it is grey, and `without_data` says what that means."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(LOKI if query.loki else PROMETHEUS)
        .interval(LEAST_INTERVAL)
        .with_target(_make_target(query, "A", instant=True))
        .unit(unit)
        .no_value(without_data)
        .mappings([_make_grey(without_data)])
        .thresholds(colors.build())
        .color_mode(common.BigValueColorMode.BACKGROUND_SOLID)
        .graph_mode(common.BigValueGraphMode.NONE)
        .reduce_options(common_builder.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .data_links([_build_link(link) for link in links])
        # On a phone each has a line of its own.
        .height(3)
        .span(4)
    )
    return panel.decimals(0) if unit == WHOLE else panel


def _make_grey(text: str) -> dashboard.SpecialValueMap:
    return dashboard.SpecialValueMap(
        dashboard.DashboardSpecialValueMapOptions(
            match=dashboard.SpecialValueMatch.NULL_AND_NAN,
            result=dashboard.ValueMappingResult(text=text, color=GREY, index=0),
        )
    )


def make_steps(title: str, description: str, queries: Sequence[Query]) -> bargauge.Panel:
    """Returns one bar a query below each other: how much of the first is left in the last."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(MIXED)
        .interval(LEAST_INTERVAL)
        .unit(WHOLE)
        .decimals(0)
        .min(0)
        .no_value("nobody reports")
        .orientation(common.VizOrientation.HORIZONTAL)
        .display_mode(common.BarGaugeDisplayMode.BASIC)
        .thresholds(Colors().build())
        .reduce_options(common_builder.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .height(10)
        .span(24)
    )
    for letter, query in zip(MOST_QUERIES, queries, strict=False):
        panel = panel.with_target(_make_target(query, letter, instant=True))
    return panel


def make_series(
    title: str, description: str, unit: str, queries: Sequence[Query], *, without_data: str, links: Sequence[Link] = ()
) -> timeseries.Panel:
    """Returns lines over time."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(LOKI if queries[0].loki else PROMETHEUS)
        .interval(LEAST_INTERVAL)
        .unit(unit)
        .min(0)
        .no_value(without_data)
        .line_width(1)
        .fill_opacity(10)
        .show_points(common.VisibilityMode.AUTO)
        .legend(_make_legend("lastNotNull", "max"))
        .tooltip(common_builder.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).hide_zeros(True))
        .data_links([_build_link(link) for link in links])
        .height(8)
        .span(12)
    )
    if unit == WHOLE:
        panel = panel.decimals(0)
    for letter, query in zip(MOST_QUERIES, queries, strict=False):
        panel = panel.with_target(_make_target(query, letter))
    return panel


def make_bars(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    without_data: str,
    unit: str = WHOLE,
    links: Sequence[Link] = (),
) -> timeseries.Panel:
    """Returns stacked bars of records: each holds exactly what was counted in its interval."""
    return (
        make_series(title, description, unit, queries, without_data=without_data, links=links)
        .draw_style(common.GraphDrawStyle.BARS)
        .fill_opacity(80)
        .stacking(common_builder.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
        .legend(_make_legend("sum"))
    )


def _make_legend(*calculated: str) -> common_builder.VizLegendOptions:
    return (
        common_builder.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(list(calculated))
        # The largest first, as the legend shows two or three rows.
        .sort_by({"lastNotNull": "Last *", "sum": "Total"}[calculated[0]])
        .sort_desc(True)
    )


SEVERITY_COLORS = {
    "fatal": "purple",
    "error": "red",
    "warn": "orange",
    "info": "green",
    "debug": "blue",
    "trace": "light-blue",
}


def color_severities(panel: timeseries.Panel) -> timeseries.Panel:
    """Give series whose names end in a severity its colour."""
    for severity, color in SEVERITY_COLORS.items():
        value = {"mode": "fixed", "fixedColor": color}
        panel = panel.override_by_regexp(
            f"/(^| ){severity}$/", [dashboard.DynamicConfigValue(id_val="color", value=value)]
        )
    return panel


def mark_limits(panel: timeseries.Panel, colors: Colors) -> timeseries.Panel:
    """Draw the limits into the lines, whose scale then ends at 1."""
    style = common_builder.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
    return panel.max(1).thresholds(colors.build()).thresholds_style(style)


def make_table(
    title: str,
    description: str,
    queries: Sequence[Query],
    columns: Sequence[Column],
    *,
    without_data: str,
    sort_by: str,
    descending: bool = True,
) -> table.Panel:
    """Returns a table whose rows are the queries' results, joined by the labels that all of them have.

    Args:
        title: Of the panel.
        description: What it means, what to do.
        queries: Each makes one column, which has its name, or none if it has no name; the sources may be mixed.
        columns: In order: the labels, and the queries' columns.
        without_data: What no row at all means.
        sort_by: The column.
        descending: The largest first.
    """
    letters = MOST_QUERIES[: len(queries)]
    panel = _begin_table(title, description, columns, without_data=without_data, sort_by=(sort_by, descending))
    panel = panel.datasource(_find_source(queries)).interval(LEAST_INTERVAL)
    for letter, query in zip(letters, queries, strict=True):
        panel = panel.with_target(_make_target(query, letter, instant=True, table=True))
    names = {f"Value #{letter}": query.name for letter, query in zip(letters, queries, strict=True) if query.name}
    alone = [query for query in queries if not query.loki]
    if len(alone) == 1 and alone[0].name:
        # Prometheus' one column has no letter.
        names["Value"] = alone[0].name
    of_queries = set(names.values())
    keys = [column.label or column.name for column in columns if column.name not in of_queries]
    names.update({column.label: column.name for column in columns if column.label})
    pattern = "|".join([*keys, "Value.*"] if of_queries else keys)
    panel = _transform(panel, "filterFieldsByName", include={"pattern": f"^({pattern})$"})
    if len(queries) > 1:
        joined = {"id_val": "joinByField", "byField": keys[0], "mode": "outer"} if len(keys) == 1 else {}
        panel = _transform(panel, str(joined.pop("id_val", "merge")), **joined)
    places = {column.name: number for number, column in enumerate(columns)}
    order = {name: places[names.get(name, name)] for name in (*keys, *(key for key in names if key not in keys))}
    return _transform(panel, "organize", excludeByName={}, indexByName=order, renameByName=names)


def make_records(
    title: str, description: str, query: Query, columns: Sequence[Column], *, without_data: str
) -> table.Panel:
    """Returns records of Loki as a table, the newest first, whose columns are attributes and lead somewhere."""
    panel = _begin_table(title, description, columns, without_data=without_data, sort_by=None)
    panel = panel.datasource(LOKI).interval(LEAST_INTERVAL).with_target(_make_target(query, "A"))
    panel = _transform(panel, "extractFields", source="labels", format="json", replace=False, keepTime=False)
    names = {column.label: column.name for column in columns if column.label}
    keys = [column.label or column.name for column in columns]
    panel = _transform(panel, "filterFieldsByName", include={"names": keys})
    order = {key: number for number, key in enumerate(keys)}
    return _transform(panel, "organize", excludeByName={}, indexByName=order, renameByName=names)


def _begin_table(
    title: str,
    description: str,
    columns: Sequence[Column],
    *,
    without_data: str,
    sort_by: tuple[str, bool] | None,
) -> table.Panel:
    panel = table.Panel().title(title).description(description).unit(WHOLE).decimals(0).no_value(without_data)
    for column in columns:
        panel = panel.override_by_name(column.name, _make_properties(column))
    if sort_by is not None:
        name, descending = sort_by
        panel = panel.sort_by([common_builder.TableSortByFieldState().display_name(name).desc(descending)])
    return panel.height(8).span(24)


def _make_properties(column: Column) -> list[dashboard.DynamicConfigValue]:
    # At least, not at most: a broad window gives each its share, and a phone scrolls.
    properties: dict[str, Any] = {"custom.minWidth": column.width}
    if column.unit:
        properties["unit"] = column.unit
        if column.unit in (SECONDS, SHARE):
            properties["decimals"] = 2
    if column.red:
        properties["thresholds"] = LOSS.build().build()
        properties["custom.cellOptions"] = {"type": "color-background"}
        properties["mappings"] = [_make_grey(column.unknown)]
    if column.links:
        properties["links"] = [link.build() for link in column.links]
    return [dashboard.DynamicConfigValue(id_val=name, value=value) for name, value in properties.items()]


def _transform(panel: table.Panel, name: str, **options: Any) -> table.Panel:
    return panel.with_transformation(dashboard.DataTransformerConfig(id_val=name, options=options))


def make_logs(
    title: str, description: str, query: Query, *, without_data: str, lines: int = MOST_LINES, height: int = 12
) -> logs.Panel:
    """Returns lines of Loki, the newest first."""
    target = _make_target(query, "A", lines=lines)
    return (
        logs.Panel()
        .title(title)
        .description(description)
        .datasource(LOKI)
        .interval(LEAST_INTERVAL)
        .with_target(target)
        .no_value(without_data)
        .show_time(True)
        .wrap_log_message(True)
        .enable_log_details(True)
        .sort_order(common.LogsSortOrder.DESCENDING)
        .dedup_strategy(common.LogsDedupStrategy.NONE)
        .height(height)
        .span(24)
    )


def _find_source(queries: Sequence[Query]) -> common.DataSourceRef:
    if all(query.loki for query in queries):
        return LOKI
    return MIXED if any(query.loki for query in queries) else PROMETHEUS


def _build_link(link: Link) -> dashboard_builder.DashboardLink:
    return dashboard_builder.DashboardLink(link.title).type(dashboard.DashboardLinkType.LINK).url(link.url)


def _make_target(
    query: Query, letter: str, *, instant: bool = False, table: bool = False, lines: int = MOST_LINES
) -> Target:
    if query.loki:
        target = loki.Dataquery().expr(query.expression).ref_id(letter).datasource(LOKI).max_lines(lines)
        target = target if table else target.legend_format(query.name)
        return target.query_type("instant" if instant else "range")
    asked = prometheus.Dataquery().expr(query.expression).ref_id(letter).datasource(PROMETHEUS)
    asked = asked.editor_mode(QueryEditorMode.CODE)
    # A table's columns are renamed from "Value #A"; a legend would be in the way.
    asked = asked.format(PromQueryFormat.TABLE) if table else asked.legend_format(query.name)
    return asked.instant() if instant else asked.range()
