"""Where metrics and traces are sent: where the logs go, but for the path."""

from __future__ import annotations

from urllib.parse import urlsplit

from otelog._config.resolve import Settings, find_usable_proxy
from otelog._otlp.exchange import TransportSettings
from otelog._runtime.version import USER_AGENT


def make_target(settings: Settings, path: str, grpc_method: str) -> TransportSettings:
    """Returns where and how requests of another signal are sent.

    Args:
        settings: Those of the logs.
        path: Appended to the base of the endpoint.
        grpc_method: Called instead where the protocol is gRPC.
    """
    base = urlsplit(settings.base_endpoint)
    by_grpc = settings.base_protocol == "grpc"
    # Headers, often a secret, only go where the logs go.
    same_server = urlsplit(settings.endpoint).netloc == base.netloc
    endpoint = base._replace(path="" if by_grpc else base.path.rstrip("/") + path).geturl()
    return TransportSettings.of_options(
        settings,
        endpoint=endpoint,
        headers=settings.headers if same_server else {},
        compression="gzip" if by_grpc and settings.compression == "zstd" else settings.compression,
        proxy=find_usable_proxy(settings.proxy, endpoint, settings.base_protocol),
        user_agent=USER_AGENT,
        grpc_method=grpc_method if by_grpc else None,
    )
