"""The batch processor: a door to it for those who import it from here."""

from otelog._pipeline.processor import BatchLogRecordProcessor

__all__ = ["BatchLogRecordProcessor"]
