"""Where a panel leads to: another board, with time and filters, or a trace. Written for Grafana 12."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import quote

JAEGER_UID = "otelog-jaeger"


@dataclass(frozen=True)
class Link:
    """A link of a value; ``{{...}}`` are Grafana's variables."""

    title: str
    url: str

    def build(self) -> dict[str, object]:
        """Returns it as a field's configuration has it."""
        return {"title": self.title, "url": self.url, "targetBlank": False}


def field(name: str) -> str:
    """The value of another column of the row, for a URL."""
    return f"${{__data.fields.{name}:percentencode}}"


def label(name: str) -> str:
    """The value of a series' label, for a URL."""
    return f"${{__field.labels.{name}:percentencode}}"


def to_board(title: str, uid: str, *same: str, **variables: str) -> Link:
    """To a board over the same time; what is not set there is All.

    Args:
        title: Of the link.
        uid: The board's.
        *same: Variables that go along as they are.
        **variables: Others, with their values.
    """
    kept = "".join(f"&${{{name}:queryparam}}" for name in same)
    filters = "".join(f"&var-{name}={value}" for name, value in variables.items())
    return Link(title, f"/d/{uid}?${{__url_time_range}}{kept}{filters}")


def to_trace(trace_id: str) -> Link:
    """To a trace in Explore."""
    source = {"type": "jaeger", "uid": JAEGER_UID}
    mark, begin, end = "TRACE", "FROM", "TO"
    pane = {
        "datasource": JAEGER_UID,
        "queries": [{"refId": "A", "datasource": source, "query": mark}],
        "range": {"from": begin, "to": end},
    }
    panes = quote(json.dumps({"trace": pane}, separators=(",", ":")), safe="")
    for word, value in ((mark, trace_id), (begin, "${__from}"), (end, "${__to}")):
        panes = panes.replace(f"%22{word}%22", f"%22{value}%22")
    return Link("Its trace", f"/explore?schemaVersion=1&orgId=1&panes={panes}")
