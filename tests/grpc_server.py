"""A gRPC server that takes logs and metrics."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from otelog._otlp.open import METRICS_METHOD

LATEST = 20.0
"""Seconds after which a call that hangs is answered all the same."""


@dataclass(frozen=True)
class Reply:
    """What the server does with one call."""

    code: str = "OK"
    details: str = "said the server"
    trailers: tuple[tuple[str, bytes], ...] = ()
    hang: bool = False
    rejected: int = 0
    message: str = ""


class GrpcServer(grpc.GenericRpcHandler):
    """Takes logs and metrics by gRPC, and answers as it is told; afterwards it takes everything."""

    def __init__(self, replies: Iterable[Reply] = (), *, port: int = 0, options: Any = ()) -> None:
        self.replies = iter([*replies])
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.bodies: list[str] = []
        self.metrics: set[str] = set()
        self._closing = threading.Event()
        self._threads = ThreadPoolExecutor(8)
        self._server = grpc.server(self._threads, (self,), options=[("grpc.so_reuseport", 0), *options])
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> GrpcServer:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.stop(None).wait()
        self._threads.shutdown()

    def service(self, details: Any) -> Any:
        def answer(request: bytes, context: Any) -> bytes:
            return self._answer(details.method, request, context)

        return grpc.unary_unary_rpc_method_handler(answer)

    def _answer(self, method: str, request: bytes, context: Any) -> bytes:
        self.calls.append((method, dict(context.invocation_metadata())))
        if method == METRICS_METHOD:
            for resource in ExportMetricsServiceRequest.FromString(request).resource_metrics:
                self.metrics |= {metric.name for scope in resource.scope_metrics for metric in scope.metrics}
            return b""
        reply = next(self.replies, Reply())
        if reply.hang:
            self._closing.wait(LATEST)
        if reply.code != "OK":
            context.set_trailing_metadata(reply.trailers)
            context.abort(grpc.StatusCode[reply.code], reply.details)
        for resource in ExportLogsServiceRequest.FromString(request).resource_logs:
            self.bodies += [record.body.string_value for scope in resource.scope_logs for record in scope.log_records]
        response = ExportLogsServiceResponse()
        response.partial_success.rejected_log_records = reply.rejected
        response.partial_success.error_message = reply.message
        return response.SerializeToString()
