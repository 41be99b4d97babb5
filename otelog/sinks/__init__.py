"""Sinks of otelog's own, beside the Collector: where a process's records go as lines of text.

- `ConsoleLogExporter`: readable on a terminal, lines of JSON elsewhere
- `FileLogExporter`: rotating files of JSON lines
"""

from otelog.sinks.console import ConsoleLogExporter
from otelog.sinks.files import FileLogExporter

__all__ = ["ConsoleLogExporter", "FileLogExporter"]
