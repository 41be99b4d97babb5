"""`configure` and what ends it: the pipeline, the handler, and the OpenTelemetry providers that are missing."""

from __future__ import annotations

import logging
import os
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opentelemetry import _logs, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource

from otelog import _direct, _ends
from otelog._assembly import make_worker
from otelog._attachment import Attachment
from otelog._attributes import AttributeBuilder
from otelog._config import Settings, find_usable_proxy, list_unread_files, resolve, resolve_told_resource
from otelog._destinations import make_destinations
from otelog._diagnostics import warn
from otelog._end_time import DEFAULT_TOTAL, END
from otelog._exchange import TransportSettings
from otelog._ledger import Ledger, Stats
from otelog._meter_provider import Cadence, MetricsPipeline, is_missing
from otelog._opening import METRICS_METHOD
from otelog._private.opentelemetry import is_unset_logger_provider
from otelog._replacing import keep
from otelog._state import GATE, UnconfiguredPort
from otelog._threads import Lock, find_thread_name
from otelog._values import Limits
from otelog._version import USER_AGENT
from otelog.handler import LoggingHandler
from otelog.logger import Logger
from otelog.processor import BatchLogRecordProcessor

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Unpack

    from otelog.typing import ConfigureOptions

_INSTANCE_ID = "service.instance.id"

_configuring = Lock()


class _Configured:
    """What `configure` has set up in this process."""

    processor: BatchLogRecordProcessor | None = None
    attachment: Attachment | None = None
    last_resort: bool = False
    """Whether the console of an application that installs no handler is to stay as it is."""
    settings: Settings | None = None
    level_before: int | None = None
    provider: LoggerProvider | None = None
    """The provider that `configure` itself has installed."""
    hooked: LoggerProvider | None = None
    """The provider that hands its records to `processor`."""
    meters: MetricsPipeline | None = None
    observers: tuple[Callable[[Ledger, bool], None], ...] = ()
    """Added to the first pipeline, and handed on from each to the next."""
    console_handlers: tuple[logging.Handler, ...] = ()
    """Taken off the root logger."""
    instance: tuple[int, str] | None = None
    """The id of a process that the SDK gives none, with the process's number."""


_configured: _Configured = keep(globals(), "_configured", _Configured)


def configure(**options: Unpack[ConfigureOptions]) -> None:
    """Set up the pipeline: from then on the facade, standard logging and any OpenTelemetry logger are exported.

    It installs a handler on the root logger and the providers that are missing (loggers, tracer, meter), and replaces
    none that is there. Called again with the same options it does nothing; with others it delivers what is queued, and
    replaces the pipeline, while the ledger goes on.

    Args:
        options: Keyword-only; `otelog.typing.ConfigureOptions` and the README's table have them all. What is not given
            comes from the environment, then from the default.

    Raises:
        ConfigurationError: An option is unknown or has a value that is not allowed. A bad value in the environment is
            told on standard error, and the default is used.

    Thread safety: calls are serialised.
    """
    settings = resolve(options)
    for warning in settings.warnings:
        warn(f"config:{warning}", warning)
    if settings.sdk_disabled:
        return
    for variable in list_unread_files():
        warn(
            f"config:{variable}",
            f"{variable}: OpenTelemetry's declarative configuration is not read yet, and nothing in it has an effect "
            f"here; logs go to {_show_targets(settings)}: set OTEL_EXPORTER_OTLP_ENDPOINT or OTELOG_CONFIG_FILE",
        )
    with _configuring:
        if settings != _configured.settings or GATE.configured.queue.closed:
            _open_pipeline(settings, dict(options))
            _configured.settings = settings
            if settings.install_handler:
                _set_root_level(settings.level)
            END.renew(settings.shutdown_timeout)
            if settings.handle_exit:
                _ends.install_exits()
            else:
                _ends.uninstall_exits()
            if settings.handle_sigterm:
                _ends.install_sigterm()
            else:
                _ends.uninstall_sigterm()
        # With the same options, too: dictConfig and the like may have taken it off.
        if settings.install_handler:
            _install_handler(settings)
        else:
            _remove_handler()
        if settings.replace_console_handler:
            _replace_console_handlers()
        else:
            _restore_console_handlers()
        if settings.direct_logging:
            _direct.install()
        else:
            _direct.uninstall()


