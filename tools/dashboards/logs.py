"""The board "Logs", Grafana's first page: how much is logged, what is wrong, and the records themselves."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builder

from tools.dashboards import logql
from tools.dashboards.board import ERRORS, LEDGER, LOGS, make_board
from tools.dashboards.ledger import COUNTED, make_lost_stat, make_severities, make_target_stats
from tools.dashboards.links import field, to_board
from tools.dashboards.panels import (
    BYTES,
    LOSS,
    AnyPanel,
    Colors,
    Column,
    Query,
    color_severities,
    make_bars,
    make_logs,
    make_stat,
    make_table,
)
from tools.dashboards.promql import (
    A_LOSS,
    COLLECTED,
    CREATED,
    INCOMPARABLE,
    LOST,
    RANGE,
    SERVICE,
    STEP,
    by_service,
    count,
    of_services,
    select,
    zero_if,
)
from tools.dashboards.promql import ERRORS as SEVERE
from tools.dashboards.records import TO_SERIES, TO_SERIES_NAME, make_followed, make_search
from tools.dashboards.variables import make_environments, make_levels, make_services, make_sources

CHOSEN = logql.records(logql.CHOSEN)
NO_RECORD = "the Collector has had no record"
NONE_CHOSEN = "no such record in this time"
TOP = 15


def make_dashboard() -> builder.Dashboard:
    """Returns the dashboard; the same every time."""
    return make_board(
        LOGS,
        "How much is logged and what is wrong, by exact counts of the Collector; and the records, by what is chosen at "
        "the top. Grey: nobody knows.",
        [*make_sources(), make_services(), make_environments(), make_levels(), *make_search()],
        [
            ("", [*make_target_stats(), *_at_a_glance(), *_over_time()]),
            ("Records", [_matching(), _lines(), _follow()]),
            ("Who logs most", [_loggers(), _calls(), _bytes()]),
        ],
    )


def _at_a_glance() -> list[AnyPanel]:
    errors = f"{COLLECTED}{{{SERVICE},{SEVERE}}}"
    missing = select("otelog:missing_in_(collector|output|loki):records")
    return [
        make_stat(
            "Records",
            "Records that the Collector has taken in this time, of the services chosen.",
            Query(f"sum({count(COUNTED, RANGE)})"),
            Colors(),
            without_data="no record",
        ),
        make_stat(
            "Errors",
            "Records of severity ERROR and above that the Collector has taken in this time.",
            Query(zero_if(count(errors, RANGE), COUNTED)),
            Colors(yellow=1),
            without_data="no record",
            links=[to_board("Which", ERRORS, "service")],
        ),
        make_lost_stat(of_services(LOST, A_LOSS), of_services(CREATED), to_board("Why", LEDGER, "service")),
        make_stat(
            "Missing on the way",
            "Records that one hop has handed on and the next has never counted: Collector, its outputs, Loki, all "
            "together, and of all services. Grey: not all of it can be compared now. The ledger says where and why.",
            Query(f"sum({missing}) > 0 or (sum({missing}) unless on () {INCOMPARABLE})"),
            LOSS,
            without_data="not comparable",
            links=[to_board("Where", LEDGER, "service")],
        ),
    ]


def _over_time() -> list[AnyPanel]:
    errors = count(f"{COLLECTED}{{{SERVICE},{SEVERE}}}", STEP)
    return [
        make_severities("Volume, by severity"),
        make_bars(
            "Errors, by service",
            "Records of severity ERROR and above in each interval, as the Collector has counted them. Of the services "
            "chosen; nothing else that is chosen above changes it.",
            [Query(f"{by_service(errors)} > 0", "{{service}}")],
            without_data="no error",
            links=[TO_SERIES],
        ),
    ]


def _matching() -> AnyPanel:
    panel = make_bars(
        "Matching records",
        "Records in each interval, by level, of what is chosen at the top. Loki reads them all for it: over a day of "
        "many records it takes seconds.",
        [Query(logql.count(CHOSEN, "detected_level", window=logql.STEP), "{{detected_level}}", loki=True)],
        without_data=NONE_CHOSEN,
    )
    return color_severities(panel).height(6).span(24)


def _lines() -> AnyPanel:
    return make_logs(
        "Lines",
        "The last 100 records of what is chosen at the top. Open one for all its attributes, and for its trace.",
        Query(CHOSEN, loki=True),
        without_data=NONE_CHOSEN,
        height=16,
    )


def _follow() -> AnyPanel:
    return make_followed(
        "Follow a record",
        "The last records of what is chosen at the top.",
        CHOSEN,
        Column("level", 60, label="detected_level"),
        Column("logger", 90, label="scope_name"),
        without_data=NONE_CHOSEN,
    )


def _loggers() -> AnyPanel:
    return make_table(
        "Loggers",
        "The loggers with the most records of what is chosen at the top.",
        [Query(logql.top(TOP, logql.count(CHOSEN, "service_name", "scope_name")), "records", loki=True)],
        [
            Column("service", 110, label="service_name"),
            Column(
                "logger",
                150,
                label="scope_name",
                links=(to_board("Its records", LOGS, service=field("service"), logger=field("logger")),),
            ),
            Column("records", 80),
        ],
        without_data=NONE_CHOSEN,
        sort_by="records",
    ).span(12)


def _calls() -> AnyPanel:
    labels = ("service_name", "scope_name", "code_function_name", "code_line_number", "message_template_text")
    return make_table(
        "Log calls",
        "The calls with the most records: one line of code is one template. Its text is there with the option "
        "message_template.",
        [Query(logql.top(TOP, logql.count(CHOSEN, *labels)), "records", loki=True)],
        [
            Column("service", 80, label="service_name"),
            Column("logger", 90, label="scope_name"),
            Column("function", 120, label="code_function_name"),
            Column("line", 50, label="code_line_number"),
            Column("template", 140, label="message_template_text"),
            Column("records", 80),
        ],
        without_data=NONE_CHOSEN,
        sort_by="records",
    ).span(12)


def _bytes() -> AnyPanel:
    return make_bars(
        "Bytes of lines, by service",
        "Bytes of the lines in each interval, attributes not counted, of the services and environments chosen.",
        [
            Query(
                f"sum by (service_name) (bytes_over_time({logql.records()} {logql.STEP}))",
                "{{service_name}}",
                loki=True,
            )
        ],
        without_data=NONE_CHOSEN,
        unit=BYTES,
        links=[TO_SERIES_NAME],
    ).span(24)
