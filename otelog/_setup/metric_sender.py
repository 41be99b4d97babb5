"""The SDK's metrics over otelog's own transport: imported late, because it costs as much as the rest of otelog."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricReader,
    MetricsData,
)
from opentelemetry.sdk.resources import Resource

from otelog._otlp.exchange import Exchanges
from otelog._runtime.diagnostics import warn
from otelog._runtime.fork_gate import ForkGate
from otelog._runtime.quiet import quiet
from otelog._setup.signal_sender import SignalSender

WARNING_INTERVAL = 600.0
"""Seconds between two lines about metrics that cannot be delivered: a Collector may well take none."""

FORK_PATIENCE = 1.0
"""Seconds that a fork waits at most: callbacks of the application's own instruments may take any time."""

_collecting = ForkGate(FORK_PATIENCE)


class MetricSender(SignalSender, MetricExporter):
    """Sends metrics over OTLP; its words go to otelog's diagnostics, at most one line in `WARNING_INTERVAL`.

    Args:
        transport: To the metrics' endpoint; may be replaced while it works.
        resource: Returns whose metrics they are, in this process; may be replaced, too.
        timeout: Seconds for an export with all its attempts.

    Thread safety: `hurry` and `calm_down` may be called by any thread; exports are for one thread at a time.
    Source: OTLP.
    """

    def __init__(self, transport: Exchanges, resource: Callable[[], Resource], timeout: float) -> None:
        SignalSender.__init__(self, transport, timeout)
        MetricExporter.__init__(self)
        self.resource = resource

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:
        """Send one collection. Never raises; a failure is reported on standard error."""
        deadline = time.monotonic() + min(self._timeout, timeout_millis / 1000)
        resource = self.resource()
        # Not every release of the SDK gives a forked child another service.instance.id.
        data = MetricsData([replace(part, resource=resource) for part in metrics_data.resource_metrics])
        with quiet():
            failure = self._send(encode_metrics(data).SerializeToString(), deadline)
        if failure is None:
            return MetricExportResult.SUCCESS
        hint = "OTEL_METRICS_EXPORTER=none turns them off"
        warn("metrics", f"metrics are not delivered: {failure.cause}; {hint}", interval=WARNING_INTERVAL)
        return MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Returns True: nothing is held back between two exports."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Close the connection."""
        self.transport.close()


class _Reader(MetricReader):
    """Collects and exports when it is asked to.

    The SDK holds locks while it collects that all instruments need: a fork waits for it, but not for the export.

    Thread safety: all methods.
    """

    def __init__(self, sender: MetricSender) -> None:
        super().__init__()
        self._sender = sender
        self._collected: MetricsData | None = None

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Send the metrics as they are now; returns whether they were taken, or there are none."""
        with _collecting.lock:
            self.collect(timeout_millis)
            data, self._collected = self._collected, None
        return data is None or self._sender.export(data, timeout_millis) is MetricExportResult.SUCCESS

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> None:
        self._collected = metrics_data

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        self._sender.shutdown(timeout_millis)


def make_provider(sender: MetricSender) -> MeterProvider:
    """Returns a provider that its maker has to shut down; it collects when `force_flush` is called, and only then.

    Args:
        sender: Where its metrics go.
    """
    reader = _Reader(sender)
    return MeterProvider([reader], resource=sender.resource(), shutdown_on_exit=False)
