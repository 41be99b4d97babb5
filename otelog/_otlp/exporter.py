"""The OTLP exporter: encodes batches straight to bytes and delivers them over HTTP or gRPC."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any
from urllib.parse import urlsplit

from otelog._config.resolve import ExporterSettings, find_usable_proxy, resolve_exporter
from otelog._ledger.counters import Ledger
from otelog._ledger.otel_metrics import OnExchange
from otelog._ledger.tally import BatchTally, open_tally
from otelog._otlp.delivery import Delivery
from otelog._otlp.encode import EncodedBatch, Encoder
from otelog._otlp.exchange import TransportSettings
from otelog._otlp.open import LOGS_METHOD, open_transport
from otelog._pipeline.batch_export import ExportContext
from otelog._pipeline.own_exporter import OwnExporter
from otelog._record.attributes import AttributeBuilder
from otelog._runtime.diagnostics import warn
from otelog._runtime.lifetime import watch
from otelog._runtime.lock_yield import make_pause
from otelog._runtime.turns import UnderWay
from otelog._runtime.version import USER_AGENT
from otelog._runtime.waiting import StopSignal

_LOKI = re.compile(r"(?:/loki)?/otlp/v1/logs/?")


def is_loki(endpoint: str) -> bool:
    """Returns whether an OTLP/HTTP endpoint is Loki's own, by its path."""
    return _LOKI.fullmatch(urlsplit(endpoint).path) is not None


class OTLPLogExporter(OwnExporter):
    """Exports log records over OTLP/HTTP with protobuf, or over OTLP/gRPC.

    Under otelog's processor it encodes the queue's records without message objects in between and counts each of them;
    under any other processor it is an ordinary exporter.

    To Loki itself (a path ``/otlp/v1/logs``, over HTTP) records go in the form that it can keep: see
    docs/reference/loki-record.md.

    Args:
        endpoint: The full URL, ``http://localhost:4318/v1/logs`` by default; by gRPC ``http://localhost:4317``.
        protocol: "http/protobuf" (default) or "grpc", which needs ``otelog[grpc]``.
        headers: Sent with each request.
        compression: "gzip" (default), "zstd" (not by gRPC) or "none".
        timeout: Seconds for one request, 10 by default.
        certificate_file: PEM file of the authorities to trust instead of the system's.
        client_certificate_file: PEM file that proves who we are (mTLS).
        client_key_file: PEM file of its key.
        proxy: URL of an HTTP proxy; "none": no proxy, whatever ``HTTPS_PROXY`` and the like say.
        max_request_bytes: Bound of a request before compression; a batch above it is split, a record above it cut.
        export_timeout: Seconds for a batch with all its attempts, where the processor does not say.
        bisect_bad_request: Look for the records that a 400 is about, instead of losing the batch.

    What is not given comes from ``OTEL_EXPORTER_OTLP_LOGS_*``, then ``OTEL_EXPORTER_OTLP_*``.

    Raises:
        ConfigurationError: An argument cannot be used.

    Thread safety: exports are serialised. Source: OTLP/HTTP, OTLP/gRPC.
    """

    default_name = "otlp"

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        protocol: str | None = None,
        headers: Mapping[str, str] | None = None,
        compression: str | None = None,
        timeout: float | None = None,
        certificate_file: str | None = None,
        client_certificate_file: str | None = None,
        client_key_file: str | None = None,
        proxy: str | None = None,
        max_request_bytes: int | None = None,
        export_timeout: float = 30.0,
        bisect_bad_request: bool = False,
    ) -> None:
        settings = resolve_exporter(ExporterSettings.pick(locals()))
        for warning in settings.warnings:
            warn(f"config:{warning}", warning)
        self._open(settings, export_timeout, bisect_bad_request)

    @classmethod
    def of_settings(cls, settings: ExporterSettings) -> OTLPLogExporter:
        """Returns an exporter of settings that are complete: nothing more comes from the environment."""
        exporter = cls.__new__(cls)
        exporter._open(settings, export_timeout=30.0, bisect_bad_request=False)
        return exporter

    def _open(self, settings: ExporterSettings, export_timeout: float, bisect_bad_request: bool) -> None:
        super().__init__(export_timeout)
        self.endpoint = settings.endpoint
        self.protocol = settings.protocol
        self._transport = open_transport(
            TransportSettings.of_options(
                settings,
                proxy=find_usable_proxy(settings.proxy, settings.endpoint, settings.protocol),
                user_agent=USER_AGENT,
                grpc_method=LOGS_METHOD if settings.protocol == "grpc" else None,
            )
        )
        self.delivery = Delivery(
            self._transport,
            max_request_bytes=settings.max_request_bytes,
            timeout=settings.timeout,
            bisect_bad_request=bisect_bad_request,
        )
        watch(self)

    def make_batch_export(self, context: ExportContext) -> OTLPBatchExport:
        """Return the way to this exporter for otelog's own processor."""
        return OTLPBatchExport(self, context)

    def make_encoder(self, resource: Mapping[str, Any], schema_url: str, attributes: AttributeBuilder) -> Encoder:
        """Return an encoder for the server that this exporter sends to."""
        loki = self.protocol != "grpc" and is_loki(self.endpoint)
        return Encoder(resource, schema_url, attributes, loki=loki, now=time.time_ns)

    def shutdown(self, timeout_millis: float = 5_000) -> None:
        """End an export that waits to send again, and close the connection. Idempotent."""
        self._stop.begin(timeout_millis / 1000)
        self._transport.close()


