"""The history of counters, as Prometheus has scraped them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from otelog.audit.counters import History, Key, Labels, sort_labels
from otelog.audit.http import Client

ALL_SECONDS = 30 * 86400
"""How far it is looked back where no beginning is given; Prometheus keeps 15 days by default."""

_Pair = tuple[float, float]


def read_history(client: Client, names: Iterable[str], *, since: float | None, now: float) -> dict[Key, list[History]]:
    """Read what there is of some metrics, under the labels that their endpoints show.

    A series that was scraped from several addresses has several histories.

    Args:
        client: Prometheus.
        names: The metrics.
        since: The beginning of the window, in seconds since 1970; None for the beginning of all.
        now: The time of the reading, in seconds since 1970.

    Raises:
        SourceError: Prometheus does not answer.
    """
    # What the scraper gives to a series that comes without; with honor_labels an endpoint's own stay.
    targets = [labels for labels, _ in _ask(client, f"last_over_time(up[{ALL_SECONDS}s])", now)]
    given = {(key, labels.get(key)) for labels in targets for key in ("job", "instance")}
    found: dict[Key, list[History]] = {}
    for name in names:
        read = _read_all(client, name, now=now) if since is None else _read_since(client, name, since=since, now=now)
        for labels, history in read:
            # Prometheus 3 asks for the names with their dots, where a plain request is answered with underscores.
            kept = {escape(key): value for key, value in labels.items() if (key, value) not in given}
            found.setdefault((name, sort_labels(kept)), []).append(history)
    return found


def escape(label: str) -> str:
    """Returns a label's name as an endpoint shows it to those who do not ask for more than letters and digits."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", label)


def _read_all(client: Client, name: str, *, now: float) -> Iterator[tuple[dict[str, str], History]]:
    # Of a counter that never fell the last sample tells all; the others are few.
    window = f"[{ALL_SECONDS}s]"
    fallen = {sort_labels(labels) for labels, _ in _ask(client, f"resets({name}{window}) > 0", now)}
    alive = {sort_labels(labels) for labels, _ in _ask(client, name, now)}
    for labels, value in _ask(client, f"last_over_time({name}{window})", now):
        key = sort_labels(labels)
        samples = [(now if key in alive else 0.0, value)]
        if key in fallen:
            samples = _read_samples(client, f"{name}{_matchers(key)}{window}", now).get(key, samples)
        yield labels, History(samples)


def _read_since(client: Client, name: str, *, since: float, now: float) -> Iterator[tuple[dict[str, str], History]]:
    before = {
        sort_labels(labels): value for labels, value in _ask(client, f"last_over_time({name}[{ALL_SECONDS}s])", since)
    }
    inside = _read_samples(client, f"{name}[{max(1, round((now - since) * 1000))}ms]", now)
    for key in {**before, **inside}:
        # One that has ended before the window: the live sample may go on from it all the same.
        samples = [pair for pair in inside.get(key, ()) if pair[0] > since]
        yield dict(key), History(samples, before.get(key))


def _ask(client: Client, query: str, at: float) -> list[tuple[dict[str, str], float]]:
    return [(_labels(one), float(one["value"][1])) for one in _query(client, query, at)]


def _read_samples(client: Client, query: str, at: float) -> dict[Labels, list[_Pair]]:
    # A range selector in an instant query answers with the samples as they were scraped.
    return {
        sort_labels(_labels(one)): [(float(when), float(value)) for when, value in one["values"]]
        for one in _query(client, query, at)
    }


def _query(client: Client, query: str, at: float) -> list[dict[str, Any]]:
    return client.get_data("/api/v1/query", {"query": query, "time": f"{at:.3f}"})


def _labels(one: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in one["metric"].items() if key != "__name__"}


def _matchers(labels: Labels) -> str:
    # PromQL's strings have JSON's escapes, which are all that json.dumps makes; a name with a dot is in quotes, too.
    quoted = [(json.dumps(key), json.dumps(value, ensure_ascii=False)) for key, value in labels]
    return "{" + ",".join(f"{key}={value}" for key, value in quoted) + "}"