def _show_targets(settings: Settings) -> str:
    # A query may hold a key.
    endpoint = urlsplit(settings.endpoint)._replace(query="").geturl()
    kinds = [entry.name or entry.kind or type(entry.exporter).__name__ for entry in settings.exporters]
    return ", ".join(endpoint if kind == "otlp" else kind for kind in kinds) or "nowhere"


def is_configured() -> bool:
    """Returns whether `configure` has set up a pipeline."""
    return _configured.settings is not None


def settings_in_force() -> Settings | None:
    """Returns the options that `configure` was called with, resolved; None before."""
    return _configured.settings


def is_running() -> bool:
    """Returns whether the pipeline of `configure` takes records and has its thread."""
    processor = _configured.processor if is_configured() else None
    return processor is not None and processor.is_running


def wants_handler() -> bool:
    """Returns whether `configure` was told to install the handler."""
    return _configured.settings is not None and _configured.settings.install_handler


def ensure_handler() -> None:
    """Put the handler again where it belongs, if `configure` was told to install it."""
    if _configured.attachment is not None:
        _configured.attachment.check()


def shield_loggers() -> None:
    """Have dictConfig and fileConfig not disable the loggers that there are now, whatever they do to existing ones."""
    if _configured.attachment is not None:
        _configured.attachment.shield()


def keep_last_resort() -> None:
    """Have a `configure` that comes leave on the console what `logging` writes there for want of any handler."""
    _configured.last_resort = True


def _open_pipeline(settings: Settings, options: dict[str, Any]) -> None:
    # First what may be refused, so that a bad file changes nothing.
    destinations = make_destinations(settings)
    resource = _make_resource(settings, options)
    _install_tracer_provider(settings, resource)
    attributes = AttributeBuilder(
        Limits(max_attributes=settings.max_attributes, max_value_length=settings.max_attribute_length),
        code_attributes=settings.code_attributes,
        thread_names=find_thread_name if settings.thread_attributes else None,
        message_template=settings.message_template,
    )
    old = _configured.processor
    ledger: Ledger | None = old.ledger if old is not None and is_configured() else None
    resource_of_process = _ResourceOfProcess(resource)
    worker = make_worker(
        destinations,
        settings,
        attributes,
        resource_of_process,
        meter_provider=None,
        shutdown_timeout=settings.shutdown_timeout,
        level=settings.level,
        ledger=ledger,
    )
    if old is None:
        old = _configured.processor = BatchLogRecordProcessor.of_worker(worker, GATE)
        for observer in _configured.observers:
            old.add_observer(observer)
    else:
        old.replace_worker(worker, settings.shutdown_timeout)
    for observer in _configured.observers:
        # Before anything happens: what is published for the first time with its first loss shows no increase.
        old.notify(observer)
    _install_logger_provider(old, resource)
    _install_meter_provider(settings, resource_of_process)


def _make_resource(settings: Settings, options: dict[str, Any]) -> Resource:
    provider = _logs.get_logger_provider()
    if isinstance(provider, LoggerProvider) and provider is not _configured.provider:
        # What the application has told its own provider stays, but for what it tells us in so many words.
        resource: Resource = provider.resource.merge(Resource(resolve_told_resource(options)))
    else:
        resource = _create_resource(settings)
    if _INSTANCE_ID not in resource.attributes:
        resource = resource.merge(Resource({_INSTANCE_ID: _find_instance_id()}))
    return resource


def _find_instance_id() -> str:
    """Returns an id that is this process's as long as it lives; SDKs have one of their own, but not the oldest."""
    pid = os.getpid()
    if _configured.instance is None or _configured.instance[0] != pid:
        _configured.instance = pid, str(uuid.uuid4())
    return _configured.instance[1]


