"""The OpenTelemetry providers that are missing, and the resource of the process."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Any
from weakref import ref

from opentelemetry import _logs, trace
from opentelemetry.sdk import resources
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource

from otelog._config.resolve import Settings, has_trace_variables, resolve_told_resource
from otelog._otlp.open import METRICS_METHOD, METRICS_PATH, TRACES_METHOD, TRACES_PATH, open_transport
from otelog._pipeline.processor import BatchLogRecordProcessor
from otelog._private.opentelemetry import (
    add_to_resource,
    has_fork_hook,
    is_unset_logger_provider,
    replace_resource,
)
from otelog._runtime.diagnostics import warn
from otelog._setup.meter_provider import Cadence, MetricsPipeline, is_missing
from otelog._setup.state import CONFIGURED
from otelog._setup.targets import make_target
from otelog.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace import TracerProvider

_INSTANCE_ID = "service.instance.id"


def make_resource(settings: Settings, options: dict[str, Any]) -> Resource:
    """Returns what this service is, by the settings and by what the application has set on its own LoggerProvider.

    Args:
        settings: The settings.
        options: The keywords of `configure` alone, which win over the application's.
    """
    provider = _logs.get_logger_provider()
    if isinstance(provider, LoggerProvider) and provider is not CONFIGURED.provider:
        # What the application has set on its own provider stays, but for what it sets here by name.
        resource: Resource = provider.resource.merge(Resource(resolve_told_resource(options)))
    else:
        resource = _create_resource(settings)
    if _INSTANCE_ID not in resource.attributes:
        resource = resource.merge(Resource({_INSTANCE_ID: _find_instance_id()}))
    return resource


def _find_instance_id() -> str:
    """Returns the id that is this process's as long as it lives, whichever way it is found out."""
    pid = os.getpid()
    known = CONFIGURED.instances.get(pid)
    # Exporters ask in their own threads: what the first of them has found is everybody's.
    return known or CONFIGURED.instances.setdefault(pid, _ask_sdk_for_id() or str(uuid.uuid4()))


def _ask_sdk_for_id() -> str | None:
    """Returns the id that the SDK has for this process, or will have; its oldest releases have none.

    The SDK itself asks in threads. Where none can be had, it has to be the same id that it finds later.
    """
    detector: Any = getattr(resources, "ServiceInstanceIdResourceDetector", None)
    if detector is None:
        return None
    try:
        return str(detector().detect().attributes[_INSTANCE_ID])
    except Exception:
        return None


def _create_resource(settings: Settings) -> Resource:
    try:
        return Resource.create(settings.resource_attributes)
    except RuntimeError:
        # The SDK detects in threads, which cannot be had when the interpreter ends.
        return Resource(settings.resource_attributes)


class ResourceOfProcess:
    """Returns the resource; in a forked child with a new ``service.instance.id``, the same for each of its threads."""

    def __init__(self, resource: Resource) -> None:
        self._known = os.getpid(), resource

    def __call__(self) -> Resource:
        pid, resource = self._known
        if pid != os.getpid():
            # The SDK renews the id of its own providers in the child; then both say the same.
            instance: Any = None
            if CONFIGURED.hooked is not None:
                instance = CONFIGURED.hooked.resource.attributes.get(_INSTANCE_ID)
            if instance is None or instance == resource.attributes[_INSTANCE_ID]:
                instance = _find_instance_id()
            resource = resource.merge(Resource({_INSTANCE_ID: instance}))
            # In one step: another exporter's thread may ask meanwhile, and keeps what it is given.
            self._known = os.getpid(), resource
        return resource


class _ProviderInChild:
    """Gives a forked child's records of OpenTelemetry's API the child's id where the SDK could not: it asks in threads.

    Its hook comes after the provider's own, which makes the provider's locks anew.

    Args:
        provider: The SDK's provider.
    """

    def __init__(self, provider: LoggerProvider) -> None:
        self._provider = ref(provider)
        if hasattr(os, "register_at_fork") and has_fork_hook(provider):
            os.register_at_fork(before=self._note, after_in_child=self._renew)
        self._instance: object = None

    def _note(self) -> None:
        provider = self._provider()
        self._instance = None if provider is None else provider.resource.attributes.get(_INSTANCE_ID)

    def _renew(self) -> None:
        provider = self._provider()
        if provider is not None and provider.resource.attributes.get(_INSTANCE_ID) == self._instance is not None:
            add_to_resource(provider, Resource({_INSTANCE_ID: _find_instance_id()}))


