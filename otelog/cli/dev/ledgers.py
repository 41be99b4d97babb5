"""What senders say of their own records: the ledgers that otelog sends as OpenTelemetry metrics."""

from __future__ import annotations

import math
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from otelog.cli.dev.bounds import MAX_NAME_LENGTH

if TYPE_CHECKING:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

MAX_SENDERS = 1000
"""Ledgers that are kept; the one that was not heard of for longest is dropped."""

MAX_LABELS = 32
"""Labels that a number may have; one with more is left out."""

MAX_SERIES = 500
"""Numbers that are kept of one sender; further ones are left out."""

CREATED = "otel.sdk.log.created"
QUEUED = "otel.sdk.processor.log.queue.size"
IN_FLIGHT = "otel.sdk.exporter.log.inflight"
EXPORTED = "otel.sdk.exporter.log.exported"
REFUSED = "otelog.log.refused"
REMOVED = "otelog.log.removed"
_NAMES = frozenset({CREATED, QUEUED, IN_FLIGHT, EXPORTED, REFUSED, REMOVED})
_ERROR = "error.type"
# The application asked for these; a record removed for any other reason is lost.
_WANTED_REMOVALS = frozenset({"filtered", "sampled", "deduplicated"})

_Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Sender:
    service: str | None
    series: dict[tuple[str, _Labels], int] = field(default_factory=dict)
    began_ns: int = 0
    received: int = 0


class Ledgers:
    """The latest ledger of each sender, by its service.instance.id, beside what had arrived of it by then.

    Args:
        received: Returns how many records of an instance have arrived.
        port: Where they arrive: of several exporters of a sender, the one that sends here is meant.
        began_ns: Since when they are counted, in nanoseconds since 1970; a sender that is older may have sent before.

    Thread safety: all methods may be called by any thread.
    """

    def __init__(self, received: Callable[[str], int], *, port: int, began_ns: int) -> None:
        self._received = received
        self._port = str(port)
        self._began_ns = began_ns
        self._lock = threading.Lock()
        self._senders: OrderedDict[str, _Sender] = OrderedDict()

    def take(self, request: ExportMetricsServiceRequest) -> None:
        """Keep what the request says of ledgers; other metrics are not looked at. Never raises."""
        for resource_metrics in request.resource_metrics:
            resource = {
                pair.key: pair.value.string_value[:MAX_NAME_LENGTH] for pair in resource_metrics.resource.attributes
            }
            instance = resource.get("service.instance.id")
            metrics = [m for scope in resource_metrics.scope_metrics for m in scope.metrics if m.name in _NAMES]
            if not instance or not metrics:
                continue
            received = self._received(instance)
            with self._lock:
                sender = self._senders.setdefault(instance, _Sender(resource.get("service.name")))
                self._senders.move_to_end(instance)
                while len(self._senders) > MAX_SENDERS:
                    self._senders.popitem(last=False)
                sender.received = received
                for metric in metrics:
                    _keep(sender, metric)

    def show(self) -> list[dict[str, object]]:
        """Return the ledgers as JSON-ready data, the one that was heard of last at the end.

        `received` is what had arrived when the ledger came, `difference` that less `exported`; it is None where the
        sender began before this receiver did, so that it may have sent to another one.
        """
        with self._lock:
            return [self._show(instance, sender) for instance, sender in self._senders.items()]

    def _show(self, instance: str, sender: _Sender) -> dict[str, object]:
        def total(name: str, *, of: Callable[[Mapping[str, str]], bool] = lambda _: True) -> int:
            return sum(value for labels, value in _find(sender, name) if of(labels))

        chosen = self._choose(sender)
        here: Callable[[Mapping[str, str]], bool] = lambda labels: labels.get("otel.component.name") in chosen  # noqa: E731
        lost: Counter[str] = Counter()
        for labels, value in _find(sender, EXPORTED):
            if _ERROR in labels and here(labels):
                lost[labels[_ERROR]] += value
        for name in (REFUSED, REMOVED):
            for labels, value in _find(sender, name):
                if labels.get("reason") not in _WANTED_REMOVALS:
                    lost[labels.get("reason", "")] += value
        exported = total(EXPORTED, of=lambda labels: _ERROR not in labels and here(labels))
        older = sender.began_ns < self._began_ns
        return {
            "service": sender.service,
            "instance": instance,
            "created": total(CREATED),
            "exported": exported,
            "lost": {reason: count for reason, count in lost.items() if count},
            "queued": total(QUEUED),
            "in_flight": total(IN_FLIGHT, of=here),
            "received": sender.received,
            "difference": None if older else sender.received - exported,
        }

    def _choose(self, sender: _Sender) -> set[str | None]:
        """The names of the exporters that send here; all of them, if none can be found by its port."""
        exporters = [labels for labels, _ in _find(sender, EXPORTED)]
        for rule in (
            lambda labels: labels.get("server.port") == self._port,
            # Over a Collector.
            lambda labels: "otlp" in labels.get("otel.component.type", ""),
            lambda _: True,
        ):
            if chosen := {labels.get("otel.component.name") for labels in exporters if rule(labels)}:
                return chosen
        return set()


def _find(sender: _Sender, wanted: str) -> Iterator[tuple[Mapping[str, str], int]]:
    for (name, labels), value in sender.series.items():
        if name == wanted:
            yield dict(labels), value


def _keep(sender: _Sender, metric: Metric) -> None:
    kind = metric.WhichOneof("data")
    if kind not in ("sum", "gauge"):
        return
    data: Any = getattr(metric, kind)
    adds = kind == "sum" and data.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    for point in data.data_points:
        if len(point.attributes) > MAX_LABELS:
            continue
        if metric.name == EXPORTED and not sender.began_ns:
            sender.began_ns = point.start_time_unix_nano
        labels = tuple(sorted((pair.key, _to_text(pair.value)) for pair in point.attributes))
        key = (metric.name, labels)
        if key in sender.series or len(sender.series) < MAX_SERIES:
            value = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
            if math.isfinite(value):
                sender.series[key] = int(value) + (sender.series.get(key, 0) if adds else 0)


def _to_text(value: Any) -> str:
    kind = value.WhichOneof("value")
    return "" if kind is None else str(getattr(value, kind))[:MAX_NAME_LENGTH]
