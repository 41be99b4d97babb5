"""The board "Requests": from access records, how many, how many failed, how long they took."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builder

from tools.dashboards import logql
from tools.dashboards.board import REQUESTS, make_board
from tools.dashboards.links import field, to_board
from tools.dashboards.panels import (
    PER_SECOND,
    SECONDS,
    SHARE,
    AnyPanel,
    Colors,
    Column,
    Query,
    make_bars,
    make_series,
    make_stat,
    make_table,
)
from tools.dashboards.records import TO_SERIES_NAME, TO_SERVICE, make_followed
from tools.dashboards.variables import (
    AnyVariable,
    make_environments,
    make_services,
    make_slower,
    make_sources,
    make_text,
)

ASKED = logql.records(logql.ACCESS)
FAILED = logql.records(logql.ACCESS, logql.SERVER_ERRORS)
DURATION = "http_server_request_duration"
ROUTE = ("service_name", "http_route")
NO_REQUEST = "no access record"
BUCKETS = ("10", "5", "2.5", "1", "0.5", "0.25", "0.1", "0")
"""Seconds, the longest first: a request is of the first that it has reached."""


def make_dashboard() -> builder.Dashboard:
    """Returns the dashboard; the same every time."""
    return make_board(
        REQUESTS,
        "Requests by their access records, as otelog.flask writes one for each: rate, errors, durations by route, and "
        "the slow ones. Loki reads the records for it: choose a service, or a shorter time, where it is slow.",
        [*make_sources(), make_services(), make_environments(), _make_route(), make_slower()],
        [
            ("", [*_at_a_glance(), *_over_time()]),
            ("By route", [_routes(), *_durations()]),
            ("Slow ones", [_buckets(), _slow()]),
        ],
    )


def _make_route() -> AnyVariable:
    return make_text("route", "Route", "The beginning of a route, as /orders.")


def _at_a_glance() -> list[AnyPanel]:
    total, failed = f"sum(count_over_time({ASKED} {logql.RANGE}))", f"sum(count_over_time({FAILED} {logql.RANGE}))"
    p95 = f'quantile_over_time(0.95, {ASKED} | {DURATION} != "" | unwrap {DURATION} | __error__="" {logql.RANGE}) by ()'
    return [
        make_stat(
            "Requests",
            "Access records of this time, of the services, environments and routes chosen.",
            Query(total, loki=True),
            Colors(),
            without_data=NO_REQUEST,
        ).span(8),
        make_stat(
            "Server errors",
            "The share of requests that were answered with 500 or above.",
            Query(f"({failed} or 0 * {total}) / {total}", loki=True),
            Colors(yellow=0.001, red=0.05),
            without_data=NO_REQUEST,
            unit=SHARE,
        ).span(8),
        make_stat(
            "95 % are faster than",
            "Of a hundred requests, 95 took no longer than this, from the first byte read to the last byte sent.",
            Query(p95, loki=True),
            Colors(yellow=1, red=5),
            without_data=NO_REQUEST,
            unit=SECONDS,
        ).span(8),
    ]


def _over_time() -> list[AnyPanel]:
    by_class = f"{ASKED} | label_format class=`{{{{ substr 0 1 .http_response_status_code }}}}xx`"
    return [
        make_series(
            "Rate, by status",
            "Requests a second, by the class of their status.",
            PER_SECOND,
            [Query(logql.rate(by_class, "class", window=logql.STEP), "{{class}}", loki=True)],
            without_data=NO_REQUEST,
        ),
        make_bars(
            "Server errors, by route",
            "Requests in each interval that were answered with 500 or above.",
            [Query(logql.count(FAILED, *ROUTE, window=logql.STEP), "{{service_name}} {{http_route}}", loki=True)],
            without_data="no request was answered with 500 or above",
            links=[TO_SERIES_NAME],
        ),
    ]


def _routes() -> AnyPanel:
    failed = logql.count(FAILED, *ROUTE)
    quantiles = [
        Query(logql.quantile(share, ASKED, DURATION, *ROUTE), name, loki=True)
        for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    ]
    return make_table(
        "Routes",
        "Requests, those answered with 500 or above, and how long they took: half, 95 and 99 of a hundred took no "
        "longer than p50, p95, p99. A route leads to its requests.",
        [
            Query(logql.count(ASKED, *ROUTE), "requests", loki=True),
            Query(f"({failed} or 0 * {logql.count(ASKED, *ROUTE)})", "errors", loki=True),
            *quantiles,
        ],
        [
            Column("service", 110, label="service_name", links=(TO_SERVICE,)),
            Column(
                "route",
                160,
                label="http_route",
                links=(to_board("Only this one", REQUESTS, service=field("service"), route=field("route")),),
            ),
            Column("requests", 80),
            Column("errors", 70, red=True),
            *(Column(name, 70, unit=SECONDS) for name in ("p50", "p95", "p99")),
        ],
        without_data=NO_REQUEST,
        sort_by="requests",
    )


def _durations() -> list[AnyPanel]:
    return [
        make_series(
            f"{name}, by route",
            f"In each interval, {share * 100:.0f} of a hundred requests took no longer than this.",
            SECONDS,
            [
                Query(
                    logql.quantile(share, ASKED, DURATION, *ROUTE, window=logql.STEP),
                    "{{service_name}} {{http_route}}",
                    loki=True,
                )
            ],
            without_data=NO_REQUEST,
            links=[TO_SERIES_NAME],
        ).span(8)
        for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    ]


def _buckets() -> AnyPanel:
    steps = "".join(
        f"{{{{ {'if' if number == 0 else 'else if'} ge (float64 .{DURATION}) {float(bound)} }}}}{bound}"
        for number, bound in enumerate(BUCKETS)
    )
    sorted_in = f'{ASKED} | {DURATION} != "" | label_format slower=`{steps}{{{{ end }}}}`'
    return make_table(
        "By duration",
        "How many requests took at least so many seconds, and less than the next line says. A line leads to its "
        "requests, below: what is slower than that is shown.",
        [Query(logql.count(sorted_in, "slower"), "requests", loki=True)],
        [
            Column("slower", 110, links=(to_board("These requests", REQUESTS, slower=field("slower")),)),
            Column("requests", 90),
        ],
        without_data=NO_REQUEST,
        sort_by="slower",
    )


def _slow() -> AnyPanel:
    return make_followed(
        "Slow requests",
        "The last requests that took longer than is chosen at the top.",
        f"{ASKED} | {DURATION} >= ${{slower}}",
        Column("route", 110, label="http_route"),
        Column("status", 60, label="http_response_status_code"),
        Column("seconds", 70, label=DURATION),
        without_data="no request took so long",
    )
