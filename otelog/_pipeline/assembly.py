"""What a pipeline is made of: the queue, a way to each exporter, and the worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk._logs.export import LogRecordExporter
from opentelemetry.sdk.resources import Resource

from otelog._capture.queue import RecordQueue
from otelog._config.table import QueueOptions
from otelog._ledger.counters import Ledger
from otelog._ledger.otel_metrics import publish
from otelog._ledger.report import LossReport
from otelog._pipeline.batch_export import BatchExport, BatchExporter, ExportContext, SdkBatchExport
from otelog._pipeline.export_step import ExportStep
from otelog._pipeline.worker import Worker
from otelog._record.attributes import AttributeBuilder
from otelog._record.sdk import ReadableMaker

if TYPE_CHECKING:
    from otelog._pipeline.outlet import Outlet
    from otelog._pipeline.route import Route


class Destination:
    """One exporter of a pipeline, and what it gets.

    Args:
        exporter: Any exporter of the SDK's interface.
        route: Which records it gets; None for all.
        name: Its name in the ledger; by default after its kind.
        max_queue_size: Records that wait for it at most, where there are several; by default the queue's own bound.
    """

    __slots__ = ("exporter", "max_queue_size", "name", "route")

    def __init__(
        self,
        exporter: LogRecordExporter,
        route: Route | None = None,
        name: str | None = None,
        max_queue_size: int | None = None,
    ) -> None:
        self.exporter = exporter
        self.route = route
        self.name = name
        self.max_queue_size = max_queue_size


def make_worker(
    destinations: Sequence[Destination],
    settings: QueueOptions,
    attributes: AttributeBuilder,
    resource: Callable[[], Resource],
    *,
    meter_provider: MeterProvider | None,
    shutdown_timeout: float,
    level: int = 0,
    ledger: Ledger | None = None,
) -> Worker:
    """Build the queue, each exporter's side and the worker, and start it.

    Args:
        destinations: Where every record goes; a single one that takes everything is served in the worker's own thread.
        settings: The options.
        attributes: What a record's attributes are.
        resource: Returns the resource of the facade's and the handler's records; asked anew after a fork.
        meter_provider: Where the ledger is published; None for the global one.
        shutdown_timeout: Seconds that the process's end may take.
        level: The least level of the facade.
        ledger: The ledger of the pipeline that this one replaces.
    """
    queue = RecordQueue(
        settings.max_queue_size,
        settings.max_queue_bytes,
        when_full=settings.when_full,
        block_timeout=settings.block_timeout,
        reserve=settings.reserve_for_errors,
    )
    ledger = Ledger() if ledger is None else ledger
    batch_exports: list[BatchExport] = []
    for one in destinations:
        batch_export = _make_batch_export(one, _find_name(one, batch_exports), settings, attributes, resource)
        batch_export.on_exchange = publish(
            ledger,
            batch_export.name,
            component_type=batch_export.component_type,
            endpoint=batch_export.endpoint,
            meter_provider=meter_provider,
        )
        batch_exports.append(batch_export)
    return Worker(
        queue,
        ledger,
        _make_outlet(destinations, batch_exports, ledger, settings, attributes, resource),
        max_export_batch_size=settings.max_export_batch_size,
        schedule_delay=settings.schedule_delay_millis / 1000,
        limits=attributes.limits.for_capture(),
        level=level,
        observers=(LossReport(),),
        shutdown_timeout=shutdown_timeout,
    )


def _make_outlet(
    destinations: Sequence[Destination],
    batch_exports: Sequence[BatchExport],
    ledger: Ledger,
    settings: QueueOptions,
    attributes: AttributeBuilder,
    resource: Callable[[], Resource],
) -> Outlet:
    if len(batch_exports) == 1 and destinations[0].route is None:
        return ExportStep(batch_exports[0], ledger)
    # Late, because most have a single exporter that gets everything.
    from otelog._pipeline.dispatcher import Dispatcher, Progress
    from otelog._pipeline.exporter_queue import ExporterQueue
    from otelog._pipeline.route import Bounds, Route

    progress = Progress()
    return Dispatcher(
        [
            ExporterQueue(
                batch_export,
                ledger,
                bounds=Bounds(
                    one.max_queue_size or settings.max_queue_size,
                    settings.max_queue_bytes,
                    settings.reserve_for_errors,
                ),
                route=one.route or Route(),
                make_readable=ReadableMaker(resource, attributes).make,
                on_progress=progress.notify,
            )
            for one, batch_export in zip(destinations, batch_exports, strict=True)
        ],
        progress,
        # Callers wait meanwhile, and must not be refused because one exporter hangs.
        room_timeout=settings.block_timeout / 2 if settings.when_full == "block" else 0.0,
    )


def _make_batch_export(
    destination: Destination,
    name: str,
    settings: QueueOptions,
    attributes: AttributeBuilder,
    resource: Callable[[], Resource],
) -> BatchExport:
    exporter = destination.exporter
    if isinstance(exporter, BatchExporter):
        return exporter.make_batch_export(
            ExportContext(name, resource, attributes, settings.export_timeout_millis / 1000)
        )
    readable = ReadableMaker(resource, attributes).make
    return SdkBatchExport(exporter, readable, name, bisect=settings.bisect_failed_exports)


def _find_name(destination: Destination, before: Sequence[BatchExport]) -> str:
    """Returns the exporter's name in the ledger: its own, or its kind's with a number where that is taken."""
    exporter = destination.exporter
    kind = exporter.default_name if isinstance(exporter, BatchExporter) else type(exporter).__name__
    wanted = name = destination.name or kind
    number = 2
    while any(batch_export.name == name for batch_export in before):
        name = f"{wanted}#{number}"
        number += 1
    return name
