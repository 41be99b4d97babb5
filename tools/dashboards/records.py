"""Panels that several boards have: records as a table, from which one goes on to their trace, request or instance."""

from __future__ import annotations

from tools.dashboards.board import LOGS
from tools.dashboards.links import field, label, to_board, to_trace
from tools.dashboards.panels import AnyPanel, Column, Query, make_records
from tools.dashboards.variables import AnyVariable, make_text

TO_SERVICE = to_board("Its records", LOGS, service=field("service"))
TO_SERIES = to_board("Its records", LOGS, service=label("service"))
TO_SERIES_NAME = to_board("Its records", LOGS, service=label("service_name"))


def make_followed(title: str, description: str, selected: str, *columns: Column, without_data: str) -> AnyPanel:
    """Returns records as a table whose trace, request and instance are links.

    Args:
        title: Of the panel.
        description: What these records are.
        selected: LogQL.
        *columns: What stands between the time and the message.
        without_data: What no record means.
    """
    instance_link = to_board("All records of it", LOGS, instance_id=field("instance"))
    trace_links = (to_trace(field("trace_id")), to_board("All records of it", LOGS, trace=field("trace_id")))
    return make_records(
        title,
        f"{description} A trace leads to Jaeger and to all its records, a request and an instance to all of theirs.",
        Query(selected, loki=True),
        [
            Column("time", 150, label="Time"),
            Column("service", 100, links=(TO_SERVICE,), label="service_name"),
            *columns,
            Column("message", 260, label="Line"),
            Column("trace_id", 110, links=trace_links),
            Column("request_id", 100, links=(to_board("All records of it", LOGS, request=field("request_id")),)),
            Column(
                "instance",
                110,
                links=(instance_link,),
                label="service_instance_id",
            ),
        ],
        without_data=without_data,
    )


def make_search() -> list[AnyVariable]:
    """Returns the fields that say which records."""
    return [
        make_text("logger", "Logger", "The beginning of a logger's name."),
        make_text(
            "text", "Text", "What the line contains, in small letters or large. A backquote cannot be searched for."
        ),
        make_text("trace", "Trace", "A trace id, or its beginning."),
        make_text("request", "Request", "A request id, or its beginning."),
        make_text("instance_id", "Instance", "An instance's id, or its beginning."),
    ]
