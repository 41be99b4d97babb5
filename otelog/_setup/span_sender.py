"""The SDK's spans over otelog's own transport: imported late, and only where traces are asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from otelog._otlp.exchange import Exchanges
from otelog._runtime.diagnostics import warn
from otelog._runtime.lifetime import watch_pipeline
from otelog._runtime.quiet import quiet
from otelog._runtime.threads import join, start_thread
from otelog._setup.signal_sender import SignalSender

WARNING_INTERVAL = 600.0
"""Seconds between two lines about traces that cannot be delivered."""

END_TIMEOUT = 1.0
"""Seconds for the last spans, after the logs."""

TAKES_NONE = frozenset({404, 405, 501})
"""Answers of an endpoint that has no place for traces; gRPC's UNIMPLEMENTED is told as one of them."""


class SpanSender(SignalSender, SpanExporter):
    """Sends spans over OTLP; its words go to otelog's diagnostics, at most one line in `WARNING_INTERVAL`.

    An endpoint that takes no traces is asked once.

    Args:
        transport: To the traces' endpoint.
        timeout: Seconds for an export with all its attempts.

    Thread safety: that of `SignalSender`.
    Source: OTLP.
    """

    def __init__(self, transport: Exchanges, timeout: float) -> None:
        super().__init__(transport, timeout)
        self._is_refused = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send one batch. Never raises; a failure is reported on standard error."""
        if self._is_refused:
            return SpanExportResult.FAILURE
        with quiet():
            failure = self._send(encode_spans(spans).SerializeToString(), time.monotonic() + self._timeout)
        if failure is None:
            return SpanExportResult.SUCCESS
        self._is_refused = failure.status in TAKES_NONE
        what = "traces are not sent any more" if self._is_refused else "traces are not delivered"
        hint = "OTEL_TRACES_EXPORTER=none turns them off"
        warn("traces", f"{what}: {failure.cause}; {hint}", interval=WARNING_INTERVAL)
        return SpanExportResult.FAILURE

    def redirect(self, transport: Exchanges, timeout: float) -> None:
        """Send to another endpoint from now on."""
        old, self.transport = self.transport, transport
        self._timeout, self._is_refused = timeout, False
        old.close()

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        """Returns True: nothing is held back between two exports."""
        return True

    def shutdown(self) -> None:
        """Close the connection."""
        self.transport.close()


class TracesPipeline:
    """A TracerProvider whose spans are sent, and its end after the logs'.

    Args:
        transport: To the traces' endpoint.
        resource: Whose spans they are.
        timeout: Seconds for an export with all its attempts.

    Attributes:
        provider: The provider.

    Raises:
        RuntimeError: No thread can be had.

    Thread safety: all public methods.
    """

    ends_last = True

    def __init__(self, transport: Exchanges, resource: Resource, timeout: float) -> None:
        self._sender = SpanSender(transport, timeout)
        self.provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self.provider.add_span_processor(BatchSpanProcessor(self._sender))
        self._ended = False
        watch_pipeline(self)

    def has_work(self) -> bool:
        """Returns False: no process waits for its spans."""
        return False

    def nudge(self) -> None:
        """It sends when the logs have ended."""

    def deliver(self, deadline: float, *, last: bool) -> bool:
        """Send the spans that have ended, if nothing may come after this; returns True."""
        if last and not self._ended:
            self._hurry(deadline, self._flush)
            self._sender.calm_down()
        return True

    def end_with_process(self, deadline: float) -> None:
        """Send the spans that have ended, and end."""
        ended, self._ended = self._ended, True
        if not ended:
            self._hurry(deadline, self.provider.shutdown)

    def redirect(self, transport: Exchanges, timeout: float) -> None:
        """Send to another endpoint from now on."""
        self._sender.redirect(transport, timeout)

    def _flush(self) -> None:
        self.provider.force_flush()

    def _hurry(self, deadline: float, work: Callable[[], None]) -> None:
        deadline = min(deadline, time.monotonic() + END_TIMEOUT)
        self._sender.hurry(deadline)
        # The SDK waits for its own thread as long as that takes.
        thread = start_thread(work, "otelog-traces-end")
        if thread is not None:
            join(thread, max(0.0, deadline - time.monotonic()))

    def restart_after_fork(self) -> None:
        """Go on in a forked child, where nobody is in a hurry yet; the SDK starts its own thread."""
        self._sender.calm_down()