def _create_resource(settings: Settings) -> Resource:
    try:
        return Resource.create(settings.resource_attributes)
    except RuntimeError:
        # The SDK detects in threads, which cannot be had when the interpreter ends.
        return Resource(settings.resource_attributes)


class _ResourceOfProcess:
    """Returns the resource; in a forked child with a new ``service.instance.id``, once for each process."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._pid = os.getpid()

    def __call__(self) -> Resource:
        if os.getpid() != self._pid:
            self._pid = os.getpid()
            # The SDK renews the id of its own providers in the child; then both say the same.
            instance: Any = None
            if _configured.hooked is not None:
                instance = _configured.hooked.resource.attributes.get(_INSTANCE_ID)
            if instance is None or instance == self._resource.attributes[_INSTANCE_ID]:
                instance = _find_instance_id()
            self._resource = self._resource.merge(Resource({_INSTANCE_ID: instance}))
        return self._resource


def _install_logger_provider(processor: BatchLogRecordProcessor, resource: Resource) -> None:
    provider = _logs.get_logger_provider()
    if not isinstance(provider, LoggerProvider):
        # Our own end of process comes with the books closed; the provider's would come on top of it.
        own = LoggerProvider(resource=resource, shutdown_on_exit=False)
        _logs.set_logger_provider(own)
        provider = _logs.get_logger_provider()
        if provider is not own:
            warn("provider", "the LoggerProvider that is there is not the SDK's: its loggers' records do not come here")
            return
        _configured.provider = own
    elif provider is _configured.provider and provider.resource != resource and hasattr(provider, "_update_resource"):
        # Reconfigured: the OpenTelemetry loggers that are out there belong to the same service. What the provider is
        # given here it merges into what it has.
        provider._resource = Resource.get_empty()
        provider._update_resource(resource)
    if provider is not _configured.hooked:
        provider.add_log_record_processor(processor)
        _configured.hooked = provider


def _install_tracer_provider(settings: Settings, resource: Resource) -> None:
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(resource=resource)
    if "otlp" in settings.traces_exporter:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            warn("traces", "OTEL_TRACES_EXPORTER asks for otlp: pip install 'otelog[metrics]' brings the exporter")
        else:
            provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def _install_meter_provider(settings: Settings, resource: Callable[[], Resource]) -> None:
    # Whoever sends logs elsewhere has not said where metrics may go.
    to_collector = any(entry.kind == "otlp" for entry in settings.exporters)
    if not to_collector or "otlp" not in settings.metrics_exporter or "none" in settings.metrics_exporter:
        return
    base = urlsplit(settings.base_endpoint)
    by_grpc = settings.base_protocol == "grpc"
    # Headers, often a secret, only go where the logs go.
    same_server = urlsplit(settings.endpoint).netloc == base.netloc
    endpoint = base._replace(path="" if by_grpc else base.path.rstrip("/") + "/v1/metrics").geturl()
    target = TransportSettings(
        endpoint=endpoint,
        headers=settings.headers if same_server else {},
        compression="gzip" if by_grpc and settings.compression == "zstd" else settings.compression,
        timeout=settings.timeout,
        certificate_file=settings.certificate_file,
        client_certificate_file=settings.client_certificate_file,
        client_key_file=settings.client_key_file,
        proxy=find_usable_proxy(settings.proxy, endpoint, settings.base_protocol),
        user_agent=USER_AGENT,
        grpc_method=METRICS_METHOD if by_grpc else None,
    )
    cadence = Cadence(settings.metric_export_interval_millis / 1000, settings.metric_export_timeout_millis / 1000)
    if _configured.meters is not None:
        _configured.meters.redirect(target, cadence, resource)
    elif is_missing():
        _configured.meters = MetricsPipeline(target, cadence, resource)
        if _configured.processor is not None:
            # The logs' thread looks after the metrics'.
            _configured.processor.add_observer(_configured.meters.tend)


def _set_root_level(level: int) -> None:
    root = logging.getLogger()
    if _configured.level_before is None:
        _configured.level_before = root.level
    root.setLevel(level)


def _install_handler(settings: Settings) -> None:
    attachment = _configured.attachment
    if (
        attachment is None
        or attachment.non_propagating != settings.capture_non_propagating
        or not attachment.is_installed
    ):
        _remove_handler()
        attachment = _configured.attachment = Attachment(
            LoggingHandler(),
            _find_processor,
            non_propagating=settings.capture_non_propagating,
            last_resort=_configured.last_resort,
        )
        attachment.install()
    else:
        attachment.check()


def _find_processor(provider: Any) -> BatchLogRecordProcessor | None:
    if is_unset_logger_provider(provider):
        # Made before there was a provider; it asks for the one that is there now.
        provider = _logs.get_logger_provider()
    return _configured.processor if provider is _configured.hooked is not None else None


def _remove_handler() -> None:
    attachment, _configured.attachment = _configured.attachment, None
    if attachment is not None:
        attachment.uninstall()


def _replace_console_handlers() -> None:
    from otelog.sinks.console import replace_console_handlers

    _configured.console_handlers += tuple(replace_console_handlers())


def _restore_console_handlers() -> None:
    handlers, _configured.console_handlers = _configured.console_handlers, ()
    for handler in handlers:
        logging.getLogger().addHandler(handler)


def get_logger(name: str | None = None) -> Logger:
    """Returns a facade logger.

    Args:
        name: The scope of its records, usually ``__name__``; by default the calling module's.

    It may be called before `configure`; until then its calls go to the standard library's logger of that name.
    """
    if name is None:
        name = str(sys._getframe(1).f_globals.get("__name__", ""))
    return Logger(str(name), GATE)


def stats() -> Stats:
    """Returns a consistent snapshot of the books of the configured pipeline; all zero before `configure`."""
    processor = _configured.processor if is_configured() else None
    return Ledger().read() if processor is None else processor.stats()


def flush(timeout: float = 5.0) -> bool:
    """Deliver what is queued.

    Args:
        timeout: Seconds to wait.

    Returns:
        Whether everything that was queued or in flight was delivered in that time; True before `configure`.
    """
    processor = _configured.processor if is_configured() else None
    return True if processor is None else processor.force_flush(timeout * 1000)


def shutdown(timeout: float = 5.0) -> bool:
    """Deliver what is queued, and end the pipeline; later calls are refused, and counted. Idempotent.

    Where `configure` has installed a MeterProvider, the last counts are sent in what is left of the time.

    Args:
        timeout: Seconds, for everything; not more than is left of `shutdown_timeout` when the process is ending.

    Returns:
        Whether everything was delivered; what was not is counted as ``shutdown_timeout``.
    """
    with END.spend(timeout) as deadline:
        processor = _configured.processor if is_configured() else None
        delivered = processor is None or processor.shutdown((deadline - time.monotonic()) * 1000)
        if _configured.meters is not None:
            _configured.meters.flush(deadline - time.monotonic())
    return delivered


def add_observer(observer: Callable[[Ledger, bool], None]) -> None:
    """Have the books of the configured pipeline published, also if it is configured later.

    Args:
        observer: See `BatchLogRecordProcessor.add_observer`.
    """
    with _configuring:
        _configured.observers += (observer,)
        if _configured.processor is not None:
            _configured.processor.add_observer(observer)
            if is_configured():
                _configured.processor.notify(observer)


def reset() -> None:
    """Take everything back that `configure` has installed, for tests; OpenTelemetry's global providers stay."""
    if _configured.processor is not None:
        _configured.processor.shutdown(0.0)
    _direct.uninstall()
    _remove_handler()
    _restore_console_handlers()
    _ends.uninstall_exits()
    _ends.uninstall_sigterm()
    END.renew(DEFAULT_TOTAL)
    if _configured.level_before is not None:
        logging.getLogger().setLevel(_configured.level_before)
    GATE.port = UnconfiguredPort()
    _configured.settings = _configured.level_before = None
