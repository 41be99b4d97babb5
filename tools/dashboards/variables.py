"""The fields at the top of the boards. One name is one kind on all of them, so that links can carry it along."""

from __future__ import annotations

from typing import TypeAlias

from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.models import dashboard

from tools.dashboards import promql
from tools.dashboards.panels import LOKI, PROMETHEUS

AnyVariable: TypeAlias = (
    builder.DatasourceVariable | builder.QueryVariable | builder.CustomVariable | builder.TextBoxVariable
)

LEVELS = ("trace", "debug", "info", "warn", "error", "fatal", "unknown")
"""As Loki names them in ``detected_level``."""

SLOWER = ("0", "0.1", "0.25", "0.5", "1", "2.5", "5", "10")
"""Seconds."""

ALL = dashboard.VariableOption(text=["All"], value=["$__all"])


def make_sources(*, loki: bool = True) -> list[AnyVariable]:
    """Returns the data sources; those of the stack are chosen."""
    sources: list[AnyVariable] = [_make_source("prometheus", "Prometheus")]
    return [*sources, _make_source("loki", "Loki")] if loki else sources


def _make_source(kind: str, name: str) -> builder.DatasourceVariable:
    chosen = dashboard.VariableOption(text=name, value=f"otelog-{kind}", selected=True)
    return builder.DatasourceVariable(f"{kind}_datasource").label(f"{name} data source").type(kind).current(chosen)


def make_services_of_metrics() -> builder.QueryVariable:
    """Returns the services that Prometheus knows."""
    names = f"{promql.CREATED}|{promql.COLLECTED}"
    query = f'label_values({{__name__=~"{names}"}}, job)'
    return _ask_prometheus("service", "Service", query, all_value=".+").regex("/(?:.+\\/)?(.+)/")


def make_instances() -> builder.QueryVariable:
    """Returns the instances of the services chosen."""
    # The Collector's counts have no instance of an application.
    query = f'label_values({{__name__=~"{promql.CREATED}",{promql.SERVICE}}}, instance)'
    return _ask_prometheus("instance", "Instance", query, all_value=".*")


def _ask_prometheus(name: str, label: str, query: str, all_value: str) -> builder.QueryVariable:
    asked = {"qryType": 1, "query": query, "refId": name}
    return _make_choice(name, label, all_value).datasource(PROMETHEUS).query(asked).definition(query)


def make_services() -> builder.QueryVariable:
    """Returns the services that Loki holds."""
    return _ask_loki("service", "Service", "service_name", all_value=".+")


def make_environments() -> builder.QueryVariable:
    """Returns the environments that Loki holds."""
    # A record need not have one.
    return _ask_loki("environment", "Environment", "deployment_environment_name", all_value=".*")


def _ask_loki(name: str, label: str, of: str, all_value: str) -> builder.QueryVariable:
    asked = {"label": of, "refId": name, "stream": "", "type": 1}
    return _make_choice(name, label, all_value).datasource(LOKI).query(asked).definition(f"label_values({of})")


def _make_choice(name: str, label: str, all_value: str) -> builder.QueryVariable:
    return (
        builder.QueryVariable(name)
        .label(label)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(all_value)
        .current(ALL)
    )


def make_levels() -> builder.CustomVariable:
    """Returns the levels of records."""
    return (
        builder.CustomVariable("level")
        .label("Level")
        .values(",".join(LEVELS))
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(ALL)
    )


def make_slower() -> builder.CustomVariable:
    """Returns from which duration on a request is shown."""
    first = dashboard.VariableOption(text=SLOWER[0], value=SLOWER[0], selected=True)
    return builder.CustomVariable("slower").label("Slower than, s").values(",".join(SLOWER)).current(first)


def make_text(name: str, label: str, description: str) -> builder.TextBoxVariable:
    """Returns a field to write into, empty at first."""
    empty = dashboard.VariableOption(text="", value="", selected=True)
    return builder.TextBoxVariable(name).label(label).description(description).default_value("").current(empty)
