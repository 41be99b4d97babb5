"""The board "Errors": what fails, where, since when, and with which stack trace."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builder

from tools.dashboards import logql
from tools.dashboards.board import ERRORS, LOGS, make_board
from tools.dashboards.ledger import COUNTED
from tools.dashboards.links import to_board
from tools.dashboards.panels import (
    AnyPanel,
    Colors,
    Column,
    Query,
    make_bars,
    make_logs,
    make_series,
    make_stat,
    make_table,
)
from tools.dashboards.promql import COLLECTED, RANGE, SERVICE, STEP, a_day_before, by_service, count, zero_if
from tools.dashboards.promql import ERRORS as SEVERE
from tools.dashboards.records import TO_SERIES, TO_SERIES_NAME, TO_SERVICE, make_followed
from tools.dashboards.variables import make_environments, make_services, make_sources

SEVERE_COUNT = f"{COLLECTED}{{{SERVICE},{SEVERE}}}"
RAISED = logql.records(logql.EXCEPTIONS)
KIND = ("service_name", "exception_type", "code_function_name")
NO_EXCEPTION = "no record with an exception"
NO_YESTERDAY = "nothing is known of yesterday"
TOP = 20
TRACES = 20


def make_dashboard() -> builder.Dashboard:
    """Returns the dashboard; the same every time."""
    return make_board(
        ERRORS,
        "Errors by the Collector's counts, compared with the same time yesterday; exceptions by type, service and "
        "function; and the latest stack traces.",
        [*make_sources(), make_services(), make_environments()],
        [
            ("", [*_at_a_glance(), *_over_time()]),
            ("Exceptions", [_kinds(), _new_kinds(), _kinds_over_time()]),
            ("Latest", [_stack_traces(), _follow()]),
        ],
    )


def _at_a_glance() -> list[AnyPanel]:
    now = f"sum({count(SEVERE_COUNT, RANGE)})"
    told = zero_if(count(SEVERE_COUNT, RANGE), COUNTED)
    records = f"sum({count(COUNTED, RANGE)})"
    return [
        make_stat(
            "Errors",
            "Records of severity ERROR and above that the Collector has taken in this time, of the services chosen.",
            Query(told),
            Colors(yellow=1),
            without_data="no record",
            links=[to_board("Their records", LOGS, "service", level="error")],
        ).span(6),
        make_stat(
            "Share of all records",
            "Errors as a share of all records that the Collector has taken.",
            Query(f"{told} / {records}"),
            Colors(yellow=0.01, red=0.1),
            without_data="no record",
            unit="percentunit",
        ).span(6),
        make_stat(
            "Same time yesterday",
            "Errors in the same time, 24 hours before. Grey: nothing is known of it.",
            Query(a_day_before(told)),
            Colors(),
            without_data=NO_YESTERDAY,
        ).span(6),
        make_stat(
            "Times yesterday's",
            "Errors now, divided by those of the same time yesterday; less than one is better. Grey: there were none, "
            "or nothing is known of it.",
            Query(f"{now} / ({a_day_before(told)} > 0)"),
            Colors(yellow=2, red=10),
            without_data=NO_YESTERDAY,
            unit="none",
        )
        .decimals(1)
        .span(6),
    ]


def _over_time() -> list[AnyPanel]:
    errors = count(SEVERE_COUNT, STEP)
    return [
        make_bars(
            "Errors, by service",
            "Records of severity ERROR and above in each interval, as the Collector has counted them.",
            [Query(f"{by_service(errors)} > 0", "{{service}}")],
            without_data="no error",
            links=[TO_SERIES],
        ),
        make_series(
            "Today and yesterday",
            "Errors in each interval now, and 24 hours before.",
            "locale",
            [Query(f"sum({errors})", "now"), Query(f"sum({a_day_before(errors)})", "yesterday")],
            without_data="no error",
        ),
    ]


def _make_kinds(title: str, description: str, expression: str, without_data: str) -> AnyPanel:
    return make_table(
        title,
        description,
        [Query(expression, "records", loki=True)],
        [
            Column("service", 110, label="service_name", links=(TO_SERVICE,)),
            Column("type", 160, label="exception_type"),
            Column("function", 160, label="code_function_name"),
            Column("records", 80),
        ],
        without_data=without_data,
        sort_by="records",
    ).span(12)


def _kinds() -> AnyPanel:
    return _make_kinds(
        "By exception",
        "Records with an exception, by its type, the service, and the function that logged it.",
        logql.top(TOP, logql.count(RAISED, *KIND)),
        NO_EXCEPTION,
    )


def _new_kinds() -> AnyPanel:
    # A whole day before would be read anew at each refresh, for seconds.
    yesterday = logql.count(RAISED, *KIND, window=f"{logql.RANGE} offset 24h")
    just_before = logql.count(RAISED, *KIND, window=f"{logql.RANGE} offset $__range")
    return _make_kinds(
        "New since yesterday",
        "The same, but only what was there neither in the same time yesterday nor in the time just before: with an "
        "hour chosen, not in that hour of yesterday and not in the hour before this one.",
        logql.top(TOP, f"({logql.count(RAISED, *KIND)} unless {yesterday} unless {just_before})"),
        "nothing that was not there before",
    )


def _kinds_over_time() -> AnyPanel:
    return make_bars(
        "Exceptions over time",
        "Records with an exception in each interval, by its type and service.",
        [
            Query(
                logql.count(RAISED, "service_name", "exception_type", window=logql.STEP),
                "{{service_name}} {{exception_type}}",
                loki=True,
            )
        ],
        without_data=NO_EXCEPTION,
        links=[TO_SERIES_NAME],
    ).span(24)


def _stack_traces() -> AnyPanel:
    shown = "{{.service_name}} {{.exception_type}}: {{.exception_message}}\n{{.exception_stacktrace}}"
    return make_logs(
        "Stack traces",
        "The last 20 records with an exception: service, type, text, and the whole stack trace.",
        Query(f'{RAISED} | line_format "{shown}"'.replace("\n", "\\n"), loki=True),
        without_data=NO_EXCEPTION,
        lines=TRACES,
        height=16,
    )


def _follow() -> AnyPanel:
    return make_followed(
        "Follow an error",
        "The last records of severity ERROR and above.",
        logql.records(logql.ERRORS),
        Column("type", 120, label="exception_type"),
        without_data="no record of severity ERROR or above",
    )
