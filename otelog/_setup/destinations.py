"""The exporters that the settings ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from otelog._config.resolve import (
    ExporterSettings,
    Settings,
    append_logs_path,
    list_network_variables,
    resolve_exporter,
)
from otelog._config.table import EXPORTERS
from otelog._otlp.exporter import OTLPLogExporter
from otelog._pipeline.assembly import Destination
from otelog._record.severity import severity_number
from otelog.exceptions import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter

    from otelog._config.kinds import Entry
_CREDENTIALS = ("headers", "certificate_file", "client_certificate_file", "client_key_file")


def make_destinations(settings: Settings) -> list[Destination]:
    """Make the exporters of the list, each with what it gets.

    Raises:
        ConfigurationError: An exporter cannot be made as it is described.
    """
    return [_make_destination(entry, settings) for entry in settings.exporters]


def _make_destination(entry: Entry, settings: Settings) -> Destination:
    level = entry.level
    if level is None:
        level = getattr(settings, f"{entry.kind}_level", None)
    selective = level is not None or entry.loggers or entry.filter is not None
    if not selective:
        return Destination(_make_exporter(entry, settings), name=entry.name, max_queue_size=entry.max_queue_size)
    # Late, because most have a single exporter that gets everything.
    from otelog._pipeline.route import Route

    route = Route(0 if level is None else severity_number(level), entry.loggers, entry.filter)
    return Destination(_make_exporter(entry, settings), route, entry.name, entry.max_queue_size)


def _make_exporter(entry: Entry, settings: Settings) -> LogRecordExporter:
    if entry.kind == "otlp":
        return _make_otlp(entry, settings)
    if entry.kind == "file":
        from otelog.sinks.files import FileLogExporter

        return FileLogExporter(**_values_of(entry, settings))
    if entry.kind == "console":
        from otelog.sinks.console import ConsoleLogExporter

        return ConsoleLogExporter(**_values_of(entry, settings))
    exporter: LogRecordExporter = entry.exporter
    return exporter


def _make_otlp(entry: Entry, settings: Settings) -> OTLPLogExporter:
    return OTLPLogExporter.of_settings(resolve_otlp(entry, settings))


def resolve_otlp(entry: Entry, settings: Settings) -> ExporterSettings:
    """Returns what an OTLP exporter of the list says itself, over the general options.

    Raises:
        ConfigurationError: The two do not fit together.
    """
    values = ExporterSettings.pick(vars(settings))
    given: Mapping[str, Any] = entry.options
    protocol = given.get("protocol", settings.protocol)
    if "endpoint" in given:
        endpoint = given["endpoint"] if protocol == "grpc" else append_logs_path(given["endpoint"])
        if urlsplit(endpoint).netloc != urlsplit(settings.endpoint).netloc:
            # What proves who we are is for the server that it was given for.
            values.update(dict.fromkeys(_CREDENTIALS), headers={})
        given = {**given, "endpoint": endpoint}
    elif protocol != settings.protocol:
        raise ConfigurationError(
            f"an exporter with protocol={protocol} beside endpoint={settings.endpoint} needs an endpoint of its own"
        )
    # Without the rest of the environment, which is in the settings already: its credentials are for one server.
    return resolve_exporter({**values, **given}, list_network_variables())


def _values_of(entry: Entry, settings: Settings) -> dict[str, Any]:
    """Returns the options of a sink by the names that it has for them: the entry's own over the general ones."""
    options = EXPORTERS.kinds[entry.kind]
    return {key: entry.options.get(one.name, getattr(settings, one.name)) for key, one in options.items()}
