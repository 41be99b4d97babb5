"""What Prometheus may scrape in a web process, with one worker and with several."""

from __future__ import annotations

from typing import Any

MISSING_PACKAGE = "metrics need prometheus-client: python -m pip install 'otelog[prometheus]'"


def find_registry() -> Any:
    """Returns the registry to be shown.

    With ``PROMETHEUS_MULTIPROC_DIR`` set, it adds up the workers' files, anew for each scrape; without, it is the
    default registry.

    Raises:
        ImportError: prometheus_client is missing.
    """
    from prometheus_client import REGISTRY, CollectorRegistry, values
    from prometheus_client.multiprocess import MultiProcessCollector

    # How the library itself tells: it decides when it is imported.
    if not getattr(values.ValueClass, "_multiprocess", False):
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry
