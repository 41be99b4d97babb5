"""What all boards have in common: name, address, links between them, rows of panels."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.models import dashboard

from tools.dashboards.panels import PROMETHEUS, AnyPanel
from tools.dashboards.variables import AnyVariable

TAG = "otelog"

LOGS, ERRORS, REQUESTS = "otelog-logs", "otelog-errors", "otelog-requests"
AI, LEDGER, BACKEND = "otelog-ai", "otelog-ledger", "otelog-backend"

TITLES = {
    LOGS: "Logs",
    ERRORS: "Errors",
    REQUESTS: "Requests",
    AI: "AI answers",
    LEDGER: "Delivery ledger",
    BACKEND: "Back end",
}
"""Every board by its uid, in the order of the links."""


def make_board(
    uid: str,
    description: str,
    variables: Sequence[AnyVariable],
    rows: Sequence[tuple[str, Sequence[AnyPanel]]],
    *,
    refresh: str = "1m",
) -> builder.Dashboard:
    """Returns a board; panels and rows are numbered in their order."""
    board = (
        builder.Dashboard(f"otelog: {TITLES[uid].lower() if uid != AI else TITLES[uid]}")
        .uid(uid)
        .description(description)
        .tags([TAG])
        .time("now-1h", "now")
        .refresh(refresh)
        .timezone("browser")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        # It comes from the repository: what the browser changes would be lost.
        .readonly()
        .annotation(
            builder.AnnotationQuery()
            .name("Alerts")
            .datasource(PROMETHEUS)
            .enable(True)
            .icon_color("red")
            .expr('ALERTS{alertname=~"Otelog.+",alertname!~"(?i).*watchdog.*",alertstate="firing"}')
            .title_format("{{alertname}}")
            .tag_keys("job,reason,exporter,severity")
        )
    )
    for other, title in TITLES.items():
        board = board.link(
            builder.DashboardLink(title)
            .type(dashboard.DashboardLinkType.LINK)
            .url(f"/d/{other}")
            .keep_time(True)
            .include_vars(True)
        )
    for variable in variables:
        board = board.with_variable(variable)
    number = 0
    for title, panels in rows:
        if title:
            number += 1
            board = board.with_row(builder.Row(title).id(number))
        for panel in panels:
            number += 1
            board = board.with_panel(panel.id(number))
    return board
