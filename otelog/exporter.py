"""The OTLP exporter: a door to it for those who import it from here."""

from otelog._otlp.exporter import OTLPLogExporter

__all__ = ["OTLPLogExporter"]
