"""`configure` and what ends it: the pipeline, the handler, and the OpenTelemetry providers that are missing."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from otelog._capture.active_pipeline import ACTIVE_PIPELINE, UnconfiguredPort
from otelog._capture.facade import Logger
from otelog._capture.handler import LoggingHandler
from otelog._config.resolve import Settings, list_unread_files, resolve
from otelog._ledger.counters import Ledger, Stats
from otelog._patches import (
    asyncio_reports,
    log_calls,
    loguru_logger,
    process_ends,
    python_warnings,
    span_exceptions,
    structlog_chain,
    uncaught,
)
from otelog._patches.handlers import Attachment
from otelog._pipeline.assembly import make_worker
from otelog._pipeline.processor import BatchLogRecordProcessor
from otelog._record.attributes import AttributeBuilder
from otelog._record.values import Limits
from otelog._runtime.diagnostics import warn
from otelog._runtime.end_time import DEFAULT_TOTAL, END
from otelog._runtime.threads import find_thread_name
from otelog._setup import crashes
from otelog._setup.destinations import make_destinations
from otelog._setup.providers import (
    ResourceOfProcess,
    find_processor,
    install_logger_provider,
    install_meter_provider,
    install_tracer_provider,
    make_resource,
)
from otelog._setup.state import CONFIGURED, configuring, is_configured

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Unpack

    from otelog.typing import ConfigureOptions


def configure(**options: Unpack[ConfigureOptions]) -> None:
    """Set up the pipeline: from then on the facade, standard logging and any OpenTelemetry logger are exported.

    It installs a handler on the root logger and the providers that are missing (loggers, tracer, meter), and replaces
    none that is there. Called again with the same options it does nothing; with others it delivers what is queued, and
    replaces the pipeline, while the ledger stays.

    Args:
        options: Keyword-only; `otelog.typing.ConfigureOptions` and docs/reference/options.md have them all. What is
            not given comes from the environment, then from the default.

    Raises:
        ConfigurationError: An option is unknown or has a value that is not allowed. A bad value in the environment is
            reported on standard error, and the default is used.

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
    with configuring:
        if settings != CONFIGURED.settings or ACTIVE_PIPELINE.configured.queue.closed:
            _open_pipeline(settings, dict(options))
            CONFIGURED.settings = settings
            if settings.install_handler:
                _set_root_level(settings.level)
            END.renew(settings.shutdown_timeout)
            if settings.handle_exit:
                process_ends.install_exits()
            else:
                process_ends.uninstall_exits()
            if settings.handle_sigterm:
                process_ends.install_sigterm()
            else:
                process_ends.uninstall_sigterm()
            if settings.capture_exceptions:
                _install_exceptions()
            else:
                _uninstall_exceptions()
            if settings.capture_warnings:
                python_warnings.install()
            else:
                python_warnings.uninstall()
            if settings.crash_folder is not None:
                crashes.install(settings.crash_folder)
            else:
                crashes.uninstall()
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
            log_calls.install()
        else:
            log_calls.uninstall()
        _capture_libraries(settings)


def _capture_libraries(settings: Settings) -> None:
    if settings.capture_structlog:
        structlog_chain.install()
    else:
        structlog_chain.uninstall()
    if settings.capture_loguru:
        loguru_logger.install()
    else:
        loguru_logger.uninstall()


def _show_targets(settings: Settings) -> str:
    # A query may hold a key.
    endpoint = urlsplit(settings.endpoint)._replace(query="").geturl()
    kinds = [entry.name or entry.kind or type(entry.exporter).__name__ for entry in settings.exporters]
    return ", ".join(endpoint if kind == "otlp" else kind for kind in kinds) or "nowhere"


def ensure_handler() -> None:
    """Put the handler again where it belongs, if `configure` has installed it."""
    if CONFIGURED.attachment is not None:
        CONFIGURED.attachment.check()


def shield_loggers() -> None:
    """Have dictConfig and fileConfig not disable the loggers that there are now, whatever they do to existing ones."""
    if CONFIGURED.attachment is not None:
        CONFIGURED.attachment.shield()


def keep_last_resort() -> None:
    """Have a `configure` that comes leave on the console what `logging` writes there for want of any handler."""
    CONFIGURED.last_resort = True