class OTLPBatchExport:
    """`OTLPLogExporter` as otelog's own processor uses it.

    While the Collector works on one batch, the next one is encoded: a request's answer is read when the next request is
    ready, or when there is none.

    Args:
        exporter: Whose delivery is used.
        context: The pipeline.
    """

    def __init__(self, exporter: OTLPLogExporter, context: ExportContext) -> None:
        self.name = context.name
        self.component_type = f"otlp_{'grpc' if exporter.protocol == 'grpc' else 'http'}_log_exporter"
        self.endpoint: str | None = exporter.endpoint
        self.exporter = exporter
        self._context = context
        self._encoder: Encoder | None = None
        self._under_way = UnderWay()

    @property
    def on_exchange(self) -> OnExchange | None:
        """Called after each request."""
        return self.exporter.delivery.on_exchange

    @on_exchange.setter
    def on_exchange(self, callback: OnExchange | None) -> None:
        self.exporter.delivery.on_exchange = callback

    def deliver(self, rows: list[Any], ledger: Ledger, stop: StopSignal, hold: Callable[[BatchTally], None]) -> None:
        """See `otelog._pipeline.batch_export.BatchExport`."""
        encoder = self._encoder
        if encoder is None:
            resource = self._context.resource()
            encoder = self._encoder = self.exporter.make_encoder(
                resource.attributes, resource.schema_url, self._context.attributes
            )
        try:
            tally = open_tally(rows, ledger, self.name)
            hold(tally)
            batch, failed = encoder.encode(rows, make_pause(stop))
            # The bytes are all that is needed from here on.
            rows.clear()
            tally.turn_to(len(batch), batch.severity_ranges, [("encode_error", severity) for severity in failed])
        finally:
            self.finish()
        self._under_way.add(self._begin(batch, tally, stop))
        self._under_way.advance()

    def _begin(self, batch: EncodedBatch, tally: BatchTally, stop: StopSignal) -> Generator[bool, None, bool]:
        # Its time begins here: the batch before may have used up all of its own.
        deadline = time.monotonic() + self._context.export_timeout
        return (yield from self.exporter.delivery.begin(batch, tally, deadline=deadline, stop=stop))

    def finish(self) -> bool:
        """Wait for the answer to the request that is out, and do what it asks for."""
        return self._under_way.finish()

    def restart_after_fork(self) -> None:
        """The child is another service instance, with another resource; the transport sees the fork itself."""
        self._encoder = None
        self._under_way.forget()

    def shutdown(self, timeout: float) -> None:
        """Close the connection."""
        self.exporter.shutdown(timeout * 1000)