def install_logger_provider(processor: BatchLogRecordProcessor, resource: Resource) -> None:
    """Have OpenTelemetry's loggers lead to the processor, by a provider of ours where there is none."""
    provider = _logs.get_logger_provider()
    if not isinstance(provider, LoggerProvider):
        # Our own end of process comes with the counters closed; the provider's would come on top of it.
        own = LoggerProvider(resource=resource, shutdown_on_exit=False)
        _logs.set_logger_provider(own)
        provider = _logs.get_logger_provider()
        if provider is not own:
            warn("provider", "the LoggerProvider that is there is not the SDK's: its loggers' records do not come here")
            return
        CONFIGURED.provider = own
    elif provider is CONFIGURED.provider and provider.resource != resource:
        # Reconfigured: the OpenTelemetry loggers that are out there belong to the same service.
        replace_resource(provider, resource)
    if provider is not CONFIGURED.hooked:
        provider.add_log_record_processor(processor)
        CONFIGURED.hooked = provider
        _ProviderInChild(provider)


def install_tracer_provider(settings: Settings, resource: Resource) -> None:
    """Install a TracerProvider where there is none, so that records have the ids of spans."""
    present = trace.get_tracer_provider()
    if not isinstance(present, trace.ProxyTracerProvider):
        if CONFIGURED.traces is not None and CONFIGURED.traces.provider is present:
            target = make_target(settings, TRACES_PATH, TRACES_METHOD)
            CONFIGURED.traces.redirect(open_transport(target), target.timeout)
        return
    from opentelemetry.sdk.trace import TracerProvider

    provider: TracerProvider | None = None
    if "otlp" in settings.traces_exporter and "none" not in settings.traces_exporter:
        try:
            provider = _make_exporting(resource) if has_trace_variables() else _make_own_exporting(settings, resource)
        except ImportError:
            warn("traces", "OTEL_TRACES_EXPORTER asks for otlp: pip install 'otelog[metrics]' brings the exporter")
        except (RuntimeError, ConfigurationError) as error:
            warn("traces", f"traces are not sent: {error}")
    trace.set_tracer_provider(provider or TracerProvider(resource=resource))


def _make_own_exporting(settings: Settings, resource: Resource) -> TracerProvider:
    from otelog._setup.span_sender import TracesPipeline

    target = make_target(settings, TRACES_PATH, TRACES_METHOD)
    CONFIGURED.traces = TracesPipeline(open_transport(target), resource, target.timeout)
    return CONFIGURED.traces.provider


def _make_exporting(resource: Resource) -> TracerProvider:
    """Returns a provider with the SDK's own exporter, which reads the variables that are for traces alone."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def install_meter_provider(settings: Settings, resource: Callable[[], Resource]) -> None:
    """Send metrics where the logs go, by a MeterProvider of ours where there is none."""
    # Whoever sends logs elsewhere has not said where metrics may go.
    to_collector = any(entry.kind == "otlp" for entry in settings.exporters)
    if not to_collector or "otlp" not in settings.metrics_exporter or "none" in settings.metrics_exporter:
        return
    target = make_target(settings, METRICS_PATH, METRICS_METHOD)
    cadence = Cadence(settings.metric_export_interval_millis / 1000, settings.metric_export_timeout_millis / 1000)
    if CONFIGURED.meters is not None:
        CONFIGURED.meters.redirect(target, cadence, resource)
    elif is_missing():
        CONFIGURED.meters = MetricsPipeline(target, cadence, resource)
        if CONFIGURED.processor is not None:
            # The logs' thread looks after the metrics'.
            CONFIGURED.processor.add_observer(CONFIGURED.meters.tend)


def find_processor(provider: Any) -> BatchLogRecordProcessor | None:
    """Returns the processor of ours that a LoggerProvider's records reach, or None."""
    if is_unset_logger_provider(provider):
        # Made before there was a provider; it asks for the one that is there now.
        provider = _logs.get_logger_provider()
    return CONFIGURED.processor if provider is CONFIGURED.hooked is not None else None
