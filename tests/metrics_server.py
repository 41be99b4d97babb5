"""An HTTP server that takes metrics, or another signal, and whatever else is posted."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HANG = 0
"""As a status: there is no answer at all, before the server is closed."""


class MetricsServer:
    """Takes whatever is posted, and decodes what comes to /v1/metrics.

    Args:
        status: The answer to what comes to `path`; the rest is answered 200.
        path: The signal's.
        headers: Of each answer.
    """

    def __init__(self, status: int = 200, path: str = "/v1/metrics", headers: Mapping[str, str] | None = None) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                if status == HANG and self.path == path:
                    outer.closing.wait()
                    return
                self.send_response(status if self.path == path else 200)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> MetricsServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def paths(self) -> list[str]:
        return [path for path, _, _ in self.requests]

    def sums(self) -> list[tuple[str, dict[str, int]]]:
        """For each request with metrics: the instance that sent it, and all sums by name, without losses."""
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

        found = []
        for path, _, body in self.requests:
            if path != "/v1/metrics":
                continue
            (part,) = ExportMetricsServiceRequest.FromString(gzip.decompress(body)).resource_metrics
            instance = {a.key: a.value.string_value for a in part.resource.attributes}["service.instance.id"]
            sums: dict[str, int] = {}
            for metric in (metric for scope in part.scope_metrics for metric in scope.metrics):
                for point in metric.sum.data_points:
                    if all(attribute.key != "error.type" for attribute in point.attributes):
                        sums[metric.name] = sums.get(metric.name, 0) + point.as_int
            found.append((instance, sums))
        return found
