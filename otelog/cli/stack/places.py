"""What to open of a stack: the query, the trace, the board."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from otelog.cli.stack.files import StackError
from otelog.cli.stack.settings import DEFAULT_FOLDER, HOST, PORTS, State, read_state

HOME = "/d/otelog-logs"
"""The board that Grafana begins with."""

_LOOPBACK = ("localhost", HOST, "::1")


def find_stack(endpoint: str, folder: Path = DEFAULT_FOLDER) -> State | None:
    """Returns what is known of the stack that an endpoint belongs to, or None. Never raises.

    Args:
        endpoint: Where applications send.
        folder: Where that stack would be.
    """
    try:
        state = read_state(folder)
        parts = urlsplit(endpoint)
        port = parts.port
    except (StackError, ValueError):
        return None
    if state is None or parts.hostname not in _LOOPBACK:
        return None
    return state if port in (state.settings.ports["otlp-http"], state.settings.ports["otlp-grpc"]) else None


def list_places(state: State | None, selector: str, trace_id: str | None = None) -> list[tuple[str, str]]:
    """Returns what to open, each with what it shows.

    Args:
        state: What is known of the stack; None: nothing, and Loki is where it usually is.
        selector: LogQL for the records.
        trace_id: An example; None: there is none.
    """
    ports = PORTS if state is None else state.settings.ports
    loki = "" if ports["loki"] == PORTS["loki"] else f" --loki http://{HOST}:{ports['loki']}"
    shown = trace_id or "ID"
    places = [
        ("records", f"otelog query '{selector}' --since 10m{loki}"),
        ("those of a trace", f"otelog query --trace-id {shown}{loki}"),
    ]
    if state is None:
        return places
    jaeger = f"http://{HOST}:{ports['jaeger']}"
    if state.mode == "docker":
        # The official image has Jaeger's own page.
        places.append(("the trace", f"{jaeger}/trace/{shown}"))
        places.append(("the boards", f"http://{HOST}:{ports['grafana']}{HOME}"))
    elif "jaeger" in state.settings.names:
        places.append(("the trace", f"{jaeger}/api/traces/{shown}"))
    else:
        places.append(("the trace", "not kept here: otelog stack up --with jaeger"))
    return places


def show_places(places: list[tuple[str, str]]) -> list[str]:
    """Returns a line for each place, which can be copied."""
    width = max(len(what) for what, _ in places) + 2
    return [f"{what + ':':{width}} {where}" for what, where in places]
