"""Whether there are OpenTelemetry providers, and whether they lead to otelog."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from opentelemetry import _logs, metrics, trace

from otelog._config.resolve import Settings
from otelog.doctor._findings import Area, Finding, make_area
from otelog.doctor._ways import leads_to_otelog

_SDK = "opentelemetry.sdk."
# By their names: the API's stand-ins are private, and differ between its releases.
_STAND_INS = ("ProxyTracerProvider", "_ProxyMeterProvider", "ProxyLoggerProvider")
_DOES_NOTHING = ("NoOpTracerProvider", "NoOpMeterProvider", "NoOpLoggerProvider")


@dataclass(frozen=True, slots=True)
class Providers:
    """The process's global providers, and what `otelog.configure` can add.

    Args:
        tracer: Of spans, whose ids are the records' trace ids.
        meter: Of metrics, which the ledger is published through.
        logger: Of OpenTelemetry's own loggers.
        configured: Whether `otelog.configure` has been called.
        can_make_meters: Whether the packages are there that a MeterProvider with OTLP needs.
    """

    tracer: Any
    meter: Any
    logger: Any
    configured: bool
    can_make_meters: bool


def look_at_providers(*, configured: bool) -> Providers:
    """Returns the providers of this process."""
    return Providers(
        tracer=trace.get_tracer_provider(),
        meter=metrics.get_meter_provider(),
        logger=_logs.get_logger_provider(),
        configured=configured,
        can_make_meters=_is_importable("opentelemetry.exporter.otlp.proto.common"),
    )


def check_providers(found: Providers, settings: Settings) -> Area:
    """Judge the providers as they are, or as `configure` will make them where it has not been called."""
    if settings.sdk_disabled:
        disabled = Finding(
            "error",
            "providers.sdk_disabled",
            "OTEL_SDK_DISABLED",
            "is true: no record, span or metric is made",
            "unset OTEL_SDK_DISABLED",
        )
        return make_area("providers", [], [disabled])
    facts: list[str] = []
    findings = [
        *_check_tracer(found, facts),
        *_check_meter(found, settings, facts),
        *_check_logger(found, facts),
    ]
    return make_area("providers", facts, findings)


def _check_tracer(found: Providers, facts: list[str]) -> Iterator[Finding]:
    name = type(found.tracer).__name__
    if name in _STAND_INS and not found.configured:
        facts.append("otelog.configure() installs a TracerProvider, so that there are trace ids")
    elif name in _STAND_INS or name in _DOES_NOTHING:
        yield Finding(
            "error",
            "providers.no_tracer",
            name,
            "there is no TracerProvider that makes spans: every trace id is zero",
            "call otelog.configure(), or set the SDK's TracerProvider before it",
        )
    elif not type(found.tracer).__module__.startswith(_SDK):
        yield Finding(
            "note",
            "providers.foreign_tracer",
            _path(found.tracer),
            "the TracerProvider is not the SDK's; records carry whatever ids its spans have",
            "nothing, if its spans have ids",
        )
    else:
        facts.append("a TracerProvider is there")


def _check_meter(found: Providers, settings: Settings, facts: list[str]) -> Iterator[Finding]:
    name = type(found.meter).__name__
    if name not in _STAND_INS and name not in _DOES_NOTHING:
        facts.append("a MeterProvider is there, which the ledger is published through")
        return
    wanted = "otlp" in settings.metrics_exporter and any(entry.kind == "otlp" for entry in settings.exporters)
    if name in _STAND_INS and wanted and found.can_make_meters:
        facts.append("otelog.configure() installs a MeterProvider, which the ledger is published through")
    elif name in _STAND_INS and wanted:
        yield Finding(
            "warning",
            "providers.no_meter",
            "MeterProvider",
            "there is none, and the packages for one are missing: the ledger's metrics go nowhere",
            "pip install 'otelog[metrics]'",
        )
    else:
        yield Finding(
            "warning" if name in _DOES_NOTHING else "note",
            "providers.no_meter",
            "MeterProvider",
            "there is none: the ledger's metrics go nowhere",
            "let OTEL_METRICS_EXPORTER be otlp, or publish the ledger with otelog.prometheus",
        )


def _check_logger(found: Providers, facts: list[str]) -> Iterator[Finding]:
    name = type(found.logger).__name__
    if name in _STAND_INS and not found.configured:
        facts.append("otelog.configure() installs a LoggerProvider")
    elif not type(found.logger).__module__.startswith(_SDK):
        yield Finding(
            "warning",
            "providers.foreign_logger",
            _path(found.logger),
            "the LoggerProvider is not the SDK's: records of OpenTelemetry's loggers do not come to otelog",
            "let otelog.configure() install one, or set the SDK's",
        )
    elif found.configured and not leads_to_otelog(found.logger):
        yield Finding(
            "warning",
            "providers.not_connected",
            _path(found.logger),
            "the LoggerProvider has no processor of otelog's: records of OpenTelemetry's loggers do not come to it",
            "set it before otelog.configure(), not after",
        )
    else:
        facts.append("a LoggerProvider is there" + (", and leads to otelog" if found.configured else ""))


def _path(provider: object) -> str:
    kind = type(provider)
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False