def _open_pipeline(settings: Settings, options: dict[str, Any]) -> None:
    # First what may be refused, so that a bad file changes nothing.
    destinations = make_destinations(settings)
    resource = make_resource(settings, options)
    install_tracer_provider(settings, resource)
    attributes = AttributeBuilder(
        Limits(max_attributes=settings.max_attributes, max_value_length=settings.max_attribute_length),
        code_attributes=settings.code_attributes,
        thread_names=find_thread_name if settings.thread_attributes else None,
        message_template=settings.message_template,
    )
    old = CONFIGURED.processor
    ledger: Ledger | None = old.ledger if old is not None and is_configured() else None
    resource_of_process = ResourceOfProcess(resource)
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
        old = CONFIGURED.processor = BatchLogRecordProcessor.of_worker(worker, ACTIVE_PIPELINE)
        for observer in CONFIGURED.observers:
            old.add_observer(observer)
    else:
        old.replace_worker(worker, settings.shutdown_timeout)
    for observer in CONFIGURED.observers:
        # Before anything happens: what is published for the first time with its first loss shows no increase.
        old.notify(observer)
    install_logger_provider(old, resource)
    install_meter_provider(settings, resource_of_process)


def _install_exceptions() -> None:
    span_exceptions.install()
    asyncio_reports.install()
    uncaught.install()


def _uninstall_exceptions() -> None:
    uncaught.uninstall()
    asyncio_reports.uninstall()
    span_exceptions.uninstall()


def _set_root_level(level: int) -> None:
    root = logging.getLogger()
    if CONFIGURED.level_before is None:
        CONFIGURED.level_before = root.level
    root.setLevel(level)


def _install_handler(settings: Settings) -> None:
    attachment = CONFIGURED.attachment
    if (
        attachment is None
        or attachment.non_propagating != settings.capture_non_propagating
        or not attachment.is_installed
    ):
        _remove_handler()
        attachment = CONFIGURED.attachment = Attachment(
            LoggingHandler(),
            find_processor,
            non_propagating=settings.capture_non_propagating,
            last_resort=CONFIGURED.last_resort,
        )
        attachment.install()
    else:
        attachment.check()


def _remove_handler() -> None:
    attachment, CONFIGURED.attachment = CONFIGURED.attachment, None
    if attachment is not None:
        attachment.uninstall()


def _replace_console_handlers() -> None:
    from otelog.sinks.console import replace_console_handlers

    CONFIGURED.console_handlers += tuple(replace_console_handlers())


def _restore_console_handlers() -> None:
    handlers, CONFIGURED.console_handlers = CONFIGURED.console_handlers, ()
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
    return Logger(str(name), ACTIVE_PIPELINE)


def stats() -> Stats:
    """Returns a consistent snapshot of the counters of the configured pipeline; all zero before `configure`."""
    processor = CONFIGURED.processor if is_configured() else None
    return Ledger().read() if processor is None else processor.stats()


def flush(timeout: float = 5.0) -> bool:
    """Deliver what is queued.

    Args:
        timeout: Seconds to wait.

    Returns:
        Whether everything that was queued or in flight was delivered in that time; True before `configure`.
    """
    processor = CONFIGURED.processor if is_configured() else None
    return True if processor is None else processor.force_flush(timeout * 1000)


def shutdown(timeout: float = 5.0) -> bool:
    """Deliver what is queued, and end the pipeline; later calls are refused, and counted. Idempotent.

    Where `configure` has installed a MeterProvider, the last counts are sent in what is left of the time.

    Args:
        timeout: Seconds, for everything; not more than is left of `shutdown_timeout` when the process is ending.

    Returns:
        Whether everything was delivered; what was not is counted as ``shutdown_timeout``.
    """
    _uninstall_exceptions()
    python_warnings.uninstall()
    with END.spend(timeout) as deadline:
        processor = CONFIGURED.processor if is_configured() else None
        delivered = processor is None or processor.shutdown((deadline - time.monotonic()) * 1000)
        if CONFIGURED.meters is not None:
            CONFIGURED.meters.flush(deadline - time.monotonic())
    return delivered


def add_observer(observer: Callable[[Ledger, bool], None]) -> None:
    """Have the counters of the configured pipeline published, also if it is configured later.

    Args:
        observer: See `BatchLogRecordProcessor.add_observer`.
    """
    with configuring:
        CONFIGURED.observers += (observer,)
        if CONFIGURED.processor is not None:
            CONFIGURED.processor.add_observer(observer)
            if is_configured():
                CONFIGURED.processor.notify(observer)


def reset() -> None:
    """Take everything back that `configure` has installed, for tests; OpenTelemetry's global providers stay."""
    if CONFIGURED.processor is not None:
        CONFIGURED.processor.shutdown(0.0)
    log_calls.uninstall()
    structlog_chain.uninstall()
    loguru_logger.uninstall()
    _remove_handler()
    _restore_console_handlers()
    _uninstall_exceptions()
    python_warnings.uninstall()
    crashes.uninstall()
    process_ends.uninstall_exits()
    process_ends.uninstall_sigterm()
    END.renew(DEFAULT_TOTAL)
    if CONFIGURED.level_before is not None:
        logging.getLogger().setLevel(CONFIGURED.level_before)
    ACTIVE_PIPELINE.port = UnconfiguredPort()
    CONFIGURED.settings = CONFIGURED.level_before = None
