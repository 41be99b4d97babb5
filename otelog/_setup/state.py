"""What `configure` has set up in this process."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from opentelemetry.sdk._logs import LoggerProvider

from otelog._config.resolve import Settings
from otelog._ledger.counters import Ledger
from otelog._patches.handlers import Attachment
from otelog._pipeline.processor import BatchLogRecordProcessor
from otelog._runtime.replacing import keep
from otelog._runtime.threads import Lock
from otelog._setup.meter_provider import MetricsPipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from otelog._setup.span_sender import TracesPipeline

configuring = Lock()
"""Held by whoever changes it."""


class Configured:
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
    traces: TracesPipeline | None = None
    observers: tuple[Callable[[Ledger, bool], None], ...] = ()
    """Added to the first pipeline, and handed on from each to the next."""
    console_handlers: tuple[logging.Handler, ...] = ()
    """Taken off the root logger."""

    def __init__(self) -> None:
        self.instances: dict[int, str] = {}
        """The id of a process, by the process's number; a forked child has its parent's, too."""


CONFIGURED: Configured = keep(globals(), "CONFIGURED", Configured)


def is_configured() -> bool:
    """Returns whether `configure` has set up a pipeline."""
    return CONFIGURED.settings is not None


def settings_in_force() -> Settings | None:
    """Returns the options that `configure` was called with, resolved; None before."""
    return CONFIGURED.settings


def is_running() -> bool:
    """Returns whether the pipeline of `configure` takes records and has its thread."""
    processor = CONFIGURED.processor if is_configured() else None
    return processor is not None and processor.is_running


def wants_handler() -> bool:
    """Returns whether `configure` is to install the handler."""
    return CONFIGURED.settings is not None and CONFIGURED.settings.install_handler
