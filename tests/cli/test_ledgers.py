"""What is read of a sender's metrics, and what is said of it beside what arrived."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from rich.console import Console

from otelog.cli.dev.ledgers import (
    CREATED,
    EXPORTED,
    IN_FLIGHT,
    MAX_SENDERS,
    MAX_SERIES,
    QUEUED,
    REFUSED,
    REMOVED,
    Ledgers,
)
from otelog.cli.dev.otlp_json import decode_metrics
from otelog.cli.show.screen import show_ledgers

PORT = 4318
HERE = {"otel.component.name": "otlp/0", "otel.component.type": "otlp_http_log_exporter", "server.port": PORT}
BEGAN_NS = 1000

Points = dict[str, list[tuple[int, dict[str, Any]]]]
USUAL: Points = {
    CREATED: [(100, {})],
    QUEUED: [(4, {})],
    IN_FLIGHT: [(6, HERE)],
    EXPORTED: [(80, HERE), (5, {**HERE, "error.type": "rejected"}), (0, {**HERE, "error.type": "too_large"})],
    REFUSED: [(3, {"reason": "queue_full", "otelog.severity": "info"})],
    REMOVED: [(1, {"reason": "sampled"}), (1, {"reason": "invalid"})],
}


def request(points: Points, *, instance: str = "i-1", start_ns: int = BEGAN_NS, delta: bool = False) -> Any:
    message = ExportMetricsServiceRequest()
    resource_metrics = message.resource_metrics.add()
    for key, value in (("service.name", "shop"), ("service.instance.id", instance)):
        resource_metrics.resource.attributes.add(key=key).value.string_value = value
    scope = resource_metrics.scope_metrics.add()
    for name, values in points.items():
        data = scope.metrics.add(name=name).sum
        temporalities = AggregationTemporality
        data.aggregation_temporality = (
            temporalities.AGGREGATION_TEMPORALITY_DELTA if delta else temporalities.AGGREGATION_TEMPORALITY_CUMULATIVE
        )
        for value, labels in values:
            point = data.data_points.add(as_int=value, start_time_unix_nano=start_ns)
            for key, label in labels.items():
                attribute = point.attributes.add(key=key).value
                if isinstance(label, int):
                    attribute.int_value = label
                else:
                    attribute.string_value = label
    return message


def make_ledgers(received: int = 80) -> Ledgers:
    return Ledgers(lambda instance: received, port=PORT, began_ns=BEGAN_NS)


def show(*requests: Any, received: int = 80) -> Any:
    ledgers = make_ledgers(received)
    for one in requests:
        ledgers.take(one)
    [shown] = ledgers.show()
    return shown


def test_a_ledger_has_the_senders_figures_and_what_arrived() -> None:
    assert show(request(USUAL)) == {
        "service": "shop",
        "instance": "i-1",
        "created": 100,
        "exported": 80,
        "lost": {"rejected": 5, "queue_full": 3, "invalid": 1},
        "queued": 4,
        "in_flight": 6,
        "received": 80,
        "difference": 0,
    }


def test_otlp_json_says_the_same() -> None:
    message = request(USUAL)
    assert show(decode_metrics(MessageToJson(message).encode())) == show(message)


def test_the_latest_figures_count_and_deltas_add_up() -> None:
    later: Points = {**USUAL, EXPORTED: [(90, HERE)]}
    assert show(request(USUAL), request(later))["exported"] == 90
    assert show(request(USUAL, delta=True), request(later, delta=True))["exported"] == 170


@pytest.mark.parametrize(
    ("received", "difference", "said"), [(80, 0, "equal"), (79, -1, "1 missing"), (82, 2, "2 more")]
)
def test_a_difference_is_marked(received: int, difference: int, said: str) -> None:
    shown = show(request(USUAL), received=received)
    assert shown["difference"] == difference
    assert said in draw(shown)


def test_a_sender_that_is_older_than_the_receiver_is_not_compared() -> None:
    shown = show(request(USUAL, start_ns=BEGAN_NS - 1), received=10)
    assert shown["difference"] is None
    assert "began before this receiver" in draw(shown)


def test_of_several_exporters_the_one_that_sends_here_is_meant() -> None:
    other = {**HERE, "otel.component.name": "otlp/1", "server.port": 9999}
    file = {"otel.component.name": "file/0", "otel.component.type": "file"}
    assert show(request({EXPORTED: [(80, HERE), (7, other), (9, file)]}))["exported"] == 80
    # Over a Collector: all that send OTLP.
    assert show(request({EXPORTED: [(7, other), (9, file)]}))["exported"] == 7
    assert show(request({EXPORTED: [(9, file)]}))["exported"] == 9


def test_other_metrics_and_senders_without_an_instance_are_left_out() -> None:
    ledgers = make_ledgers()
    ledgers.take(request({"http.server.request.duration": [(1, {})]}))
    ledgers.take(request(USUAL, instance=""))
    assert ledgers.show() == []


def test_figures_that_are_no_numbers_are_left_out() -> None:
    message = request({CREATED: [(1, {})]})
    message.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0].as_double = float("nan")
    assert show(message)["created"] == 0


def test_what_is_kept_is_bounded() -> None:
    ledgers = make_ledgers()
    for number in range(MAX_SENDERS + 3):
        ledgers.take(request({CREATED: [(1, {})]}, instance=f"i-{number}"))
    assert len(ledgers.show()) == MAX_SENDERS
    assert show(request({CREATED: [(1, {"n": number}) for number in range(MAX_SERIES + 9)]}))["created"] == MAX_SERIES


def draw(ledger: Any) -> str:
    console = Console(width=140)
    with console.capture() as capture:
        console.print(show_ledgers([ledger]))
    return capture.get()
