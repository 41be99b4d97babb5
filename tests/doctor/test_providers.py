"""Providers that are missing, or lead elsewhere, are each told by exactly their own code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from otelog import BatchLogRecordProcessor
from otelog._config.resolve import resolve
from otelog.doctor._providers import Providers, check_providers

SETTINGS = resolve({"service_name": "shop"}, {})


class TracerOfAnother(trace.NoOpTracerProvider):
    """Neither the SDK's nor the API's."""


class LoggersOfAnother(_logs.NoOpLoggerProvider):
    """Neither the SDK's nor the API's."""


@pytest.fixture
def connected() -> Iterator[LoggerProvider]:
    processor = BatchLogRecordProcessor(InMemoryLogRecordExporter())
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(processor)
    yield provider
    processor.shutdown()


@pytest.fixture
def good(connected: LoggerProvider) -> dict[str, Any]:
    return {
        "tracer": TracerProvider(shutdown_on_exit=False),
        "meter": MeterProvider(shutdown_on_exit=False),
        "logger": connected,
        "configured": True,
        "can_make_meters": True,
    }


def codes(given: dict[str, Any], **settings: Any) -> list[tuple[str, str]]:
    area = check_providers(Providers(**given), SETTINGS.changed(**settings))
    return [(finding.severity, finding.code) for finding in area.findings]


def test_all_providers_in_their_places_are_well(good: dict[str, Any]) -> None:
    assert codes(good) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"tracer": trace.ProxyTracerProvider()}, [("error", "providers.no_tracer")]),
        ({"tracer": trace.NoOpTracerProvider()}, [("error", "providers.no_tracer")]),
        ({"tracer": TracerOfAnother()}, [("note", "providers.foreign_tracer")]),
        ({"meter": metrics.NoOpMeterProvider()}, [("warning", "providers.no_meter")]),
        ({"logger": LoggersOfAnother()}, [("warning", "providers.foreign_logger")]),
        ({"logger": LoggerProvider(shutdown_on_exit=False)}, [("warning", "providers.not_connected")]),
    ],
)
def test_a_provider_that_does_not_do_is_told(
    good: dict[str, Any], change: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert codes({**good, **change}) == expected


def test_metrics_without_their_packages_go_nowhere(good: dict[str, Any]) -> None:
    missing = {**good, "meter": metrics._internal._ProxyMeterProvider()}
    assert codes(missing) == []
    assert codes({**missing, "can_make_meters": False}) == [("warning", "providers.no_meter")]
    assert codes(missing, metrics_exporter=()) == [("note", "providers.no_meter")]


def test_before_configure_what_it_will_install_is_not_missed(good: dict[str, Any]) -> None:
    nothing = {
        **good,
        "tracer": trace.ProxyTracerProvider(),
        "meter": metrics._internal._ProxyMeterProvider(),
        "logger": _logs._internal.ProxyLoggerProvider(),
        "configured": False,
    }
    assert codes(nothing) == []


def test_a_disabled_sdk_is_all_that_is_told(good: dict[str, Any]) -> None:
    nothing = {**good, "tracer": trace.NoOpTracerProvider()}
    assert codes(nothing, sdk_disabled=True) == [("error", "providers.sdk_disabled")]
