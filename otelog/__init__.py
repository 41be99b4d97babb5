"""An OpenTelemetry logs bridge: every record is delivered, waiting, or counted as lost with a reason."""

from otelog._ledger import ExporterStats, Stats
from otelog._track import Operation, track
from otelog._version import __version__
from otelog.exceptions import ConfigurationError, OtelogError
from otelog.exporter import OTLPLogExporter
from otelog.handler import LoggingHandler
from otelog.logger import Logger, bound
from otelog.processor import BatchLogRecordProcessor
from otelog.providers import configure, flush, get_logger, shutdown, stats

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
