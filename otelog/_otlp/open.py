"""The transport to an endpoint: HTTP's, or gRPC's where that is asked for."""

from __future__ import annotations

from otelog._otlp.exchange import Exchanges, TransportSettings
from otelog._otlp.http import Transport

LOGS_METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
METRICS_METHOD = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
TRACES_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
METRICS_PATH = "/v1/metrics"
TRACES_PATH = "/v1/traces"


def open_transport(settings: TransportSettings) -> Exchanges:
    """Returns the transport that the settings ask for.

    Raises:
        ConfigurationError: It cannot be had.
    """
    if settings.grpc_method is None:
        return Transport(settings)
    # Late: most speak HTTP, and should not pay for the other at every start.
    from otelog._otlp.grpc import GrpcTransport

    return GrpcTransport(settings)
