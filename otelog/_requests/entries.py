"""Paths that otelog answers itself, in an application of any framework."""

from __future__ import annotations

from typing import TypeVar

from otelog._requests.health import watch_exports
from otelog._requests.metrics import MISSING_PACKAGE
from otelog._runtime.diagnostics import warn

App = TypeVar("App")


def make_entries(
    framework: str,
    *,
    metrics: str | None,
    health: str | None,
    metrics_app: App,
    unavailable_app: App,
    health_app: App,
) -> dict[str, App]:
    """Returns what answers, by path.

    Args:
        framework: Its name, for a warning.
        metrics: The path of the Prometheus metrics; None for none.
        health: The path of the pipeline's state; None for none.
        metrics_app: Answers a scrape.
        unavailable_app: Does so where prometheus-client is missing: an application serves its requests without
            metrics, too.
        health_app: Answers with the state.
    """
    entries = {}
    if metrics is not None:
        entries[metrics] = metrics_app
        try:
            from otelog import prometheus

            prometheus.publish()
        except ImportError:
            warn(f"{framework}:metrics", f"{metrics} answers 503: {MISSING_PACKAGE}")
            entries[metrics] = unavailable_app
    if health is not None:
        watch_exports()
        entries[health] = health_app
    return entries
