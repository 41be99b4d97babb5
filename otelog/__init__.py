"""An OpenTelemetry logs bridge: every record is delivered, waiting, or counted as lost with a reason."""

from otelog._capture.facade import Logger, bound
from otelog._capture.handler import LoggingHandler
from otelog._capture.track import Operation, track
from otelog._ledger.counters import ExporterStats, Stats
from otelog._otlp.exporter import OTLPLogExporter
from otelog._pipeline.processor import BatchLogRecordProcessor
from otelog._runtime.version import __version__
from otelog._setup.configure import configure, flush, get_logger, shutdown, stats
from otelog.exceptions import ConfigurationError, OtelogError

__all__ = [
    "BatchLogRecordProcessor",
    "ConfigurationError",
    "ExporterStats",
    "Logger",
    "LoggingHandler",
    "OTLPLogExporter",
    "Operation",
    "OtelogError",
    "Stats",
    "__version__",
    "bound",
    "configure",
    "flush",
    "get_logger",
    "shutdown",
    "stats",
    "track",
]

# In pickles, messages and the strings of `dictConfig` they are what users import.
for _class in (BatchLogRecordProcessor, Logger, LoggingHandler, OTLPLogExporter):
    _class.__module__ = __name__
